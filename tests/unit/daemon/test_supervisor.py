"""The supervisor with workers of a few lines: who is ready, and who serves for a dead one."""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from fastmta.daemon import start, supervisor
from fastmta.daemon.supervisor import Leash, Supervisor

WorkerMain = Callable[[int, Leash], int]


_started: list[int] = []  # supervisors that have not ended


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(supervisor, "_BACKOFF_FIRST_S", 0.3)
    yield
    while _started:  # of a test that failed; its workers see the end of their control pipes
        os.kill(pid := _started.pop(), signal.SIGKILL)
        os.waitpid(pid, 0)


def say(line: str) -> None:
    """Past pytest's own standard output."""
    os.write(1, line.encode() + b"\n")


class Supervised:
    """A supervisor in a process of its own, with what it said."""

    def __init__(
        self, directory: Path, count: int, start: WorkerMain, *, is_draining: bool = False
    ) -> None:
        self.output = directory / "output"
        self.pid = os.fork()
        if self.pid:
            _started.append(self.pid)
            return
        code = 99
        try:
            descriptor = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            supervisor.say = say
            code = Supervisor(count, [], start, 2.0, _is_draining=is_draining).run()
        finally:
            os._exit(code)

    def said(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def end(self) -> int:
        os.kill(self.pid, signal.SIGTERM)
        _started.remove(self.pid)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.02)


def look_first(index: int, leash: Leash) -> int:
    """Say what was ordered before this worker was there."""
    is_there = select.select((leash.control_fd,), (), (), 0)[0]
    say(f"first: {os.read(leash.control_fd, 2)!r}" if is_there else "first: nothing")
    os.write(leash.ready_fd, bytes((index,)))
    os.read(leash.control_fd, 2)
    return 0


@pytest.mark.parametrize(("is_draining", "said"), [(True, r"b'S\x00'"), (False, "nothing")])
def test_a_worker_knows_that_the_server_drains_before_it_does_anything(
    tmp_path: Path, is_draining: bool, said: str
) -> None:
    server = Supervised(tmp_path, 1, look_first, is_draining=is_draining)
    wait_for(lambda: "ready" in server.said())
    assert f"first: {said}\n" in server.said()
    assert server.end() == 0


def serve(index: int, leash: Leash, orders: Path) -> int:
    """Be ready, and note every order; SIGTERM ends it."""
    os.write(leash.ready_fd, bytes((index,)))
    while got := os.read(leash.control_fd, 2):
        with orders.open("a") as file:
            file.write(f"{index}: {got[:1].decode()}{got[1]}\n")
    return 0


def test_a_worker_that_never_starts_is_not_made_up_for_by_another(tmp_path: Path) -> None:
    starts = tmp_path / "starts"

    def start(index: int, leash: Leash) -> int:
        if index == 1:
            return 75
        with starts.open("a") as file:
            file.write("x")
        os.write(leash.ready_fd, bytes((index,)))
        time.sleep(0.2)
        return 70  # so it is ready, again and again

    supervised = Supervised(tmp_path, 2, start)
    wait_for(lambda: starts.exists() and len(starts.read_text()) >= 3)
    assert "ready" not in supervised.said()
    assert supervised.end() == 0


def test_a_bad_start_before_anybody_served_ends_the_supervisor(tmp_path: Path) -> None:
    starts = tmp_path / "starts"

    def start(index: int, leash: Leash) -> int:
        with starts.open("a") as file:
            file.write("x")
        if index == 0:
            wait_for(lambda: starts.read_text() == "xx")
            return supervisor.EXIT_BAD_START
        os.read(leash.control_fd, 2)  # still starting, until it is told to stop
        return 0

    supervised = Supervised(tmp_path, 2, start)
    pid, status = os.waitpid(supervised.pid, 0)
    _started.remove(pid)
    assert os.waitstatus_to_exitcode(status) == 78
    assert "ready" not in supervised.said()
    assert "starting it again" not in supervised.said()
    assert len(starts.read_text()) <= 2, "nobody is started again"


def test_a_bad_start_after_somebody_served_is_tried_again(tmp_path: Path) -> None:
    """Such as a file that went missing: whoever serves goes on."""
    starts = tmp_path / "starts"

    def start(index: int, leash: Leash) -> int:
        if index == 0:
            return serve(index, leash, tmp_path / "orders")
        with starts.open("a") as file:
            file.write("x")
        if starts.read_text() == "x":
            os.write(leash.ready_fd, bytes((index,)))
            time.sleep(0.2)
        return supervisor.EXIT_BAD_START

    supervised = Supervised(tmp_path, 2, start)
    wait_for(lambda: starts.exists() and starts.read_text() == "xxx")
    assert supervised.end() == 0


def test_ready_is_said_once_when_all_serve(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, 3, partial(serve, orders=tmp_path / "orders"))
    wait_for(lambda: "ready, 3 worker(s)" in supervised.said())
    assert supervised.end() == 0
    assert supervised.said().count("ready") == 1


def test_the_sockets_of_the_dead_are_served_until_they_are_back(tmp_path: Path) -> None:
    orders = tmp_path / "orders"
    gate = tmp_path / "gate"

    def start(index: int, leash: Leash) -> int:
        with (tmp_path / f"pid{index}").open("w") as file:
            file.write(str(os.getpid()))
        while gate.exists():  # a recovery that takes its time
            time.sleep(0.02)
        return serve(index, leash, orders)

    def heard() -> list[str]:
        return orders.read_text().split("\n")[:-1] if orders.exists() else []

    def pid_of(index: int) -> str:
        return (tmp_path / f"pid{index}").read_text()

    supervised = Supervised(tmp_path, 3, start)
    wait_for(lambda: "ready" in supervised.said())
    wait_for(lambda: len(heard()) == 3)  # who was ready first is told to drop two, the next one
    orders.unlink()
    gate.touch()
    dead = {index: pid_of(index) for index in (2, 0)}
    os.kill(int(dead[2]), signal.SIGKILL)
    wait_for(lambda: heard() == ["0: A2"])
    os.kill(int(dead[0]), signal.SIGKILL)  # which served for 2
    wait_for(lambda: sorted(heard()[1:]) == ["1: A0", "1: A2"])
    wait_for(lambda: all(pid_of(index) not in ("", pid) for index, pid in dead.items()))
    time.sleep(0.2)  # they are started again, but do not serve yet
    assert not [order for order in heard() if "D" in order]
    gate.unlink()
    wait_for(lambda: {"1: D0", "1: D2"} <= set(heard()))
    assert supervised.end() == 0


def test_a_reopened_log_does_not_kill_a_worker_that_starts(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()

    def start(index: int, leash: Leash) -> int:
        with (tmp_path / "begun").open("a") as file:
            file.write("x")
        while gate.exists():
            time.sleep(0.02)
        return serve(index, leash, tmp_path / "orders")

    supervised = Supervised(tmp_path, 1, start)
    wait_for((tmp_path / "begun").exists)
    os.kill(supervised.pid, signal.SIGUSR1)
    time.sleep(0.2)
    gate.unlink()
    wait_for(lambda: "ready" in supervised.said())
    assert supervised.end() == 0
    assert (tmp_path / "begun").read_text() == "x", "it was not started again"


def test_a_worker_that_does_not_end_when_told_is_killed_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    take = Supervisor._on_signal

    def on_signal(self: Supervisor, signo: int) -> None:
        if signo == signal.SIGHUP:
            self.end(0)
        take(self, signo)

    def start(index: int, leash: Leash) -> int:
        with pids.open("a") as file:
            file.write("x")
        if pids.read_text() == "x":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return serve(index, leash, tmp_path / "orders")

    monkeypatch.setattr(supervisor, "_STOP_GRACE_S", -1.7)  # of the 2 s that `Supervised` gives
    monkeypatch.setattr(Supervisor, "_on_signal", on_signal)
    supervised = Supervised(tmp_path, 1, start)
    wait_for(lambda: "ready" in supervised.said())
    os.kill(supervised.pid, signal.SIGHUP)
    wait_for(lambda: pids.read_text() == "xx")
    assert supervised.end() == 0


def test_the_limit_of_descriptors_is_raised_to_what_is_allowed() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1000, hard), hard))
        start.raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
