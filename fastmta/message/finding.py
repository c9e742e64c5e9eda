"""What a probe found out about one recipient, as the text of its state.

The one report of a probe comes when its last recipient has been asked about, which may be after a
restart; until then all that it says of the others is here. In front is the text for humans:

    text TAB status TAB remote TAB where the peer's own reply is within the text, from-to
"""

from __future__ import annotations

import re
from typing import Final

from .outcome import Outcome, OutcomeKind
from .recipient import RecipientState, RecipientStatus

TEXT_CHARACTERS_MAX: Final = 350
REMOTE_CHARACTERS_MAX: Final = 100
_STATUS_CHARACTERS_MAX: Final = 12
_PLACE: Final = re.compile(r"([0-9]{1,4})-([0-9]{1,4})")
_UNKNOWN: Final = {OutcomeKind.DELIVERABLE: "2.0.0", OutcomeKind.UNDELIVERABLE: "5.0.0"}


def finding_text(outcome: Outcome) -> str:
    """`outcome` as `RecipientState.text`, cut."""
    text = _field(outcome.text, TEXT_CHARACTERS_MAX)
    reply = _field(outcome.diagnostic, TEXT_CHARACTERS_MAX)
    at = text.find(reply[: TEXT_CHARACTERS_MAX // 2]) if reply else -1
    place = f"{at}-{min(at + len(reply), len(text))}" if at >= 0 else ""
    status = _field(outcome.status, _STATUS_CHARACTERS_MAX)
    return "\t".join((text, status, _field(outcome.remote, REMOTE_CHARACTERS_MAX), place))


def finding_of(state: RecipientState) -> Outcome:
    """What was found out about a recipient that is final; of another text it says no more."""
    is_taken = state.status is RecipientStatus.DELIVERED
    kind = OutcomeKind.DELIVERABLE if is_taken else OutcomeKind.UNDELIVERABLE
    fields = state.text.split("\t")
    if len(fields) != 4:
        return Outcome(kind, _UNKNOWN[kind], state.text)
    text, status, remote, place = fields
    found = _PLACE.fullmatch(place)
    reply = text[int(found[1]) : int(found[2])] if found else ""
    return Outcome(kind, status, text, remote=remote, diagnostic=reply)


def _field(text: str, characters_max: int) -> str:
    return text[:characters_max].replace("\t", " ")
