"""The client dialog where sessions break: lost connections, time limits, garbage, disorder."""

import pytest

from fastmta.delivery.dialog import Dialog
from fastmta.delivery.state import State, Step
from fastmta.message import Outcome, Scope
from tests.support.talking import (
    CONTENT,
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

GOOD = (MAIL_OK, RCPT_OK, RCPT_OK, DATA_OK)
STAGES = (
    "sending MAIL FROM",
    "sending RCPT TO",
    "sending RCPT TO",
    "sending DATA command",
    "sending end of data -- message may be sent more than once",
)
BOTH = pytest.mark.parametrize("ehlo", [EHLO_PIPELINING, EHLO_PLAIN], ids=["pipelining", "plain"])
HALVES = pytest.mark.parametrize("half", [b"", b"25", b"250-2.1.0 Ok\r\n250"], ids=["", "25", "-"])
NAME = "mx.example[192.0.2.1]"


def _assert_deferred(
    outcome: Outcome | None, status: str, text: str, scope: Scope = Scope.HOST
) -> None:
    assert outcome is not None
    assert (outcome.kind.value, outcome.status, outcome.text) == ("deferred", status, text)
    assert outcome.scope is scope


@BOTH
@HALVES
@pytest.mark.parametrize("place", range(5), ids=["mail", "rcpt1", "rcpt2", "data", "dot"])
@pytest.mark.parametrize("is_timeout", [False, True], ids=["lost", "timeout"])
def test_connection_ends_at_each_place(
    place: int, half: bytes, is_timeout: bool, ehlo: bytes
) -> None:
    dialog, transaction = open_dialog(ehlo), make_transaction()
    assert converse(dialog, GOOD[:place], transaction) is Step.WAIT
    sent(dialog)
    if half:
        assert dialog.receive(half) is Step.WAIT
    assert (dialog.give_up() if is_timeout else dialog.lose()) is Step.DONE
    text = f"lost connection with {NAME} while {STAGES[place]}"
    if is_timeout:
        text = f"conversation with {NAME} timed out while {STAGES[place]}"
    for outcome in transaction.outcomes:  # after the dot the message may be theirs: no free retry
        _assert_deferred(outcome, "4.4.2", text, Scope.TRANSACTION if place == 4 else Scope.HOST)
    _assert_deferred(transaction.trouble, "4.4.2", text)
    assert dialog.state is State.CLOSED
    assert dialog.is_stale is (place == 0 and not is_timeout)


@pytest.mark.parametrize("is_timeout", [False, True], ids=["lost", "timeout"])
def test_connection_ends_while_content_is_unsent(is_timeout: bool) -> None:
    dialog, transaction = open_dialog(), make_transaction()
    converse(dialog, GOOD, transaction)
    sent(dialog)
    end = dialog.give_up if is_timeout else dialog.lose
    assert end(is_content_unsent=True) is Step.DONE
    assert transaction.outcomes[0] is not None
    assert transaction.outcomes[0].text.endswith("while sending message body")


@pytest.mark.parametrize(
    ("replies", "stage"),
    [
        ([], "receiving the initial server greeting"),
        ([GREETING], "performing the EHLO handshake"),
        ([GREETING, b"500 What\r\n"], "performing the HELO handshake"),
    ],
)
@HALVES
def test_connection_ends_before_the_session_is_open(
    replies: list[bytes], stage: str, half: bytes
) -> None:
    dialog = make_dialog()
    for reply in replies:
        dialog.receive(reply)
        sent(dialog)
    if half:
        dialog.receive(half)
    assert dialog.lose() is Step.CLOSED
    _assert_deferred(dialog.trouble, "4.4.2", f"lost connection with {NAME} while {stage}")


def test_recipient_already_refused_stays_refused_when_the_connection_ends() -> None:
    dialog, transaction = open_dialog(), make_transaction()
    converse(dialog, [MAIL_OK, b"550 5.1.1 No\r\n"], transaction)
    dialog.lose()
    assert [one.kind.value for one in transaction.outcomes if one] == ["bounced", "deferred"]


def test_losing_the_session_after_every_verdict_is_no_trouble() -> None:
    dialog, transaction = open_dialog(), make_transaction()
    no = b"550 5.1.1 No\r\n"
    converse(dialog, [MAIL_OK, no, no, DATA_OK], transaction)
    assert dialog.state is State.EMPTY
    assert dialog.lose() is Step.DONE
    assert transaction.trouble is None
    assert [one.kind.value for one in transaction.outcomes if one] == ["bounced", "bounced"]


@BOTH
@pytest.mark.parametrize("garbage", [b"hello\r\n", b"2\r\n", b"\r\n", b"x" * 3000, b"999 x\r\n"])
@pytest.mark.parametrize("place", range(5), ids=["mail", "rcpt1", "rcpt2", "data", "dot"])
def test_garbage_ends_the_session_at_each_place(place: int, garbage: bytes, ehlo: bytes) -> None:
    dialog, transaction = open_dialog(ehlo), make_transaction()
    assert converse(dialog, [*GOOD[:place], garbage], transaction) is Step.DONE
    assert dialog.state is State.CLOSED
    assert dialog.output == []
    for outcome in transaction.outcomes:
        assert outcome is not None
        assert (outcome.kind.value, outcome.status) == ("deferred", "4.5.0")
        assert outcome.text.startswith(f"protocol error by {NAME} while {STAGES[place]}: ")
    assert transaction.trouble is not None


def test_garbage_as_greeting() -> None:
    dialog = make_dialog()
    assert dialog.receive(b"SSH-2.0-OpenSSH_9.2\r\n") is Step.CLOSED
    assert dialog.trouble is not None
    assert dialog.trouble.status == "4.5.0"
    assert "while receiving the initial server greeting" in dialog.trouble.text


@pytest.mark.parametrize("place", range(5), ids=["mail", "rcpt1", "rcpt2", "data", "dot"])
def test_garbage_behind_good_replies_of_one_read(place: int) -> None:
    """What was complete and in order before it stands, the rest is deferred."""
    dialog, transaction = open_dialog(), make_transaction()
    dialog.begin(transaction)
    sent(dialog)
    replies = [*GOOD, DOT_OK]
    if place == 4:
        dialog.receive(b"".join(GOOD))
        sent(dialog)
        assert dialog.receive(DOT_OK + b"garbage\r\n") is Step.DONE
        kinds = ["sent", "sent"]
    else:
        replies[1] = b"550 5.1.1 No\r\n"
        assert dialog.receive(b"".join(replies[:place]) + b"garbage\r\n") is Step.DONE
        kinds = ["bounced" if place > 1 else "deferred", "deferred"]
    assert [one.kind.value for one in transaction.outcomes if one] == kinds
    assert dialog.state is State.CLOSED


@BOTH
@pytest.mark.parametrize("tail", [b"2", b"250 2.0.0 Ok\r\n", b"550 5.0.0 No\r\n", b"junk\r\n"])
@pytest.mark.parametrize("verdict", [DOT_OK, b"550 5.7.1 No\r\n", b"450 4.0.0 Later\r\n"])
def test_verdict_stands_and_the_session_ends_when_more_follows(
    tail: bytes, verdict: bytes, ehlo: bytes
) -> None:
    dialog, transaction = open_dialog(ehlo), make_transaction()
    assert converse(dialog, [*GOOD, verdict + tail], transaction) is Step.DONE
    assert dialog.state is State.CLOSED
    shown = verdict[:3].decode()
    assert all(one is not None and shown in one.text for one in transaction.outcomes)
    assert transaction.trouble is None


def test_octets_behind_the_reply_to_ehlo_are_trouble() -> None:
    dialog = make_dialog()
    dialog.receive(GREETING)
    sent(dialog)
    assert dialog.receive(EHLO_PIPELINING + b"250 more\r\n") is Step.CLOSED
    assert dialog.trouble is not None
    assert dialog.trouble.status == "4.5.0"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_replies_to_commands_that_have_not_left(count: int) -> None:
    """Without PIPELINING a second reply in one read answers nothing that we said."""
    dialog, transaction = open_dialog(EHLO_PLAIN), make_transaction()
    converse(dialog, GOOD[: count - 1], transaction)
    sent(dialog)
    assert dialog.receive(GOOD[count - 1] + GOOD[count]) is Step.DONE
    assert dialog.state is State.CLOSED
    assert dialog.output == []
    for outcome in transaction.outcomes:
        assert outcome is not None
        assert (outcome.kind.value, outcome.status) == ("deferred", "4.5.0")
        assert "unexpected reply: " in outcome.text


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_beginning_of_a_reply_to_a_command_that_has_not_left(count: int) -> None:
    dialog, transaction = open_dialog(EHLO_PLAIN), make_transaction()
    converse(dialog, GOOD[: count - 1], transaction)
    sent(dialog)
    assert dialog.receive(GOOD[count - 1] + b"2") is Step.DONE
    assert dialog.state is State.CLOSED
    assert dialog.output == []
    assert all(one is not None and one.status == "4.5.0" for one in transaction.outcomes)


def test_ehlo_answered_before_it_was_sent() -> None:
    dialog = make_dialog()
    assert dialog.receive(GREETING + EHLO_PIPELINING) is Step.CLOSED
    assert dialog.trouble is not None
    assert dialog.output == []


@pytest.mark.parametrize("refusal", [b"550 5.7.1 No\r\n", b"450 4.7.1 Later\r\n", b"421 Bye\r\n"])
def test_refusal_of_the_content_before_it_was_sent_counts(refusal: bytes) -> None:
    """Some servers say 354 and the verdict in one breath; nothing was accepted by that."""
    dialog, transaction = open_dialog(), make_transaction()
    dialog.begin(transaction)
    sent(dialog)
    assert dialog.receive(b"".join(GOOD) + refusal) is Step.DONE
    assert dialog.output == []
    assert dialog.state is State.CLOSED
    for outcome in transaction.outcomes:
        assert outcome is not None
        assert outcome.text.endswith("(in reply to end of DATA command)")


def test_acceptance_of_the_content_before_it_was_sent_does_not_count() -> None:
    dialog, transaction = open_dialog(), make_transaction()
    dialog.begin(transaction)
    sent(dialog)
    assert dialog.receive(b"".join(GOOD) + DOT_OK) is Step.DONE
    assert dialog.output == []
    assert dialog.state is State.CLOSED
    assert all(one is not None and one.status == "4.5.0" for one in transaction.outcomes)


def test_acceptance_while_content_is_unsent_does_not_count() -> None:
    dialog, transaction = open_dialog(), make_transaction()
    converse(dialog, GOOD, transaction)
    sent(dialog)
    assert dialog.receive(DOT_OK, is_content_unsent=True) is Step.DONE
    assert dialog.state is State.CLOSED
    assert all(one is not None and one.status == "4.5.0" for one in transaction.outcomes)


def test_refusal_while_content_is_unsent_counts() -> None:
    dialog, transaction = open_dialog(), make_transaction()
    converse(dialog, GOOD, transaction)
    sent(dialog)
    assert dialog.receive(b"552 5.3.4 Too big\r\n", is_content_unsent=True) is Step.DONE
    assert dialog.state is State.CLOSED
    assert all(one is not None and one.status == "5.3.4" for one in transaction.outcomes)


@pytest.mark.parametrize("octets", [b"4", b"421 4.4.2 Idle\r\n", b"250 Ok\r\n", b"junk"])
def test_octets_while_idle_end_the_session_quietly(octets: bytes) -> None:
    dialog = open_dialog()
    assert dialog.receive(octets) is Step.CLOSED
    assert dialog.state is State.CLOSED
    assert dialog.trouble is None


def test_connection_lost_while_idle_is_nobody_s_trouble() -> None:
    dialog = open_dialog()
    assert dialog.lose() is Step.CLOSED
    assert dialog.trouble is None


@pytest.mark.parametrize("octets", [b"221 Bye\r\n", b"500 What\r\n", b"junk\r\n", None])
def test_answer_to_quit_does_not_matter(octets: bytes | None) -> None:
    dialog = open_dialog()
    dialog.quit()
    assert sent(dialog) == b"QUIT\r\n"
    step = dialog.lose() if octets is None else dialog.receive(octets)
    assert step is Step.CLOSED
    assert dialog.state is State.CLOSED


@pytest.mark.parametrize("place", range(5))
def test_closing_as_first_answer_is_stale_only_for_mail(place: int) -> None:
    dialog, transaction = open_dialog(), make_transaction()
    converse(dialog, [*GOOD[:place], b"421 4.4.2 Bye\r\n"], transaction)
    assert dialog.is_stale is (place == 0)


def test_interrupted_transaction_waits_for_another_day() -> None:
    dialog, transaction = open_dialog(), make_transaction()
    converse(dialog, GOOD, transaction)
    assert dialog.interrupt() is Step.DONE
    assert all(one is not None and one.status == "4.3.2" for one in transaction.outcomes)


def _session(dialog: Dialog, turns: list[bytes], split: int) -> list[tuple[bytes, str]]:
    """Everything the dialog says, its server's octets cut at `split` of each turn."""
    log = []
    transaction = make_transaction()
    for turn in turns:
        if dialog.state is State.IDLE:
            dialog.begin(transaction)
            log.append((sent(dialog), ""))
        for part in (turn[:split], turn[split:]):
            if part:
                step = dialog.receive(part)
        log.append((sent(dialog), step.name))
    texts = [one.text if one else "" for one in transaction.outcomes]
    return [*log, (CONTENT, " ".join(texts))]


@pytest.mark.parametrize("second", [RCPT_OK, b"550-5.1.1 No\r\n550 5.1.1 such user\r\n"])
def test_replies_may_be_cut_anywhere(second: bytes) -> None:
    turns = [GREETING, EHLO_PIPELINING, MAIL_OK + RCPT_OK + second + DATA_OK, DOT_OK]
    whole = _session(make_dialog(), turns, 1000)
    for split in range(1, max(map(len, turns))):
        assert _session(make_dialog(), turns, split) == whole
    assert "DONE" in whole[-2][1]


def test_replies_may_end_in_a_lone_lf() -> None:
    turns = [GREETING, EHLO_PIPELINING, MAIL_OK + RCPT_OK + RCPT_OK + DATA_OK, DOT_OK]
    lenient = [turn.replace(b"\r\n", b"\n") for turn in turns]
    assert _session(make_dialog(), lenient, 1000) == _session(make_dialog(), turns, 1000)
