"""The transport `error`: the configuration refuses or delays what is routed to it.

`5.7.1 we do not write to them` refuses, `4.3.2 not before Monday` delays; a text without a status
refuses with 5.0.0.
"""

import re
from typing import Final

from fastmta.message import Outcome, OutcomeKind, Scope
from fastmta.message.category import Category
from fastmta.route.way import Way

_ARGUMENT: Final = re.compile(r"([45]\.[0-9]{1,3}\.[0-9]{1,3})(?: +(.*))?", re.DOTALL)
_REFUSED: Final = "mail delivery to this destination is disabled"
_DELAYED: Final = "mail delivery to this destination is suspended"


def refuse(way: Way) -> Outcome:
    """What the argument says, for the whole transaction: no peer has said anything."""
    found = _ARGUMENT.fullmatch(way.argument)
    status, text = ("5.0.0", way.argument) if found is None else found.groups()
    is_final = status.startswith("5")
    kind = OutcomeKind.FAILED if is_final else OutcomeKind.DEFERRED
    text = text or (_REFUSED if is_final else _DELAYED)
    return Outcome(kind, status, text, Scope.TRANSACTION, category=Category.LOCAL_ROUTE.value)
