"""What an operator must set right, said once in a while and not for each message."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from fastmta.event import Event, Notice, Severity
from fastmta.message import Outcome

from .attempt import Attempt
from .connection import Connection
from .opener import alarms


class Alarm:
    """Mail waits for an operator: says so, once a minute and relay."""

    __slots__ = ("_emit", "_told")

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._told = alarms()

    def tell(self, connection: Connection, attempt: Attempt, outcome: Outcome) -> None:
        """`outcome` is that of a session that came to nothing."""
        way = connection.way
        key = (way.name or connection.peer.relay, way.credentials)
        if self._told.has(monotonic(), *key):
            return
        self._told.add(monotonic(), *key)
        name = f"relay {way.name}: " if way.name else ""
        _, _, login = way.credentials.partition("/")
        if login:
            name += f"login of {login}: "
        hint = connection.dialog.hint
        text = f"{name}{outcome.text}{': ' if hint else ''}{hint}; mail for it waits"
        self._emit(Notice("smtp", text, Severity.ERROR, attempt.job.message.id))
