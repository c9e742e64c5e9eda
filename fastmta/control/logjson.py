"""Lines of the mail log that are JSON, and what is known of a line of either form."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias

Facts: TypeAlias = dict[str, Any]  # Any: what JSON knows


class LogLine(NamedTuple):
    """One line. `event` is connect, tls, disconnect, received, message-id, queued, attempt, held,
    expired, bounce, removed, operation, rejected or notice; `facts` are what the event has, by the
    names of docs/json.md."""

    time_s: float  # Unix; 0.0: not told
    program: str  # smtpd, cleanup, qmgr, smtp ...
    process: int  # 0: not told
    id: str  # of the queue; "": of no message
    event: str
    facts: Facts
    text: str  # the line as it is in the log


def of_json(text: str) -> LogLine | None:
    """The line; None when it is no object of a log of ours."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or not isinstance(fields.get("event"), str):
        return None
    event = _EVENTS.get(fields["event"], "notice")
    program = _PROGRAMS.get(event) or _text(fields, "transport") or _text(fields, "program")
    program = program or _PROGRAMS.get(fields["event"], "")
    if event == "notice" and program == "postsuper":
        event = "operation"
    return LogLine(
        _moment(fields.get("ts")),
        program or "smtpd",
        _integer(fields, "worker"),
        _text(fields, "qid"),
        event,
        _FACTS.get(event, _notice)(fields),
        text,
    )


def _moment(value: object) -> float:
    try:
        if isinstance(value, str):
            return datetime.fromisoformat(value).timestamp()
        if isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    except (ValueError, OverflowError):
        pass
    return 0.0


def _text(fields: Facts, name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _maybe(fields: Facts, name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) and value else None


def _integer(fields: Facts, name: str) -> int:
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _seconds(value: object) -> float:
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if is_number else 0.0  # type: ignore[arg-type]  # it is a number


def _received(fields: Facts) -> Facts:
    return {
        "client": _client(fields),
        "login": _maybe(fields, "login"),
        "method": _maybe(fields, "mechanism"),
        "message_id": _maybe(fields, "msgid"),
    }


def _client(fields: Facts) -> str | None:
    name, address = _text(fields, "client"), _text(fields, "ip")
    return f"{name or 'unknown'}[{address}]" if address else name or None


def _queued(fields: Facts) -> Facts:
    return {
        "sender": _text(fields, "from"),
        "size_octets": _integer(fields, "size"),
        "recipients": _integer(fields, "nrcpt"),
    }


def _attempt(fields: Facts) -> Facts:
    delays = fields.get("delays")
    return {
        "recipient": _text(fields, "to"),
        "original_recipient": _maybe(fields, "orig_to"),
        "relay": _text(fields, "relay") or "none",
        "outcome": _text(fields, "status"),
        "status": _text(fields, "dsn"),
        "reply": _text(fields, "reply"),
        "delay_s": _seconds(fields.get("delay")),
        "delays_s": [_seconds(one) for one in delays] if isinstance(delays, list) else [],
        "connection_use": _integer(fields, "conn_use") or 1,
        "next_attempt": _moment(fields.get("next")) or None,
    }


def _held(fields: Facts) -> Facts:
    return {
        "recipient": _text(fields, "to"),
        "reply": _text(fields, "reply"),
        "sender": _text(fields, "from"),
    }


def _bounce(fields: Facts) -> Facts:
    return {"kind": _text(fields, "kind"), "bounce_id": _text(fields, "dsn_qid")}


def _rejected(fields: Facts) -> Facts:
    return {
        "client": _client(fields),
        "reply": _text(fields, "reply"),
        "sender": _maybe(fields, "from"),
        "recipient": _maybe(fields, "to"),
    }


def _notice(fields: Facts) -> Facts:
    """With the text that a line of Postfix's shape has behind the queue id."""
    facts = {"severity": _text(fields, "severity") or "info"}
    if fields["event"] == "pickup":
        text = f"uid={_integer(fields, 'uid')} from=<{_text(fields, 'from')}>"
    else:
        text = _text(fields, "text")
    return {**facts, "text": text} if text else facts


_EVENTS: Final = {  # as `journal` names them, to what is told of messages
    "received": "received",
    "active": "queued",
    "attempt": "attempt",
    "held": "held",
    "expired": "expired",
    "notification": "bounce",
    "removed": "removed",
    "reject": "rejected",
    "connect": "connect",
    "disconnect": "disconnect",
    "tls": "tls",
}
_PROGRAMS: Final = {
    "queued": "qmgr",
    "held": "qmgr",
    "expired": "qmgr",
    "removed": "qmgr",
    "bounce": "bounce",
    "pickup": "pickup",
}
_FACTS: Final[dict[str, Callable[[Facts], Facts]]] = {
    "received": _received,
    "queued": _queued,
    "attempt": _attempt,
    "held": _held,
    "expired": lambda fields: {"sender": _text(fields, "from")},
    "bounce": _bounce,
    "connect": lambda fields: {"client": _client(fields)},
    "disconnect": lambda fields: {"client": _client(fields)},
    "tls": lambda fields: {"client": _client(fields), "tls": _text(fields, "tls")},
    "removed": lambda fields: {},
    "operation": lambda fields: {"operation": _text(fields, "text")},
    "rejected": _rejected,
}
