"""Fail each system call of a fixed history in turn, once or from then on: nothing promised is lost.

Or kill the process right before or after it.

A fork of `fail_child` works under the fault library; here its promises are read, the shard is
opened again without faults, and compared. `make test` does CASES of all; `make test-long` goes
through all of them and begins again.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import pytest

from tests.support import fault
from tests.support.fail_child import EX_TEMPFAIL, LARGE, OPTIONS
from tests.support.fault import Action, Operation
from tests.support.forking import ForkServer
from tests.support.long import LongRun
from tests.support.promise import Promises, check_contents
from tests.support.spool import Shard

CASES = 100
SEED = 3
LARGE_OCTETS = 16 * 1024  # whoever asks for as much as this
FILES = Operation.OPEN | Operation.CREATE
NAMES = Operation.RENAME | Operation.UNLINK | Operation.MKDIR
WRITES = Operation.WRITE | Operation.RESIZE
CHANGES = Operation.CREATE | NAMES | WRITES | Operation.FLUSH


class Kind(NamedTuple):
    """A class of calls and one way in which they fail."""

    operations: Operation
    action: Action
    error: int = 0
    may_stay: bool = True  # no kernel answers EINTR for ever
    memory_min: int = 0
    is_after: bool = False  # killed when the call is done

    @property
    def is_partial(self) -> bool:
        """Whether the call may be made again for the rest: nothing has failed."""
        return self.error == errno.EINTR or self.action is Action.SHORT

    def __str__(self) -> str:
        names = "+".join(str(each.name).lower() for each in Operation if each & self.operations)
        how = errno.errorcode.get(self.error, self.action.name.lower())
        if self.action is Action.LIE:
            how = "lies"
        if self.action is Action.KILL:
            how = f"killed {'after' if self.is_after else 'before'}"
        return f"{names} {how}{' large' if self.memory_min else ''}"


KINDS = (
    *(Kind(WRITES, Action.FAIL, code) for code in (errno.EIO, errno.ENOSPC, errno.EDQUOT)),
    Kind(Operation.WRITE, Action.FAIL, errno.EINTR, may_stay=False),
    Kind(Operation.WRITE, Action.SHORT, may_stay=False),
    *(Kind(Operation.FLUSH, Action.FAIL, code, False) for code in (errno.EIO, errno.ENOSPC)),
    Kind(Operation.FLUSH, Action.LIE, errno.EIO, may_stay=False),
    *(
        Kind(FILES, Action.FAIL, code, False)
        for code in (errno.EMFILE, errno.ENFILE, errno.EACCES, errno.ENOENT)
    ),
    *(Kind(NAMES, Action.FAIL, code) for code in (errno.EIO, errno.EROFS)),
    Kind(Operation.MAP, Action.FAIL, errno.ENOMEM),
    Kind(Operation.MEMORY, Action.FAIL, errno.ENOMEM),
    Kind(Operation.MEMORY, Action.FAIL, errno.ENOMEM, memory_min=LARGE_OCTETS),
    Kind(Operation.EVENT, Action.FAIL, errno.EAGAIN),
    Kind(Operation.RANDOM, Action.FAIL, errno.EINTR, may_stay=False),
    Kind(CHANGES, Action.KILL, may_stay=False),
    Kind(CHANGES, Action.KILL, may_stay=False, is_after=True),
)


@dataclass(frozen=True)
class Case:
    """Call number `call` of a kind fails, or all from it on."""

    kind: Kind
    call: int
    is_sticky: bool

    def __str__(self) -> str:
        return f"{self.kind}, call {self.call}{' and on' if self.is_sticky else ''}"


class Bench:
    """A place with a fork server; one case at a time."""

    def __init__(self, place: Path) -> None:
        self.root = place / "spool"
        with Shard(place / "first", OPTIONS):  # what is opened once for all is open now
            pass
        self._server = ForkServer("tests.support.fail_child", place)
        self.trace, self.page = self._server.trace, self._server.page

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()

    def run(self, rule: fault.Rule) -> int:
        """Do the work in a new shard; the exit status."""
        shutil.rmtree(self.root, ignore_errors=True)
        return self._server.run(rule, root=str(self.root))

    def count(self, kind: Kind) -> int:
        """How many calls of this kind there are without faults."""
        rule = fault.Rule(
            operations=kind.operations, root=str(self.root), memory_min=kind.memory_min
        )
        assert self.run(rule) == 0, self.trace.read_text()
        return self.page.calls

    def cases(self) -> list[Case]:
        """Every one there is."""
        counts: dict[tuple[Operation, int], int] = {}
        cases = []
        for kind in KINDS:
            key = (kind.operations, kind.memory_min)
            if key not in counts:
                counts[key] = self.count(kind)
                assert counts[key], f"no call of {kind}: this proves nothing"
            for is_sticky in (False, True)[: 2 if kind.may_stay else 1]:
                cases += [Case(kind, call + 1, is_sticky) for call in range(counts[key])]
        return cases

    def try_case(self, case: Case) -> str:
        """Run one and check it: what came of it."""
        kind = case.kind
        rule = fault.Rule(
            operations=kind.operations,
            action=kind.action,
            call=case.call,
            error=kind.error,
            is_sticky=case.is_sticky,
            is_after=kind.is_after,
            root=str(self.root),
            memory_min=kind.memory_min,
        )
        status = self.run(rule)
        lines = self.trace.read_bytes().splitlines() if self.trace.exists() else []
        told = "\n".join(line.decode() for line in lines)
        if kind.action is Action.KILL and self.page.fired:
            assert status == -signal.SIGKILL, f"{case}: ended with {status}"
        else:
            assert status in (0, EX_TEMPFAIL), f"{case}: ended with {status}\n{told}"
        assert '["crash"' not in told, f"{case}: {told}"
        assert self.page.fired <= 1 or rule.is_sticky
        check_descriptors(lines)
        if not kind.is_partial:
            check_flushes(lines)
        promises = Promises()
        for line in lines:
            promises.read(line)
        try:
            self.recover(promises)
        except BaseException as problem:
            problem.add_note(f"{case}\n{told}")
            raise
        if not self.page.fired:
            return "not reached"
        return {0: "went on", EX_TEMPFAIL: "ended with 75"}.get(status, "killed")

    def recover(self, promises: Promises) -> None:
        """Open the shard twice without faults and compare."""
        before = len(os.listdir("/proc/self/fd"))
        if not self.root.exists():
            assert not promises.accepted
            return
        with Shard(self.root, OPTIONS) as shard:
            returned = promises.check(shard)
            [doubtful] = shard.wait(shard.spool.review_doubt)
            assert isinstance(doubtful, list)
            unlisted = returned - {id.decode() for id in doubtful}
            assert not unlisted, f"{unlisted} were refused, come back, and are not in doubt"
            first = shard.dump()
        with Shard(self.root, OPTIONS) as shard:
            assert shard.dump() == first, "recovering twice makes a difference"
            check_contents(shard, LARGE)
        assert len(os.listdir("/proc/self/fd")) <= before, "descriptors are left open"


def check_descriptors(lines: list[bytes]) -> None:
    """A life that was closed leaves none open."""
    for line in lines:
        verb, *rest = json.loads(line)
        if verb == "descriptors":
            assert not rest[0], "descriptors are left open"


def check_flushes(lines: list[bytes]) -> None:
    """What is acknowledged was flushed after it was handed over, and not to a file that failed."""
    begun: dict[str, int] = {}  # id: number of good flushes of the log before it was handed over
    failed: set[str] = set()
    flushes = 0
    for line in lines:
        verb, *rest = json.loads(line)
        if verb == "fault" and rest[0] == "flush":
            failed.add(rest[1])
        elif verb == "unlinked":
            failed.discard(rest[1])
        elif verb == "descriptors":
            failed.clear()  # the next life flushes what it finds, and cannot know
        elif verb == "flushed" and "/hot/" in rest[1] and rest[2] == 0:
            flushes += rest[1] not in failed
        elif verb in ("try", "mark"):
            begun[rest[0]] = flushes
        elif verb in ("accepted", "marked"):
            assert flushes > begun[rest[0]], f"{rest[0]} was {verb} without a good flush"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path) as bench:
        yield bench


def test_a_call_fails_and_nothing_promised_is_lost(bench: Bench) -> None:
    cases = bench.cases()
    chance = random.Random(SEED)
    chosen = []
    for kind in KINDS:  # some of each, the more the more calls there are
        of_kind = [case for case in cases if case.kind == kind]
        chosen += chance.sample(of_kind, min(len(of_kind), max(2, CASES // len(KINDS))))
    results = Counter(bench.try_case(case) for case in chosen)
    assert results["not reached"] <= len(chosen) // 4, results
    assert results["went on"] >= 10
    assert results["ended with 75"] >= 10


@pytest.mark.long
def test_every_call_fails_in_turn(bench: Bench, long_run: LongRun) -> None:
    cases = bench.cases()
    random.Random(SEED).shuffle(cases)
    for seed in long_run.seeds():
        case = cases[seed % len(cases)]
        long_run.record(seed, case=str(case), of=len(cases), result=bench.try_case(case))
