"""Octets that get deep: sessions written by a grammar, and mutants of these and of kept inputs."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import TypeAlias

from tests.fuzz.wire import words
from tests.fuzz.wire.scram import scram_messages
from tests.fuzz.wire.words import b64

OCTETS_MAX = 5000  # of one input
STEPS_MAX = 5
_LF = re.compile(b"\n")
_NUMBER = re.compile(rb"[0-9]+")
_BDAT = re.compile(rb"BDAT ([0-9]+)( LAST)?\r\n", re.IGNORECASE)


class Grammar:
    """Writes whole sessions, most of them sound but for a detail."""

    def __init__(self, seeds: dict[str, list[bytes]]) -> None:
        self._paths = [octets[3:] for octets in seeds["rcpt"]]
        self._parameters = seeds["parameter"]
        self._smuggling = [*seeds["smuggling"], *words.ENDS_OF_DATA]
        self._logins = [self._login(messages) for messages in scram_messages()]

    def session(self, chance: random.Random) -> bytes:
        """EHLO to QUIT."""
        lines = []
        if chance.random() < 0.12:
            attributes = chance.sample(words.ATTRIBUTES, chance.randrange(1, 4))
            lines.append(chance.choice((b"XCLIENT ", b"XFORWARD ")) + b" ".join(attributes))
        lines += self._hello(chance)
        if chance.random() < 0.2:
            lines += [b"STARTTLS", *self._hello(chance)]
        if chance.random() < 0.35:
            lines += self._auth(chance)
        octets = b"".join(line + b"\r\n" for line in lines)
        for _ in range(chance.choice((1, 1, 2, 3))):
            octets += self.transaction(chance)
        return octets + chance.choice((b"QUIT\r\n", b"QUIT\r\n", b"NOOP\r\n", b""))

    def _hello(self, chance: random.Random) -> list[bytes]:
        """Both forms most often: one of them is right, over SMTP and over LMTP."""
        if chance.random() < 0.1:
            return [chance.choice((b"EHLO", b"HELO c.example", b"LHLO c.example", b"EHLO \xff"))]
        return [chance.choice((b"EHLO c.example", b"EHLO c.example", b"HELO c")), b"LHLO c.example"]

    def transaction(self, chance: random.Random) -> bytes:
        """MAIL to the end of data."""
        octets = b"MAIL FROM:" + self._path(chance)
        for parameter in chance.sample(words.MAIL_PARAMETERS, chance.choice((0, 0, 1, 2))):
            octets += b" " + parameter
        octets += b"\r\n"
        for _ in range(chance.choice((1, 1, 1, 2, 5, 0))):
            octets += b"RCPT TO:" + self._path(chance)
            if chance.random() < 0.2:
                octets += b" " + chance.choice((*words.RCPT_PARAMETERS, *self._parameters))
            octets += b"\r\n"
        if chance.random() < 0.3:
            octets += self._aside(chance)
        content = self.content(chance)
        if chance.random() < 0.55:
            return octets + b"DATA\r\n" + content + b"\r\n.\r\n"
        return octets + self._chunks(chance, content)

    def content(self, chance: random.Random) -> bytes:
        """A header section and a body, with what may be wrong with either."""
        octets = b"".join(chance.choices(words.HEADERS[:-1], k=chance.randrange(6))) + b"\r\n"
        fragments = chance.choice((words.BODY[:9], words.BODY[:9], words.BODY))
        octets += b"".join(chance.choices(fragments, k=chance.randrange(8)))
        if chance.random() < 0.3:
            at = chance.randrange(len(octets) + 1)
            octets = octets[:at] + chance.choice(self._smuggling) + octets[at:]
        if chance.random() < 0.08:
            octets += b"0123456789abcdef" * chance.choice((20, 60, 130, 260))
        return octets

    def _chunks(self, chance: random.Random, content: bytes) -> bytes:
        count = chance.choice((1, 1, 2, 3, 6))
        cuts = sorted(chance.randrange(len(content) + 1) for _ in range(count - 1))
        bounds = [0, *cuts, len(content)]
        octets = b""
        for index in range(count):
            piece = content[bounds[index] : bounds[index + 1]]
            is_last = index == count - 1 and chance.random() < 0.9
            octets += b"BDAT %d%b\r\n" % (len(piece), b" LAST" if is_last else b"") + piece
            if chance.random() < 0.05:
                octets += self._aside(chance)
            if chance.random() < 0.05:  # too large, and what comes behind it
                octets += b"BDAT 1990\r\n" + b"NOOP\r\n" * 331 + b"QUIT"
        return octets

    def _aside(self, chance: random.Random) -> bytes:
        """A command with an argument that it may not have, or that we have to show."""
        arguments = (b"", b"x", self._path(chance), b"\xff\x80", b"\x1b[2J", b"%s%n", b"y" * 480)
        return chance.choice(words.VERBS) + b" " + chance.choice(arguments) + b"\r\n"

    def _path(self, chance: random.Random) -> bytes:
        kind = chance.random()
        if kind < 0.75:
            return chance.choice((b"<u@ours.example>", b"<user@ours.example>", b"<a@b.example>"))
        return chance.choice(words.PATHS if kind < 0.9 else self._paths)

    def _auth(self, chance: random.Random) -> list[bytes]:
        kind = chance.randrange(6)
        if kind == 0:
            return [b"AUTH PLAIN " + b64(chance.choice(words.PLAIN))]
        if kind == 1:
            return [b"AUTH PLAIN", b64(chance.choice(words.PLAIN))]
        if kind == 2:
            return [b"AUTH LOGIN", *map(b64, chance.choice(words.LOGIN))]
        if kind == 3:
            mechanism = chance.choice((b"OAUTHBEARER", b"XOAUTH2"))
            return [b"AUTH " + mechanism + b" " + b64(chance.choice(words.BEARER)), b""]
        if kind == 4:
            return [chance.choice((b"AUTH", b"AUTH X", b"AUTH PLAIN =", b"AUTH LOGIN *")), b"*"]
        return chance.choice(self._logins)

    @staticmethod
    def _login(messages: list[bytes]) -> list[bytes]:
        first, *others = (b64(message) for message in messages)
        return [b"AUTH SCRAM-SHA-256 " + first, *others]


class Mutator:
    """Makes mutants; the same ones for the same generator and inputs."""

    def __init__(self, grammar: Grammar, dictionary: list[bytes]) -> None:
        self._grammar = grammar
        self._dictionary = dictionary

    def mutate(self, chance: random.Random, octets: bytes, others: list[bytes]) -> bytes:
        """`octets` after a few steps of damage; `others` are there to be spliced."""
        for _ in range(chance.randint(1, STEPS_MAX)):
            octets = chance.choice(_STEPS)(self, chance, octets, others)
        if chance.random() < 0.3:
            octets = mend_chunks(octets)
        return octets[:OCTETS_MAX]

    def _insert(self, chance: random.Random, octets: bytes, others: list[bytes]) -> bytes:
        at = chance.choice((chance.randrange(len(octets) + 1), *_line_starts(octets)[:20]))
        return octets[:at] + chance.choice(self._dictionary) + octets[at:]

    def _insert_transaction(
        self, chance: random.Random, octets: bytes, others: list[bytes]
    ) -> bytes:
        at = chance.choice(_line_starts(octets))
        return octets[:at] + self._grammar.transaction(chance) + octets[at:]

    def _flip(self, chance: random.Random, octets: bytes, others: list[bytes]) -> bytes:
        changed = bytearray(octets)
        for _ in range(chance.choice((1, 1, 2, 4))):
            if changed:
                nasty = (0, 9, 10, 13, 32, 46, 0x7F, 0x80, 0xC3, 0xFF, chance.randrange(256))
                changed[chance.randrange(len(changed))] = chance.choice(nasty)
        return bytes(changed)

    def _line_end(self, chance: random.Random, octets: bytes, others: list[bytes]) -> bytes:
        lines = octets.split(b"\r\n")
        at = chance.randrange(len(lines))
        head, tail = b"\r\n".join(lines[:at]), b"\r\n".join(lines[at:])
        return head + chance.choice(words.LINE_ENDS) + tail

    def _swap_lines(self, chance: random.Random, octets: bytes, others: list[bytes]) -> bytes:
        lines = octets.split(b"\r\n")
        one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        lines[one], lines[other] = lines[other], lines[one]
        return b"\r\n".join(lines)

    def _repeat(self, chance: random.Random, octets: bytes, others: list[bytes]) -> bytes:
        begin = chance.randrange(len(octets) + 1)
        end = begin + chance.choice((1, 2, 16, 64, 200))
        times = chance.choice((1, 1, 2, 10, 70))
        return octets[:end] + octets[begin:end] * times + octets[end:]

    def _repeat_line(self, chance: random.Random, octets: bytes, others: list[bytes]) -> bytes:
        lines = octets.split(b"\r\n")
        at = chance.randrange(len(lines))
        lines[at:at] = [lines[at]] * chance.choice((1, 1, 2, 12))
        return b"\r\n".join(lines)

    def _cut(self, chance: random.Random, octets: bytes, others: list[bytes]) -> bytes:
        begin = chance.randrange(len(octets) + 1)
        end = chance.choice((len(octets), begin + 1, begin + chance.randrange(40)))
        return octets[:begin] + octets[end:]

    def _cut_line(self, chance: random.Random, octets: bytes, others: list[bytes]) -> bytes:
        lines = octets.split(b"\r\n")
        del lines[chance.randrange(len(lines))]
        return b"\r\n".join(lines)

    def _splice(self, chance: random.Random, octets: bytes, others: list[bytes]) -> bytes:
        other = chance.choice(others) if others else b""
        at, from_ = chance.randrange(len(octets) + 1), chance.randrange(len(other) + 1)
        if chance.random() < 0.5:
            at, from_ = chance.choice(_line_starts(octets)), chance.choice(_line_starts(other))
        return octets[:at] + other[from_:]

    def _number(self, chance: random.Random, octets: bytes, others: list[bytes]) -> bytes:
        found = list(_NUMBER.finditer(octets))
        if not found:
            return octets
        one = chance.choice(found)
        value = chance.choice((*words.NUMBERS, b"%d" % (int(one[0][:18]) + 1)))
        return octets[: one.start()] + value + octets[one.end() :]

    def _case(self, chance: random.Random, octets: bytes, others: list[bytes]) -> bytes:
        begin = chance.randrange(len(octets) + 1)
        end = begin + chance.randrange(30)
        return octets[:begin] + octets[begin:end].swapcase() + octets[end:]

    def _long(self, chance: random.Random, octets: bytes, others: list[bytes]) -> bytes:
        at = chance.randrange(len(octets) + 1)
        size = chance.choice((64, 255, 256, 500, 998, 1000, 2046, 2048, 4096))
        return (
            octets[:at] + chance.choice((b"a", b"a", b" ", b".", b"\xc3\xbc")) * size + octets[at:]
        )


_Step: TypeAlias = Callable[[Mutator, random.Random, bytes, list[bytes]], bytes]
_STEPS: tuple[_Step, ...] = (
    Mutator._insert,
    Mutator._insert,
    Mutator._insert_transaction,
    Mutator._flip,
    Mutator._flip,
    Mutator._line_end,
    Mutator._swap_lines,
    Mutator._repeat,
    Mutator._repeat_line,
    Mutator._cut,
    Mutator._cut_line,
    Mutator._splice,
    Mutator._splice,
    Mutator._number,
    Mutator._number,
    Mutator._case,
    Mutator._long,
)


def _line_starts(octets: bytes) -> list[int]:
    return [0, *(found.end() for found in _LF.finditer(octets))]


def mend_chunks(octets: bytes) -> bytes:
    """Let each BDAT say what there is up to the next BDAT, or to QUIT."""
    found = list(_BDAT.finditer(octets))
    mended, at = b"", 0
    for index, one in enumerate(found):
        end = found[index + 1].start() if index + 1 < len(found) else octets.rfind(b"QUIT\r\n")
        size = max(end, one.end()) - one.end()
        mended += octets[at : one.start()] + b"BDAT %d%b\r\n" % (size, one[2] or b"")
        at = one.end()
    return mended + octets[at:]


def dictionary() -> list[bytes]:
    """Words to insert anywhere."""
    lines = [verb + b" " for verb in words.VERBS] + [verb + b"\r\n" for verb in words.VERBS]
    parameters = [b" " + word for word in (*words.MAIL_PARAMETERS, *words.RCPT_PARAMETERS)]
    return [
        *lines,
        *parameters,
        *words.LINE_ENDS,
        *words.ENDS_OF_DATA,
        *words.PATHS,
        *words.ATTRIBUTES,
        *words.BODY,
        *(b"BDAT " + number + b"\r\n" for number in words.NUMBERS),
        *(b"AUTH PLAIN " + b64(message) + b"\r\n" for message in words.PLAIN),
        *(b64(message) + b"\r\n" for message in (*words.PLAIN, *words.BEARER)),
        *(b"=", b"*\r\n", b"+0A", b"+", b"\\", b'"', b"<", b">", b"@", b";", b",", b"\x01", b"\t"),
    ]
