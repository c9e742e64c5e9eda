"""Workers and their broker, one situation each; in virtual time."""

from __future__ import annotations

import pytest

from fastmta.budget import ledger as ledger_module
from fastmta.budget.bucket import Bucket
from fastmta.budget.frame import (
    FRAME_OCTETS_MAX,
    KEY_OCTETS_MAX,
    LINES_MAX,
    Ask,
    Grant,
    PlaceAsk,
    RateAsk,
    decode_ask,
    decode_grant,
    encode,
    gone,
    key_of,
)
from fastmta.budget.ledger import LEASE_S, MARGIN_S, Ledger
from fastmta.budget.rate import read_rate
from tests.support.budget_world import BudgetWorld, ModelPath, ModelWorker


def worker(world: BudgetWorld, index: int) -> ModelWorker:
    found = world.workers[index]
    assert found is not None
    return found


def path(world: BudgetWorld, index: int, job_s: float = 0.2) -> ModelPath:
    return worker(world, index).path("site", job_s)


def make_world(workers: int, limit: int) -> BudgetWorld:
    world = BudgetWorld(workers)
    world.limit("site", limit)
    world.run(0.1)
    return world


def done(world: BudgetWorld) -> list[int]:
    return [path(world, index).done for index in range(len(world.workers))]


def test_one_place_goes_round() -> None:
    world = make_world(8, 1)
    for index in range(8):
        path(world, index).add(1000)
    world.run(90.0)
    assert world.watch.most["site"] == 1
    assert min(done(world)) >= 10
    assert sum(done(world)) > 0.85 * 90 / 0.2, "the place is nearly always in use"


def test_places_are_shared_evenly_among_those_that_want_them() -> None:
    world = make_world(4, 8)
    for index in range(2):
        path(world, index).add(100_000)
    world.run(10.0)
    assert [path(world, index).held for index in range(4)] == [4, 4, 0, 0]
    for index in (2, 3):
        path(world, index).add(100_000)
    world.run(10.0)
    assert [path(world, index).held for index in range(4)] == [2, 2, 2, 2]


def test_idle_connections_are_closed_for_others() -> None:
    world = make_world(2, 4)
    path(world, 0).add(4)
    world.run(1.0)
    assert path(world, 0).held == 4
    path(world, 1).add(8)
    world.run(1.5)
    assert path(world, 1).done >= 4
    assert world.watch.most["site"] <= 4


@pytest.mark.parametrize("limit", [1, 3])
def test_places_do_not_go_to_and_fro_between_workers_with_some_work(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a job of 20 ms every 100 ms: a connection for a second of jobs, not for each."""
    monkeypatch.setattr("tests.support.budget_world.IDLE_S", 1_000.0)
    world = make_world(2, limit)
    opened: list[str] = []
    watched = world.watch.open
    monkeypatch.setattr(world.watch, "open", lambda name: (opened.append(name), watched(name)))
    for _ in range(300):
        for index in range(2):
            path(world, index, 0.02).add(1)
        world.run(0.1)
    assert min(done(world)) >= 290, "both have their turn"
    assert len(opened) <= 40


def test_who_idles_gives_its_place_at_once() -> None:
    world = make_world(2, 1)
    path(world, 0, 0.02).add(1)
    world.run(1.5)
    assert path(world, 0).held == 1
    path(world, 1, 0.02).add(1)
    world.run(0.1)
    assert done(world) == [1, 1]


def test_what_is_there_when_a_limit_is_new_counts_over_all_workers() -> None:
    world = make_world(2, 9)
    places = path(world, 0).places
    holder = path(world, 0)
    places.occupy(holder, 3)
    world.run(0.1)
    assert world.ledger is not None
    assert world.ledger.granted(key_of("site")) == 3
    for index in range(2):
        worker(world, index).meters.places("site", 2)
    path(world, 1).add(1)
    world.run(5.0)
    assert path(world, 1).done == 0, "three are there, two are allowed"
    for _ in range(2):
        places.give(holder)
    world.run(2.0)
    assert path(world, 1).done == 1
    assert world.ledger.granted(key_of("site")) <= 2


def test_what_nobody_needs_is_given_back_and_forgotten() -> None:
    world = make_world(2, 4)
    path(world, 0).add(4)
    world.run(20.0)
    assert world.ledger is not None
    assert world.ledger.granted(key_of("site")) == 0
    assert len(world.ledger) == 0


def test_a_dead_worker_gives_its_places_at_once() -> None:
    world = make_world(2, 1)
    path(world, 0, 100.0).add(1)
    world.run(1.0)
    path(world, 1).add(1)
    world.run(1.0)
    assert path(world, 1).done == 0
    world.kill_worker(0)
    world.run(0.5)
    assert path(world, 1).done == 1


def test_a_worker_that_hangs_for_longer_than_its_lease_loses_it() -> None:
    """Its connections stay open meanwhile: for once there are more than the limit."""
    world = make_world(2, 1)
    path(world, 0, 5.0).add(3)
    world.run(1.0)
    worker(world, 0).hangs_until_s = world.agenda.now_s + 2 * LEASE_S
    path(world, 1).add(1)
    world.limit("site", 2)
    world.run(LEASE_S - 2)
    assert path(world, 1).done == 0
    world.run(4)
    assert path(world, 1).done == 1
    world.run(LEASE_S)
    assert world.ledger is not None
    assert world.ledger.granted(key_of("site")) == world.watch.connections["site"] == 1
    world.limit("site", 1)
    world.run(30.0)
    assert path(world, 0).done == 3


def test_a_lease_without_a_broker_ends_and_says_so() -> None:
    world = make_world(2, 4)
    path(world, 0).add(10**6)
    world.run(5.0)
    world.kill_broker()
    before = path(world, 0).done
    world.run(15.0)
    assert path(world, 0).done > before, "what is leased is used"
    assert worker(world, 0).said[-1][1]
    assert "has not answered for" in worker(world, 0).said[-1][0]
    world.run(LEASE_S)
    before = path(world, 0).done
    assert path(world, 0).held == 0, "nothing is open without a lease"
    state = path(world, 0).places.state()
    assert (state.kind, state.name, state.waiting) == ("lease", "site", 1)
    assert "has not answered for" in state.detail
    world.run(60.0)
    assert path(world, 0).done == before
    world.start_broker()
    world.run(2.0)
    assert path(world, 0).done > before, "all had told what they have: no lease to wait for"
    assert "is back" in worker(world, 0).said[-1][0]


def test_a_new_broker_waits_for_a_worker_that_says_nothing() -> None:
    world = make_world(2, 1)
    path(world, 0, 2.0).add(1)
    world.run(0.1)
    world.kill_broker()
    worker(world, 0).hangs_until_s = world.agenda.now_s + 20.0
    path(world, 1).add(1)
    world.start_broker()
    world.run(19.0)
    assert path(world, 1).done == 0
    world.run(5.0)
    assert path(world, 1).done == 1


def test_a_broker_that_stood_still_takes_nothing_away() -> None:
    world = make_world(2, 1)
    path(world, 0, 100.0).add(1)
    path(world, 1).add(1)
    world.run(1.0)
    holder, other = (0, 1) if path(world, 0).held else (1, 0)
    world.stop_broker(True)
    world.run(LEASE_S + 10)
    assert path(world, holder).in_flight or path(world, holder).done
    world.stop_broker(False)
    world.run(10.0)
    assert world.watch.most["site"] == 1
    assert path(world, other).in_flight + path(world, other).done <= 1


def test_a_lower_limit_holds_as_soon_as_one_worker_knows_it() -> None:
    world = make_world(2, 8)
    for index in range(2):
        path(world, index).add(10_000)
    world.run(5.0)
    path(world, 0).places.change(2)
    world.run(5.0)
    assert sum(path(world, index).held for index in range(2)) <= 2
    path(world, 1).places.change(2)
    for index in range(2):
        path(world, index).places.change(6)
    world.run(5.0)
    assert sum(path(world, index).held for index in range(2)) == 6


@pytest.mark.parametrize(
    "text", ["100/min, burst 10", "10/s", "100/s", "50/s, burst 1", "1/s", "300/s, burst 20"]
)
def test_units_flow_at_the_rate(text: str) -> None:
    rate = read_rate(text)
    seconds = 60.0 if rate.count < 50 or rate.period_s > 1 else 10.0
    expected = seconds * rate.count / rate.period_s + rate.burst
    world = BudgetWorld(4)
    world.limit("site", 1000)
    world.rate("rate", rate)
    world.run(0.1)
    for index in range(4):
        worker(world, index).path("site", 0.001, "rate").add(10**6)
    world.run(seconds)
    uses = world.watch.uses["rate"]
    assert 0.99 * expected - 1 <= len(uses) <= expected
    counts = [sum(1 for _, index in uses if index == each) for each in range(4)]
    assert max(counts) - min(counts) <= 0.1 * expected


def test_a_slow_rate_is_remembered_by_workers_when_the_broker_dies() -> None:
    world = BudgetWorld(2)
    world.limit("site", 10)
    world.rate("rate", read_rate("6/h"))
    world.run(0.1)
    for index in range(2):
        worker(world, index).path("site", 0.01, "rate").add(10)
    world.run(590.0)
    assert len(world.watch.uses["rate"]) == 1
    world.kill_broker()
    world.start_broker()
    world.run(20.0)
    assert len(world.watch.uses["rate"]) == 2, "neither twice nor another ten minutes later"


def test_a_rate_says_what_it_waits_for() -> None:
    world = BudgetWorld(2)
    world.limit("site", 10)
    world.rate("rate", read_rate("6/h"))
    world.run(0.1)
    waiting = worker(world, 0).path("site", 0.01, "rate")
    waiting.add(2)
    world.run(60.0)
    assert waiting.throttle is not None
    state = waiting.throttle.state()
    assert (state.kind, state.waiting) == ("rate", 1)
    assert state.until_s - world.agenda.now_s == pytest.approx(540, abs=1)


def test_a_unit_is_kept_for_who_waits_for_another_throttle() -> None:
    world = make_world(1, 1)
    world.rate("both", read_rate("1/s, burst 2"))
    throttle = worker(world, 0).meters.throttle("both", read_rate("1/s, burst 2"))
    first, second = path(world, 0), ModelPath(worker(world, 0), "site", 0.2)
    throttle.wait(first)
    world.run(0.01)
    assert throttle.wait_s(second) == 0.0
    throttle.keep_turn(first, has_unit=True)
    assert throttle.wait_s(second) > 0
    world.run(1.0)
    assert throttle.stock == 1, "it is not given back"
    throttle.wait(second)
    assert throttle.wait_s(first) == 0.0, "before the line"
    world.run(5.0)
    assert throttle.stock == 0, "but not for ever"


def test_ten_thousand_sites_are_affordable() -> None:
    world = BudgetWorld(2)
    for number in range(10_000):
        world.limit(f"site {number}", 2)
    world.run(0.1)
    for number in range(10_000):
        worker(world, number % 2).path(f"site {number}", 0.05).add(1)
    before = world.messages
    world.run(2.0)
    finished = [one.done for each in world.workers if each for one in each.paths.values()]
    assert finished == [1] * 10_000
    assert world.messages - before < 400, "they are told together"
    world.run(20.0)
    assert world.ledger is not None
    assert len(world.ledger) == 0
    before = world.messages
    world.run(100.0)
    assert world.messages - before <= 60, "only leases are renewed"


def test_those_who_come_beyond_so_many_share_a_throttle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmta.budget.lease.METERS_MAX", 3)
    meters = worker(make_world(1, 1), 0).meters
    own = [meters.throttle(f"each(tenant={number})", read_rate("1/min")) for number in range(3)]
    for one in own:
        meters.touch(one)
    rest = [meters.throttle(f"each(tenant={number})", read_rate("1/min")) for number in range(3, 9)]
    assert {one.name for one in rest} == {"each(all others)"}
    assert len(set(map(id, rest))) == 1
    assert meters.throttle("each(tenant=1)", read_rate("1/min")) is own[1]


def test_names_have_short_keys() -> None:
    keys = {key_of(name) for name in ("a", "b", "x" * 23, "x" * 24, "x" * 25, "y" * 300, "#", "=")}
    assert len(keys) == 8
    assert all(0 < len(key) <= KEY_OCTETS_MAX for key in keys)


def test_messages_of_nobody_are_refused() -> None:
    for frame in (b"", b"\xc1", b"\x93\x01\x02\x03", gone(3)[:-1], bytes(FRAME_OCTETS_MAX + 1)):
        with pytest.raises(ValueError, match="message"):
            decode_ask(frame)
        with pytest.raises(ValueError, match="message"):
            decode_grant(frame)
    lines = [PlaceAsk(b"=%d" % number, 1, 0, 0) for number in range(LINES_MAX + 1)]
    many = encode(Ask(1, 1, 0, 0, 0, True, False, lines, []))
    with pytest.raises(ValueError, match="message"):
        decode_ask(many)
    assert len(many) < FRAME_OCTETS_MAX
    assert decode_ask(gone(3)).is_gone


def test_messages_of_earlier_lives_and_repeated_ones_change_nothing() -> None:
    ledger = Ledger(1, 1, 0.0, is_first=True)

    def ask(life: int, seq: int, keep: int) -> Ask:
        return Ask(life, seq, 0, 0, 0, True, False, [PlaceAsk(b"=a", 9, keep, keep)], [])

    ledger.hear(0, ask(2, 5, 3), 0.0)
    ledger.hear(0, ask(2, 5, 4), 0.0)
    ledger.hear(0, ask(2, 4, 5), 0.0)
    ledger.hear(0, ask(1, 9, 6), 0.0)
    assert ledger.granted(b"=a") == 3
    ledger.hear(0, ask(3, 1, 1), 0.0)
    assert ledger.granted(b"=a") == 1
    ledger.hear(0, decode_ask(gone(2)), 0.0)
    assert ledger.granted(b"=a") == 1
    ledger.hear(0, decode_ask(gone(3)), 0.0)
    ledger.hear(0, ask(3, 2, 1), 0.0)
    assert ledger.granted(b"=a") == 0


def test_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "NAMES_MAX", 1000)
    ledger = Ledger(1, 1, 0.0, is_first=True)
    for seq, first in enumerate(range(0, 2000, LINES_MAX), 1):
        lines = [PlaceAsk(b"%d" % number, 1, 0, 1) for number in range(first, first + LINES_MAX)]
        ledger.hear(0, Ask(1, seq, 0, 0, 0, True, False, lines, []), 0.0)
    assert len(ledger) == 1000


def test_a_ledger_needs_workers_and_an_epoch() -> None:
    for workers, epoch in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least one worker"):
            Ledger(workers, epoch, 0.0, is_first=True)


def said(ledger: Ledger, index: int, now_s: float) -> Grant:
    (found,) = [grant for to, grant in ledger.turn(now_s) if to == index]
    return found


def ask_one(seq: int, keep: int, want: int, *, epoch: int = 1, ack: int = 0) -> Ask:
    return Ask(1, seq, epoch, ack, 1, True, False, [PlaceAsk(b"=a", 1, keep, want)], [])


def test_what_was_granted_counts_until_it_is_acknowledged() -> None:
    ledger = Ledger(2, 1, 0.0, is_first=True)
    ledger.hear(0, ask_one(1, 0, 1), 0.0)
    granted = said(ledger, 0, 0.0)
    assert granted.places[0].more == 1
    ledger.hear(0, ask_one(2, 0, 0), 0.1)  # written before it read the grant
    ledger.hear(1, ask_one(1, 0, 1), 0.1)
    assert not said(ledger, 1, 0.1).places
    assert ledger.granted(b"=a") == 1
    ledger.hear(0, ask_one(3, 0, 0, ack=granted.seq), 0.2)
    assert said(ledger, 1, 0.2).places[0].more == 1


def test_a_broker_that_slept_lets_leases_begin_anew() -> None:
    ledger = Ledger(2, 1, 0.0, is_first=True)
    ledger.hear(0, ask_one(1, 1, 1), 0.0)
    ledger.turn(0.0)
    now_s = LEASE_S + 10.0
    while now_s < 2 * LEASE_S + 9.0:
        ledger.turn(now_s)
        assert ledger.granted(b"=a") == 1
        now_s += 1.0
    ledger.turn(2 * LEASE_S + 11.0)
    assert ledger.granted(b"=a") == 0


def test_a_lease_is_not_renewed_before_the_worker_has_told_what_it_has() -> None:
    ledger = Ledger(1, 2, 0.0, is_first=False)
    ledger.hear(0, ask_one(7, 1, 1, epoch=1), 0.0)
    called = said(ledger, 0, 0.0)
    assert (called.wants_report, called.heard) == (True, 0)
    ledger.hear(0, ask_one(8, 1, 1, epoch=2, ack=called.seq), 0.1)
    assert (said(ledger, 0, 0.1).heard, ledger.is_open) == (8, True)


def test_the_worker_ends_its_lease_before_the_broker_does() -> None:
    world = make_world(2, 1)
    world.kill_broker()
    world.run(LEASE_S - MARGIN_S - 1)
    assert worker(world, 0).meters.is_live
    world.run(1)
    assert not worker(world, 0).meters.is_live


def test_a_use_that_is_told_late_costs_no_time() -> None:
    def ask(stock: int, used: int, used_at_s: float) -> RateAsk:
        return RateAsk(b"=r", 1.0, 1, stock, 1, used, used_at_s, 0.0)

    bucket = Bucket(b"=r", ask(0, 0, 0.0), float("-inf"), 10.0)
    bucket.hear(0, ask(0, 0, 0.0), 0, 10.0)
    assert bucket.settle({0}, [1], 10.0)[0].units == 1
    bucket.hear(0, ask(0, 1, 10.1), 1, 10.9)
    assert not bucket.settle({0}, [2], 11.09)
    assert bucket.settle({0}, [2], 11.1)[0].units == 1


def test_units_that_come_back_are_there_for_others() -> None:
    def ask(stock: int, want: int) -> RateAsk:
        return RateAsk(b"=r", 100.0, 2, stock, want, 0, 0.0, 0.0)

    bucket = Bucket(b"=r", ask(0, 2), float("-inf"), 10.0)
    bucket.hear(0, ask(0, 2), 0, 10.0)
    assert bucket.settle({0, 1}, [1, 1], 10.0)[0].units == 2
    bucket.hear(1, ask(0, 2), 0, 10.0)
    assert not bucket.settle({0, 1}, [2, 2], 10.0)
    bucket.hear(0, ask(0, 0), 1, 11.0)
    assert bucket.settle({0, 1}, [2, 2], 11.0)[1].units == 2
