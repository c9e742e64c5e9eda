"""Large contents in a session: spilled while they come in, and what ends them."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from typing import Any

import pytest

from fastmta.event import CommandRefused, MessageReceived
from fastmta.session import ContentRoom, SessionSettings, State
from fastmta.smtp import reply as replies
from tests.support.session import HOSTNAME, Dialog, FakeAccept, FakeSpill
from tests.unit.session.test_shortage import PoorFraming

INLINE = 4096
SETTINGS = SessionSettings(
    HOSTNAME,
    inline_octets_max=INLINE,
    header_octets_max=2000,
    message_octets_max=100_000,
    drop_fields=frozenset((b"bcc",)),
)
HEADER = b"Message-ID: <1@x>\r\nBcc: secret@x.example\r\nSubject: x\r\n\r\n"
KEPT = HEADER.replace(b"Bcc: secret@x.example\r\n", b"")


def in_content(**more: object) -> Dialog:
    dialog = Dialog(settings=SETTINGS, **more).hello()  # type: ignore[arg-type]  # its own keywords
    dialog.send(b"MAIL FROM:<a@client.example>\r\n")
    dialog.send(b"RCPT TO:<b@dest.example>\r\n")
    assert dialog.codes(b"DATA\r\n") == ["354"]
    return dialog


def body(octets: int) -> bytes:
    """Lines of dots and text; the last one ended."""
    lines = b"".join(b".%d %s\r\n" % (number, b"x" * (number % 70)) for number in range(octets))
    return lines[: octets - 2].rstrip(b"\r\n").ljust(octets - 2, b"y") + b"\r\n"


def wire(content: bytes) -> bytes:
    return content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def cut(octets: bytes, seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    while octets:
        size = rng.choice((1, 2, 100, 1000, 5000))
        yield octets[:size]
        octets = octets[size:]


def only_spill(dialog: Dialog) -> FakeSpill:
    (spill,) = dialog.accept.spills
    return spill


@pytest.mark.parametrize("more", [-1, 0, 1, 5000])
@pytest.mark.parametrize("seed", range(5))
def test_the_size_alone_decides_and_not_the_pieces(more: int, seed: int) -> None:
    dialog = in_content()
    content = HEADER + body(INLINE - len(HEADER) + more)
    assert len(content) == INLINE + more
    whole = wire(content)
    pieces = [whole] if seed == 0 else cut(whole, seed)
    assert dialog.send_in_pieces(pieces) == (
        ["250 2.0.0 Ok: queued as 0000000000000001"] if more <= 0 else []
    )
    stored = KEPT + content[len(HEADER) :]
    if more <= 0:
        assert dialog.accept.spills == []
        (message,) = dialog.accept.messages
        assert message.content is not None
        assert message.content.endswith(b"\r\n" + stored)
        return
    spill = only_spill(dialog)
    assert spill.id == b"0000000000000001"
    assert spill.octets.startswith(b"Received: ")
    assert spill.octets.endswith(b"\r\n" + stored)
    assert dialog.accept.messages == []  # not before the file is durable
    spill.answer()
    assert dialog.lines() == ["250 2.0.0 Ok: queued as 0000000000000001"]
    (message,) = dialog.accept.messages
    assert message.content is None
    assert message.file is not None
    assert message.size_octets == message.file.size_octets == len(spill.octets)
    assert message.envelope.forward_paths == (b"b@dest.example",)
    (received,) = dialog.events
    assert isinstance(received, MessageReceived)
    assert received.message_id_field == b"<1@x>"
    assert dialog.codes(b"MAIL FROM:<>\r\n") == ["250"]


def test_nothing_of_it_stays_in_memory() -> None:
    room = ContentRoom(10_000_000)
    dialog = in_content(room=room)
    idle = dialog.session.framing.__sizeof__()
    dialog.send(HEADER)
    for _ in range(20):
        dialog.send(b"z" * 1000 + b"\r\n")
    assert dialog.session.framing.__sizeof__() <= idle
    assert room.used <= ContentRoom.SPILLING_OCTETS
    dialog.send(b".\r\n")
    only_spill(dialog).answer()
    assert dialog.codes(b"NOOP\r\n") == ["250", "250"]
    assert room.used == 0


def test_what_a_client_announces_takes_no_more_room_than_is_kept_in_memory() -> None:
    room = ContentRoom(ContentRoom.LEAST_OCTETS)
    dialog = Dialog(settings=SETTINGS, room=room).hello()
    dialog.send(b"MAIL FROM:<a@client.example> SIZE=100000\r\nRCPT TO:<b@dest.example>\r\n")
    assert dialog.codes(b"DATA\r\n")[-1] == "354"


def test_a_slow_disk_is_told_to_the_owner() -> None:
    accept = FakeAccept(is_behind=True)
    dialog = in_content(accept=accept)
    answered: list[bytes] = []
    dialog.session._output = answered.append
    assert not dialog.session.is_behind
    dialog.send(HEADER + b"x" * INLINE)
    assert dialog.session.is_behind
    only_spill(dialog).catch_up()
    assert answered == [b""]
    assert not dialog.session.is_behind


REFUSED = {
    "header too long": (b"A: b\r\n" * 500 + b"\r\n", "554"),
    "no end of the header": (b"A: " + b"b" * 70 + b"\r\n b" * 2000, "554"),
    "too many hops": (b"Received: x\r\n" * 51 + b"\r\n", "554"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_refused_header_section_is_answered_at_the_end(name: str, in_pieces: bool) -> None:
    header, code = REFUSED[name]
    dialog = in_content()
    octets = header + body(6000)
    for piece in cut(octets, 7) if in_pieces else [octets]:
        assert dialog.send(piece) == []
    assert dialog.accept.spills == []
    assert dialog.codes(b".\r\n") == [code]
    assert dialog.accept.messages == []
    assert dialog.session.state is State.READY


@pytest.mark.parametrize(
    ("rest", "code"),
    [(b"a\0b\r\n", "550"), (b"x" * 70_000, "554"), (b"12345678\r\n" * 10_000, "552")],
)
def test_a_violation_behind_the_first_piece_leaves_no_file(rest: bytes, code: str) -> None:
    dialog = in_content()
    dialog.send(HEADER + body(5000))
    spill = only_spill(dialog)
    dialog.send(rest)
    assert spill.is_abandoned  # at once: the rest may take long
    dialog.send(b"more\r\n")
    assert dialog.codes(b"\r\n.\r\n") == [code]
    assert len(dialog.accept.spills) == 1
    assert dialog.accept.messages == []
    (refused,) = dialog.events
    assert isinstance(refused, CommandRefused)
    assert dialog.codes(b"MAIL FROM:<>\r\n") == ["250"]


def test_a_violation_in_the_last_octets_leaves_no_file() -> None:
    dialog = in_content()
    dialog.send(HEADER + body(5000))
    assert dialog.codes(b"a\0b\r\n.\r\n") == ["550"]
    assert only_spill(dialog).is_abandoned


def test_a_client_that_leaves_in_content_leaves_no_file() -> None:
    for end in ("ended", "refused"):
        room = ContentRoom(10_000_000)
        dialog = in_content(room=room)
        dialog.send(HEADER + body(5000))
        if end == "ended":
            dialog.session.ended("lost connection")
        else:
            dialog.session.refuse(replies.r421_timeout(HOSTNAME))
        assert only_spill(dialog).is_abandoned
        assert room.used == 0


def test_a_client_that_leaves_after_the_end_gets_its_message_stored() -> None:
    """As with a small one: it may have seen nothing, but nothing was refused."""
    room = ContentRoom(10_000_000)
    dialog = in_content(room=room)
    dialog.send(HEADER + wire(body(5000)))
    dialog.session.ended("lost connection")
    only_spill(dialog).answer()
    assert len(dialog.accept.messages) == 1
    assert room.used == 0


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (OSError(errno.ENOSPC, ""), "452 4.3.1 Insufficient system storage"),
        (OSError(errno.EDQUOT, ""), "452 4.3.1 Insufficient system storage"),
        (OSError(errno.EMFILE, ""), "451 4.3.0 Error: queue file write error"),
        (OSError(errno.EIO, ""), "451 4.3.0 Error: queue file write error"),
    ],
)
def test_our_own_shortage_is_never_5xx(error: OSError, reply: str) -> None:
    dialog = in_content(accept=FakeAccept(spill_error=error))
    dialog.send(HEADER + wire(body(5000)))
    only_spill(dialog).answer()
    assert dialog.lines() == [reply]
    assert dialog.accept.messages == []
    assert dialog.codes(b"MAIL FROM:<>\r\n") == ["250"]


def test_a_refused_record_is_answered_as_with_a_small_message() -> None:
    dialog = in_content(accept=FakeAccept(error=RuntimeError("no")))
    dialog.send(HEADER + wire(body(5000)))
    only_spill(dialog).answer()
    assert dialog.lines() == ["451 4.3.0 Error: queue file write error"]


def test_no_memory_at_the_end_is_451_and_leaves_no_file() -> None:
    dialog = in_content()
    dialog.send(HEADER + body(5000))
    poor: Any = PoorFraming(dialog.session.framing, "take_content", 1)
    dialog.session.framing = poor
    assert dialog.codes(b".\r\n") == ["451"]
    assert only_spill(dialog).is_abandoned
    assert dialog.codes(b"MAIL FROM:<>\r\n") == ["250"]
