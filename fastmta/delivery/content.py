"""Contents that are not in memory: the port to where they are, and how one is sent.

A large content is read in pieces, stuffed line by line and written as fast as the peer takes it:
one piece is under way at a time, so that a connection never holds more than two of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fastmta.message import ContentFile
from fastmta.smtp import stuff
from fastmta.smtp.content import LineEndError

_HEADER_OCTETS_MAX = 4 * 1024 * 1024  # looked through; far more than is accepted by default
_UNENDED_OCTETS_MAX = 128 * 1024  # of a line; twice what is accepted from a client


class Stream(Protocol):
    """One reading of a content, from its first octet."""

    def read(self, done: Callable[[bytes, Exception | None], None]) -> None:
        """Call `done(octets, None)` later with the next piece, b"" at the end, or with an error.

        The last piece is not handed out when the octets are not those that were stored.
        """


class Source(Protocol):
    """A large content that was checked as a whole."""

    def stream(self) -> Stream:
        """Begin at the first octet; any number of times."""

    def close(self) -> None:
        """Nothing more is read."""


class Contents(Protocol):
    """Where large contents are: the spool."""

    def open(
        self, file: ContentFile, done: Callable[[Source | None, Exception | None], None]
    ) -> None:
        """Check all of it, then call `done`, later: with a source, or with what is wrong."""


def is_ascii_header(content: bytes) -> bool:
    """Whether the header section of `content` is pure ASCII; its body does not matter."""
    if content.startswith(b"\r\n"):
        return True
    end = content.find(b"\r\n\r\n")
    return content.isascii() if end < 0 else content[:end].isascii()


class HeaderLook:
    """Reads a large content as far as its header section goes: is that pure ASCII?

    `done(answer, None)` or `done(False, error)`, once and later. A header section larger than any
    that we accept is not looked through: the answer is then the one that promises less.
    """

    __slots__ = ("_done", "_octets_left", "_stream", "_tail")

    def __init__(self, stream: Stream, done: Callable[[bool, Exception | None], None]) -> None:
        self._stream = stream
        self._done = done
        self._tail = b"\r\n"  # before a content without any header section stands its empty line
        self._octets_left = _HEADER_OCTETS_MAX
        stream.read(self._take)

    def _take(self, octets: bytes, error: Exception | None) -> None:
        if error is not None:
            self._done(False, error)
            return
        seen = self._tail + octets
        end = seen.find(b"\r\n\r\n")
        is_ascii = (seen if end < 0 else seen[:end]).isascii()
        self._octets_left -= len(octets)
        if end >= 0 or not octets or not is_ascii:
            self._done(is_ascii, None)
        elif self._octets_left <= 0:
            self._done(False, None)
        else:
            self._tail = seen[-3:]
            self._stream.read(self._take)


class Feeder:
    """Sends one content of one transaction. Every piece that leaves ends with a line.

    `write` takes stuffed octets, `done(None)` follows the last of them, `done(error)` says that the
    content cannot be sent to its end. `go_on` is to be called whenever there is room.
    """

    __slots__ = ("_done", "_is_reading", "_line_max", "_rest", "_stream", "_write")

    def __init__(
        self,
        stream: Stream,
        write: Callable[[bytes], None],
        done: Callable[[Exception | None], None],
        line_max: int = 0,
    ) -> None:
        """`line_max`: longer lines are folded, as `stuff` does."""
        self._line_max = line_max
        self._stream = stream
        self._write: Callable[[bytes], None] | None = write
        self._done = done
        self._rest = b""  # of a line that is not complete
        self._is_reading = False

    def go_on(self) -> None:
        """Fetch the next piece unless one is on its way."""
        if not self._is_reading and self._write is not None:
            self._is_reading = True
            self._stream.read(self._take)

    def stop(self) -> None:
        """Nothing more is wanted, whatever is on its way."""
        self._write = None

    def _take(self, octets: bytes, error: Exception | None) -> None:
        self._is_reading = False
        write = self._write
        if write is None:
            return
        if error is None:
            try:
                lines = self._lines(octets)
            except LineEndError as problem:
                error = problem
        if error is not None:
            self.stop()
            self._done(error)
            return
        if lines:
            write(lines)
        if not octets:
            self.stop()
            self._done(None)
        elif not lines:
            self.go_on()

    def _lines(self, octets: bytes) -> bytes:
        """The whole lines that are here, stuffed; at the end what is left as well."""
        whole = self._rest + octets if self._rest else octets
        end = whole.rfind(b"\r\n") + 2 if octets else len(whole)
        if end < 2 and octets:
            end = 0
            if len(whole) > _UNENDED_OCTETS_MAX:
                raise LineEndError("a line without an end in a content to send")
        self._rest = whole[end:]
        return stuff(whole[:end], self._line_max)
