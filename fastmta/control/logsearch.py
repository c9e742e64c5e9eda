"""Looks for messages in log files: from their ends backwards, in pieces, as far as is needed.

A message's lines begin with the one that names its message-id, and end with `removed`. So a search
that goes backwards may forget an id there, and one that goes on forwards from the first line that
it saw may do so at the end: mail that is done costs the pieces that it is in. Only what is unknown
or not done reads everything.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, Final, NamedTuple

PIECE_OCTETS: Final = 8 << 20
LINE_OCTETS_MAX: Final = 1 << 16  # a longer one is not ours
_PACKED: Final = (".gz", ".bz2", ".xz")


class Hit(NamedTuple):
    """A line that was found; they sort as they were written."""

    source: int  # the oldest file has the least number
    offset: int
    line: bytes


class Piece(NamedTuple):
    """Whole lines of a file."""

    source: int
    offset: int  # of the first octet
    octets: bytes


def read_back(path: str, source: int, piece_octets: int = PIECE_OCTETS) -> Iterator[Piece]:
    """The pieces of a file, the last one first. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        rest = b""  # the beginning of a line that the piece before has the end of
        while end > 0:
            begin = max(0, end - piece_octets)
            octets = _read_at(file, begin, end - begin) + rest
            end = begin
            cut = octets.find(b"\n") + 1 or len(octets) if begin else 0
            rest = octets[:cut]
            if len(rest) > LINE_OCTETS_MAX:
                rest = b""
            if cut < len(octets):
                yield Piece(source, begin + cut, octets[cut:])


def _read_at(file: IO[bytes], offset: int, count: int) -> bytes:
    """As much as there is, which is less in a file that is being cut."""
    parts = []
    while count > 0 and (part := os.pread(file.fileno(), count, offset)):
        parts.append(part)
        offset += len(part)
        count -= len(part)
    return b"".join(parts)


def read_end(path: str, count: int, piece_octets: int = 1 << 18) -> list[bytes]:
    """The last `count` lines of a file; fewer if there are fewer or it cannot be read."""
    lines: list[bytes] = []
    with contextlib.suppress(OSError):
        for piece in read_back(path, 0, piece_octets):
            lines = [*filter(None, piece.octets.split(b"\n")), *lines]
            if len(lines) >= count:
                break
    return lines[-count:] if count else []


def read_on(path: str, source: int, begin: int, piece_octets: int) -> Iterator[Piece]:
    """The pieces from a place on. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        rest = b""  # the beginning of a line
        while octets := _read_at(file, begin + len(rest), piece_octets):
            octets = rest + octets
            cut = octets.rfind(b"\n") + 1
            if cut:
                yield Piece(source, begin, octets[:cut])
            rest = octets[cut:] if len(octets) - cut <= LINE_OCTETS_MAX else b""
            begin += len(octets) - len(rest)
        if rest:
            yield Piece(source, begin, rest)


def _is_packed(path: str) -> bool:
    return path.endswith(_PACKED)


def _open_packed(path: str) -> Any:  # Any: a file of one of three kinds
    """What unpacks it is imported when there is something to unpack."""
    if path.endswith(".gz"):
        import gzip

        return gzip.open(path)
    if path.endswith(".bz2"):
        import bz2

        return bz2.open(path)
    import lzma

    return lzma.open(path)


def read_packed(path: str, source: int, piece_octets: int) -> Iterator[Piece]:
    """The pieces of a packed file, the first one first. Raises OSError."""
    offset, rest = 0, b""
    with _open_packed(path) as file:
        while True:
            try:
                read = file.read(piece_octets)
            except OSError:
                raise
            except Exception as error:  # each kind has errors of its own
                raise OSError(0, f"not a whole file: {error}", path) from error
            octets = rest + read
            cut = octets.rfind(b"\n") + 1 if read else len(octets)
            if cut:
                yield Piece(source, offset, octets[:cut])
            if not read:
                return
            offset += cut
            rest = octets[cut:]
            if len(rest) > LINE_OCTETS_MAX:
                offset, rest = offset + len(rest), b""


def hits(piece: Piece, needle: bytes) -> Iterator[Hit]:
    """The lines of a piece that hold `needle`, in order."""
    octets = piece.octets
    at = octets.find(needle)
    while at >= 0:
        begin = octets.rfind(b"\n", 0, at) + 1
        end = octets.find(b"\n", at)
        end = len(octets) if end < 0 else end
        if end - begin <= LINE_OCTETS_MAX:
            yield Hit(piece.source, piece.offset + begin, octets[begin:end])
        at = octets.find(needle, end)


class Quest:
    """One search over all files."""

    def __init__(
        self,
        paths: Sequence[str],
        tell: Callable[[str], None],
        piece_octets: int = PIECE_OCTETS,
    ) -> None:
        """`paths`: the newest first. `tell` is called with what cannot be read, for people."""
        self._paths = list(paths)
        self._tell = tell
        self._piece_octets = piece_octets
        self.octets = 0  # that were read

    def find(
        self, ids: Iterable[bytes], match: Matcher | None = None, limit: int = 10
    ) -> list[Hit]:
        """Every line of these messages, and of the newest `limit` whose lines `match` accepts."""
        state = _Backwards(ids, match, limit)
        for age, path in enumerate(self._paths):
            if state.is_done:
                break
            try:
                self._search(state, path, -age)
            except OSError as error:
                self._tell(f"{path} cannot be read: {error.strerror or error}")
        for id, place in state.ends.items():
            self._go_on(state, id, *place)
        return sorted(state.found)

    def path_of(self, hit: Hit) -> str:
        """The file that a line is in."""
        return self._paths[-hit.source]

    def before(self, hit: Hit, octets: int) -> bytes:
        """What stands above a line, the line included; nothing of a packed file."""
        path = self.path_of(hit)
        begin = max(0, hit.offset - octets)
        with contextlib.suppress(OSError):
            if not _is_packed(path):
                with open(path, "rb", buffering=0) as file:
                    return _read_at(file, begin, hit.offset - begin + len(hit.line))
        return b""

    def _search(self, state: _Backwards, path: str, source: int) -> None:
        if _is_packed(path):  # it can be read forwards only, so twice
            if state.is_looking:
                for piece in self._count(read_packed(path, source, self._piece_octets)):
                    state.look(piece)
                state.choose((source + 1, 0))
            for piece in self._count(read_packed(path, source, self._piece_octets)):
                state.take(piece)
            state.settle()
            return
        for piece in self._count(read_back(path, source, self._piece_octets)):
            if state.is_looking:
                state.look(piece)
                state.choose((source, piece.offset + len(piece.octets)))
            state.take(piece)
            state.settle()
            if state.is_done:
                return

    def _go_on(self, state: _Backwards, id: bytes, source: int, begin: int) -> None:
        """Forwards, to the last line of a message."""
        for age in range(-source, -1, -1):
            path = self._paths[age]
            with contextlib.suppress(OSError):  # it was told before
                pieces = (
                    read_packed(path, -age, self._piece_octets)
                    if _is_packed(path)
                    else read_on(path, -age, begin, self._piece_octets)
                )
                for piece in self._count(pieces):
                    lines = list(hits(piece, id))
                    state.found.update(lines)
                    if any(is_end(line.line, id) for line in lines):
                        return
            begin = 0

    def _count(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            self.octets += len(piece.octets)
            yield piece


class Matcher(NamedTuple):
    """Which other lines are looked for."""

    needle: bytes  # in lower case
    id_of: Callable[[bytes], bytes]  # the queue id of a line that is meant; empty: it is not


class _Backwards:
    """What is known while a search goes back in time."""

    def __init__(self, ids: Iterable[bytes], match: Matcher | None, limit: int) -> None:
        self.found: set[Hit] = set()
        self.ends: dict[bytes, tuple[int, int]] = {}  # where to go on forwards, by id
        self._open = set(ids)  # whose first line is not found yet
        self._begun: set[bytes] = set()  # found just now
        self._closing: set[bytes] = (
            set()
        )  # found in the piece before: the line above may be in this
        self._known = set(self._open)
        self._match = match
        self._limit = limit
        self._chosen = 0
        self._candidates: dict[bytes, None] = {}

    @property
    def is_looking(self) -> bool:
        """Whether more messages are wanted."""
        return self._match is not None and self._chosen < self._limit

    @property
    def is_done(self) -> bool:
        """Whether older pieces have nothing of ours."""
        return not (self.is_looking or self._open or self._closing)

    def look(self, piece: Piece) -> None:
        """Look for messages that are not known."""
        assert self._match is not None
        for line in hits(piece._replace(octets=piece.octets.lower()), self._match.needle):
            begin = line.offset - piece.offset
            id = self._match.id_of(piece.octets[begin : begin + len(line.line)])
            if id and id not in self._known:
                self._candidates.pop(id, None)
                self._candidates[id] = None
                if len(self._candidates) > self._limit:
                    del self._candidates[next(iter(self._candidates))]

    def choose(self, end: tuple[int, int]) -> None:
        """Take up the newest of what was seen; `end` is behind it."""
        room = self._limit - self._chosen
        chosen = list(self._candidates)[-room:]
        self._candidates.clear()
        self._chosen += len(chosen)
        self._known.update(chosen)
        self._open.update(chosen)
        self.ends.update(dict.fromkeys(chosen, end))

    def take(self, piece: Piece) -> None:
        """Collect the lines of messages that are known."""
        for id in self._open | self._closing:
            for line in hits(piece, id):
                self.found.add(line)
                if is_begin(line.line, id):
                    self._begun.add(id)
                if is_end(line.line, id):
                    self.ends.pop(id, None)

    def settle(self) -> None:
        """What follows is older."""
        self._closing = self._begun & self._open
        self._open -= self._begun
        self._begun = set()


def is_begin(line: bytes, id: bytes) -> bool:
    """Whether nothing of that message is older, but for the line before this one."""
    return id + b": message-id=" in line or (
        b'"event":"received"' in line and b'"' + id + b'"' in line
    )


def is_end(line: bytes, id: bytes) -> bool:
    """Whether nothing more follows."""
    return line.endswith(id + b": removed") or (
        b'"event":"removed"' in line and b'"' + id + b'"' in line
    )
