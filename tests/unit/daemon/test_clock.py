"""Queue time: a wall clock that is set moves nothing: running, over a restart, over a reboot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastmta.daemon.clock import NS, ClockFile, Moment, QueueClock, machine_boot_id

DAY_S = 86_400
STEPS_S = [DAY_S, -DAY_S, 10 * 365 * DAY_S, -10 * 365 * DAY_S, 61, -61]


class Machine:
    """Its clocks, which pass together until somebody sets one."""

    def __init__(self) -> None:
        self.boot_id = "one"
        self.wall = 1_800_000_000 * NS
        self.monotonic = 5_000 * NS

    def clock(self) -> QueueClock:
        return QueueClock(lambda: self.wall, lambda: self.monotonic, lambda: self.monotonic / NS)

    def run(self, seconds: float) -> None:
        self.wall += int(seconds * NS)
        self.monotonic += int(seconds * NS)

    def set(self, seconds: float) -> None:
        self.wall += int(seconds * NS)

    def reboot(self) -> None:
        self.boot_id += "'"
        self.monotonic = 3 * NS


@pytest.mark.parametrize("step_s", STEPS_S)
def test_a_step_does_not_move_the_queue(step_s: int) -> None:
    machine = Machine()
    clock = machine.clock()
    assert clock.wall_ns() == machine.wall
    assert clock.look(False) == ""
    machine.run(100)
    due_ns = clock.wall_ns() + 300 * NS
    machine.set(step_s)
    assert clock.wall_ns() == due_ns - 300 * NS, "nobody has looked yet"
    said = clock.look(False)
    assert f"set by {step_s:+d} s" in said
    assert clock.stepped_at_s == 5_100.0
    machine.run(300)
    assert clock.look(False) == "", "it is told once"
    assert clock.wall_ns() == due_ns
    assert clock.true_wall_ns() == machine.wall
    assert clock.date() == machine.clock().date(), "fields have the true date"


def test_small_adjustments_are_followed() -> None:
    machine = Machine()
    clock = machine.clock()
    for _ in range(100):
        machine.run(1)
        machine.set(-0.9)
        assert clock.look(False) == ""
    assert clock.wall_ns() == machine.wall
    assert clock.stepped_at_s == float("-inf")


def test_an_empty_queue_follows_the_clock_again() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.set(-DAY_S)
    assert clock.look(False)
    machine.run(10)
    assert clock.look(False) == ""
    for is_empty in (True, False, True):
        clock.look(is_empty)
        machine.run(590)
        assert clock.wall_ns() == machine.wall + DAY_S * NS
    machine.run(20)
    clock.look(True)
    assert clock.wall_ns() == machine.wall


@pytest.mark.parametrize("step_s", [0, *STEPS_S])
def test_a_step_while_stopped_is_no_step_of_the_queue(step_s: int) -> None:
    machine = Machine()
    moment = machine.clock().moment(machine.boot_id)
    machine.run(50)
    machine.set(step_s)
    clock = machine.clock()
    said = clock.resume(moment, machine.boot_id)
    assert clock.wall_ns() == moment.queue_ns + 50 * NS
    assert bool(said) == bool(step_s)
    assert clock.look(False) == "", "it is not told twice"


def test_a_step_survives_restarts_and_reboots() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.set(DAY_S)
    clock.look(False)
    queue_ns = clock.wall_ns()
    for _ in range(3):
        moment = clock.moment(machine.boot_id)
        machine.run(20)
        clock = machine.clock()
        assert clock.resume(moment, machine.boot_id) == ""
        moment = clock.moment(machine.boot_id)
        machine.reboot()
        machine.run(40)
        clock = machine.clock()
        assert clock.resume(moment, machine.boot_id) == ""
        queue_ns += 60 * NS
        assert clock.wall_ns() == queue_ns


def test_a_clock_that_is_behind_after_a_reboot_does_not_take_the_queue_back() -> None:
    machine = Machine()
    moment = machine.clock().moment(machine.boot_id)
    machine.reboot()
    machine.set(-10 * 365 * DAY_S)
    clock = machine.clock()
    assert "while fastmta was stopped" in clock.resume(moment, machine.boot_id)
    assert clock.wall_ns() == moment.queue_ns


def test_a_long_stop_of_the_machine_may_be_a_step_and_freezes_expiry() -> None:
    machine = Machine()
    moment = machine.clock().moment(machine.boot_id)
    machine.reboot()
    machine.set(3 * DAY_S)
    clock = machine.clock()
    assert clock.resume(moment, machine.boot_id) == ""
    assert clock.wall_ns() == machine.wall
    assert clock.stepped_at_s == 3.0


def test_without_a_name_for_the_start_of_the_machine_the_wall_clock_tells() -> None:
    machine = Machine()
    moment = machine.clock().moment("-")
    machine.run(7200)
    clock = machine.clock()
    assert clock.resume(moment, "-") == ""
    assert clock.wall_ns() == machine.wall


def test_the_file_keeps_a_moment_in_place(tmp_path: Path) -> None:
    machine = Machine()
    path = tmp_path / "clock"
    file = ClockFile(str(tmp_path))
    assert file.read() is None
    clock = machine.clock()
    file.save_sometimes(clock)
    assert file.read() == Moment(machine_boot_id(), 5_000 * NS, machine.wall, machine.wall)
    size, inode = path.stat().st_size, path.stat().st_ino
    machine.run(30)
    file.save_sometimes(clock)
    saved = file.read()
    assert saved is not None
    assert saved.monotonic_ns == 5_000 * NS, "not yet"
    machine.set(-DAY_S)
    clock.look(False)
    file.save_sometimes(clock)
    saved = file.read()
    assert saved == clock.moment(machine_boot_id())
    assert (path.stat().st_size, path.stat().st_ino) == (size, inode)


@pytest.mark.parametrize(
    "octets", [b"", b"x", b"\0" * 100, b"a 1 2\n", b"a 1 2 3 4\n", b"\xff" * 99]
)
def test_a_file_that_makes_no_sense_is_no_file(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "clock"
    path.write_bytes(octets)
    assert ClockFile(str(tmp_path)).read() is None


def test_no_room_for_the_file_is_not_fatal(tmp_path: Path) -> None:
    ClockFile(str(tmp_path / "gone")).save(QueueClock())


@pytest.mark.parametrize(
    ("behind_s", "is_told"), [(0, False), (-30, False), (10, False), (90, True)]
)
def test_without_the_file_the_log_tells_the_least_time(
    tmp_path: Path, behind_s: int, is_told: bool
) -> None:
    machine = Machine()
    clock = machine.clock()
    (tmp_path / "hot").mkdir()
    segment = tmp_path / "hot" / "1.seg"
    segment.touch()
    newest_ns = machine.wall + behind_s * NS
    os.utime(segment, ns=(newest_ns, newest_ns))
    said = ClockFile(str(tmp_path)).resume(clock)
    assert bool(said) is is_told
    assert clock.wall_ns() == (newest_ns if is_told else machine.wall)
    assert (clock.stepped_at_s == 5_000.0) is is_told
