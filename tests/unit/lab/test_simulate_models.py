"""The models of the simulator: clock, rows, spool, receivers, connections, senders, the watch."""

from __future__ import annotations

import random
from bisect import insort

import pytest

from fastmta.budget.rate import Rate
from fastmta.budget.shape import Shape
from fastmta.lab.simulate.clock import START_NS, Agenda
from fastmta.lab.simulate.mail import Mail
from fastmta.lab.simulate.network import NameServer, Network
from fastmta.lab.simulate.receiver import Bucket, Peer, Replies
from fastmta.lab.simulate.rows import BLOCK_MAX, SortedKeys
from fastmta.lab.simulate.scenario import Receiver, Scheduling, Shaping
from fastmta.lab.simulate.spool import ModelSpool
from fastmta.lab.simulate.tally import Tallies
from fastmta.lab.simulate.watch import Watch
from fastmta.message import ClientIdentity, Envelope, Message, RecipientState, RecipientStatus
from fastmta.message.attempt import AttemptResult, Job
from fastmta.route import RouteProblem, Site, Target

NS = 1_000_000_000
LIFETIME_S, SHORT_S = 1_000.0, 100.0


def site(label: str = "mx", provider: str = "") -> Site:
    return Site(label.encode(), label, (Target(label, "192.0.2.1", 25),), None, provider=provider)


def peer(spec: Receiver, label: str = "mx", provider: str = "") -> Peer:
    return Peer(site(label, provider), 0, spec, Replies(label), "seed")


def mail(
    number: int,
    *paths: bytes,
    due_s: float | None = None,
    arrived_s: float = 0.0,
    tenant: str = "t",
) -> Mail:
    paths = paths or (b"u@x.example",)
    envelope = Envelope(b"a@b.example", paths, ClientIdentity(), tenant=tenant)
    one = Mail(number, envelope, START_NS + int(arrived_s * NS), 1_000.0 + arrived_s, 0)
    if due_s is not None:
        due_ns = START_NS + int(due_s * NS)
        for index in range(len(envelope.forward_paths)):
            one.states[index] = RecipientState(index, RecipientStatus.DEFERRED, 1, due_ns)
    return one


def hop_of(path: bytes, _: Envelope) -> bytes:
    return b"smtp:" + path.partition(b"@")[2]


class Spooled:
    """A spool on a clock of its own, and what it answered."""

    def __init__(self) -> None:
        self.agenda = Agenda()
        self.settled: list[tuple[bytes, RecipientStatus]] = []
        self.spool = ModelSpool(
            self.agenda,
            hop_of,
            lambda one, state: self.settled.append((one.id, state.status)),
            lambda envelope: SHORT_S if envelope.tenant == "short" else LIFETIME_S,
            SHORT_S,
        )

    def fetch(
        self, hop: bytes, now_s: float, after: bytes = b"", limit: int = 10
    ) -> tuple[list[int], float | None]:
        found: list[tuple[list[Message], int | None]] = []
        now_ns = START_NS + int(now_s * NS)
        self.spool.fetch(hop, now_ns, after, limit, lambda *answer: found.append(answer))
        assert not found, "a port answered within its call"
        self.agenda.run_until(self.agenda.passed_s + 1)
        messages, due_ns = found[0]
        return [int(one.id) for one in messages], due_ns and (due_ns - START_NS) / NS

    def record(self, one: Mail, status: RecipientStatus, index: int = 0, due_s: float = 0) -> None:
        done: list[Exception | None] = []
        change = RecipientState(index, status, 1, START_NS + int(due_s * NS) if due_s else 0)
        self.spool.record(one, (change,), lambda _, error: done.append(error))
        self.agenda.run_until(self.agenda.passed_s + 1)
        assert done == [None]


def test_what_is_due_together_comes_in_the_order_it_was_asked_for() -> None:
    agenda, said = Agenda(), []
    agenda.call_later(2.0, said.append, "c")
    agenda.call_later(1.0, said.append, "a")
    agenda.post(1.0, said.append, "b")
    agenda.call_later(1.5, said.append, "never").cancel()
    agenda.call_later(3.0, said.append, "late")
    agenda.run_until(2.5)
    assert said == ["a", "b", "c"]
    assert agenda.passed_s == 2.5
    assert agenda.wall_ns() == START_NS + 2_500_000_000


def test_a_call_may_ask_for_others_at_once() -> None:
    agenda, said = Agenda(), []
    agenda.post(1.0, lambda: agenda.post(0.0, lambda: said.append(agenda.passed_s)))
    agenda.run_until(1.0)
    assert said == [1.0]


def test_sorted_keys_are_as_a_sorted_list() -> None:
    chance = random.Random(5)
    keys, model = SortedKeys(), list[bytes]()
    for _ in range(6 * BLOCK_MAX):
        if model and chance.random() < 0.4:
            key = chance.choice(model)
            keys.remove(key)
            model.remove(key)
        else:
            key = chance.randbytes(3) if chance.random() < 0.5 else b"\xff" + len(model).to_bytes(3)
            if key not in model:
                keys.add(key)
                insort(model, key)
    assert keys.count == len(model)
    assert keys.between(b"", b"\xff\xff\xff\xff\xff", 10**6) == model
    for _ in range(300):
        after, before = sorted((chance.randbytes(2), chance.randbytes(2)))
        found = [key for key in model if after < key < before]
        assert keys.between(after, before, 7) == found[:7]
        assert keys.first_from(after) == next((key for key in model if key >= after), None)


def test_a_key_that_is_not_there_cannot_be_removed() -> None:
    keys = SortedKeys()
    keys.add(b"b")
    with pytest.raises(KeyError):
        keys.remove(b"a")


def test_rows_come_by_due_time_and_id_and_the_next_due_time_is_told() -> None:
    world = Spooled()
    for number, due_s in ((1, 50.0), (2, 20.0), (3, None), (4, 20.0), (5, 300.0)):
        world.spool.store(mail(number, due_s=due_s))
    hop = b"smtp:x.example"
    assert world.spool.hops() == [(hop, START_NS)]
    assert world.fetch(hop, 60.0) == ([3, 2, 4, 1], 300.0)
    assert world.fetch(hop, 60.0, limit=2)[0] == [3, 2]
    after = (START_NS + 20 * NS).to_bytes(8, "big") + b"%016d" % 2
    assert world.fetch(hop, 60.0, after) == ([4, 1], 300.0)
    assert world.fetch(hop, 10.0) == ([3], 20.0)
    assert world.fetch(b"smtp:other.example", 10.0) == ([], None)


def test_a_message_in_ram_is_read_as_the_same_object_and_a_final_one_never() -> None:
    world = Spooled()
    hop, one = b"smtp:x.example", mail(1)
    world.spool.add(one)
    assert world.fetch(hop, 1.0) == ([], None), "elided: it was never released"
    world.spool.release(one)
    assert world.fetch(hop, 1.0) == ([1], None)
    world.record(one, RecipientStatus.DEFERRED, due_s=100.0)
    assert world.fetch(hop, 50.0) == ([], 100.0)
    assert world.fetch(hop, 100.0) == ([1], None)
    world.record(one, RecipientStatus.DELIVERED)
    assert world.fetch(hop, 100.0) == ([], None)
    assert world.settled == [(one.id, RecipientStatus.DELIVERED)]
    assert not world.spool.messages


def test_one_next_hop_reads_a_message_that_another_one_has() -> None:
    world = Spooled()
    one = mail(1, b"u@x.example", b"u@y.example")
    world.spool.add(one)
    assert world.fetch(b"smtp:y.example", 1.0)[0] == [1]
    world.record(one, RecipientStatus.DELIVERED, index=1)
    assert world.fetch(b"smtp:y.example", 1.0)[0] == []
    assert world.fetch(b"smtp:x.example", 1.0)[0] == [1]


def test_a_scheduler_that_breaks_the_contract_is_found_out() -> None:
    world = Spooled()
    one = mail(1)
    world.spool.store(one)
    with pytest.raises(AssertionError, match="released what was not held"):
        world.spool.release(one)
    with pytest.raises(AssertionError, match="recorded what was released"):
        world.record(one, RecipientStatus.DELIVERED)


def test_the_oldest_expire_first() -> None:
    world = Spooled()
    for number, arrived_s in ((1, -990.0), (2, -980.0), (3, -110.0), (5, -10.0)):
        world.spool.store(mail(number, arrived_s=arrived_s))
        if number == 3:
            world.spool.store(mail(4, arrived_s=-100.0, tenant="short"))
    found: list[list[Message]] = []
    world.spool.expired(START_NS + 30 * NS, 10, found.append)
    world.spool.expired(START_NS + 30 * NS, 1, found.append)
    world.agenda.run_until(1.0)
    assert [[int(one.id) for one in each] for each in found] == [[1, 2, 4], [1]]


def test_late_mail_is_found_in_steps_and_who_was_warned_is_left_out() -> None:
    world = Spooled()
    for number in range(1, 1_202):
        one = mail(number, arrived_s=-100.0 if number <= 1_200 else 0.0)
        if number == 7:
            one.states[0] = RecipientState(0, RecipientStatus.QUEUED, is_warned=True)
        world.spool.store(one)
    found: list[tuple[int, bytes, bytes | None]] = []
    after = b""
    for _ in range(2):
        world.spool.unwarned(
            after, START_NS - 1, lambda ids, last, young: found.append((len(ids), last, young))
        )
        world.agenda.run_until(world.agenda.passed_s + 1)
        after = found[-1][1]
    assert found == [(999, b"%016d" % 1_000, None), (200, b"", b"%016d" % 1_201)]


def test_a_crash_loses_marks_under_way_and_nothing_that_was_durable() -> None:
    world = Spooled()
    one, two = mail(1), mail(2)
    world.spool.add(one)
    world.spool.add(two)
    world.record(one, RecipientStatus.DELIVERED)
    state = RecipientState(0, RecipientStatus.DELIVERED, 1)
    world.spool.record(two, (state,), lambda *_: pytest.fail("it was not durable"))
    world.agenda.clear()
    world.spool.crash()
    assert world.fetch(b"smtp:x.example", 1.0)[0] == [2]


def test_a_bucket_allows_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(10.0, 3)
    assert [bucket.take(5.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(5.1), bucket.take(5.1)] == [True, False]
    taken = sum(bucket.take(6.0 + step / 1_000) for step in range(10_000))
    assert 99 <= taken <= 103


def test_what_a_connection_meets() -> None:
    assert peer(Receiver(jitter=0.0)).connect(0.0) == (0.05, None)
    refused_s, refused = peer(Receiver(dead="refused", jitter=0.0)).connect(0.0)
    assert (refused_s, refused and refused.status) == (0.05, "4.4.1")
    silent = peer(Receiver(dead="timeout", timeout_s=12.0, outages=((100.0, 200.0),)))
    assert [silent.connect(at_s)[0] == 12.0 for at_s in (99.9, 100.0, 199.9, 200.0)] == [
        False,
        True,
        True,
        False,
    ]
    crowded = peer(Receiver(connections=2))
    crowded.busy, crowded.idle = 1, [(0.0, 1)]
    assert crowded.connect(0.0)[1] == crowded.replies.crowded


def answers(spec: Receiver, count: int, now_s: float = 0.0, first_s: float = 0.0) -> dict[str, int]:
    one, receiver = mail(1), peer(spec)
    one.first_start_s = first_s
    said = [receiver.answer(one, (0,), now_s, now_s)[0][0].text for _ in range(count)]
    return {text: said.count(text) for text in sorted(set(said))}


def test_what_a_message_meets() -> None:
    assert answers(Receiver(), 5) == {"250 taken": 5}
    assert answers(Receiver(rate_per_s=1, rate_burst=2), 5) == {
        "250 taken": 2,
        "421 rate exceeded": 3,
    }
    assert "450 rate exceeded" in answers(Receiver(rate_per_s=1, over_rate="450"), 20)
    assert answers(Receiver(greylist_s=300), 1, now_s=399.0, first_s=100.0) == {"450 greylisted": 1}
    assert answers(Receiver(greylist_s=300), 1, now_s=400.0, first_s=100.0) == {"250 taken": 1}
    assert answers(Receiver(outages=((0.0, 9.0),)), 1, now_s=5.0) == {"lost connection": 1}
    mixed = answers(Receiver(deferred=0.2, failed=0.1, lost=0.05), 10_000)
    assert 1_750 < mixed["452 mailbox full"] < 2_050
    assert 850 < mixed["550 no such user"] < 1_050
    assert 420 < mixed["lost connection"] < 580


def test_a_tarpit_takes_longer_the_more_is_under_way() -> None:
    receiver = peer(Receiver(reply_s=1.0, jitter=0.0, tarpit_s=0.5))
    times = []
    for receiver.busy in (1, 2, 5):
        times.append(receiver.reply_s())
    assert times == [1.0, 1.5, 3.0]


class Wire:
    """A network with one receiver, and the attempts that ended."""

    def __init__(self, spec: Receiver, **options: float) -> None:
        self.agenda = Agenda()
        self.peer = peer(spec)
        chosen = Scheduling(**options)  # type: ignore[arg-type]  # the test says which
        self.watch = Watch(chosen)
        tallies = Tallies(["r"], ["t"], {b"u@x.example": 0})
        peers = {self.peer.site.key: self.peer}
        self.network = Network(self.agenda, peers, chosen, tallies, self.watch)
        self.ended: list[tuple[float, AttemptResult]] = []

    def start(self) -> None:
        job = Job(mail(1), b"smtp:x.example", (0,))
        self.network.start(job, self.peer.site, self._done)

    def _done(self, _: Job, result: AttemptResult) -> None:
        self.ended.append((round(self.agenda.passed_s, 3), result))


def test_connections_are_reused_until_they_idled_too_long_or_carried_enough() -> None:
    wire = Wire(Receiver(jitter=0.0, connect_s=0.1, reply_s=0.1), messages_per_connection=3)
    for at_s in (0.0, 1.0, 2.0, 3.0, 4.0, 20.0):
        wire.agenda.run_until(at_s)
        wire.start()
    wire.agenda.run_until(30.0)
    assert [at_s for at_s, _ in wire.ended] == [0.2, 1.1, 2.1, 3.2, 4.1, 20.2]
    assert [one.connection_use for _, one in wire.ended] == [1, 2, 3, 1, 2, 1]
    assert wire.network.connected == 3
    assert wire.peer.open_most == 1


def test_idle_connections_are_closed_on_demand() -> None:
    wire = Wire(Receiver())
    wire.start()
    wire.agenda.run_until(1.0)
    closed: list[bool] = []
    wire.network.close_idle(wire.peer.site, lambda: closed.append(True))
    assert not closed
    wire.agenda.run_until(1.1)
    assert closed
    assert not wire.peer.idle


def test_more_connections_than_our_limit_are_noted() -> None:
    wire = Wire(Receiver(), site_connections=2)
    for _ in range(3):
        wire.start()
    assert wire.watch.exceeded == {"site_connections": 1}


def watched(shape: Shape, shaping: Shaping) -> Watch:
    watch = Watch(Scheduling())
    watch.hold({shape.name: (shape, shaping)})
    return watch


def test_the_watch_counts_each_combination_by_itself() -> None:
    shaping = Shaping(rate=Rate(1, 1.0, 2))
    watch = watched(Shape(name="s", tenant=("*",), provider=("big",)), shaping)
    big, other = peer(Receiver(), "a", "big"), peer(Receiver(), "b")
    for tenant, one in (("x", big), ("x", big), ("y", big), ("y", big), *[("x", other)] * 9):
        watch.started(one, tenant, "d.example", 10.0)
    assert not watch.exceeded
    watch.started(big, "x", "d.example", 10.5)
    assert watch.exceeded == {"shape.s.rate": 1}


def test_the_watch_counts_idle_connections_of_all_sites_of_a_provider() -> None:
    watch = watched(Shape(name="s", provider=("big",)), Shaping(connections=3))
    one, two = peer(Receiver(), "a", "big"), peer(Receiver(), "b", "big")
    ended = watch.started(one, "x", "d.example", 10.0)
    watch.started(one, "x", "d.example", 10.0)
    watch.ended(ended)
    one.idle.append((10.0, 1))
    watch.started(two, "x", "d.example", 12.0)
    assert not watch.exceeded
    watch.started(two, "x", "d.example", 12.0)
    assert watch.exceeded == {"shape.s.connections": 1}


def test_look_ups_take_their_time_fail_and_grow_old() -> None:
    agenda = Agenda()
    good, bad = peer(Receiver(dns_s=0.5)), peer(Receiver(dns_failures=1.0))
    names = NameServer(agenda, {b"smtp:a": good, b"smtp:b": bad}, random.Random(1), 60.0)
    found: dict[bytes, Site | RouteProblem] = {}
    for next_hop in (b"smtp:a", b"smtp:a for x", b"smtp:b"):
        names.resolve(next_hop, found.__setitem__)
    assert not found
    agenda.run_until(1.0)
    answer = found[b"smtp:a"]
    assert isinstance(answer, Site)
    assert answer.expires_at_s == 1_060.5
    assert isinstance(found[b"smtp:a for x"], Site)
    assert isinstance(found[b"smtp:b"], RouteProblem)
    assert (names.lookups, names.failures) == (3, 1)
