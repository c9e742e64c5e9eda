"""RFC 9422: recipients in parts, each with its outcome in the end; messages of a session."""

from __future__ import annotations

from itertools import chain

import pytest

from fastmta.delivery.attempt import Attempt
from fastmta.delivery.opener import Recent
from fastmta.delivery.trouble import Peer, in_doubt, lost, needs_requiretls
from fastmta.message import AttemptResult, Job, Outcome, OutcomeKind, Scope
from fastmta.route import Target
from fastmta.smtp import Reply
from fastmta.smtp.extension import parse_extensions
from tests.support.delivering import make_job, make_site
from tests.support.talking import GREETING, make_dialog, sent

PATHS = [b"%d@example.org" % number for number in range(7)]
SENT = Outcome(OutcomeKind.DELIVERED, "2.0.0", "250 Ok")
LATER = Outcome(OutcomeKind.DEFERRED, "4.2.1", "450 Later")
NEVER = Outcome(OutcomeKind.FAILED, "5.1.1", "550 No")
PEER = Peer(Target("mx.example", "192.0.2.1", 25))
THROTTLED = Outcome(OutcomeKind.DEFERRED, "4.7.0", "450 Slower", Scope.HOST)
GONE = lost(PEER, "sending MAIL FROM")


def nobody_calls(job: Job, result: AttemptResult) -> None:
    raise AssertionError("nobody calls it here")


def make_attempt() -> Attempt:
    return Attempt(make_job(PATHS), make_site(1), nobody_calls, 0.0)


def play(
    attempt: Attempt, recipients_max: int, outcomes: dict[bytes, Outcome]
) -> list[list[bytes]]:
    """Take every part, as one session would; what was said in each."""
    said = []
    while True:
        paths = list(attempt.next_transaction(recipients_max).forward_paths)
        said.append(paths)
        attempt.take([outcomes.get(path, SENT) for path in paths])
        if attempt.rest is None:
            if attempt.passed:
                attempt.take_back()
            return said
        attempt.take_up_rest()


@pytest.mark.parametrize("recipients_max", range(9))
def test_every_recipient_is_said_once_and_has_its_outcome(recipients_max: int) -> None:
    attempt = make_attempt()
    outcomes = {PATHS[0]: LATER, PATHS[2]: NEVER, PATHS[5]: LATER, PATHS[6]: NEVER}
    said = play(attempt, recipients_max, outcomes)
    assert list(chain(*said)) == PATHS
    assert max(map(len, said)) <= (recipients_max or len(PATHS))
    assert attempt.places == [0, 5]
    # At the next host only those two, in parts again if need be.
    said = play(attempt, recipients_max, {PATHS[5]: NEVER})
    assert list(chain(*said)) == [PATHS[0], PATHS[5]]
    found = attempt.result(1.0).outcomes
    assert list(found) == [SENT, SENT, NEVER, SENT, SENT, NEVER, NEVER]


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_session_that_breaks_between_the_parts(parts: int) -> None:
    attempt = make_attempt()
    for part in range(parts):
        paths = attempt.next_transaction(2).forward_paths
        attempt.take([SENT if path != PATHS[0] else LATER for path in paths])
        if part < parts - 1:
            attempt.take_up_rest()
    assert attempt.give_up_rest(GONE)
    found = list(attempt.result(1.0).outcomes)
    assert found == [LATER, *[SENT] * (2 * parts - 1), *[GONE] * (7 - 2 * parts)]
    assert attempt.places == [0, *range(2 * parts, 7)]


def test_connection_for_the_rest_that_does_not_come_about() -> None:
    attempt = make_attempt()
    attempt.take([LATER, *[SENT] * 2] if attempt.next_transaction(3) else [])
    attempt.take_up_rest()
    assert attempt.take_for_all(GONE)
    assert list(attempt.result(1.0).outcomes) == [LATER, SENT, SENT, *[GONE] * 4]


def test_word_about_a_recipient_outlives_the_trouble_of_the_next_host() -> None:
    """A throttle ends the parts, the next host is dead: who was told to wait burns an attempt."""
    attempt = make_attempt()
    attempt.next_transaction(3)
    attempt.take([LATER, SENT, THROTTLED])
    attempt.trouble = THROTTLED
    assert attempt.give_up_rest(THROTTLED)
    attempt.trouble = GONE
    assert attempt.take_for_all(GONE)
    result = attempt.result(1.0)
    assert list(result.outcomes) == [LATER, SENT, *[GONE] * 5]
    assert result.trouble is GONE  # so only scopes below HOST burn an attempt
    assert [one.scope < Scope.HOST for one in result.outcomes] == [True, True, *[False] * 5]


def test_word_of_the_next_host_counts() -> None:
    attempt = make_attempt()
    attempt.next_transaction(0)
    attempt.take([LATER] * 7)
    other = Outcome(OutcomeKind.DEFERRED, "4.3.1", "452 Full")
    assert attempt.take([other] * 7)
    assert list(attempt.result(1.0).outcomes) == [other] * 7


def test_stale_session_gives_the_parts_back() -> None:
    attempt = make_attempt()
    attempt.next_transaction(3)
    attempt.rejoin()
    assert list(attempt.next_transaction(0).forward_paths) == PATHS


def test_attempt_that_is_broken_off_between_the_parts() -> None:
    attempt = make_attempt()
    attempt.next_transaction(3)
    attempt.take([LATER, SENT, NEVER])
    attempt.break_off(GONE)
    assert list(attempt.result(1.0).outcomes) == [GONE, SENT, NEVER, *[GONE] * 4]


def test_host_without_requiretls_leaves_the_others_to_try() -> None:
    attempt = make_attempt()
    attempt.next_transaction(0)
    assert attempt.take([needs_requiretls(PEER)] * 7)
    said = Outcome(OutcomeKind.FAILED, "5.7.30", "550 5.7.30 No", diagnostic="550 5.7.30 No")
    assert not attempt.take([said] * 7)


@pytest.mark.parametrize(
    ("line", "limits"),
    [
        ("LIMITS RCPTMAX=20 MAILMAX=5", (20, 5)),
        ("limits mailmax=5", (0, 5)),
        ("LIMITS RCPTMAX=0 MAILMAX=01", (0, 0)),
        ("LIMITS RCPTMAX=1000000 MAILMAX=-1", (0, 0)),
        ("LIMITS RCPTMAX=2 RCPTMAX=3 MAILMAX=", (0, 0)),
        ("LIMITS", (0, 0)),
    ],
)
def test_limits_as_they_are_offered(line: str, limits: tuple[int, int]) -> None:
    offered = parse_extensions(Reply(250, "", ("mx.example", line)))
    assert (offered.rcpt_max, offered.mail_max) == limits
    dialog = make_dialog()
    dialog.receive(GREETING)
    sent(dialog)
    dialog.receive(b"250-mx.example\r\n250 " + line.encode() + b"\r\n")
    assert (dialog.recipients_max, dialog.messages_max) == limits


def test_what_is_remembered_is_bounded_and_ends() -> None:
    recent = Recent(10.0, 3)
    for number in range(5):
        recent.add(float(number), b"site", str(number))
    assert len(recent) == 3
    assert [recent.has(5.0, b"site", str(number)) for number in range(5)] == [False] * 2 + [
        True
    ] * 3
    assert not recent.has(5.0, b"other", "4")
    assert not recent.has(14.0, b"site", "4")
    assert len(recent) == 2


def test_what_is_in_doubt_is_sent_to_no_other_host() -> None:
    """It may have arrived: the next host would deliver it a second time."""
    attempt = make_attempt()
    doubt = in_doubt(lost(PEER, "sending end of data"))
    assert not attempt.take([SENT, doubt, NEVER, doubt, SENT, SENT, SENT])
    attempt.break_off(LATER)
    outcomes = attempt.result(0.0).outcomes
    assert outcomes == [SENT, doubt, NEVER, doubt, SENT, SENT, SENT]


def test_only_what_is_not_in_doubt_goes_on() -> None:
    attempt = make_attempt()
    doubt = in_doubt(lost(PEER, "sending end of data"))
    assert attempt.take([SENT, doubt, LATER, doubt, SENT, SENT, SENT])
    assert list(attempt.next_transaction().forward_paths) == [PATHS[2]]
    assert not attempt.take([SENT])
    assert attempt.result(0.0).outcomes == [SENT, doubt, SENT, doubt, SENT, SENT, SENT]
