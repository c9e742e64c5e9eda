"""What the last attempt met, made again from the text that stands in a recipient's state.

Reports name the host and its reply apart from the sentence (RFC 3464 2.3.5, 2.3.6). A state keeps
the sentence only, which `delivery` wrote; the reply within it is the peer's own words, cut.
"""

from __future__ import annotations

import re
from typing import Final

from fastmta.message import Outcome, OutcomeKind

_SAID: Final = (" said: ", " refused to talk to me: ")
_IN_REPLY: Final = " (in reply to "
_HOST: Final = re.compile(r"(?:\A| )(?:host|server|with) (\S{1,255}\[[0-9A-Fa-f:.]{2,45}\])")
# Not a part of an address, not more than three digits (RFC 3463 2).
_STATUS: Final = {
    classes: re.compile(rf"(?<![0-9.])[{classes}]\.[0-9]{{1,3}}\.[0-9]{{1,3}}(?![0-9.])")
    for classes in ("4", "45")
}


def retold(kind: OutcomeKind, text: str, status: str) -> Outcome:
    """The outcome that `text` is of; `status` when it has none that fits `kind`."""
    front, reply = text, ""
    for said in _SAID:
        before, found, after = text.partition(said)
        if found and len(before) < len(front):
            front, reply = before, after
    host = _HOST.search(front)
    if host is None:
        reply = ""
    elif (end := reply.rfind(_IN_REPLY)) > 0:
        reply = reply[:end]
    classes = "4" if kind is OutcomeKind.DEFERRED else "45"
    stated = _STATUS[classes].search(reply or text)
    status = stated[0] if stated else status
    return Outcome(kind, status, text, remote=host[1] if host else "none", diagnostic=reply)
