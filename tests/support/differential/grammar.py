"""Sessions from seeds: what clients say in order, out of order, and wrong."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from .contents import content, on_the_wire, split
from .script import Ending, Line, Script, Step

_VECTORS = Path(__file__).parents[2] / "vectors" / "addresses.toml"
_SOURCE_ADDRESSES = (b"a@source.example", b"Sender@Source.Example", b"", b"x.y+z@source.example")
_RELAY_ADDRESSES = (
    b"b@relay.example", b"Big@RELAY.example", b"c.d@relay.example", b"e@sub.relay.example",
    b"f@relay.example", b"g+h@relay.example", b"relay@relay.example",
)  # fmt: skip
_OTHER_ADDRESSES = (
    b"u@ext.example", b"u%ext.example@relay.example", b"ext.example!u@relay.example",
    b'"u@ext.example"@relay.example', b"@relay.example:u@ext.example", b"u@ext.example.",
    b"u@[192.0.2.1]", b"postmaster", b"Postmaster", b"u", b"u@relay.example.", b"",
    b'"q r"@relay.example', b'"q"@relay.example', b"u@@relay.example", b"u@relay..example",
    b"u..v@relay.example", b".u@relay.example", b"u@-relay.example", b"u@rel\xc3\xa4y.example",
    b"\xc3\xbc@relay.example", b"u@[IPv6:::1]", b"u@1.2.3.4", b"u u@relay.example",
    b"l" * 64 + b"@relay.example", b"l" * 65 + b"@relay.example", b"u@" + b"d" * 64 + b".example",
    b"postmaster@relay.example",
)  # fmt: skip
_NAMES = (
    b"client.example", b"[127.0.0.1]", b"localhost", b"client", b"CLIENT.EXAMPLE.", b"-x-", b"a_b",
    b"a b", b"x" * 300, b"caf\xc3\xa9.example", b"[IPv6:::1]", b"<x>", b"a\x01b",
)  # fmt: skip
_MAIL_PARAMETERS = (
    b"SIZE=100", b"SIZE=0", b"size=1", b"SIZE=100000000", b"BODY=8BITMIME", b"BODY=7BIT",
    b"body=8bitmime", b"SMTPUTF8", b"smtputf8",
)  # fmt: skip
_MAIL_DSN = (b"RET=FULL", b"RET=HDRS", b"ret=hdrs", b"ENVID=abc", b"ENVID=a+2Bb", b"ENVID=QQ314159")
_BAD_MAIL = (
    b"SIZE=", b"SIZE=x", b"SIZE=-1", b"SIZE", b"BODY=", b"BODY=BINARYMIME", b"BODY=9BIT", b"BODY",
    b"FOO", b"FOO=BAR", b"SMTPUTF8=1", b"=x", b"SIZE=1 SIZE=2", b"NOTIFY=NEVER", b"XVERP",
    b"SIZE=99999999999999999999", b"SIZE=999999999999999999999", b"SIZE=1_0", b"SIZE=+5",
)  # fmt: skip
_BAD_MAIL_DSN = (
    b"RET=", b"RET=SOME", b"RET", b"ENVID=", b"ENVID=a+", b"ENVID=a+0D", b"ENVID=a=b", b"ENVID",
    b"RET=FULL RET=HDRS", b"ENVID=a ENVID=b", b"ENVID=a+2b", b"ENVID=" + b"e" * 100,
    b"AUTH=<>", b"AUTH=a+40b",
)  # fmt: skip
_RCPT_DSN = (
    b"NOTIFY=NEVER", b"NOTIFY=SUCCESS", b"NOTIFY=SUCCESS,FAILURE,DELAY", b"notify=failure",
    b"ORCPT=rfc822;b@relay.example", b"ORCPT=rfc822;b+2Bc@relay.example",
)  # fmt: skip
_BAD_RCPT = (b"FOO", b"FOO=BAR", b"SIZE=1", b"BODY=7BIT", b"RET=FULL", b"SMTPUTF8")
_BAD_RCPT_DSN = (
    b"NOTIFY=", b"NOTIFY=NEVER,SUCCESS", b"NOTIFY=X", b"NOTIFY=SUCCESS,", b"NOTIFY",
    b"ORCPT=", b"ORCPT=b@relay.example", b"ORCPT",
    b"ORCPT=rfc822;a+", b"ORCPT=rfc822;a+0A", b"ORCPT=;x", b"NOTIFY=NEVER NOTIFY=NEVER",
    b"ORCPT=utf-8;a@b", b"ORCPT=a b;c",
)  # fmt: skip
_LAST_OF_A_FLIGHT = frozenset(  # RFC 2920 3.1
    {"EHLO", "HELO", "DATA", "VRFY", "EXPN", "NOOP", "STARTTLS", "AUTH"}
)
_RUDE_AFTER = frozenset({"EHLO", "DATA", "STARTTLS"})  # what we insist on

_CUT_ENVELOPE = b"RSET\r\nMAIL FROM:<cut@source.example>\r\nRCPT TO:<cut@relay.example>\r\n"
_CUT_CONTENT = on_the_wire(b"Subject: cut\r\n\r\ntext\r\n.\r\n")[:-3]


@cache
def _vector_arguments() -> tuple[bytes, ...]:
    cases = tomllib.loads(_VECTORS.read_text())["case"]
    return tuple(case["octets"].encode() for case in cases)


def session(seed: int) -> Script:
    """The session of this seed, always the same."""
    return _Author(seed).script()


def _cut_content() -> list[Step]:
    """A message up to the middle of its content."""
    envelope = _CUT_ENVELOPE.splitlines(keepends=True)
    lines = [Line(one[:4].decode(), one, one) for one in (*envelope, b"DATA\r\n")]
    *steps, last = (Step((line,)) for line in lines)
    return [*steps, Step(last.lines, _CUT_CONTENT, is_cut=True)]


class _Author:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = random.Random(f"session {seed}")
        self._lines: list[Line] = []
        self._is_esmtp = False
        self._contents: dict[int, bytes] = {}  # behind the DATA of that number

    def script(self) -> Script:
        rng = self._rng
        is_trusted = rng.random() < 0.65
        self._hello()
        has_tls = rng.random() < 0.08
        for index in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
            if has_tls and rng.random() < 0.7:
                has_tls = False
                self._add("STARTTLS", rng.choice((b"", b"", b"", b"", b"now")))
                if rng.random() < 0.9:
                    self._hello()
            if index and rng.random() < 0.15:
                self._hello()
            self._transaction()
        ending, rest, is_odd = self._ending()
        steps = self._steps()
        if ending is Ending.CUT and not rest:
            steps += _cut_content()
        return Script(self._seed, is_trusted, tuple(steps), ending, rest, is_odd)

    # Lines.

    def _add(
        self, verb: str, argument: bytes = b"", plain: bytes | None = b"\0", shown: bytes = b""
    ) -> None:
        """A line of `verb`; `plain` None: not for every server, b"\\0": the same for all."""
        rng = self._rng
        word = shown or verb.encode()
        kind = rng.random()
        if kind < 0.15:
            word = word.lower()
        elif kind < 0.25:
            small = word.lower()
            word = bytes(rng.choice(each) for each in zip(word, small, strict=True))
        gap = b" " if rng.random() < 0.96 else rng.choice((b"  ", b"   "))
        tail = b"" if rng.random() < 0.96 else rng.choice((b" ", b"  "))
        octets = word + (gap + argument if argument else b"") + tail + b"\r\n"
        if plain == b"\0":
            self._lines.append(Line(verb, octets, octets))
        else:
            if plain is not None:
                plain = word + b" " + plain + b"\r\n"
            self._lines.append(Line(verb, octets, plain))

    def _hello(self) -> None:
        rng = self._rng
        name = _NAMES[0] if rng.random() < 0.85 else rng.choice(_NAMES)
        verb = "EHLO" if rng.random() < 0.85 else "HELO"
        if rng.random() < 0.03:
            return
        argument = name if rng.random() < 0.98 else b""
        if argument:
            self._is_esmtp = verb == "EHLO"
        self._add(verb, argument)

    def _transaction(self) -> None:
        rng = self._rng
        self._noise()
        if rng.random() < 0.95:
            self._mail()
            if rng.random() < 0.04:
                self._mail()
        self._noise()
        for _ in range(rng.choice((0, 1, 1, 1, 1, 1, 2, 2, 3, 5))):
            self._rcpt()
            self._noise()
        kind = rng.random()
        if kind < 0.55 or (kind < 0.9 and not self._is_esmtp):  # who says HELO is not offered BDAT
            self._data()
        elif kind < 0.9:
            self._chunks()
        elif kind < 0.95:
            self._add("RSET")

    def _mail(self) -> None:
        rng = self._rng
        parameters: list[bytes] = []
        plain: list[bytes] = []
        if rng.random() < 0.4:
            parameters += self._sample(_MAIL_PARAMETERS)
            plain = parameters[:1]
        if rng.random() < 0.2:
            parameters += self._sample(_MAIL_DSN)
        if rng.random() < 0.05:
            plain = [*plain, rng.choice(_BAD_MAIL)]
            parameters.append(plain[-1])
        elif rng.random() < 0.05:
            parameters.append(rng.choice(_BAD_MAIL_DSN))
        kind = rng.random()
        address = rng.choice(_SOURCE_ADDRESSES)
        path = b"FROM:<" + address + b">"
        simple = path if address else b"FROM:<a@source.example>"
        if kind < 0.06:
            path = b"FROM:" + rng.choice(_vector_arguments()).partition(b":")[2]
        elif kind < 0.1:
            path = b"FROM:<" + rng.choice(_OTHER_ADDRESSES) + b">"
        elif kind < 0.14:
            path = rng.choice(self._odd_paths(b"FROM", address))
        self._path("MAIL", path, simple, parameters, plain if self._is_esmtp else ())
        if any(len(one) > len(b"SIZE=12345") for one in parameters if one[:5].upper() == b"SIZE="):
            self._add("RSET")  # Postfix refuses each later MAIL of the session else

    def _rcpt(self) -> None:
        rng = self._rng
        parameters: list[bytes] = []
        plain: list[bytes] = []
        if rng.random() < 0.15:
            parameters += self._sample(_RCPT_DSN)
        if rng.random() < 0.03:
            plain = [rng.choice(_BAD_RCPT)]
            parameters += plain
        elif rng.random() < 0.04:
            parameters.append(rng.choice(_BAD_RCPT_DSN))
        kind = rng.random()
        address = rng.choice(_RELAY_ADDRESSES)
        simple = path = b"TO:<" + address + b">"
        if kind < 0.1:
            path = rng.choice(_vector_arguments())
        elif kind < 0.2:
            path = b"TO:<" + rng.choice(_OTHER_ADDRESSES) + b">"
        elif kind < 0.23:
            path = rng.choice(self._odd_paths(b"TO", address))
        self._path("RCPT", path, simple, parameters, plain if self._is_esmtp else ())

    def _sample(self, parameters: Sequence[bytes]) -> list[bytes]:
        """One or two of them, seldom with a keyword twice."""
        first, second = self._rng.sample(parameters, 2)
        is_twice = first.partition(b"=")[0].upper() == second.partition(b"=")[0].upper()
        has_second = self._rng.random() < (0.1 if is_twice else 0.5)
        return [first, second] if has_second else [first]

    @staticmethod
    def _odd_paths(word: bytes, address: bytes) -> tuple[bytes, ...]:
        path = b"<" + address + b">"
        return (
            word + b": " + path, word + b":" + address, word.lower() + b":" + path,
            word + b" :" + path, word + path, word + b":", word, b"", word + b":<" + address,
            word + b":" + address + b">", word + b":<" + path + b">", word + b":" + path + b">",
            word + b":" + path + b"x", word + b":< " + address + b" >", b"X" + word + b":" + path,
            word + b":" + path + b"\tSIZE=1",
        )  # fmt: skip

    def _path(
        self,
        verb: str,
        path: bytes,
        simple: bytes,
        parameters: Sequence[bytes],
        plain: Sequence[bytes],
    ) -> None:
        self._add(verb, b" ".join((path, *parameters)), b" ".join((simple, *plain)))

    def _data(self) -> None:
        rng = self._rng
        self._add("DATA", b"" if rng.random() < 0.98 else b"now")
        self._contents[len(self._lines) - 1] = on_the_wire(content(rng))

    def _chunks(self) -> None:
        rng = self._rng
        whole = content(rng)
        chunks = split(rng, whole) or [b""]
        is_complete = rng.random() < 0.93
        for index, chunk in enumerate(chunks):
            is_last = index == len(chunks) - 1
            if not chunk and not is_complete:
                continue
            argument = b"%d" % len(chunk)
            if is_last and is_complete:
                argument += rng.choice((b" LAST", b" LAST", b" last", b"  LAST"))
            plain = b"DATA\r\n" if is_last and is_complete else None
            octets = rng.choice((b"BDAT ", b"BDAT ", b"bdat ")) + argument + b"\r\n"
            stands_for = on_the_wire(whole) if plain else None
            self._lines.append(Line("BDAT", octets, plain, chunk, stands_for))
            if not is_last and rng.random() < 0.05:
                self._noise(always=True)
        if not is_complete and rng.random() < 0.7:
            self._add("RSET")

    def _noise(self, *, always: bool = False) -> None:
        """A command that does not belong there, now and then."""
        rng = self._rng
        if rng.random() > 0.06 and not always:
            return
        kind = rng.randrange(14)
        if kind < 2:
            self._add("NOOP", rng.choice((b"", b"", b"x", b"x y")))
        elif kind < 4:
            self._add("RSET", rng.choice((b"", b"", b"", b"x")))
        elif kind == 4:
            self._add("VRFY", rng.choice((b"", b"b@relay.example", b"<b@relay.example>", b"x")))
        elif kind == 5:
            self._add(rng.choice(("EXPN", "HELP", "ETRN")), rng.choice((b"", b"x")))
        elif kind == 6:
            self._add("AUTH", rng.choice((b"", b"PLAIN", b"PLAIN AGEAYg==", b"X")))
        elif kind == 7:
            self._rcpt()
        elif kind == 8:
            self._add("DATA")
            self._contents[len(self._lines) - 1] = on_the_wire(content(rng))
        elif kind == 9:
            self._hello()
        elif kind == 10 and self._is_esmtp:
            self._add("BDAT", b"0 LAST", None)
        elif kind == 11:
            self._add("XCLIENT", b"NAME=x", None)
        else:
            words = (b"MALI", b"RCPTX", b"X", b"\xff\xfe", b"GET / HTTP/1.1", b"DATAX")
            self._add("UNKNOWN", shown=rng.choice((*words, b"Q" * 600, b"Q" * 3000, b" ", b"")))

    # Flights.

    def _steps(self) -> list[Step]:
        """Alone or in flights, where EHLO has offered that; seldom where it may not be."""
        rng = self._rng
        is_pipelining = rng.random() < 0.6
        is_rude = rng.random() < 0.04
        is_offered = False
        steps: list[Step] = []
        flight: list[Line] = []
        for index, line in enumerate(self._lines):
            flight.append(line)
            is_last = line.verb in _LAST_OF_A_FLIGHT
            if is_last and is_rude and is_offered and line.verb in _RUDE_AFTER:
                is_last = rng.random() < 0.5
            if line.verb in ("EHLO", "HELO", "STARTTLS"):
                is_offered = line.verb == "EHLO" and len(line.octets) > len(b"EHLO  \r\n")
            goes_on = is_pipelining and is_offered and rng.random() < 0.8
            if is_last or not goes_on:
                steps.append(Step(tuple(flight), self._contents.get(index)))
                flight = []
        if flight:
            steps.append(Step(tuple(flight)))
        return steps

    def _ending(self) -> tuple[Ending, bytes, bool]:
        rng = self._rng
        kind = rng.random()
        if kind < 0.75:
            return Ending.QUIT, b"", False
        if kind < 0.85:
            return Ending.CLOSE, b"", False
        if kind < 0.93:
            return Ending.CUT, self._cut(), False
        return Ending.CUT, self._odd(), True

    def _cut(self) -> bytes:
        """An end in the middle: nothing of it may become a message."""
        envelope = _CUT_ENVELOPE
        endings = (
            b"RSET\r\nMAIL FR", envelope[:-2], envelope + b"BDAT 100 LAST\r\nshort",
            envelope + b"BDAT 5 LAST\r\nfour", envelope + b"BDAT 5\r\nhello",
            envelope + b"BDAT 5\r\nhelloBDAT 0 LAST", b"",
        )  # fmt: skip
        return self._rng.choice(endings)

    def _odd(self) -> bytes:
        """Lines that no client of good will sends; how many replies they get is not settled."""
        commands = (
            b"NOOP",
            b"RSET",
            b"MAIL FROM:<odd@source.example>",
            b"RCPT TO:<odd@relay.example>",
        )
        ends = (b"\n", b"\r\r\n", b"\0\r\n", b"\r", b"\r\n")
        lines = [self._rng.choice(commands) + self._rng.choice(ends) for _ in range(3)]
        return b"RSET\r\n" + b"".join(lines) + b"\r\nRSET\r\nQUIT\r\n"
