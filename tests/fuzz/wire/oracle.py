"""The oracle of smuggling: an accepted message, sent on as we deliver it, is one message to all.

It is sent by the dialog of `fastmta.delivery`, and read by our own session, by aiosmtpd, and by a
parser that ends lines at any CR or LF and data at any lone dot. Each has to see the commands that
we meant, and one content with the octets that we meant.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from fastmta.delivery.content import Feeder
from fastmta.delivery.dialog import Dialog
from fastmta.delivery.options import DeliveryOptions
from fastmta.delivery.state import Step
from fastmta.delivery.transaction import Extras, Transaction
from fastmta.delivery.trouble import Peer
from fastmta.message import Message, OutcomeKind
from fastmta.route import Target
from fastmta.session import SessionSettings
from fastmta.smtp import stuff
from tests.fuzz.wire.case import Case
from tests.support import session as inbound

AIOSMTPD_BATCH = 200
_LINE_END = re.compile(rb"\r\n|\r|\n")
_PEER = Peer(Target("relay.example", "192.0.2.9", 25))
_OPTIONS = DeliveryOptions("origin.example")
_SETTINGS = SessionSettings(inbound.HOSTNAME, line_endings="reject", recipients_max=10_000)
_VERBS = re.compile(rb"(?:EHLO [a-z.]+|MAIL FROM:.*|RCPT TO:.*|DATA|QUIT)", re.DOTALL)

logging.getLogger("mail.log").setLevel(logging.CRITICAL)
logging.getLogger("mail.debug").setLevel(logging.CRITICAL)


class SmugglingError(AssertionError):
    """One message was not one message to somebody; `case` is where it came from."""

    def __init__(self, case: Case, text: str) -> None:
        super().__init__(f"{text}: {case.line()}")
        self.case = case


class Oracle:
    """Sends each message on."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Case, bytes, bytes]] = []
        self._done: set[int] = set()
        self.relayed_count = self.aiosmtpd_count = 0

    def take(self, case: Case, message: Message, content: bytes) -> None:
        """To our own session and the lenient parser at once, to aiosmtpd with many others."""
        try:
            wire = relay(message, content)
            check_feeding(case, content)
            check_leniently(wire, message, content)
        except (AssertionError, ValueError) as problem:
            raise SmugglingError(case, str(problem)) from problem
        self.relayed_count += 1
        if content not in map(_content_of, self._waiting):
            self._waiting.append((case, wire, content))
        if len(self._waiting) >= AIOSMTPD_BATCH:
            self.flush()

    def flush(self) -> None:
        """Ask aiosmtpd."""
        waiting, self._waiting = self._waiting, []
        seen = asyncio.run(ask_aiosmtpd([plain_wire(content) for _, _, content in waiting]))
        self.aiosmtpd_count += len(seen)
        for (case, _, content), (contents, codes) in zip(waiting, seen, strict=True):
            if contents != [content] or codes != [220, 250, 250, 250, 354, 250, 221]:
                raise SmugglingError(case, f"aiosmtpd: {codes}, {contents!r} for {content!r}")


def _content_of(waiting: tuple[Case, bytes, bytes]) -> bytes:
    return waiting[2]


def relay(message: Message, content: bytes) -> bytes:
    """Our dialog to our session, which has to take exactly this message; what the dialog said."""
    envelope = message.envelope
    paths = list(envelope.forward_paths)
    transaction = Transaction(
        envelope.reverse_path, paths, stuff(content), len(content), envelope.is_8bit
    )
    if envelope.is_utf8 or envelope.dsn is not None:
        transaction.extras = Extras(envelope.dsn, range(len(paths)), envelope.is_utf8, None)
    server = inbound.Dialog(settings=_SETTINGS)
    dialog = Dialog(_PEER, _OPTIONS)
    wire = _converse(dialog, server, transaction)
    outcomes = transaction.all_outcomes()
    assert all(one is not None and one.kind is OutcomeKind.DELIVERED for one in outcomes), outcomes
    (taken,) = server.accept.messages
    assert taken.content is not None
    trace, found, rest = taken.content.partition(content)
    assert found == content, "other octets"
    assert not rest, "octets behind it"
    assert re.fullmatch(rb"Received: (?:[^\r\n]|\r\n[\t ])+\r\n", trace), trace
    again = taken.envelope
    assert again.reverse_path == envelope.reverse_path
    assert again.forward_paths == envelope.forward_paths
    assert again.is_utf8 == envelope.is_utf8
    if envelope.dsn is not None:
        assert again.dsn is not None
        assert again.dsn.envelope_id == envelope.dsn.envelope_id
        assert again.dsn.returned == envelope.dsn.returned
        for index in range(len(paths)):
            assert again.dsn.notify_of(index) == envelope.dsn.notify_of(index)
            original = envelope.dsn.original_recipient_of(index)
            assert original in (b"", again.dsn.original_recipient_of(index)) or not envelope.is_utf8
    said = server.session.ended("").verbs
    expected = {"ehlo": 1, "mail": 1, "rcpt": len(paths), "data": 1, "quit": 1}
    assert {verb: total for verb, (_, total) in said.items()} == expected, said
    return wire


def _converse(dialog: Dialog, server: inbound.Dialog, transaction: Transaction) -> bytes:
    """Both sides, turn by turn; the client's octets."""
    wire = bytearray()
    step = dialog.receive(bytes(server.out))
    for _ in range(40 + 2 * len(transaction.forward_paths)):
        if step is Step.READY:
            step = dialog.begin(transaction)
        elif step is Step.DONE:
            dialog.quit()
            step = Step.WAIT
        elif step is not Step.WAIT:
            break
        server.out.clear()
        octets = b"".join(dialog.output)
        dialog.output.clear()
        wire += octets
        server.out += server.session.receive(octets, len(octets))
        step = dialog.receive(bytes(server.out))
    return bytes(wire)


def check_feeding(case: Case, content: bytes) -> None:
    """A large content leaves piece by piece, and is the same octets then."""
    chance = case.chance()
    pieces = [b""]
    rest = content
    while rest:
        size = chance.choice((1, 2, 3, 50, 4096))
        pieces.insert(-1, rest[:size])
        rest = rest[size:]

    class Stream:
        def read(self, done: Callable[[bytes, Exception | None], None]) -> None:
            done(pieces.pop(0), None)

    written: list[bytes] = []
    ends: list[Exception | None] = []
    feeder = Feeder(Stream(), written.append, ends.append)
    while not ends:
        feeder.go_on()
    assert ends == [None], ends
    assert b"".join(written) == stuff(content), "large contents leave differently"
    assert all(piece.endswith(b"\r\n") for piece in written)


def check_leniently(wire: bytes, message: Message, content: bytes) -> None:
    """Whoever ends lines anywhere sees the same lines as we, and data ends where we end it."""
    lines = _LINE_END.split(wire)
    at = lines.index(b"DATA") + 1
    commands, contents = lines[:at], []
    while lines[at].rstrip(b" \t\0") != b".":
        contents.append(lines[at].removeprefix(b"."))
        at += 1
    commands += lines[at + 1 :]
    assert commands.pop() == b""
    assert len(commands) == 4 + len(message.envelope.forward_paths), commands
    for command in commands:
        assert _VERBS.fullmatch(command), command
    assert b"\r\n".join([*contents, b""]) == content or content == b"", "other lines"


def plain_wire(content: bytes) -> bytes:
    """As we send it with an address that any server takes; all at once."""
    transaction = Transaction(b"a@b.example", [b"c@d.example"], stuff(content), len(content), True)
    dialog = Dialog(_PEER, _OPTIONS)
    said = bytearray()
    for reply in (b"220 x\r\n", b"250-x\r\n250-8BITMIME\r\n250 PIPELINING\r\n"):
        dialog.receive(reply)
        said += b"".join(dialog.output)
        dialog.output.clear()
    dialog.begin(transaction)
    for reply in (b"", b"250 x\r\n250 x\r\n354 x\r\n", b"250 x\r\n"):
        if reply:
            dialog.receive(reply)
        said += b"".join(dialog.output)
        dialog.output.clear()
    dialog.quit()
    return bytes(said + b"".join(dialog.output))


class _Handler:
    """Keeps contents."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.contents.append(envelope.content)
        return "250 kept"


class _Transport(asyncio.Transport):
    """What a server writes."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written = bytearray()
        self._is_closing = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True

    def pause_reading(self) -> None:
        """All is there already."""

    def resume_reading(self) -> None:
        """All is there already."""


async def ask_aiosmtpd(wires: list[bytes]) -> list[tuple[list[bytes], list[int]]]:
    """(contents, codes of replies) of each session."""
    loop = asyncio.get_running_loop()
    sessions = []
    for wire in wires:
        handler, transport = _Handler(), _Transport()
        server = SMTP(handler, hostname="x", ident="x", data_size_limit=None, loop=loop)
        server.connection_made(transport)
        server._reader._limit = 1 << 20
        server.line_length_limit = 1 << 20
        server.data_received(wire)
        sessions.append((handler, transport, server))
    for _, transport, server in sessions:
        for _ in range(10_000):
            if transport.is_closing():
                break
            await asyncio.sleep(0)
        server.connection_lost(None)
    await asyncio.sleep(0)
    return [
        (handler.contents, _codes(bytes(transport.written))) for handler, transport, _ in sessions
    ]


def _codes(octets: bytes) -> list[int]:
    return [int(line[:3]) for line in octets.split(b"\r\n") if line[3:4] == b" "]
