"""Fail each system call of a change of the overrides in turn, or kill the process at it.

At every moment the file is the old one or the new one, whole. What was reported as done is the new
one; what was reported as "nothing has changed" is the old one; and the next change works.
"""

from __future__ import annotations

import errno
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmta.control.override import Override, Overrides
from fastmta.control.overridefile import FILE_NAME, change_overrides, read_overrides
from tests.support import fault
from tests.support.fault import Action, Operation
from tests.support.forking import ForkServer
from tests.support.override_child import NEW, add_new

OLD = Overrides(shapes={"old": Override(domain=("old.example",), is_paused=True)})
CHANGES = Operation.CREATE | Operation.RENAME | Operation.UNLINK | Operation.WRITE | Operation.FLUSH
KINDS = (
    *((Operation.WRITE, Action.FAIL, code) for code in (errno.EIO, errno.ENOSPC)),
    (Operation.WRITE, Action.SHORT, 0),
    *((Operation.FLUSH, Action.FAIL, code) for code in (errno.EIO, errno.ENOSPC)),
    *(
        (Operation.OPEN | Operation.CREATE, Action.FAIL, code)
        for code in (errno.EMFILE, errno.EACCES, errno.EROFS)
    ),
    *((Operation.RENAME, Action.FAIL, code) for code in (errno.EIO, errno.EROFS)),
    (CHANGES, Action.KILL, 0),
)


class Bench:
    """A spool with a file of overrides, and a fork server."""

    def __init__(self, place: Path) -> None:
        self.root = place / "spool"
        self.root.mkdir()
        self._server = ForkServer("tests.support.override_child", place)
        self.page = self._server.page

    def close(self) -> None:
        self._server.close()

    def run(self, **rule: Any) -> tuple[int, str]:
        """One change, beginning with the old file: exit status, and what it said."""
        for path in self.root.iterdir():
            path.unlink()
        change_overrides(str(self.root), lambda _: OLD)
        found = fault.Rule(root=str(self.root), **rule)
        status = self._server.run(found, root=str(self.root))
        said = [line for line in self._server.said() if line[0] == "said"]
        return status, said[0][1] if said else ""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def check(bench: Bench, action: Action, status: int, said: str) -> str:
    """One case; what came of it."""
    assert bench.page.fired, "the fault was not reached"
    new = OLD.put("new", NEW)
    found = read_overrides(str(bench.root))
    assert found in (OLD, new)
    if action is Action.KILL:
        assert (status, said) == (-signal.SIGKILL, "")
    else:
        assert status == 0
        assert said, "it said nothing"
        assert [path.name for path in bench.root.iterdir()] == [FILE_NAME]
    if said == "done" or "may undo that" in said:
        assert found == new
    elif said:
        assert found == OLD
    again = change_overrides(str(bench.root), add_new)
    assert again == new == read_overrides(str(bench.root))
    assert [path.name for path in bench.root.iterdir()] == [FILE_NAME]
    if action is Action.KILL:
        return "killed"
    return "done" if said == "done" else "refused"


def test_every_call_fails_in_turn_and_the_file_is_whole(bench: Bench) -> None:
    results: Counter[str] = Counter()
    for operations, action, error in KINDS:
        status, said = bench.run(operations=operations)
        assert (status, said) == (0, "done")
        calls = bench.page.calls
        assert calls >= 1, f"no call of {operations}: this proves nothing"
        for call in range(1, calls + 1):
            for is_after in (False, True)[: 2 if action is Action.KILL else 1]:
                rule: dict[str, Any] = {
                    "operations": operations,
                    "action": action,
                    "call": call,
                    "error": error,
                }
                status, said = bench.run(**rule, is_after=is_after)
                try:
                    results[check(bench, action, status, said)] += 1
                except AssertionError as problem:
                    problem.add_note(f"{operations}, {action}, call {call}: {said}")
                    raise
    assert results["refused"] >= 10
    assert results["killed"] >= 8
    assert results["done"] >= 1
