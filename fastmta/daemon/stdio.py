"""One SMTP session over standard input and output, for `sendmail -bs`.

The client is whoever runs the command: it is trusted, and what it sends goes where `keep` puts it.
There is no network, so there are no checks of one, no TLS and no logins.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

from fastmta.message import Envelope, Message
from fastmta.session import ContentRoom, Ports, Rights, Session, SessionSettings
from fastmta.smtp import Reply

from .clock import QueueClock

_READ_OCTETS = 64 * 1024
_ROOM_FACTOR = 4  # of the largest message: one client cannot have too much of it
Keep = Callable[[Envelope, bytes], None]


class Setting(NamedTuple):
    """What the server would say."""

    hostname: str
    message_octets: int
    recipients: int


class _Trust:
    """Rights of a local user; names without a domain stay as they are."""

    is_trusted = True
    is_known = False

    def reverse_path(self, path: bytes) -> bytes | Reply:
        return path.removesuffix(b"@")

    def forward_path(self, path: bytes) -> bytes | Reply:
        return path.removesuffix(b"@")


class _Policy:
    def admit(self, address: str, login: str = "", fingerprint: str = "") -> Rights:
        return _Trust()


class _Accept:
    """Takes each message at once."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep

    def refusal(self, declared_octets: int) -> Reply | None:
        return None

    def new_id(self) -> bytes:
        """For the reply only: the server gives the message its own."""
        return os.urandom(8).hex().encode("ascii")

    def begin_big(self, id: bytes, caught_up: Callable[[], None]) -> NoReturn:
        raise AssertionError("every content is in memory")

    def accept(self, message: Message, done: Callable[[Message, Exception | None], None]) -> None:
        try:
            self._keep(message.envelope, _without_trace(message.content or b""))
        except OSError as error:
            done(message, error)
        else:
            done(message, None)


def _without_trace(content: bytes) -> bytes:
    """The server adds a Received field of its own."""
    end = content.find(b"\r\n") + 2
    while content[end : end + 1] in (b" ", b"\t"):
        end = content.find(b"\r\n", end) + 2
    return content[end:]


def _lines(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Line by line, with CR LF: a program that has no network in between waits for no reply."""
    rest = b""
    while octets := read(_READ_OCTETS):
        *lines, rest = (rest + octets).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r") + b"\r\n"
        if len(rest) > _READ_OCTETS:  # no line: the session says so, or takes it as content
            yield rest
            rest = b""


def converse(
    setting: Setting,
    keep: Keep,
    read: Callable[[int], bytes],
    write: Callable[[bytes], None],
) -> None:
    """Talk until QUIT or the end of input. An OSError of `keep` is a 4xx for the client."""
    octets_max = setting.message_octets
    settings = SessionSettings(
        hostname=setting.hostname,
        message_octets_max=octets_max,
        inline_octets_max=octets_max,
        spill_octets=octets_max,
        recipients_max=setting.recipients,
        line_endings="normalize",
        drop_fields=frozenset(),  # the server does that
        discarded=frozenset(("STARTTLS", "AUTH")),
    )
    ports = Ports(
        settings,
        _Policy(),
        _Accept(keep),
        QueueClock(),
        lambda event: None,
        ContentRoom(_ROOM_FACTOR * octets_max),
    )
    session = Session(ports, "127.0.0.1", "localhost", write)
    write(session.greeting())
    for line in _lines(read):
        write(session.receive(line, len(line)))
        while session.delay_s:
            time.sleep(session.delay_s)
            write(session.resume())
        if session.is_closing:
            break
    session.ended("")
