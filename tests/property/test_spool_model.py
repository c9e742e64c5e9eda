"""The spool against a plain model: whatever the history, reopening gives exactly what was durable.

The model is a dict of live ids to what was acknowledged about them. A crash copies the files at any
moment; what was under way then may have happened or not, everything else must be there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fastmta.message import Message, RecipientState, RecipientStatus
from fastmta.spool import Spool, SpoolOptions, ledger, opening
from fastmta.spool.codec import is_final
from fastmta.spool.filter import parse_filter
from fastmta.spool.search import Page
from tests.support.long import LongRun
from tests.support.spool import NOW_NS, Shard, copy_crashed, delete_index

DOMAINS = (b"one.example", b"two.example", b"three.example")
HOPS = tuple(b"smtp:" + domain for domain in DOMAINS)
FAR_NS = 2**62
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # copies of files are all it needs
States = dict[int, RecipientState]

paths = st.lists(st.sampled_from([b"u@" + domain for domain in DOMAINS]), min_size=1, max_size=4)
status = st.sampled_from([*RecipientStatus, *[RecipientStatus.DEFERRED] * 4])


class Known:
    """What the model knows of one live message."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.content = message.content
        self.paths = message.envelope.forward_paths
        self.states: States = {}

    def apply(self, change: RecipientState) -> None:
        """Only a requeue reopens a final outcome."""
        index = change.index
        if change.status is RecipientStatus.REQUEUED:
            self.states[index] = RecipientState(index, RecipientStatus.QUEUED)
        elif not is_final(self.states.get(index)):
            self.states[index] = change

    @property
    def is_live(self) -> bool:
        return sum(is_final(state) for state in self.states.values()) < len(self.paths)


class SpoolMachine(RuleBasedStateMachine):
    """Random histories of one shard."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="spool-model-", dir=MEMORY))
        self.generation = 0
        self.live: dict[bytes, Known] = {}
        self.held: dict[bytes, Message] = {}  # the Message objects that are in memory
        self.ids: set[bytes] = set()

    @initialize(
        size=st.sampled_from([64, 128, 256]),
        age_s=st.sampled_from([0.0, 1e9]),
        at_once=st.sampled_from([0, 1 << 40]),
    )
    def start(self, size: int, age_s: float, at_once: int) -> None:
        """With an age of 0 every commit indexes all that the one before it had seen fresh. Without
        an index a shard rebuilds it before it opens, or (`at_once` 0) afterwards."""
        ledger.AGE_S = age_s
        opening.REBUILT_AT_ONCE_OCTETS = at_once
        self.options = SpoolOptions(segment_octets=size * 1024)
        self.shard = Shard(self.place / "0", self.options)
        self._refill()

    def teardown(self) -> None:
        if hasattr(self, "shard"):
            self.shard.close()
        shutil.rmtree(self.place)

    def accept(self, paths: list[bytes], size: int, count: int) -> None:
        messages = [self.shard.make(*paths, content=b"c" * size) for _ in range(count)]
        assert self.shard.accept(*messages) == [None] * count
        for message in messages:
            assert message.id not in self.ids
            self.ids.add(message.id)
            self.live[message.id] = Known(message)
            self.held[message.id] = message

    # Several rules of one kind: so that each history has mail in it.
    accept_small = rule(paths=paths, size=st.integers(0, 90), count=st.integers(1, 4))(accept)
    accept_large = rule(paths=paths, size=st.integers(0, 20_000), count=st.integers(1, 4))(accept)

    def record(self, data: Any, with_dsn: bool) -> None:
        id = data.draw(st.sampled_from(sorted(self.held)))
        known, message = self.live[id], self.held[id]
        indices = st.integers(0, len(known.paths) - 1)
        changes = []
        for index in sorted(data.draw(st.sets(indices, min_size=1))):
            due = data.draw(st.integers(NOW_NS, NOW_NS + 100))
            changes.append(RecipientState(index, data.draw(status), 1, due, "text"))
        dsn = self.shard.make(b"u@one.example", reverse_path=b"") if with_dsn else None
        assert self.shard.record(message, *changes, dsn=dsn) is None
        for change in changes:
            known.apply(change)
        assert message.states == known.states
        assert (message.pending == 0) == (not known.is_live)
        if dsn is not None:
            self.live[dsn.id] = Known(dsn)
            self.held[dsn.id] = dsn
        if not known.is_live:
            del self.live[id], self.held[id]

    record_once = precondition(lambda self: self.held)(
        rule(data=st.data(), with_dsn=st.booleans())(record)
    )
    record_again = precondition(lambda self: self.held)(
        rule(data=st.data(), with_dsn=st.just(False))(record)
    )

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: Any) -> None:
        id = data.draw(st.sampled_from(sorted(self.held)))
        self.shard.spool.release(self.held.pop(id))

    @rule(hop=st.sampled_from(HOPS), now=st.integers(NOW_NS, NOW_NS + 100), limit=st.integers(1, 9))
    def fetch(self, hop: bytes, now: int, limit: int) -> None:
        messages, later = self.shard.fetch(hop, now, limit=limit)
        due = self._due(hop)
        ready = [id for at, id in due if at <= now]
        got = [message.id for message in messages if message.id not in self.held]
        released = [id for id in ready if id not in self.held]
        if len(messages) < limit:
            assert got == released
            waits = [at for at, id in due if at > now and id not in self.held]
            if waits and later is not None:
                assert later <= min(waits)
            assert not waits or later is not None
        else:
            assert set(got) <= set(released)
        self._adopt(messages)

    @rule(now=st.sampled_from([NOW_NS, FAR_NS]))
    def expired(self, now: int) -> None:
        messages = self.shard.expired(now)
        found = {message.id for message in messages}
        for id, known in self.live.items():
            waits = any(
                not is_final(state) and (state is None or state.status is not RecipientStatus.HELD)
                for state in map(known.states.get, range(len(known.paths)))
            )
            if id not in self.held:
                assert (id in found) == (waits and now == FAR_NS)
        self._adopt(messages)

    @rule(data=st.data(), with_content=st.booleans())
    def take(self, data: Any, with_content: bool) -> None:
        """By id, whatever it waits for; what is final is not found."""
        ids = data.draw(st.lists(st.sampled_from(sorted(self.ids)), max_size=5, unique=True))
        (messages,) = self.shard.wait(lambda done: self.shard.spool.take(ids, with_content, done))
        assert isinstance(messages, list)
        assert sorted(message.id for message in messages) == sorted(set(ids) & set(self.live))
        for message in messages:
            if not with_content and message.content is None:
                message.content = self.live[message.id].content
        self._adopt(messages)

    @rule(limit=st.integers(1, 5))
    def look(self, limit: int) -> None:
        """Every live message is found once, and counted where it waits."""
        found: list[bytes] = []
        after: bytes | None = b""
        while after is not None:
            (page,) = self.shard.wait(
                lambda done, at=after: self.shard.spool.search.page(
                    parse_filter(""), NOW_NS, at, limit, True, done
                )
            )
            assert isinstance(page, Page)
            found += page.ids
            after = page.next
        assert found == sorted(self.live)
        (counts,) = self.shard.wait(self.shard.spool.search.count)
        assert isinstance(counts, list)
        recipients = {hop: self._count(hop) for hop in HOPS if self._count(hop)}
        assert {one.next_hop: one.recipients for one in counts} == recipients

    def _count(self, hop: bytes) -> int:
        """Recipients that wait for this next hop."""
        return sum(
            b"smtp:" + path.partition(b"@")[2] == hop
            and not is_final(known.states.get(index))
            and getattr(known.states.get(index), "status", None) is not RecipientStatus.HELD
            for known in self.live.values()
            for index, path in enumerate(known.paths)
        )

    def commit(self) -> None:
        """The index holds the secondary rows of its messages and not one more."""
        self.shard.commit()
        dump, index = self.shard.dump(), self.shard.index()
        keys = [found.keys(b"") for found in index.values()]
        assert set(dump["hop"]) == {key for one in keys for key in one.hops}
        assert set(dump["expiry"]) == {one.expiry for one in keys if one.expiry}
        assert len(dump["recipient"]) == sum(one.recipient_count for one in keys)
        for id in set(self.live) - set(self.held):
            assert index[id].states == self.live[id].states
        self.shard.check_counts()

    commit_once = rule()(commit)
    commit_again = rule()(commit)

    @rule(data=st.data(), rounds=st.integers(1, 4))
    def trim(self, data: Any, rounds: int) -> None:
        """Segments move to the cold log as far as they can; marks are recorded meanwhile."""
        for _ in range(rounds):
            self.commit()
            if self.held and data.draw(st.booleans()):
                self.record(data, False)
            self.shard.trim()

    @rule(without_index=st.booleans(), turns=st.integers(0, 12), data=st.data())
    def crash_while_trimming(self, without_index: bool, turns: int, data: Any) -> None:
        """The process dies between any two steps of the trimmer, or right after an outcome of mail
        that is on the move."""
        self.shard.commit()
        for _ in range(turns):
            self.shard.turn()
        if self.held and data.draw(st.booleans()):
            self.record(data, False)
        self._crash(without_index)

    @rule(without_index=st.booleans())
    def reopen(self, without_index: bool) -> None:
        self.shard.close()
        self._open(self.shard.root, without_index)

    @rule(without_index=st.booleans(), twice=st.booleans())
    def crash(self, without_index: bool, twice: bool) -> None:
        self._crash(without_index)
        if twice:
            self._crash(False)

    @rule(paths=paths, without_index=st.booleans(), turns=st.integers(0, 6), data=st.data())
    def crash_with_work_under_way(
        self, paths: list[bytes], without_index: bool, turns: int, data: Any
    ) -> None:
        """A message is being accepted and a mark recorded while the process dies."""
        shard, outcome = self.shard, {}
        message = shard.make(*paths)
        self.ids.add(message.id)
        shard.spool.accept(message, lambda m, e: outcome.update({m.id: e}))
        marked: Known | None = None
        if self.held:
            id = data.draw(st.sampled_from(sorted(self.held)))
            marked = self.live[id]
            count = len(marked.paths)
            changes = [RecipientState(at, RecipientStatus.DELIVERED, 1) for at in range(count)]
            shard.spool.record(self.held[id], changes, lambda m, e: outcome.update({m.id: e}))
        for _ in range(turns):
            shard.loop.call_soon(shard.loop.stop)
            shard.loop.run_forever()
        target = copy_crashed(shard, self._next())
        acknowledged = dict(outcome)
        shard.close()
        assert set(acknowledged.values()) <= {None}
        self.held.clear()
        reopened = Shard(target, self.options)
        if message.id in acknowledged or message.id in reopened.recovered:
            self.live[message.id] = Known(message)
        if marked is not None:
            id = marked.message.id
            if id in acknowledged or id not in reopened.recovered:
                del self.live[id]
        self.shard = reopened
        self._check(is_torn="torn group" in str(reopened.events))
        self._finish(message.id, *([marked.message.id] if marked else []))
        if without_index:
            self._crash(True)

    def _finish(self, *ids: bytes) -> None:
        """Deliver these if they are live: whether they were must not steer the rest of the run."""
        for domain in DOMAINS:
            messages, _ = self.shard.fetch(b"smtp:" + domain, FAR_NS)
            for message in messages:
                if message.id in ids and message.id in self.live:
                    self.shard.deliver(message)
                    del self.live[message.id]
                elif message.pending:
                    self.shard.spool.release(message)

    def _crash(self, without_index: bool) -> None:
        target = copy_crashed(self.shard, self._next())
        self.shard.close()
        shutil.rmtree(self.shard.root)
        self._open(target, without_index)

    def _refill(self) -> None:
        """Never test an empty shard."""
        self.accept([b"u@one.example", b"u@two.example"], 100, 2)
        self.accept([b"u@one.example", b"u@two.example", b"v@one.example"], 5000, 2)

    def _next(self) -> Path:
        self.generation += 1
        return self.place / str(self.generation)

    def _open(self, root: Path, without_index: bool) -> None:
        if without_index:
            delete_index(root)
        self.held.clear()
        self.shard = Shard(root, self.options)
        self._check()
        self._refill()

    def _check(self, is_torn: bool = False) -> None:
        """The reopened shard holds exactly the live messages, with exactly their states."""
        recovered = self.shard.recovered
        assert set(recovered) == set(self.live)
        for id, known in self.live.items():
            assert recovered[id].states == known.states
        assert self.shard.spool.live_count == len(self.live)
        first: dict[bytes, int] = {}
        for hop in HOPS:
            due = [at for at, _ in self._due(hop)]
            if due:
                first[hop] = min(due)
        assert dict(self.shard.spool.hops()) == first
        said = [str(event) for event in self.shard.events if "was rebuilt" not in str(event)]
        assert len(said) == is_torn, said
        # The index is the same as one that is built from the log alone.
        target = copy_crashed(self.shard, self._next())
        delete_index(target)
        with Shard(target, self.options, Spool.rebuild) as rebuilt:
            assert rebuilt.dump() == self.shard.dump()
        shutil.rmtree(target)

    def _due(self, hop: bytes) -> list[tuple[int, bytes]]:
        """(due, id) of every live message with recipients of `hop` that wait."""
        due = []
        for id, known in self.live.items():
            times = []
            for index, path in enumerate(known.paths):
                state = known.states.get(index)
                if b"smtp:" + path.partition(b"@")[2] != hop or is_final(state):
                    continue
                if state is None or state.status is RecipientStatus.QUEUED:
                    times.append(NOW_NS)
                elif state.status is RecipientStatus.DEFERRED:
                    times.append(state.due_at_ns)
            if times:
                due.append((min(times), id))
        return sorted(due)

    def _adopt(self, messages: list[Message]) -> None:
        for message in messages:
            held = self.held.get(message.id)
            assert held is None or held is message
            known = self.live[message.id]
            assert message.content == known.content
            assert message.states == known.states
            self.held[message.id] = message

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "shard"):
            assert self.shard.spool.live_count == len(self.live)
            assert self.shard.spool.is_healthy


@pytest.fixture(autouse=True)
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits happen when a rule asks for one, never by time: the same choices, the same run."""
    monkeypatch.setattr("fastmta.spool.clerk.COMMIT_GAP_S", 0.0)
    monkeypatch.setattr("fastmta.spool.clerk.COMMIT_INTERVAL_S", 1e6)
    monkeypatch.setattr("fastmta.spool.reserve.RESERVE_OCTETS", 0)  # memory, on such a volume
    monkeypatch.setattr("fastmta.spool.ledger.AGE_S", 0.0)
    monkeypatch.setattr("fastmta.spool.trimmer.LIVE_FACTOR", 0.0)  # trim whenever possible
    monkeypatch.setattr("fastmta.spool.trimmer.SLACK_SEGMENTS", 0)
    monkeypatch.setattr("fastmta.spool.trim.RECORDS_AT_ONCE", 2)
    monkeypatch.setattr("fastmta.spool.cold.GROUP_OCTETS_MAX", 24_000)
    monkeypatch.setattr("fastmta.spool.opening.REBUILT_AT_ONCE_OCTETS", 0)
    monkeypatch.setattr("fastmta.spool.replay._MESSAGES_MAX", 3)


TestSpoolModel = SpoolMachine.TestCase
TestSpoolModel.settings = settings(
    max_examples=80,  # for `make test-long` see below
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
LONG = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.long
def test_histories_for_minutes(long_run: LongRun) -> None:
    for number in long_run.seeds():
        run_state_machine_as_test(seed(number)(SpoolMachine), settings=LONG)
        long_run.record(number, examples=LONG.max_examples)
