"""What is asked of all workers, some of which may not be there."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fastmta.cli import asking
from fastmta.cli.server import guarded
from fastmta.cli.source import Place, missing_log
from fastmta.config.glimpse import Glimpse, LogGlimpse
from fastmta.control.client import ClientError
from fastmta.control.place import socket_path

SHARD: dict[str, Any] = {
    "messages": 0,
    "in_flight": 0,
    "is_indexed": True,
    "next_due_ns": None,
    "next_start_ns": None,
}
IDLE: dict[str, Any] = {"connections": 0, "shards": [SHARD]}  # Any: what JSON knows


def test_a_log_that_is_not_there_yet_is_named() -> None:
    where = Glimpse("/s", "/s", "/s-drop")
    for log, said in (
        (LogGlimpse("file", "/l", ""), "the log file /l is not there yet, or cannot be seen"),
        (LogGlimpse("syslog", "/l", "/j"), "the log file /j is not there yet, or cannot be seen"),
        (LogGlimpse("file", "-", ""), "no log file is known"),
        (LogGlimpse("syslog", "/l", ""), "no log file is known"),
        (None, "no log file is known"),
    ):
        assert missing_log(Place(where, log, None, "")) == said


def test_a_worker_that_does_not_listen_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[list[dict[str, Any]]] = [[IDLE], [], [IDLE, IDLE], [IDLE]]
    monkeypatch.setattr(asking, "of_workers", lambda *_, **__: answers.pop(0))
    monkeypatch.setattr(asking, "_POLL_S", 0.001)
    assert not asking.wait_for_rest("/nowhere", 2, 5.0)["due"]
    assert len(answers) == 1
    assert asking.wait_for_rest("/nowhere", 2, 0.0)["due"], "nobody knows what it has"


def test_what_cannot_start_before_time_is_up_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_ns = time.time_ns()
    later = {**SHARD, "messages": 3, "next_start_ns": now_ns + 60 * 10**9}
    later["next_due_ns"] = later["next_start_ns"]
    worker = {**IDLE, "shards": [SHARD, later]}
    monkeypatch.setattr(asking, "of_workers", lambda *_, **__: [worker])
    began_s = time.monotonic()
    left = asking.wait_for_rest("/nowhere", 1, 30.0)
    assert time.monotonic() - began_s < 5.0
    assert (left["messages"], left["due"], left["next_due_ns"]) == (3, False, later["next_due_ns"])
    assert asking.left_of([worker], 90.0)["due"], "a probe, or a rate, lets it go in time"
    assert not asking.left_of([{**IDLE, "shards": [{**later, "next_start_ns": None}]}], 90)["due"]


def test_a_reader_who_leaves_is_no_server_that_does_not_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`fastmta status | head`: Click ends that quietly, with 1."""

    def leave() -> int:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        guarded(leave)
    assert capsys.readouterr().err == ""


def test_a_worker_that_hangs_is_named(tmp_path: Path) -> None:
    """It listens, and says nothing; then not even a connection has room any more."""
    path = socket_path(str(tmp_path), 3)
    with socket.socket(socket.AF_UNIX) as listening, contextlib.ExitStack() as stack:
        listening.bind(path)
        listening.listen(0)
        with pytest.raises(ClientError) as caught:
            asking.of_workers(str(tmp_path), "status", 0.05)
        assert str(caught.value) == f"no answer within 0.05 s at {path}"
        for _ in range(8):
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(path)
        with pytest.raises(ClientError, match="takes no connection") as caught:
            asking.of_workers(str(tmp_path), "status", 0.05)
        assert path in str(caught.value)
        assert asking.of_workers(str(tmp_path), "status", 0.05, is_lenient=True) == []


def test_a_worker_that_ends_while_it_is_asked_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It has accepted the connection, and closes it without a word."""
    monkeypatch.setattr(asking, "_POLL_S", 0.01)
    path = socket_path(str(tmp_path), 0)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def end() -> None:
            for _ in range(2):
                listening.accept()[0].close()
            os.unlink(path)

        thread = threading.Thread(target=end)
        thread.start()
        assert asking.of_workers(str(tmp_path), "status", 1.0, is_lenient=True) == []
        asking.wait_for_end(str(tmp_path))
        thread.join()
