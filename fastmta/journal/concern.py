"""Which events a postmaster may want to be told of: the classes of Postfix's notify_classes."""

from fastmta.event import ClientDisconnected, CommandRefused, Event, Notice, Severity
from fastmta.event.security import LoginRefused

POLICY, PROTOCOL, DATA = "policy", "protocol", "data"
RESOURCE, SOFTWARE = "resource", "software"
_SEVERE = frozenset((Severity.ERROR, Severity.FATAL))
_STORAGE = frozenset(("spool", "qmgr"))  # programs whose errors are those of a disk or of memory
TOO_MANY_ERRORS = "too many errors"  # `ClientDisconnected.reason`
# 5.3 is not among them: a message that is too large is the client's doing, and no shortage here.
_CLASSES = {"5.5": PROTOCOL, "5.6": DATA, "4.3": RESOURCE}


def concern_of(event: Event) -> str:
    """Class of `event`; "" when it is nothing that a postmaster is told of.

    RESOURCE is a disk, a limit of memory or of descriptors that is short; SOFTWARE whatever else
    went wrong here; POLICY and PROTOCOL are what clients were refused; DATA is content that was.
    """
    if isinstance(event, ClientDisconnected):  # the commonest by far
        return PROTOCOL if event.reason == TOO_MANY_ERRORS else ""
    if isinstance(event, Notice):
        if event.program in _STORAGE:
            is_meant = event.severity in _SEVERE or (
                event.program == "spool" and event.severity is Severity.WARNING
            )
            return RESOURCE if is_meant else ""
        return SOFTWARE if event.severity in _SEVERE else ""
    if isinstance(event, CommandRefused):
        return _CLASSES.get(event.reply[4:7], POLICY)
    return POLICY if isinstance(event, LoginRefused) else ""
