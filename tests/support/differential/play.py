"""A script sent to two servers in lockstep; the first difference of each flight is reported.

What follows a difference in the same flight follows from it and is not looked at. Both servers are
then brought back to the same state (content is ended where it was begun, then RSET), so what comes
later in the session is compared again.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field

from .script import Ending, Script, Step
from .side import CLOSED, SILENT, Answer, Side

TRUSTED, STRANGER = "127.0.0.1", "127.0.0.2"
CLOSE = "(close)"  # in place of a verb: one server has closed after what is shown
_QUEUED = re.compile(r"queued as (\w+)")
_SHOWN_OCTETS = 160


@dataclass(frozen=True, slots=True)
class Difference:
    """One reply that differs."""

    verb: str
    octets: bytes  # of the line, or of the content
    ours: Answer
    theirs: Answer
    is_trusted: bool

    @property
    def kind(self) -> tuple[str, int, int]:
        """Alike enough that one example will do."""
        return self.verb, self.ours.code, self.theirs.code

    def __str__(self) -> str:
        shown = self.octets[:_SHOWN_OCTETS]
        return f"{self.verb} {shown!r}: we {self.ours}, they {self.theirs}"


@dataclass(frozen=True, slots=True)
class Pair:
    """A message that both have accepted, and what had been sent."""

    our_id: str
    their_id: str
    content: bytes  # without dot-stuffing
    is_trusted: bool


@dataclass(slots=True)
class Record:
    """What came of one session."""

    script: Script
    replies: int = 0
    differences: list[Difference] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    lone_ids: list[str] = field(default_factory=list)  # of ours, and they refused
    their_lone_ids: list[str] = field(default_factory=list)
    transcript: list[str] = field(default_factory=list)

    def note(self, sent: bytes, ours: Answer, theirs: Answer) -> None:
        mark = " " if ours.code == theirs.code else "!"
        text = f"{mark} {sent[:_SHOWN_OCTETS]!r}\n    we   {ours}\n    they {theirs}"
        self.transcript.append(text)
        self.replies += 1


class _Over(Exception):
    """The session cannot go on on both sides."""


class _Play:
    def __init__(self, script: Script, sides: Sequence[Side], tls: ssl.SSLContext) -> None:
        self._script = script
        self._sides = sides
        self._tls = tls
        self._chunks: list[bytes] = []
        self._previous = self._flight = b""
        self.record = Record(script)

    async def run(self) -> None:
        try:
            await self._each(b"(greeting)", "CONNECT")
            for step in self._script.steps:
                await self._step(step)
            await self._end()
        except _Over:
            return

    async def _each(self, sent: bytes, verb: str) -> tuple[Answer, Answer, bool]:
        """The next reply of both, and whether they agree; a difference is reported."""
        ours, theirs = [await side.answer() for side in self._sides]
        self.record.note(sent, ours, theirs)
        is_same = ours.code == theirs.code
        if not is_same:
            is_trusted = self._script.is_trusted
            if CLOSED in (ours.code, theirs.code):
                verb, sent = CLOSE, self._previous + self._flight
            self.record.differences.append(Difference(verb, sent, ours, theirs, is_trusted))
        self._previous = sent
        return ours, theirs, is_same

    def _write(self, octets: bytes) -> None:
        self._flight = octets
        for side in self._sides:
            side.write(octets)

    async def _step(self, step: Step) -> None:
        self._write(step.octets())
        for index, line in enumerate(step.lines):
            sent = line.octets
            if line.verb == "BDAT":
                self._chunks.append(line.chunk)
                sent += b"".join(self._chunks)  # the content so far
            ours, theirs, is_same = await self._each(sent, line.verb)
            if not is_same:
                await self._repair(len(step.lines) - index - 1, ours, theirs)
                return
            if ours.code == CLOSED:
                raise _Over
            self._queued(ours, theirs, b"".join(self._chunks))
            if line.verb in ("MAIL", "RSET", "DATA", "EHLO", "HELO") and ours.is_positive:
                self._chunks.clear()
        if ours.code == 354:
            await self._content(step)
        elif line.verb == "STARTTLS" and ours.code == 220:
            done = [await side.start_tls(self._tls) for side in self._sides]
            assert done[0] == done[1], f"handshakes: {done}"
            if not all(done):
                raise _Over

    async def _content(self, step: Step) -> None:
        wire = step.content or b".\r\n"
        self._write(wire)
        if step.is_cut:
            raise _Over
        ours, theirs, is_same = await self._each(wire, "content")
        if is_same:
            self._queued(ours, theirs, _unstuffed(wire))
        else:
            await self._repair(0, ours, theirs)

    def _queued(self, ours: Answer, theirs: Answer, content: bytes) -> None:
        """Remember a message that both (or one) say they have."""
        our_id, their_id = (_QUEUED.search(answer.text) for answer in (ours, theirs))
        if our_id and their_id:
            pair = Pair(our_id[1], their_id[1], content, self._script.is_trusted)
            self.record.pairs.append(pair)
        elif our_id:
            self.record.lone_ids.append(our_id[1])
        elif their_id:
            self.record.their_lone_ids.append(their_id[1])

    async def _repair(self, due: int, ours: Answer, theirs: Answer) -> None:
        """After a difference: read what is due, leave content, RSET; _Over where that fails."""
        self._queued(ours, theirs, b"")
        lasts = [ours, theirs]
        for index, side in enumerate(self._sides):
            for _ in range(due):
                if lasts[index].code in (CLOSED, SILENT):
                    break
                lasts[index] = await side.answer()
                self._queued_alone(index, lasts[index])
            if lasts[index].code == 354:
                side.write(b"\r\n.\r\n")
                lasts[index] = await side.answer()
                self._queued_alone(index, lasts[index])
        self._chunks.clear()
        self._write(b"RSET\r\n")
        if not all([(await side.answer()).code == 250 for side in self._sides]):
            raise _Over

    def _queued_alone(self, index: int, answer: Answer) -> None:
        found = _QUEUED.search(answer.text)
        if found:
            record = self.record
            (record.their_lone_ids if index else record.lone_ids).append(found[1])

    async def _end(self) -> None:
        script = self._script
        if script.ending is Ending.QUIT:
            self._write(b"QUIT\r\n")
            _, _, is_same = await self._each(b"QUIT\r\n", "QUIT")
            if is_same:
                await self._each(b"(end)", "END")
        elif script.is_odd:
            self._write(script.rest)
            for index, side in enumerate(self._sides):
                for answer in await side.answers():
                    if _QUEUED.search(answer.text):
                        odd = (answer, Answer(CLOSED)) if index == 0 else (Answer(CLOSED), answer)
                        self.record.differences.append(
                            Difference("odd", script.rest, *odd, script.is_trusted)
                        )
        else:
            self._write(script.rest)


def _unstuffed(wire: bytes) -> bytes:
    """The content of a whole DATA (RFC 5321 4.5.2)."""
    content = (b"\r\n" + wire[: -len(b".\r\n")]).replace(b"\r\n.", b"\r\n")
    return content[2:]


async def play(script: Script, ports: tuple[int, int], tls: ssl.SSLContext) -> Record:
    """Ours and theirs, in this order."""
    source = TRUSTED if script.is_trusted else STRANGER
    sides: list[Side] = []
    try:
        for port in ports:
            sides.append(await Side.connect(port, source))
        run = _Play(script, sides, tls)
        await run.run()
    finally:
        await asyncio.gather(*(side.close() for side in sides))
    return run.record
