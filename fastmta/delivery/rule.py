"""One rule for replies, and what of a reply it sees.

A rule says which replies it is about by code, enhanced status, literal texts and the command that
they answer. There are no patterns, so no reply can make a rule slow. Every condition that is given
must hold; of `phrases` and of `starts` one is enough, of `also` all must be there.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from fastmta.message import OutcomeKind, Scope
from fastmta.message.category import Category
from fastmta.smtp import Reply

TEXT_MAX: Final = 1024  # characters of a reply that are looked at

# The commands that replies answer, and how far a refusal of each reaches at least.
COMMANDS: Final = {
    "connect": Scope.HOST,
    "EHLO": Scope.HOST,
    "STARTTLS": Scope.HOST,
    "AUTH": Scope.HOST,
    "MAIL FROM": Scope.TRANSACTION,
    "RCPT TO": Scope.RECIPIENT,
    "DATA": Scope.TRANSACTION,
    "BDAT": Scope.TRANSACTION,
    "end of DATA": Scope.TRANSACTION,
}
_ANSWERED: Final = re.compile(r"(.*) \(in reply to ([A-Za-z ]+?)(?: command)?\)", re.DOTALL)
_EXAMPLE: Final = re.compile(r"([45][0-9][0-9]) (?:([45]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$))?(.*)")
_ADDRESS_DOTS: Final = 3
_NUMBER_DIGITS: Final = 4
_ID_CHARACTERS: Final = 16
_EDGES: Final = "[](){}<>,;:.'\"#"
_DIGITS: Final = frozenset("0123456789")


class Example(msgspec.Struct, frozen=True):
    """A reply and the command that it answers, as in the log."""

    text: str
    reply: Reply
    command: str


class Rule(msgspec.Struct, frozen=True):
    """One rule. Empty conditions hold for every reply; one of them is not empty."""

    name: str
    category: Category
    providers: tuple[str, ...] = ()
    codes: frozenset[int] = frozenset()
    statuses: frozenset[str] = frozenset()
    commands: frozenset[str] = frozenset()
    starts: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    scope: Scope = Scope.RECIPIENT
    kind: OutcomeKind | None = None  # None: what the code says
    before: tuple[str, ...] = ()  # later rules that would take some of its examples as well
    matches: tuple[Example, ...] = ()
    not_matches: tuple[Example, ...] = ()
    origin: str = ""  # `file:line`

    def takes(self, code: int, status: str, text: str, command: str) -> bool:
        """Whether a reply, its text normalised, is one of those that this rule is about."""
        return (
            (not self.codes or code in self.codes)
            and (not self.statuses or status in self.statuses)
            and (not self.commands or command in self.commands)
            and (not self.starts or text.startswith(self.starts))
            and all(phrase in text for phrase in self.also)
            and (not self.phrases or any(phrase in text for phrase in self.phrases))
        )


def normalise(text: str) -> str:
    """`text` in lower case without what differs between two replies that mean the same.

    Addresses, long numbers, session ids and what lies beyond TEXT_MAX are gone. Rules see only
    this, so replies that are equal here are classified alike.
    """
    return " ".join([_shape(word) for word in text[:TEXT_MAX].lower().split(" ")])


def _shape(word: str) -> str:
    if "@" in word:
        return "@"
    if len(word) < _NUMBER_DIGITS or _DIGITS.isdisjoint(word):
        return word
    bare = word.strip(_EDGES)
    is_number = bare.isdecimal() and len(bare) >= _NUMBER_DIGITS
    if is_number or len(bare) >= _ID_CHARACTERS:
        return "#"
    if bare.count(".") >= _ADDRESS_DOTS or bare.count(":") >= _ADDRESS_DOTS:
        return "#"
    return word


def parse_example(text: str) -> Example:
    """`550 5.1.1 No such user (in reply to RCPT TO command)`; RCPT TO unless something is said."""
    command = "RCPT TO"
    said = text
    answered = _ANSWERED.fullmatch(text)
    if answered is not None:
        said, command = answered.groups()
        if command not in COMMANDS:
            raise ValueError(f'"{text}": no command of {", ".join(COMMANDS)}')
    found = _EXAMPLE.fullmatch(said)
    if found is None:
        raise ValueError(f'"{text}" is not a refusal like "550 5.1.1 No such user"')
    code, status, words = found.groups()
    return Example(text, Reply(int(code), status or "", (words,)), command)
