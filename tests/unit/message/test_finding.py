"""What a probe found out survives in the text of a state."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastmta.message import Outcome, OutcomeKind, RecipientState, RecipientStatus
from fastmta.message.finding import finding_of, finding_text

DELIVERABLE, UNDELIVERABLE = OutcomeKind.DELIVERABLE, OutcomeKind.UNDELIVERABLE
REMOTE = "mx.example[192.0.2.1]:25"


def kept(outcome: Outcome) -> Outcome:
    is_taken = outcome.kind is DELIVERABLE
    status = RecipientStatus.DELIVERED if is_taken else RecipientStatus.FAILED
    return finding_of(RecipientState(3, status, 1, 0, finding_text(outcome)))


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(DELIVERABLE, "2.1.5", "250 2.1.5 Ok", remote=REMOTE, diagnostic="250 2.1.5 Ok"),
        Outcome(
            *(UNDELIVERABLE, "5.1.1", "host mx said: 550 no such user (in reply to RCPT TO)"),
            remote=REMOTE,
            diagnostic="550 no such user",
        ),
        Outcome(UNDELIVERABLE, "4.4.1", "connect to mx: Connection refused"),
        Outcome(DELIVERABLE, "2.0.0", ""),
    ],
)
def test_all_that_a_report_says_comes_back(outcome: Outcome) -> None:
    assert kept(outcome) == outcome
    assert finding_text(outcome).startswith(outcome.text), "people see that first"


@given(
    st.sampled_from([DELIVERABLE, UNDELIVERABLE]),
    st.text(max_size=30),
    st.text(max_size=600),
    st.text(max_size=200),
    st.text(max_size=600),
)
@example(DELIVERABLE, "\t", "\ta\t", "a\tb", "a\t")
def test_nothing_that_a_peer_says_breaks_it(
    kind: OutcomeKind, status: str, text: str, remote: str, reply: str
) -> None:
    outcome = Outcome(kind, status, text + reply, remote=remote, diagnostic=reply)
    assert len(finding_text(outcome)) <= 500
    found = kept(outcome)
    assert found.kind is kind
    assert (text + reply).replace("\t", " ").startswith(found.text)
    assert reply.replace("\t", " ").startswith(found.diagnostic)
    assert remote.replace("\t", " ").startswith(found.remote)


@pytest.mark.parametrize("text", ["delivery time expired", "", "a\tb", "a\tb\tc\td\te"])
def test_another_text_is_a_reason(text: str) -> None:
    found = finding_of(RecipientState(0, RecipientStatus.EXPIRED, 0, 0, text))
    assert (found.kind, found.status, found.text) == (UNDELIVERABLE, "5.0.0", text)
