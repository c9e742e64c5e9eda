"""The table that workers share says what one plain table would say; compiled and twin alike."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.budget import _tally, table_octets, tally_py
from fastmta.budget.failure import failures, spend_failure
from fastmta.budget.tally import COUNTED, REFUSED
from fastmta.smtp.use import Use

CLASSES = (_tally.Tally, tally_py.Tally)
WORKERS = 3
USES = (Use.CONNECTION, Use.MESSAGE)
WINDOW = 10  # of every key; time is a small number

WORKER = st.integers(0, WORKERS - 1)
USE = st.sampled_from(USES)


def operations(keys: int) -> Any:
    key = st.integers(1, keys)
    few = st.integers(0, 5)
    return st.lists(
        st.one_of(
            st.tuples(st.just("spend"), WORKER, key, USE, few, st.integers(0, 9)),
            st.tuples(st.just("give"), WORKER, key, USE, few),
            st.tuples(st.just("enter"), WORKER, key, st.integers(0, 4)),
            st.tuples(st.just("leave"), WORKER, key),
            st.tuples(st.just("wait"), st.integers(1, 12)),
            st.tuples(st.just("die"), WORKER),
        ),
        max_size=60,
    )


@dataclass
class Plain:
    """One table without workers' regions: a window, who counted what, whose connections."""

    ends: dict[int, int] = field(default_factory=dict)
    counts: dict[tuple[int, int, int], int] = field(default_factory=dict)  # worker, key, use
    live: dict[tuple[int, int], int] = field(default_factory=dict)  # worker, key
    now: int = 0

    def begin(self, key: int) -> None:
        if self.ends.get(key, 0) <= self.now:
            self.ends[key] = self.now + WINDOW
            self.counts = {at: count for at, count in self.counts.items() if at[1] != key}

    def count(self, key: int, use: int) -> int:
        if self.ends.get(key, 0) <= self.now:
            return 0
        return sum(count for at, count in self.counts.items() if at[1:] == (key, use))

    def live_of(self, key: int) -> int:
        return sum(count for at, count in self.live.items() if at[1] == key)

    def do(self, name: str, *rest: int) -> object:
        return getattr(self, name)(*rest)

    def spend(self, worker: int, key: int, use: int, amount: int, limit: int) -> bool:
        self.begin(key)
        if self.count(key, use) + amount > limit:
            return False
        at = worker, key, use
        self.counts[at] = self.counts.get(at, 0) + amount
        return True

    def give(self, worker: int, key: int, use: int, amount: int) -> int:
        at = worker, key, use
        before = self.counts.get(at, 0) if self.ends.get(key, 0) > self.now else 0
        if before:
            self.counts[at] = max(0, before - amount)
        return min(before, amount)

    def enter(self, worker: int, key: int, limit: int) -> int:
        self.begin(key)
        if self.live_of(key) >= limit:
            return REFUSED
        self.live[worker, key] = self.live.get((worker, key), 0) + 1
        return COUNTED

    def leave(self, worker: int, key: int) -> None:
        self.live[worker, key] = max(0, self.live.get((worker, key), 0) - 1)

    def wait(self, by: int) -> None:
        self.now += by

    def die(self, worker: int) -> None:
        self.live = {at: count for at, count in self.live.items() if at[0] != worker}


class Shared:
    """The same operations on Tallies; `classes` says which implementation each worker runs."""

    def __init__(self, classes: tuple[Any, ...], entries: int, stretch: Any = lambda key: key):
        self.buffer = bytearray(table_octets(WORKERS, entries))
        self.classes = classes
        self.tallies = [one(self.buffer, WORKERS, at) for at, one in enumerate(classes)]
        self.stretch = stretch
        self.now = 0

    def do(self, name: str, *rest: int) -> object:
        if name == "wait":
            self.now += rest[0]
            return None
        worker = rest[0]
        tally = self.tallies[worker]
        if name == "die":
            self.tallies[worker] = self.classes[worker](self.buffer, WORKERS, worker)
            return None
        key, *others = rest[1:]
        key = self.stretch(key)
        if name == "spend":
            use, amount, limit = others
            return tally.spend(key, use, amount, limit, WINDOW, self.now)
        if name == "give":
            return tally.give_back(key, *others, self.now)
        if name == "enter":
            return tally.enter(key, others[0], WINDOW, self.now)
        return tally.leave(key)


def stretched(key: int) -> int:
    """A few keys that fall into all buckets."""
    return key * 0x9E37_79B9_7F4A_7C15 & 2**64 - 1


@settings(deadline=None, max_examples=200)
@given(operations(5), st.tuples(*[st.sampled_from(CLASSES)] * WORKERS))
def test_workers_together_count_as_one_table(
    steps: list[tuple[Any, ...]], classes: tuple[Any, ...]
) -> None:
    plain, shared = Plain(), Shared(classes, 64, stretched)
    for step in steps:
        assert shared.do(*step) == plain.do(*step)
        for tally in shared.tallies:
            assert tally.overflow == 0
            for key in range(1, 6):
                at = stretched(key)
                assert tally.live(at) == plain.live_of(key)
                assert [tally.count(at, use, shared.now) for use in USES] == [
                    plain.count(key, use) for use in USES
                ]


@settings(deadline=None, max_examples=200)
@given(operations(30), st.sampled_from((8, 16, 24, 32)), st.booleans())
def test_twin_writes_the_same_octets(
    steps: list[tuple[Any, ...]], entries: int, is_stretched: bool
) -> None:
    """Also when a table of a few places is full of keys, and for keys with places of their own."""
    stretch = stretched if is_stretched else int
    compiled, twin = (Shared((one,) * WORKERS, entries, stretch) for one in CLASSES)
    for step in steps:
        assert compiled.do(*step) == twin.do(*step)
        assert compiled.buffer == twin.buffer
    for one, other in zip(compiled.tallies, twin.tallies, strict=True):
        assert one.overflow == other.overflow
        assert one.shared == other.shared


@settings(deadline=None, max_examples=200)
@given(operations(30))
def test_full_table_still_keeps_the_limits_of_whom_it_counts(steps: list[tuple[Any, ...]]) -> None:
    """What a table says it counted never exceeds a limit, whatever was refused or not counted."""
    shared = Shared((_tally.Tally,) * WORKERS, 8, stretched)
    for step in steps:
        before = [tally.overflow for tally in shared.tallies]
        answer = shared.do(*step)
        is_counted = before == [tally.overflow for tally in shared.tallies]
        tally = shared.tallies[0]
        if step[0] == "spend" and answer and is_counted:
            _, _, key, use, _, limit = step
            assert tally.count(stretched(key), use, shared.now) <= limit
        if step[0] == "enter" and answer == COUNTED:
            assert tally.live(stretched(step[2])) <= step[3]


LIMIT = 3
FAILURES = st.lists(
    st.one_of(
        st.tuples(st.just("fail"), WORKER, st.integers(1, 80)),
        st.tuples(st.just("fail"), WORKER, st.integers(1, 4)),
        st.tuples(st.just("enter"), WORKER, st.integers(81, 200), st.just(9)),
        st.tuples(st.just("back"), WORKER, st.integers(1, 80)),
        st.tuples(st.just("wait"), st.integers(1, 12)),
        st.tuples(st.just("die"), WORKER),
    ),
    max_size=150,
)


@settings(deadline=None, max_examples=150)
@given(FAILURES, st.integers(0, 60), st.tuples(*[st.sampled_from(CLASSES)] * WORKERS))
def test_failures_are_never_granted_uncounted(
    steps: list[tuple[Any, ...]], others: int, classes: tuple[Any, ...]
) -> None:
    """However full the table: no more than the limit in one window, nor twice that in any time as
    long; and what is counted is at least what was granted."""
    shared = Shared(classes, 32, stretched)
    for key in range(1001, 1001 + others):  # the table may be full from the beginning
        for worker in range(WORKERS):
            shared.do("enter", worker, key, 9)
    granted: dict[int, list[int]] = {}
    has_waited = False
    for step in steps:
        name, *rest = step
        has_waited = has_waited or name == "wait"
        if name not in ("fail", "back"):
            shared.do(*step)
            continue
        worker, key = rest
        at, tally, times = stretched(key), shared.tallies[worker], granted.setdefault(key, [])
        if name == "back":
            before = failures(tally, at, shared.now)
            spend_failure(tally, at, -1, LIMIT, WINDOW, shared.now)
            if failures(tally, at, shared.now) < before:
                granted.clear()  # others may share the place: whose it was is not known
                has_waited = True
        elif spend_failure(tally, at, 1, LIMIT, WINDOW, shared.now):
            times.append(shared.now)
            recent = [one for one in times if one > shared.now - WINDOW]
            assert len(recent) <= (2 * LIMIT if has_waited else LIMIT)
            if not has_waited:
                assert len(times) <= failures(tally, at, shared.now) <= LIMIT
        else:
            assert failures(tally, at, shared.now) >= LIMIT


@settings(deadline=None, max_examples=100)
@given(FAILURES)
def test_failures_count_alike_on_twins(steps: list[tuple[Any, ...]]) -> None:
    worlds = [Shared((one,) * WORKERS, 32, stretched) for one in CLASSES]
    for name, *rest in steps:
        answers = []
        for world in worlds:
            if name in ("fail", "back"):
                worker, key = rest
                amount = 1 if name == "fail" else -1
                tally, at = world.tallies[worker], stretched(key)
                answers.append(spend_failure(tally, at, amount, LIMIT, WINDOW, world.now))
            else:
                answers.append(world.do(name, *rest))
        assert answers[0] == answers[1]
        assert worlds[0].buffer == worlds[1].buffer
