"""The state of a path: every transition, and none besides."""

from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmta.budget import Backoff, Window
from fastmta.message import ClientIdentity, Envelope, Message, Outcome, OutcomeKind, Scope
from fastmta.message.attempt import Job
from fastmta.message.category import Category
from fastmta.scheduler.health import STRIKES_MAX, TRANSITIONS, Health, PathState, Signal
from tests.support.scheduler_world import LOST, REFUSED

OPEN, BACKING_OFF, PROBING = PathState.OPEN, PathState.BACKING_OFF, PathState.PROBING
ENVELOPE = Envelope(b"s@a.example", (b"r@b.example",), ClientIdentity())


def health(start: int = 4) -> Health:
    return Health(Window(start, 20), Backoff(10, 300, 0.0))


def job(started_at_s: float, id: bytes = b"1") -> Job:
    message = Message(id.rjust(16, b"0"), ENVELOPE, b"", 0)
    return Job(message, b"smtp:b.example", (0,), 0.0, started_at_s)


def dead(now_s: float = 10.0) -> Health:
    one = health()
    assert one.trouble(job(now_s - 1), REFUSED, others=0, now_s=now_s)
    one.die(now_s, 0.5)
    return one


def test_the_table_has_these_transitions_and_no_others() -> None:
    reached = {pair for pair in product(PathState, Signal) if pair in TRANSITIONS}
    assert reached == {
        (OPEN, Signal.DEAD),
        (BACKING_OFF, Signal.CLEAN),
        (BACKING_OFF, Signal.PAUSE_OVER),
        (PROBING, Signal.CLEAN),
        (PROBING, Signal.DEAD),
    }
    assert set(TRANSITIONS.values()) == set(PathState)


def test_a_signal_that_makes_no_sense_is_a_bug_and_changes_nothing() -> None:
    one = health()
    with pytest.raises(KeyError):
        one.end_pause(1.0)
    with pytest.raises(KeyError):
        one.reopen(1.0)
    assert (one.state, one.limit) == (OPEN, 4)


def test_open_starts_with_the_start_window() -> None:
    assert (health().state, health().limit) == (OPEN, 4)


def test_nobody_reached_and_nothing_else_under_way_is_dead_at_once() -> None:
    assert health().trouble(job(1.0), REFUSED, others=0, now_s=2.0)


def test_nobody_reached_while_others_work_only_halves() -> None:
    one = health()
    assert not one.trouble(job(1.0), REFUSED, others=3, now_s=2.0)
    assert (one.state, one.limit, one.cause) == (OPEN, 2, REFUSED)


def test_a_lost_connection_halves_even_when_it_was_the_only_one() -> None:
    one = health()
    assert not one.trouble(job(1.0), LOST, others=0, now_s=2.0)
    assert one.limit == 2


def test_trouble_of_the_whole_site_is_dead_at_once() -> None:
    outcome = Outcome(OutcomeKind.DEFERRED, "4.4.0", "site", Scope.SITE, remote="a[192.0.2.1]:25")
    assert health().trouble(job(1.0), outcome, others=0, now_s=2.0)


def test_flights_of_trouble_close_the_path() -> None:
    one = health(4)
    assert not one.trouble(job(1.0), LOST, 0, 2.0)
    assert not one.trouble(job(3.0), LOST, 0, 4.0)
    assert one.limit == 1
    assert one.trouble(job(5.0), LOST, 0, 6.0)


def test_backing_off_lets_nothing_start_then_one_probe() -> None:
    one = dead()
    assert (one.state, one.limit, one.resume_at_s) == (BACKING_OFF, 0, 20.0)
    one.end_pause(20.0)
    assert (one.state, one.limit) == (PROBING, 1)


def reopened() -> Health:
    """After a pause of 10 s, at 21 s."""
    one = dead()
    one.end_pause(20.0)
    one.reopen(21.0)
    return one


def test_a_good_probe_lets_two_go_then_four_up_to_the_start() -> None:
    one = health(9)
    assert one.trouble(job(9.0), REFUSED, others=0, now_s=10.0)
    one.die(10.0, 0.5)
    one.end_pause(20.0)
    one.reopen(21.0)
    assert (one.state, one.limit) == (OPEN, 2)
    limits = []
    while one.window.is_recovering:
        for _ in range(one.limit):
            one.clean(job(22.0), 1)
        limits.append(one.limit)
    assert limits == [4, 8, 9]


def test_a_path_that_recovered_forgets_its_pauses() -> None:
    one = reopened()
    one.clean(job(21.0), 1)
    one.clean(job(21.0), 1)
    assert one.limit == 4
    assert one.trouble(job(22.0), REFUSED, 0, 23.0)
    assert one.die(23.0, 0.5) == 10.0


def test_a_path_that_fails_at_once_again_pauses_for_longer() -> None:
    one = reopened()
    assert one.trouble(job(22.0), REFUSED, 0, 23.0)
    assert one.die(23.0, 0.5) == 20.0


def test_a_path_that_stayed_open_for_longer_than_its_pause_begins_anew() -> None:
    one = reopened()
    assert one.trouble(job(30.0), REFUSED, 0, 31.5)
    assert one.die(31.5, 0.5) == 10.0


def said(text: str, category: str = "soft.rate", status: str = "4.7.28") -> Outcome:
    """The peer refuses us, not the mail."""
    return Outcome(
        OutcomeKind.DEFERRED, status, text, Scope.SITE, "mx[192.0.2.1]:25", text, category
    )


def test_five_refusals_of_one_kind_in_a_row_close_the_path() -> None:
    one = health(20)
    found = [one.trouble(job(1.0), said("421 slow down"), 19 - n, 2.0 + n) for n in range(5)]
    assert found == [False] * 4 + [True]
    assert one.window.size == 10, "they are of one flight"
    one.die(7.0, 0.5)
    one.end_pause(17.0)
    one.reopen(18.0)
    assert not one.trouble(job(19.0), said("421 slow down"), 1, 19.5), "counted anew"


def test_refusals_of_several_kinds_do_not_add_up() -> None:
    one = health(20)
    kinds = [("soft.rate", "4.7.28"), ("soft.busy", "4.3.2"), ("", "4.7.0"), ("", "4.7.1")]
    for number in range(40):
        assert not one.trouble(job(1.0), said("421 no", *kinds[number % 4]), 5, 2.0)


def test_a_clean_attempt_between_refusals_counts_anew() -> None:
    one = health(20)
    for _ in range(10):
        for _ in range(4):
            assert not one.trouble(job(1.0), said("421 no"), 5, 2.0)
        one.clean(job(1.0), 5)
    assert one.state is OPEN


@pytest.mark.parametrize("trouble", [LOST, said("421 no", "soft.too_many_connections")])
def test_what_fewer_connections_mend_only_halves(trouble: Outcome) -> None:
    one = health(20)
    assert not any(one.trouble(job(1.0), trouble, 20 - n, 2.0 + n) for n in range(20))
    assert (one.state, one.limit) == (OPEN, 10)


def test_a_bad_probe_doubles_the_pause() -> None:
    one = dead()
    pauses = []
    for _ in range(7):
        now_s = one.resume_at_s
        one.end_pause(now_s)
        assert one.trouble(job(now_s), LOST, 0, now_s + 1)
        pauses.append(one.die(now_s + 1, 0.5))
    assert pauses == [20, 40, 80, 160, 300, 300, 300]


def test_trouble_of_an_attempt_from_before_the_pause_does_not_fail_the_probe() -> None:
    one = dead(10.0)
    assert not one.trouble(job(9.5), LOST, 0, 15.0)
    one.end_pause(20.0)
    assert not one.trouble(job(9.5), LOST, 1, 21.0)
    assert (one.state, one.cause) == (PROBING, LOST)


def test_a_clean_end_while_backing_off_reopens() -> None:
    one = dead()
    one.reopen(12.0)
    assert (one.state, one.limit) == (OPEN, 2)
    assert not one.trouble(job(11.0), REFUSED, 0, 13.0), "it started before the path opened"


def test_a_message_is_blamed_after_strikes_with_clean_attempts_between() -> None:
    one = health()
    bad = job(1.0, b"bad")
    for _ in range(STRIKES_MAX - 1):
        assert not one.is_own_trouble(bad, LOST)
        assert not one.is_own_trouble(bad, LOST), "no clean attempt since: the site may be at fault"
        one.clean(job(1.0, b"good"), 1)
    assert one.is_own_trouble(bad, LOST)
    assert not one.is_own_trouble(bad, LOST), "blamed once, then counted anew"


def test_a_clean_attempt_clears_its_own_message() -> None:
    one = health()
    bad = job(1.0, b"bad")
    for _ in range(10):
        assert not one.is_own_trouble(bad, LOST)
        one.clean(bad, 1)


def test_suspects_are_bounded() -> None:
    one = health()
    for number in range(5_000):
        one.is_own_trouble(job(1.0, b"%d" % number), LOST)
    assert len(one._suspects) <= 1_000


def test_nobody_is_blamed_for_what_a_peer_says_of_our_pace() -> None:
    one = health()
    bad = job(1.0, b"bad")
    throttled = msgspec.structs.replace(LOST, category=Category.SOFT_RATE)
    for _ in range(3 * STRIKES_MAX):
        assert not one.is_own_trouble(bad, throttled)
        one.clean(job(1.0, b"good"), 1)


@given(
    start=st.integers(1, 30),
    limit=st.integers(1, 30),
    steps=st.lists(st.sampled_from(["clean", "trouble", "refusal", "unreached", "wait"])),
)
def test_never_more_than_the_state_allows(start: int, limit: int, steps: list[str]) -> None:
    one = Health(Window(start, limit), Backoff(10, 300, 0.0))
    outcomes = {"trouble": LOST, "refusal": said("421 no"), "unreached": REFUSED}
    in_flight: list[Job] = []
    now_s = 0.0
    for step in steps:
        now_s += 1.0
        while len(in_flight) < one.limit:
            in_flight.append(job(now_s))
        if step == "wait" and one.state is BACKING_OFF:
            now_s = max(now_s, one.resume_at_s)
            one.end_pause(now_s)
        elif in_flight and step == "clean":
            ended = in_flight.pop(0)
            if one.state is OPEN:
                one.clean(ended, len(in_flight) + 1)
            else:
                one.reopen(now_s)
        elif in_flight and step in outcomes:
            ended = in_flight.pop(0)
            if one.trouble(ended, outcomes[step], len(in_flight), now_s):
                assert 9.99 < one.die(now_s, 0.5) < 300.01
        allowed = {OPEN: one.window.size, BACKING_OFF: 0, PROBING: 1}
        assert one.limit == allowed[one.state]
        assert 1 <= one.window.size <= limit
