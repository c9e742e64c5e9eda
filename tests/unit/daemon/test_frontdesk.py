"""The supervisor's part of metrics: the front desk's sockets and process, and the blocks."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fastmta.config import Config, Endpoint, load
from fastmta.config.metrics import Metrics
from fastmta.daemon import attendant
from fastmta.daemon.counting import Counting
from fastmta.daemon.frontdesk import PROCESS_NAME
from fastmta.daemon.sockets import BadStart
from fastmta.journal.block import State, Word
from fastmta.lab import process
from tests.support.scrape import get, ready

HOST = "127.0.0.1"


def config(*ports: int, **changes: object) -> Config:
    metrics = Metrics(bind=tuple(Endpoint(HOST, port) for port in ports), **changes)
    return replace(Config(), metrics=metrics)


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    monkeypatch.setattr(attendant, "_BACKOFF_FIRST_S", 0.05)
    one = Counting(config(0), 2)
    one.start(lambda: None)
    yield one
    one.close()


def port_of(counting: Counting) -> int:
    said: list[str] = []
    counting.tell(said.append)
    return int(said[0].rpartition(":")[2])


def front() -> int:
    """Process id of the front desk."""
    below = process.tree(os.getpid())
    return next((pid for pid in below if process.name(pid) == PROCESS_NAME), 0)


def test_what_the_supervisor_knows_is_told_at_once(counting: Counting) -> None:
    port = port_of(counting)
    assert ready(port)[1]["reasons"] == ["worker 0: not running", "worker 1: not running"]
    block = counting.starting(0)
    counting.started(0, 4711)
    assert ready(port)[1]["reasons"] == ["worker 0: starting", "worker 1: not running"]
    block.set(Word.STATE, State.READY)
    block.set(Word.BEAT_NS, time.monotonic_ns())
    block.set(Word.IS_HEALTHY, 1)
    assert ready(port)[1]["reasons"] == ["worker 1: not running"]
    counting.worker_ended(0)
    counting.starting(0)
    assert ready(port)[1]["reasons"][0] == "worker 0: not running"
    counting.started(0, 4712)
    assert ready(port)[1]["reasons"][0] == "worker 0: starting"
    assert counting.blocks[0].get(Word.STARTS) == 2


def test_a_front_desk_that_dies_is_started_again_on_the_same_port(counting: Counting) -> None:
    port = port_of(counting)
    until(lambda: front() != 0)
    first = front()
    os.kill(first, signal.SIGKILL)
    _, status = os.waitpid(first, 0)
    assert counting.ended(first, os.waitstatus_to_exitcode(status))
    assert not counting.ended(first + 1, 0)
    until(lambda: counting.look() is None and front() != 0)
    assert get(port, "/healthz")[0] == 200
    assert counting.wait_s() <= attendant.LOOK_S


def test_an_address_in_use_is_named() -> None:
    with (
        socket.create_server((HOST, 0)) as taken,
        pytest.raises(BadStart, match=r"metrics.bind: cannot listen on 127\.0\.0\.1:.* in use"),
    ):
        Counting(config(0, taken.getsockname()[1]), 1)


def test_without_an_address_there_is_none() -> None:
    counting = Counting(Config(), 1)
    counting.start(lambda: None)
    said: list[str] = []
    counting.tell(said.append)
    counting.look()
    assert said == []
    assert front() == 0
    counting.close()


@pytest.mark.parametrize(
    ("keys", "warning"),
    [
        ('bind = "0.0.0.0:8025"', "0.0.0.0:8025 shows everyone destinations and tenants"),
        ('bind = "0.0.0.0:8025"\ntoken = "x"', ""),
        ('bind = ["127.0.0.1:8025", "[::1]:8025"]', ""),
    ],
)
def test_who_shows_everything_to_everybody_is_warned(
    tmp_path: Path, keys: str, warning: str
) -> None:
    path = tmp_path / "fastmta.toml"
    path.write_text(f'hostname = "a.example"\n[metrics]\n{keys}\n')
    warnings = [str(one) for one in load(str(path), {}).warnings]
    assert any(warning in one for one in warnings) if warning else not warnings
