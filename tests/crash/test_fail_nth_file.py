"""Fail each system call of the transport `file` in turn, or kill the process at it.

What was reported as delivered is there, whole; nothing else has the name of a delivered file; no
descriptor is left open; and the next attempt, without faults, leaves exactly one copy of each.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fastmta.message import OutcomeKind
from tests.support import fault
from tests.support.fault import Action, Operation
from tests.support.file_child import CONTENT, deliver
from tests.support.forking import ForkServer

NAMES = ["00000001000000A1-0.eml", "00000001000000A1-1.eml"]
PATHS = ("one@example.org", "two@example.org")
CHANGES = Operation.CREATE | Operation.RENAME | Operation.UNLINK | Operation.WRITE | Operation.FLUSH


class Kind(NamedTuple):
    """A class of calls and one way in which they fail."""

    operations: Operation
    action: Action
    error: int = 0
    may_stay: bool = True
    is_after: bool = False


KINDS = (
    *(Kind(Operation.WRITE, Action.FAIL, code) for code in (errno.EIO, errno.ENOSPC)),
    Kind(Operation.WRITE, Action.FAIL, errno.EINTR, may_stay=False),
    Kind(Operation.WRITE, Action.SHORT, may_stay=False),
    *(Kind(Operation.FLUSH, Action.FAIL, code) for code in (errno.EIO, errno.ENOSPC)),
    Kind(Operation.FLUSH, Action.LIE, errno.EIO, may_stay=False),
    *(
        Kind(Operation.OPEN | Operation.CREATE, Action.FAIL, code)
        for code in (errno.EMFILE, errno.EACCES, errno.ENOENT)
    ),
    *(Kind(Operation.RENAME, Action.FAIL, code) for code in (errno.EIO, errno.EROFS)),
    Kind(CHANGES, Action.KILL, may_stay=False),
    Kind(CHANGES, Action.KILL, may_stay=False, is_after=True),
)


class Bench:
    """A place with a fork server."""

    def __init__(self, place: Path) -> None:
        self.root = place / "box"
        self._server = ForkServer("tests.support.file_child", place)
        self.page = self._server.page

    def close(self) -> None:
        self._server.close()

    def run(self, rule: fault.Rule, *, is_large: bool) -> tuple[int, list[list[Any]]]:
        """One attempt under `rule`: exit status and what it said."""
        status = self._server.run(rule, root=str(self.root), is_large=is_large)
        return status, self._server.said()

    def fresh(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()

    def count(self, kind: Kind, *, is_large: bool) -> int:
        self.fresh()
        rule = fault.Rule(operations=kind.operations, root=str(self.root))
        status, said = self.run(rule, is_large=is_large)
        assert status == 0
        assert kinds_of(said) == {0: "sent", 1: "sent"}, said
        return self.page.calls


def kinds_of(said: list[list[Any]]) -> dict[int, str]:
    return {line[1]: line[2] for line in said if line[0] == "outcome"}


def whole(index: int) -> bytes:
    path = PATHS[index]
    head = f"Return-Path: <sender@example.com>\r\nX-Original-To: {path}\r\nDelivered-To: {path}\r\n"
    return head.encode() + CONTENT


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def check(bench: Bench, kind: Kind, call: int, *, is_sticky: bool, is_large: bool) -> str:
    """One case; what came of it."""
    bench.fresh()
    rule = fault.Rule(
        operations=kind.operations,
        action=kind.action,
        call=call,
        error=kind.error,
        is_sticky=is_sticky,
        is_after=kind.is_after,
        root=str(bench.root),
    )
    status, said = bench.run(rule, is_large=is_large)
    assert bench.page.fired, "the fault was not reached"
    is_killed = kind.action is Action.KILL
    assert status == (-signal.SIGKILL if is_killed else 0), said
    assert not [line for line in said if line[0] == "crash"], said
    kinds = kinds_of(said)
    present = set(os.listdir(bench.root))
    for index, name in enumerate(NAMES):
        if kinds.get(index) == "sent" or (name in present and kind.action is not Action.LIE):
            assert (bench.root / name).read_bytes() == whole(index)
    if not is_killed:
        assert set(kinds) == {0, 1}, said
        assert set(kinds.values()) <= {"sent", "deferred"}
        assert ["descriptors", []] in said, said
        assert ["trouble", "deferred" in kinds.values()] in said
        assert present <= set(NAMES), "a temporary file is left"
    again, _ = asyncio.run(deliver(str(bench.root), is_large=is_large))
    assert {one.kind for one in again.outcomes} == {OutcomeKind.DELIVERED}
    assert sorted(os.listdir(bench.root)) == NAMES
    for index, name in enumerate(NAMES):
        file = bench.root / name
        assert file.read_bytes() == whole(index)
        assert file.stat().st_mode & 0o777 == 0o600
    if is_killed:
        return "killed"
    return "deferred" if "deferred" in kinds.values() else "sent"


@pytest.mark.parametrize("is_large", [False, True], ids=["in memory", "large"])
def test_every_call_fails_in_turn_and_nothing_reported_is_lost(
    bench: Bench, is_large: bool
) -> None:
    results: Counter[str] = Counter()
    for kind in KINDS:
        calls = bench.count(kind, is_large=is_large)
        assert calls >= 2, f"no call of {kind}: this proves nothing"
        for is_sticky in (False, True)[: 2 if kind.may_stay and not is_large else 1]:
            for call in range(1, 3 if is_sticky else calls + 1):
                try:
                    results[check(bench, kind, call, is_sticky=is_sticky, is_large=is_large)] += 1
                except AssertionError as problem:
                    problem.add_note(f"{kind}, call {call}, sticky {is_sticky}")
                    raise
    assert results["sent"] >= 4
    assert results["deferred"] >= 20
    assert results["killed"] >= 10
