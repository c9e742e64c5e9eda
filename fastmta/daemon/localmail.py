"""From a letter of the drop directory to a message, on a thread."""

from __future__ import annotations

import pwd
from collections.abc import Callable
from typing import NamedTuple

from fastmta.config import Config
from fastmta.drop.alias import Aliases, AliasFile
from fastmta.drop.box import Box, Letter
from fastmta.drop.compose import Author, Header, Rules, address, complete, received
from fastmta.drop.form import FormError
from fastmta.message import Envelope, Message
from fastmta.smtp import Framing, Violation
from fastmta.smtp.frame import REFUSING

BATCH_OCTETS = 8 * 1024 * 1024  # of small contents in memory at once
_NS = 1_000_000_000
_WRONG = {
    Violation.NUL: "its content has a NUL",
    Violation.TOO_BIG: "its content is larger than limits.message_octets",
    Violation.LINE_TOO_LONG: "its content has a line that is too long",
}


class Times(NamedTuple):
    """Now, as fields and the queue have it."""

    date: bytes
    wall_ns: int
    queue_ns: int


class Prepared(NamedTuple):
    """A letter as a message. Of a large one the content is still in the letter."""

    letter: Letter
    message: Message
    remarks: list[str]
    pieces: LargeContent | None


class LargeContent:
    """A content that goes through memory piece by piece, made canonical on the way."""

    def __init__(self, letter: Letter, trace: bytes, octets_max: int) -> None:
        self._letter = letter
        self._position = 0
        self._framing = Framing()
        self._framing.begin_chunked_content(trace, octets_max, True, letter.content_octets)
        self._framing.begin_chunk(letter.content_octets)
        self._is_done = False

    def next(self) -> bytes:
        """Some more octets; b"": that was all. Raises OSError and FormError."""
        while not self._is_done:
            piece = self._letter.read(self._position)
            if not piece and self._position < self._letter.content_octets:
                raise FormError("it became shorter")
            self._position += len(piece)
            framing = self._framing
            framing.feed(piece)
            framing.read_content()
            framing.keep_rest()
            self._is_done = self._position >= self._letter.content_octets
            if self._is_done:
                framing.end_chunks()
            check(framing)
            octets = framing.take_content() if self._is_done else framing.take_piece()
            if octets:
                return octets
        return b""


def check(framing: Framing) -> None:
    """Raises FormError if the content cannot be taken."""
    if framing.violations & REFUSING:
        why = [text for bit, text in _WRONG.items() if framing.violations & bit]
        raise FormError(why[0] if why else "its line ends cannot be repaired")


def canonical(content: bytes, trace: bytes, octets_max: int) -> bytes:
    """`trace` and a small content with CR LF line ends. Raises FormError."""
    framing = Framing()
    framing.begin_chunked_content(trace, octets_max, True, len(content))
    framing.begin_chunk(len(content))
    if content:
        framing.feed(content)
    framing.read_content()
    framing.end_chunks()
    check(framing)
    return framing.take_content()


class Preparer:
    """Reads claimed letters and makes messages of them. One thread at a time."""

    def __init__(self, config: Config, box: Box, note: Callable[[str], None]) -> None:
        """`note` hears of what is wrong with the file of aliases."""
        self._box = box
        self._note = note
        self._octets_max = config.limits.message_octets
        self._aliases = AliasFile(config.aliases.file)
        self._noted: Aliases | str | None = None
        self._rules = Rules(
            config.hostname.lower().encode("ascii"),
            config.rewrite.origin.lower().encode("ascii"),
            config.notify.postmaster.encode("ascii"),
            frozenset(name.lower().encode("ascii") for name in config.headers.drop),
        )

    def prepare(self, ids: list[bytes], times: Times) -> tuple[list[Prepared], list[bytes]]:
        """As many of these claims as go into memory at once, and the ids of the others.

        What is not sound is refused. Raises OSError: of none of them there is a message.
        """
        aliases = self._read_aliases()
        made: list[Prepared] = []
        octets = 0
        try:
            for index, id in enumerate(ids):
                if octets >= BATCH_OCTETS:
                    return made, ids[index:]
                letter = self._box.read(id)
                if letter is None:
                    continue
                try:
                    made.append(self._message(letter, times, aliases))
                except FormError as problem:
                    letter.close()
                    self._box.refuse(id, letter.user_id, str(problem))
                except OSError:
                    letter.close()
                    raise
                except Exception as defect:  # of ours: it must not stop what others sent
                    letter.close()
                    self._box.refuse(id, letter.user_id, f"internal error: {defect!r:.100}")
                octets += len(letter.content or b"")
        except BaseException:
            for prepared in made:
                prepared.letter.close()
            raise
        return made, []

    def _read_aliases(self) -> Aliases:
        aliases = self._aliases.read()
        about = self._aliases.trouble or aliases
        if about is not self._noted and about != self._noted:
            self._noted = about
            for text in [self._aliases.trouble] if self._aliases.trouble else aliases.problems:
                self._note(f"{self._aliases.path}: {text}")
        return aliases

    def _message(self, letter: Letter, times: Times, aliases: Aliases) -> Prepared:
        author = Author(letter.user_id, login_of(letter.user_id))
        envelope, remarks = address(letter.submission, author, self._rules, aliases)
        trace = received(author, letter.id, self._rules, times.date)
        pieces = None
        if letter.content is None:
            pieces = LargeContent(letter, trace, self._octets_max)
            first = pieces.next()
        else:
            first = canonical(letter.content, trace, self._octets_max)
        header = self._complete(first, len(trace), letter, envelope, times)
        if not envelope.is_8bit and not header.octets.isascii():
            envelope = _with_8bit(envelope)
        message = Message(letter.id, envelope, header.octets, times.queue_ns)
        message.message_id_field = header.message_id
        return Prepared(letter, message, remarks, pieces)

    def _complete(
        self, first: bytes, trace: int, letter: Letter, envelope: Envelope, times: Times
    ) -> Header:
        stamps = (times.date, times.wall_ns // _NS, letter.id)
        return complete(first, trace, letter.submission, envelope, self._rules, stamps)


def login_of(user_id: int) -> str:
    """The name of a user of this machine, "" if there is none."""
    try:
        name = pwd.getpwuid(user_id).pw_name
        return name.encode("utf-8", "replace").decode()  # the system takes any octets
    except (KeyError, OverflowError):
        return ""


def _with_8bit(envelope: Envelope) -> Envelope:
    from msgspec.structs import replace

    return replace(envelope, is_8bit=True)
