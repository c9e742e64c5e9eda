"""A start with mail for thousands of sites that is all overdue: at a pace, in its order, fairly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from fastmta.message import Message
from fastmta.route import RouteProblem, Site
from fastmta.scheduler import Options, Waiting
from fastmta.scheduler.due import TURN_S, WAKES_PER_TURN
from fastmta.scheduler.routing import LOOKUPS_MAX
from tests.support.scheduler_world import FETCH_S, ModelSpool, World, hop_of

SLOTS = 100
LATENCY_S = 0.2


class Latency(dict[str, float]):
    """The same for every site."""

    def get(self, key: str, default: object = None) -> float:
        return LATENCY_S


class SortedSpool(ModelSpool):
    """Finds the mail of a next hop without looking at all mail, as the index does."""

    def __init__(self, world: World) -> None:
        super().__init__(world.agenda, hop_of)
        self.of_hop: dict[bytes, list[bytes]] = {}

    def _all(self) -> list[Message]:
        return self.found

    def fetch(
        self,
        next_hop: bytes,
        now_ns: int,
        after: bytes,
        limit: int,
        done: Callable[[list[Message], int | None], None],
    ) -> None:
        ids = self.of_hop.get(next_hop, [])
        places = (self.rows, self.held)
        self.found = [place[id] for id in ids for place in places if id in place]
        super().fetch(next_hop, now_ns, after, limit, done)

    def expired(self, now_ns: int, limit: int, done: Callable[[list[Message]], None]) -> None:
        self._agenda.call_later(FETCH_S, done, [])


class Start(World):
    """Mail for `count` sites, two messages each, the first site's due first; then a start."""

    def __init__(self, count: int, lookup_s: float = 0.3) -> None:
        super().__init__(Options(connections=SLOTS))
        self.resolve_s = lookup_s
        self.receivers.latency_s = Latency()
        self.under_way = 0
        self.most_lookups = 0
        self.spool = SortedSpool(self)
        self.stored = []
        for number in range(2 * count):
            site = number // 2
            message = self.store(b"r@s%d.example" % site, due_in_s=1 + site / count)
            self.stored.append(message.id)
            self.spool.of_hop.setdefault(b"smtp:s%d.example" % site, []).append(message.id)
        self.agenda.now_s += 3_600
        self.restart()

    def resolve(self, next_hop: bytes, done: Callable[[bytes, Site | RouteProblem], None]) -> None:
        self.under_way += 1
        self.most_lookups = max(self.most_lookups, self.under_way)
        super().resolve(next_hop, done)

    def _resolved(
        self, next_hop: bytes, done: Callable[[bytes, Site | RouteProblem], None]
    ) -> None:
        self.under_way -= 1
        super()._resolved(next_hop, done)

    def first_contacts(self) -> dict[str, float]:
        """When each site was first tried."""
        found: dict[str, float] = {}
        for at_s, _, site in self.receivers.log:
            found.setdefault(site, at_s)
        return found


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_all_sites_overdue_at_once(count: int) -> None:
    world = Start(count)
    begin_s = world.agenda.now_s
    fresh = []
    for number in range(40):
        world.run(0.1)
        fresh.append((world.send(b"f@new%d.example" % number).id, world.agenda.now_s))
    world.run(2 * count * LATENCY_S / SLOTS * 2 + 30)

    assert Counter(id for _, id, _ in world.receivers.log) == Counter(
        [*world.stored, *(id for id, _ in fresh)]
    ), "each was tried once"
    assert world.receivers.most_together <= SLOTS
    assert world.most_lookups <= LOOKUPS_MAX + 40, "mail that just came in stands in no line"
    contacts = world.first_contacts()
    pace = Counter(int((at_s - begin_s) / 0.1) for at_s in contacts.values())
    assert max(pace.values()) <= 0.1 / TURN_S * WAKES_PER_TURN + SLOTS

    order = [contacts[f"s{number}.example"] for number in range(count)]
    ranks = sorted(range(count), key=order.__getitem__)
    behind = max(abs(rank - number) for number, rank in enumerate(ranks))
    assert behind < count / 2, "what was due first goes first, but for those that were read ahead"
    tenth = count // 10
    assert sum(number < count // 2 for number in ranks[:tenth]) > 0.99 * tenth

    started = {id: at_s for at_s, id, _ in world.receivers.log}
    waits_s = sorted(started[id] - at_s for id, at_s in fresh)
    assert waits_s[-1] < world.resolve_s + 2 * LATENCY_S


def test_name_servers_that_are_slow_delay_no_fresh_mail() -> None:
    world = Start(1_000, lookup_s=5.0)
    world.run(1.0)
    assert world.under_way == LOOKUPS_MAX
    waiting = [
        one
        for number in range(1_000)
        for one in world.scheduler.explain.next_hop(b"smtp:s%d.example" % number)
    ]
    assert {one.waiting for one in waiting} == {Waiting.LOOKUP}
    assert sum("turn" in one.detail for one in waiting) >= 1_000 - LOOKUPS_MAX
    fresh = world.send(b"f@new.example")
    queued = world.send(b"f@s999.example")
    world.run(6.0)
    started = {id for _, id, _ in world.receivers.log}
    assert {fresh.id, queued.id} <= started, "nor is the site of old mail in front of it"
    world.run(60.0)
    assert len(world.spool.final) == 2_002


def test_answers_that_are_known_at_once_come_some_in_each_turn() -> None:
    world = Start(1_000, lookup_s=5.0)
    world.run(1.0)
    world.resolve_s = 0.0
    before = world.lookups.total()
    world.run(4.1)
    assert world.lookups.total() - before <= 0.2 / TURN_S * WAKES_PER_TURN
    world.run(30.0)
    assert len(world.spool.final) == 2_000


def test_a_pause_of_everything_empties_the_line_and_loses_nobody() -> None:
    world = Start(1_000, lookup_s=1.0)
    world.run(0.5)
    world.scheduler.pause("the disk is full")
    world.run(10.0)
    lookups = world.lookups.total()
    assert lookups <= 2 * LOOKUPS_MAX
    world.run(10.0)
    assert world.lookups.total() == lookups
    world.scheduler.resume()
    world.run(60.0)
    assert len(world.spool.final) == 2_000
