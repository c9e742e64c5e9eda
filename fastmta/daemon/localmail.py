"""From a letter of the drop directory to a message, on a thread."""

from __future__ import annotations

import pwd
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from fastmta.config import Config
from fastmta.drop.alias import Aliases, AliasFile
from fastmta.drop.box import Box, Letter
from fastmta.drop.compose import Author, Rules, address, complete, received
from fastmta.drop.form import FormError, Submission
from fastmta.drop.part import count_parts, part_of, step_of
from fastmta.drop.plan import PORTION_MAX, Plan
from fastmta.message import Envelope, Message
from fastmta.smtp import Framing, Violation
from fastmta.smtp.frame import REFUSING

BATCH_OCTETS = 8 * 1024 * 1024  # of heads and contents in memory at once
PORTION = PORTION_MAX  # messages of one file that are made at a time
LARGE_PIECE_OCTETS = 1 << 20  # of a large content in memory
_NS = 1_000_000_000
Stamps: TypeAlias = tuple[bytes, int, bytes]  # of what a header section lacks; see `complete`
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


class Batch(NamedTuple):
    """What became of some claims; of those that were refused there is nothing here."""

    made: list[Prepared]
    rest: list[bytes]  # did not go into memory at once
    several: list[bytes]  # make several messages each: see `Preparer.part`


class Parting:
    """A claim that makes several messages, and the plan for it, which is on the disk."""

    def __init__(self, letter: Letter, plan: Plan) -> None:
        self.letter = letter
        self.plan = plan
        self.count = count_parts(letter.submission, plan.step)
        self.portion = max(1, min(PORTION, BATCH_OCTETS // max(1, _held_octets(letter))))

    @property
    def done(self) -> int:
        """How many of its messages are on their way."""
        return self.plan.next - len(self.plan.ids)

    def advance(self, done: set[int], ids: list[bytes]) -> Plan:
        """What comes next, when these are done; without ids there is nothing left."""
        return self.plan.advance(done, self.count, self.portion, ids)


def _held_octets(letter: Letter) -> int:
    """How much of its content a message of it has in memory."""
    return LARGE_PIECE_OCTETS if letter.content is None else len(letter.content)


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
        self._recipients_max = config.limits.recipients
        self._aliases = AliasFile(config.aliases.file)
        self._noted: Aliases | str | None = None
        self._rules = Rules(
            config.hostname.lower().encode("ascii"),
            config.rewrite.origin.lower().encode("ascii"),
            config.notify.postmaster.encode("ascii"),
            frozenset(name.lower().encode("ascii") for name in config.headers.drop),
        )

    def prepare(self, ids: list[bytes], times: Times) -> Batch:
        """Messages of as many of these claims as go into memory at once.

        What is not sound is refused. Raises OSError: of none of them there is a message.
        """
        aliases = self._read_aliases()
        batch = Batch([], [], [])
        made = batch.made
        octets = 0
        try:
            for index, id in enumerate(ids):
                if octets >= BATCH_OCTETS:
                    batch.rest[:] = ids[index:]
                    break
                letter = self._box.read(id)
                if letter is None:
                    continue
                step = step_of(letter.submission, self._recipients_max)
                if count_parts(letter.submission, step) > 1:
                    letter.close()
                    batch.several.append(id)
                    continue
                stamps = (times.date, times.wall_ns // _NS, id)
                try:
                    made.append(
                        self._message(letter, id, letter.submission, stamps, times, aliases)
                    )
                except FormError as problem:
                    letter.close()
                    self._box.refuse(id, letter.user_id, str(problem))
                except OSError:
                    letter.close()
                    raise
                except Exception as defect:  # of ours: it must not stop what others sent
                    letter.close()
                    self._box.refuse(id, letter.user_id, f"internal error: {defect!r:.100}")
                octets += letter.offset + _held_octets(letter)
        except BaseException:
            for prepared in made:
                prepared.letter.close()
            raise
        return batch

    def part(self, id: bytes, times: Times, ids: list[bytes]) -> Parting | None:
        """Begin with a claim that makes several messages, or go on where an earlier run ended.

        None: it was refused. Under the ids of a plan that is there nothing was accepted: they are
        replaced. Raises OSError: nothing has begun.
        """
        letter = self._box.read(id)
        if letter is None:
            return None
        try:
            plan = self._box.read_plan(id)
            if plan is None:
                step = step_of(letter.submission, self._recipients_max)
                plan = Plan(step, times.date, times.wall_ns // _NS)
            parting = Parting(letter, plan)
            parting.plan = parting.advance(set(), ids)
            self._box.write_plan(id, parting.plan)
        except FormError as problem:
            letter.close()
            self._box.refuse(id, letter.user_id, str(problem))
            return None
        except BaseException:
            letter.close()
            raise
        return parting

    def make_parts(self, parting: Parting, times: Times) -> list[Prepared]:
        """The messages that its plan names; none if it is refused. Raises OSError."""
        letter, plan = parting.letter, parting.plan
        aliases = self._read_aliases()
        stamps = (plan.date, plan.seconds, letter.id)
        made = []
        try:
            for number, id in plan.ids.items():
                submission = part_of(letter.submission, plan.step, number)
                made.append(self._message(letter, id, submission, stamps, times, aliases))
        except OSError:
            raise
        except Exception as problem:
            is_ours = not isinstance(problem, FormError)
            why = f"internal error: {problem!r:.100}" if is_ours else str(problem)
            if parting.done:
                why += f", behind {parting.done} of its {parting.count} messages"
            self._box.refuse(letter.id, letter.user_id, why)
            return []
        return made

    def _read_aliases(self) -> Aliases:
        aliases = self._aliases.read()
        about = self._aliases.trouble or aliases
        if about is not self._noted and about != self._noted:
            self._noted = about
            for text in [self._aliases.trouble] if self._aliases.trouble else aliases.problems:
                self._note(f"{self._aliases.path}: {text}")
        return aliases

    def _message(
        self, letter: Letter, id: bytes, submission: Submission, stamps: Stamps,
        times: Times, aliases: Aliases,
    ) -> Prepared:  # fmt: skip
        """The message `id`: all of a letter, or a part of it."""
        author = Author(letter.user_id, login_of(letter.user_id))
        envelope, sender, remarks = address(submission, author, self._rules, aliases)
        trace = received(author, id, self._rules, times.date)
        pieces = None
        if letter.content is None:
            pieces = LargeContent(letter, trace, self._octets_max)
            first = pieces.next()
        else:
            first = canonical(letter.content, trace, self._octets_max)
        header = complete(first, len(trace), submission, sender, self._rules, stamps)
        if not envelope.is_8bit and not header.octets.isascii():
            envelope = _with_8bit(envelope)
        message = Message(id, envelope, header.octets, times.queue_ns)
        message.message_id_field = header.message_id
        return Prepared(letter, message, remarks, pieces)


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
