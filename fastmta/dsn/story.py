"""What a report is about, and in which form it can be said."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

from fastmta.message import Message, Outcome, OutcomeKind

from .text import header_section, is_international

_PROBED = (OutcomeKind.DELIVERABLE, OutcomeKind.UNDELIVERABLE)


class Form(enum.Enum):
    """How much more than ASCII a report holds (RFC 6533)."""

    CLASSIC = "ASCII alone, but for what is returned (RFC 3464)"
    GLOBAL = "UTF-8, to a sender whose own address is no less"
    ENCODED = "the types of GLOBAL in ASCII octets, which reach any sender"

    @property
    def is_global(self) -> bool:
        """Whether addresses are shown in UTF-8."""
        return self is not Form.CLASSIC


class Story(NamedTuple):
    """Facts about recipients of a message, told by a host."""

    hostname: str
    message: Message
    kind: str  # as in `message.report`
    facts: Sequence[tuple[int, Outcome]]  # recipient index; those that failed first
    form: Form
    until_ns: int = 0  # of a delay: when the message is given up

    @property
    def has_failure(self) -> bool:
        """Whether some recipient will not get the message."""
        return any(is_failure(outcome) for _, outcome in self.facts)


def is_failure(outcome: Outcome) -> bool:
    """Whether the recipient is given up."""
    return outcome.kind in (OutcomeKind.FAILED, OutcomeKind.EXPIRED)


def action_of(outcome: Outcome) -> str:
    """What happened, in the words of RFC 3464 2.3.3."""
    if outcome.kind in _PROBED:  # beyond RFC 3464, as Postfix says it
        return outcome.kind.value
    if is_failure(outcome):
        return "failed"
    if outcome.kind is OutcomeKind.DEFERRED:
        return "delayed"
    return "relayed" if outcome.is_relayed else "delivered"


def form_of(
    to: bytes, message: Message, facts: Sequence[tuple[int, Outcome]], content: bytes
) -> Form:
    """The form of a report to `to`; `content` begins with the header section of `message`.

    Whoever has a UTF-8 address reads UTF-8. To an ASCII address of the sender of an SMTPUTF8
    message all octets are ASCII: on the way there nobody may know SMTPUTF8 (RFC 6531 3.2).
    """
    if is_international(to):
        return Form.GLOBAL
    envelope = message.envelope
    if not envelope.is_utf8:
        return Form.CLASSIC
    dsn = envelope.dsn
    octets = [header_section(content, len(content)), envelope.reverse_path]
    for index, _ in facts:
        octets += [envelope.forward_paths[index], envelope.original_path_of(index)]
        if dsn is not None:
            octets.append(dsn.original_recipient_of(index))
    return Form.ENCODED if any(map(is_international, octets)) else Form.CLASSIC
