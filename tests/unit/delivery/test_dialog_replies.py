"""Every state of the client dialog against every class of reply: who gets which outcome."""

import pytest

from fastmta.delivery.state import State, Step
from fastmta.message import OutcomeKind, Scope
from tests.support.talking import (
    CONTENT,
    DATA_OK,
    DOT_OK,
    EHLO_PIPELINING,
    EHLO_PLAIN,
    GREETING,
    MAIL_OK,
    PATHS,
    RCPT_OK,
    converse,
    feed,
    make_dialog,
    make_transaction,
    open_dialog,
    sent,
)

GOOD = (MAIL_OK, RCPT_OK, RCPT_OK, DATA_OK, DOT_OK)
STAGES = ("MAIL FROM", "RCPT TO", "RCPT TO", "DATA", "end of DATA")
BAD = {
    b"450 4.2.1 Later\r\n": ("deferred", "4.2.1", "450 4.2.1 Later"),
    b"451 Later\r\n": ("deferred", "4.0.0", "451 Later"),
    b"550 5.7.1 Never\r\n": ("bounced", "5.7.1", "550 5.7.1 Never"),
    b"500-Not\r\n500 ever\r\n": ("bounced", "5.0.0", "500-Not 500 ever"),
    b"550 4.7.1 Mixed\r\n": ("bounced", "5.0.0", "550 4.7.1 Mixed"),
    b"421 4.3.2 Closing\r\n": ("deferred", "4.3.2", "421 4.3.2 Closing"),
}
BOTH = pytest.mark.parametrize("ehlo", [EHLO_PIPELINING, EHLO_PLAIN], ids=["pipelining", "plain"])
PIECES = pytest.mark.parametrize("pieces", ["whole", "octets"])


@BOTH
@PIECES
def test_message_is_delivered(ehlo: bytes, pieces: str) -> None:
    dialog, transaction = open_dialog(ehlo), make_transaction()
    assert converse(dialog, GOOD, transaction, pieces) is Step.DONE
    assert dialog.state is State.IDLE
    assert transaction.trouble is None
    for outcome in transaction.outcomes:
        assert outcome is not None
        assert outcome.kind is OutcomeKind.DELIVERED
        assert outcome.status == "2.0.0"
        assert outcome.text == outcome.diagnostic == "250 2.0.0 Ok: queued as 1"
        assert outcome.remote == "mx.example[192.0.2.1]:25"


def test_pipelining_sends_one_flight_and_one_content() -> None:
    dialog = open_dialog()
    dialog.begin(make_transaction())
    assert sent(dialog) == (
        b"MAIL FROM:<sender@example.com> SIZE=23\r\n"
        b"RCPT TO:<one@example.org>\r\nRCPT TO:<two@example.org>\r\nDATA\r\n"
    )
    dialog.receive(MAIL_OK + RCPT_OK + RCPT_OK + DATA_OK)
    assert dialog.output == [CONTENT, b".\r\n"]
    assert dialog.output[0] is CONTENT  # not copied


def test_without_pipelining_each_command_follows_the_reply_before_it() -> None:
    dialog = open_dialog(EHLO_PLAIN)
    dialog.begin(make_transaction())
    commands = []
    for reply in GOOD:
        commands.append(sent(dialog))
        dialog.receive(reply)
    assert commands == [
        b"MAIL FROM:<sender@example.com>\r\n",
        b"RCPT TO:<one@example.org>\r\n",
        b"RCPT TO:<two@example.org>\r\n",
        b"DATA\r\n",
        CONTENT + b".\r\n",
    ]


@BOTH
@PIECES
@pytest.mark.parametrize("reply", BAD, ids=lambda reply: reply[:3].decode() + reply[3:4].decode())
@pytest.mark.parametrize("place", range(5), ids=["mail", "rcpt1", "rcpt2", "data", "dot"])
def test_refusal_at_each_place(place: int, reply: bytes, pieces: str, ehlo: bytes) -> None:
    """A refused recipient is alone in it; everything else refuses whoever was not yet refused."""
    kind, status, shown = BAD[reply]
    dialog, transaction = open_dialog(ehlo), make_transaction()
    replies = [*GOOD[:place], reply]
    is_closing = reply.startswith(b"421")
    if place in (1, 2) and not is_closing:
        replies += GOOD[place + 1 :]
    elif place == 0 and not is_closing and ehlo == EHLO_PIPELINING:
        replies += [b"503 5.5.1 No MAIL\r\n"] * 3
    assert converse(dialog, replies, transaction, pieces) is Step.DONE
    assert dialog.state is (State.CLOSED if is_closing else State.IDLE)
    text = f"host mx.example[192.0.2.1] said: {shown} (in reply to {STAGES[place]} command)"
    refused = [place - 1] if place in (1, 2) and not is_closing else [0, 1]
    for index, outcome in enumerate(transaction.outcomes):
        assert outcome is not None
        if index in refused:
            assert (outcome.kind.value, outcome.status, outcome.text) == (kind, status, text)
            assert outcome.diagnostic == shown
        else:
            assert outcome.kind is OutcomeKind.DELIVERED
    assert (transaction.trouble is not None) is is_closing
    if is_closing:
        assert transaction.trouble.scope is Scope.HOST


@BOTH
def test_every_recipient_refused_leaves_a_transaction_to_reset(ehlo: bytes) -> None:
    dialog, transaction = open_dialog(ehlo), make_transaction()
    replies = [MAIL_OK, b"550 5.1.1 No\r\n", b"450 4.2.0 Later\r\n"]
    if ehlo == EHLO_PIPELINING:
        replies.append(b"554 5.5.1 No valid recipients\r\n")
    assert converse(dialog, replies, transaction) is Step.DONE
    assert [outcome.kind.value for outcome in transaction.outcomes] == ["bounced", "deferred"]
    dialog.begin(make_transaction())
    flight = sent(dialog)
    assert flight.startswith(b"RSET\r\n")
    assert (flight == b"RSET\r\n") is (ehlo == EHLO_PLAIN)


@BOTH
def test_transaction_after_a_reset_is_like_any_other(ehlo: bytes) -> None:
    dialog, first, second = open_dialog(ehlo), make_transaction(), make_transaction()
    refused = b"451 4.0.0 Not now\r\n"
    assert converse(dialog, [MAIL_OK, RCPT_OK, RCPT_OK, refused], first) is Step.DONE
    assert converse(dialog, [b"250 2.0.0 Reset\r\n", *GOOD], second) is Step.DONE
    assert [outcome.kind.value for outcome in first.outcomes] == ["deferred"] * 2
    assert [outcome.kind.value for outcome in second.outcomes] == ["sent"] * 2
    dialog.begin(make_transaction())
    assert not sent(dialog).startswith(b"RSET")


def test_refused_reset_ends_the_session_as_stale() -> None:
    dialog = open_dialog()
    converse(dialog, [MAIL_OK, RCPT_OK, RCPT_OK, b"451 No\r\n"], make_transaction())
    transaction = make_transaction()
    assert converse(dialog, [b"500 What\r\n"], transaction) is Step.DONE
    assert dialog.state is State.CLOSED
    assert dialog.is_stale
    assert transaction.undecided == 0


@pytest.mark.parametrize("last", [b"250 2.0.0 Ok\r\n", b"554 5.5.1 No recipients\r\n"])
def test_data_granted_though_nobody_was_accepted_gets_a_lone_dot(last: bytes) -> None:
    """RFC 2920 3.1."""
    dialog, transaction = open_dialog(), make_transaction()
    no = b"550 5.1.1 No\r\n"
    assert converse(dialog, [MAIL_OK, no, no, DATA_OK], transaction) is Step.WAIT
    assert dialog.state is State.EMPTY
    assert sent(dialog) == b".\r\n"
    assert dialog.receive(last) is Step.DONE
    assert dialog.state is State.IDLE
    assert [outcome.kind.value for outcome in transaction.outcomes] == ["bounced"] * 2
    dialog.begin(make_transaction())
    assert not sent(dialog).startswith(b"RSET")


@BOTH
@pytest.mark.parametrize("place", [0, 1, 3, 4])
def test_reply_of_an_impossible_class_defers(place: int, ehlo: bytes) -> None:
    reply = b"250 2.0.0 Ok\r\n" if place == 3 else b"354 Go on\r\n"
    dialog, transaction = open_dialog(ehlo), make_transaction()
    replies = [*GOOD[:place], reply]
    if place == 0 and ehlo == EHLO_PIPELINING:
        replies += [b"503 No\r\n"] * 3
    if place == 1:
        replies += GOOD[2:]
    assert converse(dialog, replies, transaction) is Step.DONE
    outcome = transaction.outcomes[0]
    assert outcome is not None
    assert (outcome.kind.value, outcome.status) == ("deferred", "4.5.0")
    assert outcome.text.startswith("Protocol error: host mx.example[192.0.2.1] said: ")
    assert (dialog.state is State.CLOSED) is (place >= 3)


@pytest.mark.parametrize("refusal", [b"500 What?\r\n", b"450 Hm\r\n", b"502-No\r\n502 no\r\n"])
@PIECES
def test_refused_ehlo_falls_back_to_helo(refusal: bytes, pieces: str) -> None:
    dialog = make_dialog()
    assert feed(dialog, GREETING, pieces) is Step.WAIT
    sent(dialog)
    assert feed(dialog, refusal, pieces) is Step.WAIT
    assert sent(dialog) == b"HELO relay.example\r\n"
    assert feed(dialog, b"250 mx.example\r\n", pieces) is Step.READY
    dialog.begin(make_transaction())
    assert sent(dialog) == b"MAIL FROM:<sender@example.com>\r\n"


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        ([b"554 5.3.2 Go away\r\n"], ("deferred", "4.3.2", "554 5.3.2 Go away")),
        ([b"450 Busy\r\n"], ("deferred", "4.0.0", "450 Busy")),
        ([b"421 4.7.0 Full\r\n"], ("deferred", "4.7.0", "421 4.7.0 Full")),
        ([b"354 What\r\n"], ("deferred", "4.0.0", "354 What")),
        ([GREETING, b"421 Off\r\n"], ("deferred", "4.0.0", "421 Off")),
        ([GREETING, b"500 A\r\n", b"550 5.7.1 B\r\n"], ("bounced", "5.7.1", "550 5.7.1 B")),
        ([GREETING, b"500 A\r\n", b"450 B\r\n"], ("deferred", "4.0.0", "450 B")),
        ([GREETING, b"500 A\r\n", b"421 B\r\n"], ("deferred", "4.0.0", "421 B")),
        ([GREETING, b"500 A\r\n", b"354 B\r\n"], ("deferred", "4.5.0", "354 B")),
    ],
)
def test_refused_opening(replies: list[bytes], expected: tuple[str, str, str]) -> None:
    dialog = make_dialog()
    for reply in replies[:-1]:
        assert dialog.receive(reply) is Step.WAIT
        sent(dialog)
    assert dialog.receive(replies[-1]) is Step.CLOSED
    assert dialog.state is State.CLOSED
    outcome = dialog.trouble
    assert outcome is not None
    assert outcome.scope is Scope.HOST
    assert (outcome.kind.value, outcome.status) == expected[:2]
    assert outcome.text == f"host mx.example[192.0.2.1] refused to talk to me: {expected[2]}"


def test_message_above_the_server_s_size_fails_unsent() -> None:
    dialog = open_dialog()
    transaction = make_transaction(content=b"x" * 4999 + b"\r\n")
    assert dialog.begin(transaction) is Step.DONE
    assert dialog.output == []
    assert dialog.state is State.IDLE
    for outcome in transaction.outcomes:
        assert outcome is not None
        assert (outcome.kind, outcome.status) == (OutcomeKind.FAILED, "5.3.4")
        assert outcome.text == (
            "message size 5001 exceeds size limit 5000 of server mx.example[192.0.2.1]"
        )


@pytest.mark.parametrize("size", [b"SIZE", b"SIZE 0", b"SIZE 5000"])
def test_size_is_told_to_a_server_that_asks_for_it(size: bytes) -> None:
    dialog = open_dialog(b"250-mx.example\r\n250 %b\r\n" % size)
    assert dialog.begin(make_transaction(content=b"x" * 4998 + b"\r\n")) is Step.WAIT
    assert sent(dialog) == b"MAIL FROM:<sender@example.com> SIZE=5000\r\n"


@pytest.mark.parametrize("is_offered", [True, False])
def test_8bit_content_is_declared_where_8bitmime_is_offered(is_offered: bool) -> None:
    dialog = open_dialog(b"250-mx.example\r\n250 8BITMIME\r\n" if is_offered else EHLO_PLAIN)
    dialog.begin(make_transaction(is_8bit=True))
    parameters = b" BODY=8BITMIME" if is_offered else b""
    assert sent(dialog) == b"MAIL FROM:<sender@example.com>%b\r\n" % parameters


def test_null_reverse_path_is_sent_as_such() -> None:
    dialog = open_dialog(EHLO_PLAIN)
    transaction = make_transaction()
    transaction.reverse_path = b""
    dialog.begin(transaction)
    assert sent(dialog) == b"MAIL FROM:<>\r\n"


@BOTH
@pytest.mark.parametrize("path", [b"a@b\r\nDATA", b"a\n@b", b"a\r@b"])
@pytest.mark.parametrize("is_reverse", [True, False])
def test_line_end_within_a_path_never_leaves(ehlo: bytes, path: bytes, is_reverse: bool) -> None:
    dialog = open_dialog(ehlo)
    transaction = make_transaction(PATHS if is_reverse else [path])
    transaction.reverse_path = path if is_reverse else b""
    with pytest.raises(ValueError, match="line end"):
        converse(dialog, [MAIL_OK], transaction)
    assert b"".join(dialog.output) == b""


def test_empty_content_is_a_lone_dot() -> None:
    dialog = open_dialog()
    converse(dialog, [MAIL_OK, RCPT_OK, RCPT_OK, DATA_OK], make_transaction(content=b""))
    assert sent(dialog) == b".\r\n"
