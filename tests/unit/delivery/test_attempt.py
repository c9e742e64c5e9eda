"""An attempt accounts for every recipient of its job, whatever its sessions find."""

from fastmta.delivery.attempt import Attempt
from fastmta.message import AttemptResult, Job, Outcome, OutcomeKind
from fastmta.route import Site, Target
from tests.support.delivering import make_job, make_site

SENT = Outcome(OutcomeKind.DELIVERED, "2.0.0", "sent")
LATER = Outcome(OutcomeKind.DEFERRED, "4.0.0", "later")
NEVER = Outcome(OutcomeKind.FAILED, "5.0.0", "never")
BROKEN = Outcome(OutcomeKind.DEFERRED, "4.3.0", "broken")
PATHS = [b"one@example.org", b"two@example.org", b"three@example.org"]


def _ignore(job: Job, result: AttemptResult) -> None:
    """The result is asked for directly."""


def _attempt(site: Site | None = None) -> Attempt:
    return Attempt(make_job(PATHS), site or make_site(25), _ignore, 10.0)


def _outcomes(attempt: Attempt) -> list[Outcome]:
    return list(attempt.result(11.0).outcomes)


def test_second_session_is_for_the_deferred_only() -> None:
    attempt = _attempt()
    assert list(attempt.next_transaction().forward_paths) == PATHS
    assert attempt.take([LATER, SENT, LATER])
    assert list(attempt.next_transaction().forward_paths) == [PATHS[0], PATHS[2]]
    assert attempt.take([NEVER, LATER])
    assert list(attempt.next_transaction().forward_paths) == [PATHS[2]]
    assert not attempt.take([SENT])
    assert _outcomes(attempt) == [NEVER, SENT, SENT]


def test_transaction_follows_the_order_of_the_job_s_indices() -> None:
    attempt = _attempt()
    attempt.job.indices = (2, 0)
    assert list(attempt.next_transaction().forward_paths) == [PATHS[2], PATHS[0]]
    assert attempt.take([LATER, NEVER])
    assert list(attempt.next_transaction().forward_paths) == [PATHS[2]]
    assert _outcomes(attempt) == [LATER, NEVER]


def test_one_outcome_for_all_reaches_the_open_places_only() -> None:
    attempt = _attempt()
    attempt.take([SENT, LATER, NEVER])
    assert attempt.take_for_all(BROKEN)
    assert _outcomes(attempt) == [SENT, BROKEN, NEVER]


def test_breaking_off_keeps_what_is_final() -> None:
    fresh, used = _attempt(), _attempt()
    used.take([SENT, LATER, NEVER])
    for attempt in (fresh, used):
        attempt.break_off(BROKEN)
    assert _outcomes(fresh) == [BROKEN] * 3
    assert _outcomes(used) == [SENT, BROKEN, NEVER]


def test_trouble_does_not_count_once_a_session_was_completed() -> None:
    attempt = _attempt()
    attempt.take_for_all(LATER)
    attempt.trouble = LATER
    assert attempt.result(11.0).trouble is LATER
    attempt.has_completed = True
    assert attempt.result(11.0).trouble is None


def test_targets_come_in_order_but_for_the_one_of_a_reused_session() -> None:
    targets = tuple(Target("mx.example", "192.0.2.1", port) for port in range(6))
    attempt = _attempt(Site(b"key", "label", targets, None))
    attempt.used_target = targets[1]
    tried = []
    while (target := attempt.next_target(5)) is not None:
        tried.append(target)
    assert tried == [targets[0], targets[2], targets[3], targets[4]]
