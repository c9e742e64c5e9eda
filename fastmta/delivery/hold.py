"""The transport `hold`: mail waits until an operator releases it."""

from fastmta.message import Outcome, OutcomeKind, Scope
from fastmta.message.category import Category
from fastmta.route.way import Way


def hold(way: Way) -> Outcome:
    """Held; the argument, if there is one, is the reason that the log gives."""
    return Outcome(
        OutcomeKind.HELD,
        "4.3.2",
        way.argument or "held by the configuration",
        Scope.TRANSACTION,
        category=Category.LOCAL_ROUTE.value,
    )
