"""LMTP: a reply for each recipient behind the content (RFC 2033 4.2)."""

from __future__ import annotations

import pytest

from fastmta.delivery.dialog import Dialog
from fastmta.delivery.state import State, Step
from fastmta.delivery.trouble import Peer
from fastmta.message import OutcomeKind, Scope
from fastmta.route import Target
from fastmta.route.way import Way
from tests.support.talking import (
    CONTENT,
    DATA_OK,
    EHLO_PIPELINING,
    EHLO_PLAIN,
    GREETING,
    MAIL_OK,
    RCPT_OK,
    converse,
    make_dialog,
    make_transaction,
    sent,
)

PATHS = (b"one@example.org", b"two@example.org", b"three@example.org")
SAVED = b"250 2.1.5 Saved\r\n"
FULL = b"452 4.2.2 Full\r\n"
NOBODY = b"550 5.1.1 Nobody\r\n"
BOTH = pytest.mark.parametrize("ehlo", [EHLO_PIPELINING, EHLO_PLAIN], ids=["pipelining", "plain"])
PIECES = pytest.mark.parametrize("pieces", ["whole", "octets"])
COMMANDS_OK = (MAIL_OK, RCPT_OK, RCPT_OK, RCPT_OK, DATA_OK)


def open_lmtp(ehlo: bytes) -> Dialog:
    dialog = make_dialog(Way(transport="lmtp"))
    dialog.receive(GREETING)
    assert sent(dialog) == b"LHLO relay.example\r\n"
    assert dialog.receive(ehlo) is Step.READY
    return dialog


@BOTH
@PIECES
def test_each_recipient_has_its_own_outcome(ehlo: bytes, pieces: str) -> None:
    dialog, transaction = open_lmtp(ehlo), make_transaction(PATHS)
    assert converse(dialog, [*COMMANDS_OK, SAVED, FULL, NOBODY], transaction, pieces) is Step.DONE
    kinds = [one.kind.value for one in transaction.outcomes if one]
    assert kinds == ["sent", "deferred", "bounced"]
    assert [one.status for one in transaction.outcomes if one] == ["2.1.5", "4.2.2", "5.1.1"]
    assert transaction.outcomes[1] is not None
    assert transaction.outcomes[1].scope is Scope.RECIPIENT
    assert transaction.outcomes[1].text.endswith("(in reply to end of DATA command)")
    assert (dialog.state, transaction.trouble) == (State.IDLE, None)
    dialog.begin(make_transaction(PATHS))
    assert sent(dialog).startswith(b"MAIL")


@BOTH
def test_refused_recipient_has_no_reply_behind_the_content(ehlo: bytes) -> None:
    dialog, transaction = open_lmtp(ehlo), make_transaction(PATHS)
    replies = [MAIL_OK, RCPT_OK, NOBODY, RCPT_OK, DATA_OK, SAVED, FULL]
    assert converse(dialog, replies, transaction) is Step.DONE
    kinds = [one.kind.value for one in transaction.outcomes if one]
    assert kinds == ["sent", "bounced", "deferred"]


@BOTH
def test_replies_in_one_read(ehlo: bytes) -> None:
    dialog, transaction = open_lmtp(ehlo), make_transaction(PATHS)
    assert converse(dialog, [*COMMANDS_OK, SAVED + FULL + SAVED], transaction) is Step.DONE
    assert dialog.state is State.IDLE


@pytest.mark.parametrize("tail", [b"2", SAVED, b"what\r\n"])
def test_one_reply_too_many_ends_the_session(tail: bytes) -> None:
    dialog, transaction = open_lmtp(EHLO_PIPELINING), make_transaction(PATHS)
    assert converse(dialog, [*COMMANDS_OK, SAVED * 3 + tail], transaction) is Step.DONE
    assert dialog.state is State.CLOSED
    assert [one.kind.value for one in transaction.outcomes if one] == ["sent"] * 3


@BOTH
@pytest.mark.parametrize("count", range(3))
@pytest.mark.parametrize("end", ["lost", "timeout", "421", "354", "junk"])
def test_session_that_ends_between_the_replies(ehlo: bytes, count: int, end: str) -> None:
    """Who has a reply keeps it; the others may have the message or not."""
    dialog, transaction = open_lmtp(ehlo), make_transaction(PATHS)
    assert converse(dialog, [*COMMANDS_OK, *[SAVED] * count], transaction) is Step.WAIT
    sent(dialog)
    step = {
        "lost": dialog.lose,
        "timeout": dialog.give_up,
        "421": lambda: dialog.receive(b"421 4.3.2 Bye\r\n"),
        "354": lambda: dialog.receive(b"354 What\r\n"),
        "junk": lambda: dialog.receive(b"junk\r\n"),
    }[end]()
    assert (step, dialog.state) == (Step.DONE, State.CLOSED)
    kinds = [one.kind.value for one in transaction.outcomes if one]
    assert kinds == ["sent"] * count + ["deferred"] * (3 - count)
    if end in ("lost", "timeout", "junk"):
        doubts = [one.category for one in transaction.outcomes[count:] if one]
        assert doubts == ["soft.in_doubt"] * (3 - count)


def test_early_refusal_of_the_content_is_for_all() -> None:
    dialog, transaction = open_lmtp(EHLO_PIPELINING), make_transaction(PATHS)
    assert converse(dialog, COMMANDS_OK, transaction) is Step.WAIT
    sent(dialog)
    assert dialog.receive(b"552 5.3.4 Too big\r\n", is_content_unsent=True) is Step.DONE
    assert [one.kind.value for one in transaction.outcomes if one] == ["bounced"] * 3
    assert dialog.state is State.CLOSED


@BOTH
def test_data_granted_though_nobody_was_accepted(ehlo: bytes) -> None:
    """No reply would follow a content for nobody, so none is sent."""
    dialog, transaction = open_lmtp(ehlo), make_transaction(PATHS)
    replies = [MAIL_OK, NOBODY, NOBODY, NOBODY]
    if ehlo == EHLO_PIPELINING:
        replies.append(DATA_OK)
    assert converse(dialog, replies, transaction) is Step.DONE
    assert sent(dialog) == b""
    assert dialog.state is (State.CLOSED if ehlo == EHLO_PIPELINING else State.IDLE)


@pytest.mark.parametrize("refusal", [b"500 What\r\n", b"421 Bye\r\n"])
def test_refused_lhlo_is_not_followed_by_helo(refusal: bytes) -> None:
    dialog = make_dialog(Way(transport="lmtp"))
    dialog.receive(GREETING)
    sent(dialog)
    assert dialog.receive(refusal) is Step.CLOSED
    assert dialog.output == []


def test_content_is_stuffed_as_ever() -> None:
    dialog, transaction = open_lmtp(EHLO_PIPELINING), make_transaction(PATHS)
    converse(dialog, COMMANDS_OK, transaction)
    assert sent(dialog) == CONTENT + b".\r\n"


def test_peer_of_a_unix_socket_has_no_port() -> None:
    peer = Peer(Target("relay.example", "/run/dovecot/lmtp", 0))
    assert peer.relay == peer.name == "relay.example[/run/dovecot/lmtp]"


def test_delivered_outcome_says_it_is_delivered() -> None:
    dialog, transaction = open_lmtp(EHLO_PIPELINING), make_transaction(PATHS[:1])
    assert converse(dialog, [MAIL_OK, RCPT_OK, DATA_OK, SAVED], transaction) is Step.DONE
    outcome = transaction.outcomes[0]
    assert outcome is not None
    assert (outcome.kind, outcome.text) == (OutcomeKind.DELIVERED, "250 2.1.5 Saved")
