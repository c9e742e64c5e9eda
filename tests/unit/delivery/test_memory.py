"""The short cuts of the dialog never say what the reply reader would not say."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.delivery import memory
from fastmta.delivery.state import State, Step
from fastmta.smtp import ReplyReader
from tests.support.talking import (
    DATA_OK,
    DOT_OK,
    EHLO_PLAIN,
    MAIL_OK,
    RCPT_OK,
    converse,
    make_transaction,
    open_dialog,
    sent,
)

FLIGHT = MAIL_OK + RCPT_OK + RCPT_OK + DATA_OK


def _assert_same_as_the_reader(octets: bytes) -> None:
    text = memory.plain_acceptance(octets)
    if not text:
        return
    reader = ReplyReader()
    [reply] = reader.feed(octets)
    assert reader.buffered() == 0
    assert reader.problem is None
    assert (reply.code, reply.enhanced_status, reply.text) == (250, "2.0.0", text)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40), st.sampled_from([b"", b"\r\n", b"\n", b"\r\n\r\n", b"\r"]))
def test_plain_acceptance_agrees_with_the_reader(text: bytes, end: bytes) -> None:
    _assert_same_as_the_reader(b"250 2.0.0 " + text + end)
    _assert_same_as_the_reader(text + end)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60))
def test_every_printable_acceptance_is_plain(text: str) -> None:
    octets = f"250 2.0.0 {text}\r\n".encode()
    assert memory.plain_acceptance(octets) == octets[:-2].decode()
    _assert_same_as_the_reader(octets)


@pytest.mark.parametrize(
    "octets",
    [
        b"250-2.0.0 Ok\r\n",
        b"250 2.0.0 Ok\n",
        b"250 2.0.0 Ok",
        b"250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n",
        b"250 2.0.0 \xffk\r\n",
        b"250 2.0.0 O\tk\r\n",
        b"250 2.0.0 O\x00k\r\n",
        b"250 2.0.0 " + b"x" * 600 + b"\r\n",
        b"250 2.0.00 Ok\r\n",
        b"251 2.0.0 Ok\r\n",
        b"",
    ],
)
def test_everything_else_is_left_to_the_reader(octets: bytes) -> None:
    assert memory.plain_acceptance(octets) == ""


def test_granted_flight_is_remembered_for_its_count_of_recipients_only() -> None:
    memory.grants.clear()
    for _ in range(2):
        dialog = open_dialog()
        assert converse(dialog, [FLIGHT, DOT_OK], make_transaction()) is Step.DONE
        assert memory.grants == {FLIGHT: 2}
    dialog, transaction = open_dialog(), make_transaction([b"only@example.org"])
    converse(dialog, [FLIGHT], transaction)  # one reply too many: the last one comes too early
    assert dialog.state is State.CLOSED
    assert transaction.outcomes[0] is not None
    assert transaction.outcomes[0].kind.value == "deferred"


def test_remembered_flight_means_nothing_without_pipelining() -> None:
    memory.grants.clear()
    converse(open_dialog(), [FLIGHT, DOT_OK], make_transaction())
    dialog, transaction = open_dialog(EHLO_PLAIN), make_transaction()
    assert converse(dialog, [FLIGHT], transaction) is Step.DONE
    assert dialog.state is State.CLOSED
    assert dialog.output == []


@pytest.mark.parametrize(
    "flight",
    [
        MAIL_OK + RCPT_OK + b"550 5.1.1 No\r\n" + DATA_OK,
        MAIL_OK + RCPT_OK + RCPT_OK + DATA_OK + b"25",
        b"450 4.0.0 No\r\n" + RCPT_OK + RCPT_OK + DATA_OK,
    ],
)
def test_other_flights_are_not_remembered(flight: bytes) -> None:
    memory.grants.clear()
    dialog = open_dialog()
    dialog.begin(make_transaction())
    sent(dialog)
    dialog.receive(flight)
    assert memory.grants == {}


def test_memory_is_bounded() -> None:
    memory.grants.clear()
    for number in range(1000):
        memory.remember_grant(b"%d" % number, 1)
        assert len(memory.grants) <= 256
    memory.grants.clear()
    memory.remember_grant(b"x" * 513, 1)
    assert memory.grants == {}
