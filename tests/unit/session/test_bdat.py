"""BDAT (RFC 3030): chunks that come in any pieces, in any order of commands, of any size."""

from __future__ import annotations

from typing import Any

import pytest

from fastmta.session import SessionSettings, State
from fastmta.smtp import limit
from tests.support.session import HOSTNAME, Dialog, FakeAccept

ENVELOPE = b"MAIL FROM:<a@client.example>\r\nRCPT TO:<b@dest.example>\r\n"


def dialog(**more: Any) -> Dialog:
    it = Dialog(**more).hello()
    assert it.codes(ENVELOPE) == ["250", "250"]
    return it


def body(it: Dialog) -> bytes:
    """The content of the only message, without our Received field."""
    (message,) = it.accept.messages
    content = message.content or b""
    return content.partition(b"(UTC)\r\n")[2]


WIRE = (
    b"BDAT 12\r\nSubject: x\r\nBDAT 0\r\nBDAT 9\r\n\r\n.\r\n..\r\nBDAT 6 LAST\r\nlast\r\nNOOP\r\n"
)
ANSWERS = ["250", "250", "250", "250", "250"]


def test_chunks_are_one_message_and_dots_mean_nothing() -> None:
    it = dialog()
    lines = it.send(WIRE)
    (message,) = it.accept.messages
    assert lines == [
        "250 2.0.0 Ok: 12 bytes",
        "250 2.0.0 Ok: 0 bytes",
        "250 2.0.0 Ok: 9 bytes",
        f"250 2.0.0 Ok: 27 bytes queued as {message.id.decode()}",
        "250 2.0.0 Ok",
    ]
    assert body(it) == b"Subject: x\r\n\r\n.\r\n..\r\nlast\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_chunks_in_pieces(size: int) -> None:
    it = dialog()
    lines = it.send_in_pieces(WIRE[at : at + size] for at in range(0, len(WIRE), size))
    assert [line[:3] for line in lines] == ANSWERS
    assert body(it) == b"Subject: x\r\n\r\n.\r\n..\r\nlast\r\n"


def test_chunks_split_at_every_point() -> None:
    for at in range(1, len(WIRE)):
        it = dialog()
        assert [line[:3] for line in it.send_in_pieces([WIRE[:at], WIRE[at:]])] == ANSWERS
        assert body(it) == b"Subject: x\r\n\r\n.\r\n..\r\nlast\r\n"


def test_the_end_of_data_sequence_and_commands_within_a_chunk_are_content() -> None:
    it = dialog()
    evil = b"first\r\n.\r\nMAIL FROM:<evil@x.example>\r\nQUIT\r\n"
    assert it.codes(b"BDAT %d LAST\r\n" % len(evil) + evil) == ["250"]
    assert body(it) == evil
    assert it.session.state is State.READY


def test_a_line_end_may_be_cut_in_two_by_chunks() -> None:
    it = dialog()
    assert it.codes(b"BDAT 3\r\nab\rBDAT 1 LAST\r\n\n") == ["250", "250"]
    assert body(it) == b"ab\r\n"


def test_a_missing_last_line_end_is_added() -> None:
    it = dialog()
    assert it.codes(b"BDAT 3 LAST\r\nabc") == ["250"]
    assert body(it) == b"abc\r\n"


def test_a_last_chunk_of_nothing_ends_the_message() -> None:
    it = dialog()
    assert it.codes(b"BDAT 5\r\nabc\r\nBDAT 0 LAST\r\n") == ["250", "250"]
    assert body(it) == b"abc\r\n"


@pytest.mark.parametrize("content", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\n\r", b"\n.\n"])
def test_lone_line_ends_are_refused_from_strangers_and_the_session_ends(content: bytes) -> None:
    it = Dialog("192.0.2.1", domains=["dest.example"]).hello()
    it.send(ENVELOPE)
    assert it.codes(b"BDAT %d LAST\r\n" % len(content) + content + b"NOOP\r\n") == ["550"]
    assert it.accept.messages == []
    assert it.session.is_closing


def test_a_chunk_with_a_nul_fails_the_message_and_later_chunks_are_read_over() -> None:
    it = dialog()
    assert it.codes(b"BDAT 3\r\na\0bBDAT 6 LAST\r\nNOOP\r\nNOOP\r\n") == ["550", "503", "250"]
    assert it.accept.messages == []
    assert it.session.state is State.BROKEN
    assert it.codes(ENVELOPE + b"BDAT 3 LAST\r\nabc") == ["250", "250", "250"]


@pytest.mark.parametrize(
    ("before", "code", "after"),
    [
        (b"EHLO c\r\n", "503", State.READY),
        (b"EHLO c\r\n|MAIL FROM:<a@b.example>\r\n", "554", State.BROKEN),
    ],
)
def test_octets_of_a_bdat_out_of_order_are_no_commands(
    before: bytes, code: str, after: State
) -> None:
    it = Dialog()
    for line in before.split(b"|"):
        it.send(line)
    it.lines()
    assert it.codes(b"BDAT 6\r\nQUIT\r\nNOOP\r\n") == [code, "250"]
    assert it.session.state is after


def test_a_message_whose_first_chunk_was_refused_is_never_taken() -> None:
    it = Dialog().hello()
    it.send(b"MAIL FROM:<a@b.example>\r\n")
    assert it.codes(b"RCPT TO:<>\r\nBDAT 5\r\nfirst") == ["501", "554"]
    assert it.codes(b"RCPT TO:<c@d.example>\r\n") == ["503"]
    assert it.codes(b"BDAT 6 LAST\r\nsecond") == ["503"]
    assert it.accept.messages == []


def test_octets_that_follow_a_reset_are_no_commands_either() -> None:
    it = dialog()
    assert it.codes(b"BDAT 3\r\nabcRSET\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n") == [
        "250",
        "250",
        "503",
        "250",
    ]
    assert it.accept.messages == []


def test_commands_between_chunks() -> None:
    it = dialog()
    assert it.codes(b"BDAT 3\r\nabc") == ["250"]
    assert it.send(b"DATA\r\n") == ["503 5.5.1 Error: DATA after BDAT"]
    assert it.send(b"RCPT TO:<c@dest.example>\r\n") == ["503 5.5.1 Error: RCPT after BDAT"]
    assert it.send(b"MAIL FROM:<c@dest.example>\r\n") == ["503 5.5.1 Error: MAIL after BDAT"]
    assert it.codes(b"NOOP\r\nVRFY x\r\n") == ["250", "252"]
    assert it.codes(b"BDAT 2 LAST\r\n\r\n") == ["250"]
    assert body(it) == b"abc\r\n"


def test_bdat_after_data_is_content() -> None:
    it = dialog()
    assert it.codes(b"DATA\r\n") == ["354"]
    assert it.codes(b"BDAT 3 LAST\r\nabc\r\n.\r\n") == ["250"]
    assert body(it) == b"BDAT 3 LAST\r\nabc\r\n"


def test_quit_and_disconnect_between_and_within_chunks_give_everything_back() -> None:
    for tail in (b"QUIT\r\n", b"BDAT 100\r\nabc", b""):
        it = dialog()
        it.send(b"BDAT 3\r\nabc" + tail)
        it.session.ended("lost connection")
        room = it.session.ports.room
        assert (room.used, room.octets_expected) == (0, 0)
        assert it.accept.messages == []


@pytest.mark.parametrize(
    "argument",
    [b"", b"x", b"-1", b"+1", b"1 LAST LAST", b"1 FIRST", b"12345678901", b"1_0", b"0x1"],
)
def test_a_size_that_is_none_ends_the_session(argument: bytes) -> None:
    it = dialog()
    assert it.codes(b"BDAT " + argument + b"\r\nQUIT\r\n") == ["501"]
    assert it.session.is_closing, "how many octets follow is not known"


def test_too_large_a_chunk_is_refused_before_it_is_read_and_never_read_for_ever() -> None:
    settings = SessionSettings(HOSTNAME, message_octets_max=1000)
    it = dialog(settings=settings)
    assert it.codes(b"BDAT 600\r\n" + b"x" * 600) == ["250"]
    assert it.send(b"BDAT 600 LAST\r\n") == ["552 5.3.4 Chunk exceeds message size limit"]
    assert it.session.state is State.BROKEN
    assert it.codes(b"x" * 600 + b"NOOP\r\n") == ["250"]
    assert it.codes(b"BDAT 600 LAST\r\n") == ["503"]
    assert it.session.is_closing, "a second message's worth of octets is too much"


def test_a_huge_chunk_ends_the_session_at_once() -> None:
    it = dialog(settings=SessionSettings(HOSTNAME, message_octets_max=1000))
    assert it.codes(b"BDAT 4294967295\r\n") == ["552"]
    assert it.session.is_closing


def test_tiny_chunks_without_end_are_refused() -> None:
    it = dialog()
    for _ in range(limit.CHUNKS_FREE):
        assert it.codes(b"BDAT 1\r\nx") == ["250"]
    assert it.send(b"BDAT 1\r\nx") == ["554 5.5.1 Error: too many small chunks"]
    assert it.session.is_closing


def test_chunks_that_are_large_enough_on_average_may_be_many() -> None:
    it = dialog()
    line = b"x" * 62 + b"\r\n"
    for _ in range(limit.CHUNKS_FREE + 50):
        assert it.codes(b"BDAT 64\r\n" + line) == ["250"]
    assert it.codes(b"BDAT 1 LAST\r\nx") == ["554"], "the average has sunk"


def test_a_large_message_in_chunks_goes_to_a_file() -> None:
    accept = FakeAccept(is_prompt=True)
    it = dialog(settings=SessionSettings(HOSTNAME, inline_octets_max=128 * 1024), accept=accept)
    line = b"y" * 998 + b"\r\n"
    piece = line * 50
    for _ in range(6):
        assert it.codes(b"BDAT %d\r\n" % len(piece) + piece) == ["250"]
    assert it.codes(b"BDAT 0 LAST\r\n") == ["250"]
    (message,) = accept.messages
    assert message.file is not None
    assert accept.spills[0].octets.partition(b"(UTC)\r\n")[2] == piece * 6
    assert it.session.ports.room.used == 0


def test_the_reply_waits_for_the_flush() -> None:
    accept = FakeAccept(is_late=True)
    it = dialog(accept=accept)
    assert it.send(b"BDAT 5 LAST\r\nabc\r\nNOOP\r\n") == []
    assert it.session.state is State.COMMITTING
    accept.store_all()
    assert [line[:3] for line in it.lines()] == ["250", "250"]


def test_no_room_is_452_and_the_message_has_failed() -> None:
    it = dialog()
    it.session.ports.room.take(it.session.ports.room.octets_max)
    assert it.codes(b"BDAT 3\r\nabcNOOP\r\n") == ["452", "250"]
    assert it.session.state is State.BROKEN


def test_the_end_of_a_session_counts_chunks() -> None:
    it = dialog()
    it.send(b"BDAT 3\r\nabcBDAT 0 LAST\r\nBDAT 1\r\nx")
    assert it.session.ended("").verbs["bdat"] == (2, 3)
