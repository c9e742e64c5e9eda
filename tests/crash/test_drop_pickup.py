"""Kill the server at each system call with which it takes up the drop directory, then start again.

Each message is delivered, and none a second time: not even by the calls of the spool between, but
for a delivery that was made and not yet recorded, which no receiver can be spared. One of the files
makes three messages, in two portions.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmta.daemon.pickup import open_place
from fastmta.drop import DropFile, Place, Submission
from tests.support import fault
from tests.support.fault import Action, Operation
from tests.support.forking import ForkServer
from tests.support.pickup_child import BIG_OCTETS, make_config

CALLS = Operation.CREATE | Operation.RENAME | Operation.UNLINK | Operation.WRITE | Operation.FLUSH
SUBJECTS = ("one", "two", "large", "parts")
RECIPIENTS = [b"a@there.test", b"b@there.test", b"c@there.test"]
MESSAGES = {
    *("one", "two", "large"),
    *(f"parts to me+{name}=there.test@here.test" for name in "abc"),
}


def drop(place: Place, subject: str) -> None:
    """Leave a message as the command does."""
    file = DropFile(place)
    submission = Submission(b"me@here.test", [b"you@there.test"])
    if subject == "parts":
        submission.recipients = RECIPIENTS
        submission.options[b"verp"] = b"+="
    file.write(submission.encode())
    filler = b"x" * 100 + b"\n"
    count = BIG_OCTETS // 50 if subject == "large" else 3
    file.write(f"Subject: {subject}\n\n".encode() + filler * count)
    file.write(f"end of {subject}\n".encode())
    file.finish()
    file.publish()


class Bench:
    """A place for one server after the other."""

    def __init__(self, place: Path) -> None:
        self.root = place / "root"
        self._server = ForkServer("tests.support.pickup_child", place)
        self.page = self._server.page

    def close(self) -> None:
        self._server.close()

    def begin(self) -> None:
        """Nothing but four files that wait."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        place = open_place(make_config(str(self.root)))
        for subject in SUBJECTS:
            drop(place, subject)

    def run(self, **rule: Any) -> tuple[int, list[list[Any]]]:
        """One server; exit status, and what it said."""
        found = fault.Rule(**rule)
        status = self._server.run(found, root=str(self.root))
        return status, self._server.said()

    def finish(self) -> list[list[Any]]:
        """A server that nothing happens to."""
        status, said = self.run(operations=CALLS, call=0)
        assert status == 0
        assert said[-1] == ["done"], said
        return said


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    # A kill leaves what the kernel has, so nothing is lost by memory for a disk but time.
    place = Path(tempfile.mkdtemp(dir="/dev/shm")) if Path("/dev/shm").is_dir() else tmp_path
    bench = Bench(place)
    yield bench
    bench.close()
    shutil.rmtree(place)


def check(said: list[list[Any]], again: list[list[Any]], kills: int = 1) -> int:
    """Every message was delivered, once; the number of those that were delivered twice."""
    assert not [line for line in said + again if line[0] in ("crash", "notice")], (said, again)
    delivered = Counter(line[1] for line in said + again if line[0] == "delivered")
    marked = {line[1] for line in said if line[0] == "marked"}
    assert set(delivered) == MESSAGES, (said, again)
    parts = [line for line in said + again if line[0] == "delivered" and line[1][:5] == "parts"]
    assert len({message_id for _, _, message_id, _ in parts}) == 1, "not the same message to all"
    twice = {subject for subject, count in delivered.items() if count > 1}
    assert max(delivered.values()) <= 1 + kills
    assert not twice & marked, "a second copy of what was recorded"
    ids = {tuple(line[1:]) for line in said + again if line[0] == "delivered"}
    assert len(ids) == len(MESSAGES), "taken up twice"
    return len(twice)


def kill_everywhere(bench: Bench, root: Path, step: int) -> int:
    """The number of kills, at each `step`-th call below `root`, before it and after it."""
    bench.begin()
    status, said = bench.run(operations=CALLS, action=Action.COUNT, root=str(root))
    assert (status, said[-1]) == (0, ["done"])
    calls, kills = bench.page.calls, 0
    for call in range(1, calls + 1, step):
        for is_after in (False, True):
            bench.begin()
            status, said = bench.run(
                operations=CALLS, action=Action.KILL, call=call, is_after=is_after, root=str(root)
            )
            if status != -signal.SIGKILL:  # the order of calls is not always the same
                assert said[-1] == ["done"], said
                continue
            kills += 1
            try:
                check(said, bench.finish())
            except AssertionError as problem:
                problem.add_note(f"call {call} of {calls}, after: {is_after}")
                raise
    return kills


def test_a_kill_at_each_call_in_the_drop_directory(bench: Bench) -> None:
    assert kill_everywhere(bench, bench.root / "drop", 1) >= 12


def test_kills_while_what_a_kill_left_is_settled(bench: Bench) -> None:
    """The first one comes where some messages of a file are accepted, and their plan names them."""
    drop = str(bench.root / "drop")
    for call in range(1, 20, 2):
        bench.begin()
        _, first = bench.run(operations=Operation.FLUSH, action=Action.KILL, call=7, root=drop)
        plans = [line[0] for line in first if str(line[2:]).count(".plan.new")]
        assert plans == ["flushed", "fault"], first
        status, said = bench.run(operations=CALLS, action=Action.KILL, call=call, root=drop)
        if status == 0:
            break
        check(first + said, bench.finish(), 2)
    assert call > 4


def test_kills_within_the_spool(bench: Bench) -> None:
    assert kill_everywhere(bench, bench.root / "spool", 11) >= 4
