"""Keeps what we logged in with out of texts: servers quote what they refuse, our AUTH line too.

What a server says ends in logs, in bounces and in the queue's listing. A quotation may be cut
short and in another case, so the beginning of a secret counts as one.
"""

from __future__ import annotations

from typing import Final

from fastmta.smtp import Reply

_HIDDEN: Final = "***"
_OCTETS_MIN: Final = 4  # what is shorter stands in too many words
_BEGINNING: Final = 8  # so many octets of a secret, and what follows as far as it is the same


def fit(secrets: tuple[str, ...]) -> tuple[str, ...]:
    """Those that can be looked for, in the form that `hide` takes."""
    return tuple([one.lower() for one in secrets if len(one) >= _OCTETS_MIN and one.isascii()])


def hide(text: str, secrets: tuple[str, ...]) -> str:
    """`text`, which is ASCII, without `secrets`."""
    for secret in secrets:
        beginning = secret[:_BEGINNING]
        at = text.lower().find(beginning)
        while at >= 0:
            lower = text.lower()
            end = at + len(beginning)
            while end < len(text) and end - at < len(secret) and lower[end] == secret[end - at]:
                end += 1
            text = text[:at] + _HIDDEN + text[end:]
            at = text.lower().find(beginning, at + len(_HIDDEN))
    return text


def hide_in(reply: Reply, secrets: tuple[str, ...]) -> Reply:
    """`reply` without `secrets`."""
    lines = tuple([hide(line, secrets) for line in reply.lines])
    return reply if lines == reply.lines else Reply(reply.code, reply.enhanced_status, lines)
