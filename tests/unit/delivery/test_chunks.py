"""BDAT in place of DATA (RFC 3030), reports that nobody will send, and replies that are lost."""

from __future__ import annotations

import pytest

from fastmta.delivery.dialog import Dialog
from fastmta.delivery.state import State, Step
from fastmta.delivery.transaction import Extras, Transaction
from fastmta.message import OutcomeKind
from fastmta.message.envelope import DSNRequest
from fastmta.route.way import Way
from fastmta.smtp import stuff
from tests.support.delivering import FakeContents, FakeSource
from tests.support.talking import (
    DATA_OK,
    DOT_OK,
    EHLO_PIPELINING,
    EHLO_PLAIN,
    GREETING,
    MAIL_OK,
    RCPT_OK,
    converse,
    make_dialog,
    make_transaction,
    open_dialog,
    sent,
)

EHLO_BDAT = EHLO_PIPELINING.replace(b"250 8BITMIME", b"250 CHUNKING")
PLAIN_BDAT = b"250-mx.example\r\n250 CHUNKING\r\n"
NO = b"550 5.1.1 No\r\n"
CONTENT = b".dot\r\n..two\r\ntext\r\n.\r\n"
BOTH = pytest.mark.parametrize("ehlo", [EHLO_BDAT, PLAIN_BDAT], ids=["pipelining", "plain"])
PIECES = pytest.mark.parametrize("pieces", ["whole", "octets"])


def open_chunked(ehlo: bytes) -> Dialog:
    dialog = make_dialog(is_chunking=True)
    dialog.receive(GREETING)
    sent(dialog)
    assert dialog.receive(ehlo) is Step.READY
    return dialog


@BOTH
@PIECES
@pytest.mark.parametrize("content", [CONTENT, b"", b"no end", b".", b"a\r\n"])
def test_bdat_carries_the_content_as_it_is(ehlo: bytes, pieces: str, content: bytes) -> None:
    dialog = open_chunked(ehlo)
    transaction = make_transaction(content=stuff(content))
    assert converse(dialog, [MAIL_OK, RCPT_OK, RCPT_OK], transaction, pieces) is Step.WAIT
    ended = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
    assert sent(dialog) == b"BDAT %d LAST\r\n" % len(ended) + ended
    assert dialog.state is State.CONTENT
    assert dialog.receive(DOT_OK) is Step.DONE
    assert [one.kind.value for one in transaction.outcomes if one] == ["sent", "sent"]
    dialog.begin(make_transaction())
    assert sent(dialog).startswith(b"MAIL")


def test_one_flight_without_data() -> None:
    dialog = open_chunked(EHLO_BDAT)
    dialog.begin(make_transaction())
    assert sent(dialog).endswith(b"RCPT TO:<two@example.org>\r\n")


@BOTH
def test_nobody_accepted_no_content(ehlo: bytes) -> None:
    dialog, transaction = open_chunked(ehlo), make_transaction()
    assert converse(dialog, [MAIL_OK, NO, NO], transaction) is Step.DONE
    assert sent(dialog) == b""
    dialog.begin(make_transaction())
    assert sent(dialog).startswith(b"RSET\r\n")


@BOTH
def test_refused_mail(ehlo: bytes) -> None:
    dialog, transaction = open_chunked(ehlo), make_transaction()
    refused = b"550 5.7.1 No\r\n"
    replies = [refused, *[b"503 5.5.1 No\r\n"] * 2] if ehlo == EHLO_BDAT else [refused]
    assert converse(dialog, replies, transaction) is Step.DONE
    assert (sent(dialog), dialog.state) == (b"", State.IDLE)


@BOTH
def test_refused_chunk(ehlo: bytes) -> None:
    dialog, transaction = open_chunked(ehlo), make_transaction()
    refused = b"552 5.3.4 Big\r\n"
    assert converse(dialog, [MAIL_OK, RCPT_OK, NO, refused], transaction) is Step.DONE
    first, second = transaction.outcomes
    assert first is not None
    assert second is not None
    assert first.text.endswith("said: 552 5.3.4 Big (in reply to BDAT command)")
    assert second.text.endswith("(in reply to RCPT TO command)")


@BOTH
def test_refused_chunk_leaves_a_transaction_to_reset(ehlo: bytes) -> None:
    """RFC 3030 2: what state the server is in then is not known, so MAIL alone might be refused."""
    dialog = open_chunked(ehlo)
    refused = b"452 4.3.1 Full\r\n"
    assert converse(dialog, [MAIL_OK, RCPT_OK, RCPT_OK, refused], make_transaction()) is Step.DONE
    sent(dialog)
    dialog.begin(make_transaction())
    assert sent(dialog).startswith(b"RSET\r\n")


def test_chunk_refused_over_lmtp_leaves_a_transaction_to_reset() -> None:
    dialog = make_dialog(Way(transport="lmtp"), is_chunking=True)
    dialog.receive(GREETING)
    sent(dialog)
    dialog.receive(EHLO_BDAT)
    replies = [MAIL_OK, RCPT_OK, RCPT_OK, DOT_OK, b"452 4.2.2 Full\r\n"]
    assert converse(dialog, replies, make_transaction()) is Step.DONE
    sent(dialog)
    dialog.begin(make_transaction())
    assert sent(dialog).startswith(b"RSET\r\n")


def test_what_is_remembered_of_data_is_not_used_for_bdat() -> None:
    """The octets that grant DATA for one recipient are one reply too many here."""
    grant = MAIL_OK + RCPT_OK + DATA_OK
    plain = open_dialog()
    plain.begin(make_transaction([b"one@example.org"]))
    sent(plain)
    assert plain.receive(grant) is Step.WAIT
    dialog, transaction = open_chunked(EHLO_BDAT), make_transaction([b"one@example.org"])
    dialog.begin(transaction)
    sent(dialog)
    dialog.receive(grant)
    assert dialog.state is State.CLOSED
    assert transaction.undecided == 0


@pytest.mark.parametrize(("ehlo", "wanted"), [(EHLO_BDAT, False), (EHLO_PIPELINING, True)])
def test_data_where_bdat_is_not_wanted_or_not_offered(ehlo: bytes, wanted: bool) -> None:
    dialog = make_dialog(is_chunking=wanted)
    dialog.receive(GREETING)
    dialog.output.clear()
    dialog.receive(ehlo)
    dialog.begin(make_transaction())
    assert sent(dialog).endswith(b"DATA\r\n")


def test_large_content_goes_by_data() -> None:
    dialog = open_chunked(EHLO_BDAT)
    source = FakeSource(FakeContents(b"x\r\n"), b"x\r\n")
    transaction = Transaction(b"", [b"one@example.org"], b"", 3, False, source)
    assert converse(dialog, [MAIL_OK, RCPT_OK, DATA_OK], transaction) is Step.WAIT
    assert (dialog.is_feeding, sent(dialog)) == (True, b"")


@pytest.mark.parametrize("ehlo", [EHLO_PLAIN, b"250-mx.example\r\n250 DSN\r\n"])
def test_success_that_the_peer_will_not_report_is_relayed(ehlo: bytes) -> None:
    """RFC 3461 5.2.2."""
    dialog = open_dialog(ehlo)
    paths = [b"one@example.org", b"two@example.org", b"three@example.org"]
    dsn = DSNRequest(notify=("SUCCESS,FAILURE", "FAILURE", ""))
    extras = Extras(dsn, (0, 1, 2), is_utf8=False, has_ascii_header=None)
    transaction = make_transaction(paths, extras=extras)
    assert converse(dialog, [MAIL_OK, *[RCPT_OK] * 3, DATA_OK, DOT_OK], transaction) is Step.DONE
    assert [one.is_relayed for one in transaction.outcomes if one] == [
        ehlo == EHLO_PLAIN,
        False,
        False,
    ]
    assert {one.kind for one in transaction.outcomes if one} == {OutcomeKind.DELIVERED}


@pytest.mark.parametrize("is_lost", [True, False])
def test_lost_final_reply_is_in_doubt(is_lost: bool) -> None:
    dialog, transaction = open_dialog(), make_transaction()
    assert converse(dialog, [MAIL_OK, NO, RCPT_OK, DATA_OK], transaction) is Step.WAIT
    sent(dialog)
    assert (dialog.lose() if is_lost else dialog.give_up()) is Step.DONE
    assert [one.category for one in transaction.outcomes if one] == ["", "soft.in_doubt"]


def test_interrupted_while_the_final_reply_is_due_is_in_doubt() -> None:
    dialog, transaction = open_dialog(), make_transaction()
    assert converse(dialog, [MAIL_OK, NO, RCPT_OK, DATA_OK], transaction) is Step.WAIT
    sent(dialog)
    assert dialog.interrupt() is Step.DONE
    assert [one.category for one in transaction.outcomes if one] == ["", "soft.in_doubt"]


def test_content_that_did_not_leave_is_not_in_doubt() -> None:
    dialog, transaction = open_dialog(), make_transaction()
    assert converse(dialog, [MAIL_OK, RCPT_OK, RCPT_OK, DATA_OK], transaction) is Step.WAIT
    sent(dialog)
    assert dialog.lose(is_content_unsent=True) is Step.DONE
    assert {one.category for one in transaction.outcomes if one} == {"soft.connection"}
