"""Probes: RCPT is asked, RSET takes the place of DATA, and a content is offered to nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastmta.delivery.dialog import Dialog
from fastmta.delivery.memory import grants
from fastmta.delivery.state import State, Step
from fastmta.delivery.transaction import Transaction
from fastmta.message import OutcomeKind
from fastmta.route.way import DEFAULT_WAY, Way
from tests.support.delivering import Sending, make_job
from tests.support.talking import (
    DATA_OK,
    DOT_OK,
    EHLO_PIPELINING,
    EHLO_PLAIN,
    GREETING,
    MAIL_OK,
    RCPT_OK,
    make_dialog,
    make_transaction,
    sent,
)
from tests.unit.delivery.test_dispatch import FakeCourier, run, site_of

EHLO_CHUNKING = EHLO_PIPELINING.replace(b"250 8BITMIME", b"250 CHUNKING")
PLAIN_CHUNKING = b"250-mx.example\r\n250 CHUNKING\r\n"
RSET_OK = b"250 2.0.0 Ok\r\n"
NO, LATER = b"550 5.1.1 No such user\r\n", b"450 4.2.0 Later\r\n"
CLOSING = b"421 4.3.2 Closing\r\n"
GONE, OK = "5.1.1", "2.1.5"
TAKEN, BOUNCED, DEFERRED = "deliverable", "bounced", "deferred"
EHLOS = pytest.mark.parametrize(
    "ehlo",
    [EHLO_PIPELINING, EHLO_PLAIN, EHLO_CHUNKING, PLAIN_CHUNKING],
    ids=["pipelining", "plain", "chunking", "plain chunking"],
)
WAYS = pytest.mark.parametrize("transport", ["smtp", "lmtp"])


def open_one(ehlo: bytes, transport: str = "smtp") -> Dialog:
    way = DEFAULT_WAY if transport == "smtp" else Way(transport=transport)
    dialog = make_dialog(way, is_chunking=b"CHUNKING" in ehlo)
    dialog.receive(GREETING)
    sent(dialog)
    assert dialog.receive(ehlo) is Step.READY
    return dialog


def make_probe() -> Transaction:
    """With a content that must not leave, though real ones have none."""
    transaction = make_transaction()
    transaction.is_probe = True
    return transaction


def every_way(octets: bytes) -> list[list[bytes]]:
    """Whole, octet by octet, and split at each position."""
    splits = [[octets[:at], octets[at:]] for at in range(1, len(octets))]
    return [[octets], [octets[at : at + 1] for at in range(len(octets))], *splits]


def is_pipelining(ehlo: bytes) -> bool:
    return b"PIPELINING" in ehlo


@EHLOS
@WAYS
@pytest.mark.parametrize(
    ("answers", "kinds", "statuses"),
    [
        ((RCPT_OK, RCPT_OK), (TAKEN, TAKEN), (OK, OK)),
        ((NO, RCPT_OK), (BOUNCED, TAKEN), (GONE, OK)),
        ((RCPT_OK, LATER), (TAKEN, DEFERRED), (OK, "4.2.0")),
        ((NO, LATER), (BOUNCED, DEFERRED), (GONE, "4.2.0")),
    ],
)
def test_what_rcpt_is_answered_is_the_outcome(
    ehlo: bytes,
    transport: str,
    answers: tuple[bytes, bytes],
    kinds: tuple[str, str],
    statuses: tuple[str, str],
) -> None:
    replies = [MAIL_OK, *answers, RSET_OK]
    for pieces in range(len(b"".join(replies)) + 2 if is_pipelining(ehlo) else 30):
        dialog = open_one(ehlo, transport)
        transaction = make_probe()
        step = dialog.begin(transaction)
        said = [sent(dialog)]
        for read in [b"".join(replies)] if is_pipelining(ehlo) else replies:
            assert step is Step.WAIT
            ways = every_way(read)
            for piece in ways[min(pieces, len(ways) - 1)]:
                assert step is Step.WAIT
                step = dialog.receive(piece)
            said.append(sent(dialog))
        assert step is Step.DONE
        assert (dialog.state, transaction.trouble) == (State.IDLE, None)
        outcomes = [one for one in transaction.outcomes if one]
        assert tuple(one.kind.value for one in outcomes) == kinds
        assert tuple(one.status for one in outcomes) == statuses
        for one in outcomes:
            assert one.remote == "mx.example[192.0.2.1]:25"
        commands = b"".join(said).split(b"\r\n")
        assert [one[:4] for one in commands] == [b"MAIL", b"RCPT", b"RCPT", b"RSET", b""]
        if is_pipelining(ehlo):
            assert [one for one in said if one] == said[:1], "one flight"
        check_next_message(dialog)


def check_next_message(dialog: Dialog) -> None:
    """The session is clean: a message begins with MAIL, and is delivered as ever."""
    transaction = make_transaction()
    step = dialog.begin(transaction)
    first = sent(dialog)
    assert first.startswith(b"MAIL")
    if first.count(b"\r\n") > 1:  # with chunking there is no DATA in the flight
        replies = [MAIL_OK + RCPT_OK + RCPT_OK + (DATA_OK if b"DATA" in first else b"")]
    else:
        replies = [MAIL_OK, RCPT_OK, RCPT_OK]
    said = b""
    for reply in replies:
        step = dialog.receive(reply)
        said = sent(dialog)
    if said == b"DATA\r\n":
        dialog.receive(DATA_OK)
        said = sent(dialog)
    assert b"Subject: test" in said
    ends = DOT_OK * 2 if dialog.state is State.REPORTS else DOT_OK
    step = dialog.receive(ends)
    assert step is Step.DONE
    assert {one.kind.value for one in transaction.outcomes if one} == {"sent"}


def test_the_words_of_an_outcome() -> None:
    dialog, transaction = open_one(EHLO_PIPELINING), make_probe()
    dialog.begin(transaction)
    sent(dialog)
    dialog.receive(MAIL_OK + b"250-Wait\r\n250 fine\r\n" + NO + RSET_OK)
    taken, refused = transaction.outcomes
    assert taken is not None
    assert refused is not None
    assert (taken.kind, taken.status) == (OutcomeKind.DELIVERABLE, "2.0.0")
    assert taken.text == taken.diagnostic == "250-Wait 250 fine"
    assert refused.text == (
        "host mx.example[192.0.2.1] said: 550 5.1.1 No such user (in reply to RCPT TO command)"
    )
    assert refused.diagnostic == "550 5.1.1 No such user"


@EHLOS
@pytest.mark.parametrize("reply", [NO, LATER])
def test_a_refused_sender_is_refused_for_all(ehlo: bytes, reply: bytes) -> None:
    dialog, transaction = open_one(ehlo), make_probe()
    dialog.begin(transaction)
    said = sent(dialog)
    is_flight = is_pipelining(ehlo)
    step = dialog.receive(reply + (b"503 5.5.1 No\r\n" * 2 + RSET_OK if is_flight else b""))
    assert step is Step.DONE
    assert len({one.text for one in transaction.outcomes if one}) == 1
    assert said + sent(dialog) == said, "nothing follows"
    check_next_message(dialog)


@EHLOS
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("is_lost", [True, False])
def test_who_was_answered_before_the_session_ended_has_an_outcome(
    ehlo: bytes, place: int, is_lost: bool
) -> None:
    dialog, transaction = open_one(ehlo), make_probe()
    dialog.begin(transaction)
    sent(dialog)
    for reply in (MAIL_OK, RCPT_OK, RCPT_OK)[:place]:
        assert dialog.receive(reply) is Step.WAIT
        sent(dialog)
    step = dialog.lose() if is_lost else dialog.receive(CLOSING)
    assert (step, dialog.state) == (Step.DONE, State.CLOSED)
    assert not dialog.output
    kinds = [one.kind.value for one in transaction.outcomes if one]
    taken = max(place - 1, 0)
    assert kinds == [TAKEN] * taken + [DEFERRED] * (2 - taken)
    assert transaction.trouble is not None


@EHLOS
@pytest.mark.parametrize(
    "reply", [NO, LATER, CLOSING, DATA_OK, b"what\r\n", RSET_OK + b"2", RSET_OK * 2, b""]
)
def test_the_answer_to_rset_changes_no_outcome(ehlo: bytes, reply: bytes) -> None:
    """Whatever it is, the content stays here; but only RSET_OK leaves a session for others."""
    dialog, transaction = open_one(ehlo), make_probe()
    dialog.begin(transaction)
    sent(dialog)
    for each in (MAIL_OK, RCPT_OK, NO):
        assert dialog.receive(each) is Step.WAIT
        assert sent(dialog)[:4] in (b"", b"RCPT", b"RSET")
    assert dialog.stage == "sending RSET"
    step = dialog.receive(reply) if reply else dialog.lose()
    assert (step, dialog.state) == (Step.DONE, State.CLOSED)
    assert not dialog.output
    assert [one.kind.value for one in transaction.outcomes if one] == [TAKEN, BOUNCED]
    assert transaction.trouble is None, "it has said what it was asked"


def test_a_grant_that_is_remembered_is_not_for_a_probe() -> None:
    """The short cut for replies that let a content go."""
    octets = MAIL_OK + RCPT_OK + RCPT_OK + DATA_OK
    dialog = open_one(EHLO_PIPELINING)
    dialog.begin(make_transaction())
    sent(dialog)
    dialog.receive(octets)
    assert octets in grants
    probing, transaction = open_one(EHLO_PIPELINING), make_probe()
    probing.begin(transaction)
    sent(probing)
    assert probing.receive(octets) is Step.DONE
    assert (probing.state, probing.output) == (State.CLOSED, [])
    assert {one.kind.value for one in transaction.outcomes if one} == {TAKEN}


@pytest.mark.parametrize("ehlo", [EHLO_PIPELINING, EHLO_PLAIN])
def test_behind_a_transaction_that_was_left_open(ehlo: bytes) -> None:
    """RSET comes in front as well, and a refused MAIL after it ends the probe."""
    for reply in (MAIL_OK, NO):
        dialog, first = open_one(ehlo), make_transaction()
        dialog.begin(first)
        for each in (MAIL_OK, NO, NO, *([NO] if is_pipelining(ehlo) else [])):
            sent(dialog)
            step = dialog.receive(each)
        assert step is Step.DONE
        transaction = make_probe()
        step = dialog.begin(transaction)
        said = sent(dialog)
        assert said.startswith(b"RSET\r\n")
        while step is Step.WAIT:
            due = said.split(b"\r\n")[0][:4]
            said = said.partition(b"\r\n")[2]
            answers = {b"RSET": RSET_OK, b"MAIL": reply, b"RCPT": RCPT_OK}
            step = dialog.receive(answers[due])
            said += sent(dialog)
        kinds = {one.kind.value for one in transaction.outcomes if one}
        assert kinds == ({TAKEN} if reply is MAIL_OK else {BOUNCED})
        check_after(dialog)


def check_after(dialog: Dialog) -> None:
    assert dialog.state is State.IDLE
    dialog.begin(make_transaction())
    assert sent(dialog).startswith((b"MAIL", b"RSET\r\nMAIL", b"RSET\r\n"))


# Transports without a peer.


@pytest.mark.parametrize(
    ("transport", "argument", "kind"),
    [
        ("discard", "gone", OutcomeKind.DELIVERABLE),
        ("error", "5.1.1 nobody here", OutcomeKind.FAILED),
        ("error", "4.3.2 not now", OutcomeKind.DEFERRED),
        ("hold", "until Monday", OutcomeKind.HELD),
        ("pigeon", "", OutcomeKind.DEFERRED),
    ],
)
def test_what_a_transport_without_a_peer_says(
    transport: str, argument: str, kind: OutcomeKind
) -> None:
    async def scenario(sending: Sending, courier: FakeCourier) -> None:
        result = await sending.send(make_job(is_probe=True), site_of(transport, argument))
        assert [one.kind for one in result.outcomes] == [kind] * 2

    run(scenario)


def test_a_directory_is_looked_at_and_stays_empty(tmp_path: Path) -> None:
    async def scenario(sending: Sending, courier: FakeCourier) -> None:
        result = await sending.send(make_job(is_probe=True), site_of("file", str(tmp_path)))
        assert [one.kind for one in result.outcomes] == [OutcomeKind.DELIVERABLE] * 2
        assert result.outcomes[0].text == f"delivers to file: {tmp_path}"
        assert list(tmp_path.iterdir()) == []
        for place in (tmp_path / "none", "relative", "/etc/passwd"):
            result = await sending.send(make_job(is_probe=True), site_of("file", str(place)))
            assert [one.kind for one in result.outcomes] == [OutcomeKind.DEFERRED] * 2
            assert result.trouble is not None

    run(scenario)
