"""What the service manager hears, and when the watchdog is fed."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.daemon.notify import Hearts, Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    listening.setblocking(False)
    yield listening
    listening.close()


def heard(manager: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


def test_states_are_told_and_a_status_only_once(manager: socket.socket) -> None:
    notifier = Notifier(manager.getsockname())
    notifier.status("one")
    notifier.status("one")
    notifier.ready("two\nREADY=0")
    notifier.status("two\nREADY=0")
    before_us = time.monotonic_ns() // 1000
    notifier.reloading()
    notifier.stopping()
    *said, reloading, stopping = heard(manager)
    assert said == ["STATUS=one", "READY=1\nSTATUS=two READY=0"]
    assert stopping.startswith("STOPPING=1\n")
    first, _, number = reloading.partition("\nMONOTONIC_USEC=")
    assert first == "RELOADING=1"
    assert before_us <= int(number) <= time.monotonic_ns() // 1000
    notifier.close()
    notifier.status("three")
    assert heard(manager) == []


def test_the_watchdog_is_fed_at_half_its_time_and_only_by_the_living(
    manager: socket.socket,
) -> None:
    notifier = Notifier(manager.getsockname(), 0.2)
    assert notifier.silence_s == 0.1
    notifier.watch(lambda: True)
    notifier.watch(lambda: True)
    assert heard(manager) == ["WATCHDOG=1"]
    assert 0.0 < notifier.wait_s() <= 0.1
    time.sleep(0.11)
    notifier.watch(lambda: False)
    assert heard(manager) == []
    assert notifier.wait_s() <= 0.01  # asked again soon
    time.sleep(0.02)
    notifier.watch(lambda: True)
    assert heard(manager) == ["WATCHDOG=1"]
    notifier.close()


def test_without_a_manager_nothing_happens() -> None:
    notifier = Notifier.from_environment({})
    notifier.ready("x")
    notifier.watch(lambda: pytest.fail("nobody asks"))
    assert notifier.wait_s() == notifier.silence_s == float("inf")
    gone = Notifier("/nowhere/at/all")
    gone.ready("x")  # it stops nothing
    gone.close()


@pytest.mark.parametrize(
    ("variables", "silence_s"),
    [
        ({"WATCHDOG_USEC": "2000000"}, 1.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 1.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, float("inf")),
        ({"WATCHDOG_USEC": "soon"}, float("inf")),
        ({"WATCHDOG_USEC": "9" * 30}, float("inf")),
        ({}, float("inf")),
    ],
)
def test_the_environment_is_taken(
    manager: socket.socket, variables: dict[str, str], silence_s: float
) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "OTHER": "x", **variables}
    notifier = Notifier.from_environment(environ)
    assert environ == {"OTHER": "x"}  # no child answers for us
    assert notifier.silence_s == silence_s
    notifier.status("x")
    assert heard(manager) == ["STATUS=x"]
    notifier.close()


def test_an_abstract_name() -> None:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    name = f"fastmta-test-{os.getpid()}"
    listening.bind("\0" + name)
    notifier = Notifier("@" + name)
    notifier.status("x")
    notifier.close()
    assert listening.recv(100) == b"STATUS=x"
    listening.close()


def test_hearts_are_shared_over_a_fork() -> None:
    hearts = Hearts()
    assert hearts.age_s(255) > 0
    pid = os.fork()
    if not pid:
        hearts.beat(255)
        os._exit(0)
    os.waitpid(pid, 0)
    assert hearts.age_s(255) < 10
    assert hearts.age_s(0) == pytest.approx(time.monotonic(), abs=1)
