"""The story of a message as text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from .talk import moment

Result: TypeAlias = dict[str, Any]  # Any: what JSON knows
_STATES = {
    "waiting": "waiting",
    "removed": "done",
    "unknown": "not in the spool, and no log says how it ended",
}


def render(found: Result, subject: str) -> Iterator[str]:
    """All messages, then what else is to be said."""
    for number, message in enumerate(found["messages"]):
        if number:
            yield ""
        yield from _message(message)
    if not found["messages"]:
        yield f"{subject}: nothing is known of it"
    for note in found["notes"]:
        yield f"note: {note}"


def _message(message: Result) -> Iterator[str]:
    yield f"message {message['id']}: {_STATES[message['state']]}"
    if message["sender"] is not None:
        yield f"    sender      <{message['sender']}>{_size(message)}"
    if message["client"]:
        login = f", login {message['login']}" if message["login"] else ""
        yield f"    client      {message['client']}{login}"
    if message["message_id"]:
        yield f"    message-id  {message['message_id']}"
    if message["bounce_of"]:
        yield f"    it tells of {message['bounce_of']}"
    yield ""
    for event in message["events"]:
        yield f"    {event_line(event)}"
    yield ""
    for one in message["recipients"]:
        yield f"    recipient <{one['recipient']}>: {_outcome(one)}"
    for why in message["waits_for"]:
        yield f"    waits for   {why}"
    if message["expires_at"] and message["state"] == "waiting":
        yield f"    expires     {moment(message['expires_at'])}"


def _size(message: Result) -> str:
    parts = []
    if message["size_octets"] is not None:
        parts.append(f"{message['size_octets']} octets")
    if message["recipient_count"] is not None:
        parts.append(_count(message["recipient_count"], "recipient"))
    return "".join(f", {part}" for part in parts)


def _outcome(one: Result) -> str:
    tries = f" after {_count(one['attempts'], 'attempt')}" if one["attempts"] else ""
    text = f"{one['outcome']}{tries}"
    if one["next_attempt"]:
        text += f", next try {moment(one['next_attempt'], time.time())}"
    return text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def event_line(event: Result) -> str:
    """One event, as one line."""
    when = moment(event["time"]) if event["time"] else "(time unknown)"
    what = _TELLERS.get(event["event"], _other)(event)
    name = event["outcome"] if event["event"] == "attempt" else event["event"]
    return f"{when}  {name:<9}  {what}"


def _received(event: Result) -> str:
    if not event["client"]:
        return f"made here, message-id {event['message_id'] or 'unknown'}"
    text = f"from {event['client']}"
    if event["login"]:
        text += f", login {event['login']}"
    if event.get("tls"):
        text += f", {event['tls']}"
    if event["message_id"]:
        text += f", message-id {event['message_id']}"
    return text


def _queued(event: Result) -> str:
    count = _count(event["recipients"], "recipient")
    return f"from <{event['sender']}>, {event['size_octets']} octets, {count}, durable"


def _attempt(event: Result) -> str:
    before, queue, connect, send = (*event["delays_s"], 0.0, 0.0, 0.0, 0.0)[:4]
    parts = f"queue {before + queue:g}, connection {connect:g}, transmission {send:g}"
    text = f"<{event['recipient']}> at {event['relay']}: {event['reply']} "
    text += f"[{event['status']}, {event['delay_s']:g} s: {parts}]"
    if event["next_attempt"]:
        text += f", next try {moment(event['next_attempt'])}"
    return text


def _other(event: Result) -> str:
    return str(event.get("text", ""))


_TELLERS: dict[str, Callable[[Result], str]] = {
    "received": _received,
    "queued": _queued,
    "attempt": _attempt,
    "held": lambda event: f"<{event['recipient']}>: {event['reply']}",
    "expired": lambda event: "its lifetime is over, what was left of it failed",
    "bounce": lambda event: f"{event['kind']} queued as {event['bounce_id']}",
    "removed": lambda event: "nothing more is to be done",
    "operation": lambda event: f"{event['operation']} by an operator",
    "rejected": lambda event: f"{event['client'] or 'a client'}: {event['reply']}",
}
