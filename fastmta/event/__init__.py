"""The facts that can happen, one type each; `journal` turns them into lines and counters.

Purpose   One frozen value per fact, so that logs, metrics and feeds never disagree.
In        Whatever room saw the fact calls the `emit` it was given.
Out       Values; nobody here knows who listens.
Holds     Nothing.
Never     Text for humans, I/O, clocks (whoever emits hands the times in).
Fails     Nothing.
Why       Addresses stay octets here; escaping them is the journal's job, in one place.
"""

from .event import (
    BounceQueued,
    ClientConnected,
    ClientDisconnected,
    CommandRefused,
    Event,
    MessageActive,
    MessageExpired,
    MessageReceived,
    MessageRemoved,
    Notice,
    RecipientTried,
    Severity,
)

__all__ = [
    "BounceQueued",
    "ClientConnected",
    "ClientDisconnected",
    "CommandRefused",
    "Event",
    "MessageActive",
    "MessageExpired",
    "MessageReceived",
    "MessageRemoved",
    "Notice",
    "RecipientTried",
    "Severity",
]
