"""The supervisor's part of the broker: started, started again, replaced when it hangs."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from fastmta.budget.frame import Ask, Grant, PlaceAsk, decode_grant, encode
from fastmta.daemon import attendant
from fastmta.daemon.broker import PROCESS_NAME, receive
from fastmta.daemon.brokerage import Brokerage
from fastmta.lab import process

SITE = b"=site"


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Brokerage]:
    monkeypatch.setattr(attendant, "_BACKOFF_FIRST_S", 0.05)
    monkeypatch.setattr(attendant, "LOOK_S", 0.2)
    monkeypatch.setattr(attendant, "HUNG_S", 1.5)
    one = Brokerage(2, lambda: None)
    one.start()
    yield one
    one.close()


def ask(life: int, seq: int, keep: int, want: int, *, epoch: int = 0, ack: int = 0) -> bytes:
    lines = [PlaceAsk(SITE, 1, keep, want)]
    return encode(Ask(life, seq, epoch, ack, min(epoch, 1), True, False, lines, []))


def hear(end: socket.socket, condition: Callable[[Grant], bool]) -> Grant:
    """The first message that meets the condition."""
    end_s = time.monotonic() + 10.0
    while time.monotonic() < end_s:
        select.select([end], [], [], 0.1)
        frame = receive(end)
        if frame and condition(grant := decode_grant(frame)):
            return grant
    raise AssertionError("heard nothing of it")


def is_granted(grant: Grant) -> bool:
    return any(line.more for line in grant.places)


def child() -> int:
    """Process id of the broker, once it has its name."""
    end_s = time.monotonic() + 10.0
    while time.monotonic() < end_s:
        for pid in process.tree(os.getpid()):
            if process.name(pid) == PROCESS_NAME:
                return pid
        time.sleep(0.01)
    raise AssertionError("there is no broker")


def reap(broker: Brokerage) -> None:
    """Look and reap, as the supervisor does, until the broker was reaped once."""
    end_s = time.monotonic() + 10.0
    while time.monotonic() < end_s:
        broker.look()
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid and broker.ended(pid, os.waitstatus_to_exitcode(status)):
            return
        time.sleep(0.05)
    raise AssertionError("it lives")


def test_a_place_goes_from_the_dead_to_the_living(broker: Brokerage) -> None:
    first, life = broker.lease_out(0)
    second, other_life = broker.lease_out(1)
    first.send(ask(life, 1, 0, 1))
    hear(first, is_granted)
    second.send(ask(other_life, 1, 0, 1))
    assert not hear(second, lambda grant: grant.heard == 1).places
    broker.worker_ended(0)
    hear(second, is_granted)


def test_nonsense_of_a_worker_is_no_end(broker: Brokerage) -> None:
    end, life = broker.lease_out(0)
    for _ in range(3):
        end.send(b"\xc1nonsense")
    end.send(ask(life, 1, 0, 1))
    hear(end, is_granted)


def test_a_broker_that_dies_is_started_again_and_asks_what_there_is(broker: Brokerage) -> None:
    end, life = broker.lease_out(0)
    end.send(ask(life, 1, 0, 1))
    granted = hear(end, is_granted)
    os.kill(child(), signal.SIGKILL)
    reap(broker)
    other, other_life = broker.lease_out(1)
    other.send(ask(other_life, 1, 0, 1))
    time.sleep(0.06)
    broker.look()
    called = hear(end, lambda grant: grant.epoch > granted.epoch)
    assert called.wants_report
    end.send(ask(life, 2, 1, 1, epoch=called.epoch, ack=called.seq))
    answered = hear(other, lambda grant: grant.heard == 1)
    assert not answered.places, "it knows who has the place"


def test_a_broker_that_hangs_is_replaced(
    broker: Brokerage, capfd: pytest.CaptureFixture[str]
) -> None:
    first = child()
    os.kill(first, signal.SIGSTOP)
    reap(broker)
    assert "hangs: killed" in capfd.readouterr().err
    time.sleep(0.06)
    broker.look()
    end, life = broker.lease_out(0)
    end.send(ask(life, 1, 0, 1))
    hear(end, lambda grant: grant.epoch == 2)


def test_a_broker_ends_with_the_supervisor() -> None:
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if not pid:
        one = Brokerage(2, lambda: None)
        one.start()
        time.sleep(0.2)
        os.write(write_fd, b"%d\n" % child())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(write_fd)
    broker = int(os.read(read_fd, 20))
    os.close(read_fd)
    end_s = time.monotonic() + 10.0
    while process.is_running(broker):
        assert time.monotonic() < end_s, "it goes on"
        time.sleep(0.02)


def test_what_the_dead_did_not_read_is_not_for_the_next(broker: Brokerage) -> None:
    end, life = broker.lease_out(0)
    end.send(ask(life, 1, 0, 1))
    select.select([end], [], [], 5.0)
    broker.worker_ended(0)
    again, next_life = broker.lease_out(0)
    assert next_life > life
    assert not receive(again)
