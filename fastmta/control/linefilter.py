"""Which lines of the mail log are meant: the filter language of the queue, on lines.

    expression   term *( blank term )        a line is meant that satisfies every term
    term         field ":" pattern [ "," pattern ... ]      one of them
    pattern      text with "*" for any number of characters; "..." around one with blanks or commas

    id:3G0*               the queue id; also qid
    from:@shop.example    the reverse-path; "<>" is the null one; a leading "@" means "*@"
    to:*@gmail.com        the forward-path, or what the sender named if an alias made it of that
    domain:gmail.com      its domain
    dest:mx.gmail.com     the relay: its name, or its address
    status:deferred       sent, deferred, bounced ...; or the event: received, rejected, removed ...
    code:4.7.*            the enhanced status code
    client:192.0.2.*      the client: its name, or its address
    program:smtpd         who writes
    text:"mailbox full"   somewhere in the line

Letters are compared without case. What an earlier line of a message said of its sender and client
holds for its later lines.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from .logjson import LogLine

MESSAGES_MAX: Final = 20_000  # whose senders and clients are remembered
TERMS_MAX: Final = 32
EXPRESSION_CHARACTERS_MAX: Final = 4_096
_TERM: Final = re.compile(r'(?P<field>[A-Za-z]+):(?P<value>(?:"[^"]*"|[^\s"])+)(?:\s+|$)')
_KEPT: Final = ("sender", "client")
_RECIPIENT: Final = ("recipient", "original_recipient")
_RELAY: Final = re.compile(r"([^\[,]*)(?:\[([^\]]*)\])?.*")

Getter: TypeAlias = Callable[[LogLine, dict[str, str]], Sequence[str]]


class LineFilterError(ValueError):
    """An expression that means nothing."""


class LineFilter:
    """A parsed expression. One without terms means everything."""

    def __init__(self, text: str) -> None:
        """Raises LineFilterError."""
        if len(text) > EXPRESSION_CHARACTERS_MAX:
            raise LineFilterError("the expression is too long")
        self._terms: list[tuple[Getter, re.Pattern[str]]] = []
        self._kept: OrderedDict[str, dict[str, str]] = OrderedDict()
        pos = len(text) - len(text.lstrip())
        while pos < len(text):
            term = _TERM.match(text, pos)
            if term is None:
                raise LineFilterError(f"column {pos + 1}: field:pattern is expected")
            field = term["field"].lower()
            if field not in _FIELDS:
                names = ", ".join(sorted(_FIELDS))
                raise LineFilterError(f"column {pos + 1}: a field is expected: {names}")
            self._terms.append((_FIELDS[field], _compile(field, term["value"])))
            if len(self._terms) > TERMS_MAX:
                raise LineFilterError(f"more than {TERMS_MAX} terms")
            pos = term.end()

    def accepts(self, line: LogLine) -> bool:
        """Whether it is meant. Lines come in their order."""
        if not self._terms:
            return True
        kept = self._keep(line) if line.id else _own(line)
        return all(
            any(pattern.fullmatch(value) for value in values(line, kept))
            for values, pattern in self._terms
        )

    def _keep(self, line: LogLine) -> dict[str, str]:
        """What is known of the message, with what this line adds."""
        kept = self._kept.setdefault(line.id, {})
        kept.update(_own(line))
        self._kept.move_to_end(line.id)
        if len(self._kept) > MESSAGES_MAX:
            self._kept.popitem(last=False)
        return kept


def _own(line: LogLine) -> dict[str, str]:
    return {name: str(line.facts[name]) for name in _KEPT if line.facts.get(name) is not None}


def _compile(field: str, value: str) -> re.Pattern[str]:
    patterns = [""]
    is_quoted = False
    for character in value:
        if character == '"':
            is_quoted = not is_quoted
        elif character == "," and not is_quoted:
            patterns.append("")
        else:
            patterns[-1] += character
    if field in ("from", "to"):
        patterns = ["*" + one if one.startswith("@") else one for one in patterns]
    elif field == "text":
        patterns = [f"*{one}*" for one in patterns]
    return re.compile("|".join(map(_translate, patterns)), re.IGNORECASE | re.DOTALL)


def _translate(pattern: str) -> str:
    """As a regular expression whose time grows no faster than the text's length."""
    first, *rest = map(re.escape, pattern.split("*"))
    if not rest:
        return first
    *middle, last = rest
    return first + "".join(f"(?>.*?{one})" for one in middle if one) + ".*" + last


def _sender(line: LogLine, kept: dict[str, str]) -> Sequence[str]:
    return (kept["sender"] or "<>",) if "sender" in kept else ()


def _client(line: LogLine, kept: dict[str, str]) -> Sequence[str]:
    return _host(kept["client"]) if "client" in kept else ()


def _fact(name: str) -> Getter:
    def values(line: LogLine, kept: dict[str, str]) -> Sequence[str]:
        value = line.facts.get(name)
        return () if value is None else (str(value),)

    return values


def _recipients(line: LogLine, kept: dict[str, str]) -> Sequence[str]:
    """As it is, and as the sender named it."""
    return [str(line.facts[name]) for name in _RECIPIENT if line.facts.get(name) is not None]


def _domain(line: LogLine, kept: dict[str, str]) -> Sequence[str]:
    return [value.rpartition("@")[2] for value in _fact("recipient")(line, kept)]


def _relay(line: LogLine, kept: dict[str, str]) -> Sequence[str]:
    return _host(str(line.facts["relay"])) if "relay" in line.facts else ()


def _host(text: str) -> Sequence[str]:
    """`name[address]:port`, its name, and its address."""
    match = _RELAY.fullmatch(text)
    return (text, match[1], match[2] or "") if match else (text,)


def _status(line: LogLine, kept: dict[str, str]) -> Sequence[str]:
    return (line.event, str(line.facts.get("outcome", "")))


def _code(line: LogLine, kept: dict[str, str]) -> Sequence[str]:
    if "status" in line.facts:
        return (str(line.facts["status"]),)
    reply = str(line.facts.get("reply", "")).split(" ")
    return reply[:2]


_FIELDS: Final[dict[str, Getter]] = {
    "id": lambda line, kept: (line.id,),
    "qid": lambda line, kept: (line.id,),
    "from": _sender,
    "to": _recipients,
    "domain": _domain,
    "dest": _relay,
    "status": _status,
    "code": _code,
    "client": _client,
    "program": lambda line, kept: (line.program,),
    "text": lambda line, kept: (line.text,),
}
