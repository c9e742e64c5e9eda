"""One message of the queue as `postqueue -p` and `-j` print it. Pure."""

from __future__ import annotations

import time
from typing import Any, TypeAlias

Result: TypeAlias = dict[str, Any]  # Any: what JSON knows

HEADER = "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n"
EMPTY = "Mail queue is empty\n"
NULL_SENDER = "MAILER-DAEMON"
_MARKS = {"active": "*", "hold": "!"}
_REASON_COLUMN = 76
_NS = 1_000_000_000
_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}


def listed(message: Result) -> str:
    """The lines of one message, without the empty one behind them."""
    mark = _MARKS.get(message["queue"], " ")
    arrived = time.asctime(time.localtime(message["arrived_at_ns"] // _NS))
    sender = printable(message["sender"]) or NULL_SENDER
    name = f"{message['id']}{mark}"
    lines = [f"{name:<17} {message['size_octets']:>8} {arrived[:19]:>19} {sender}\n"]
    known = ""
    for one in message["recipients"]:
        reason = printable(one["text"])
        if reason != known:
            shown = f"({reason or 'reason unavailable'})"
            lines.append(" " * (_REASON_COLUMN + 2 - len(shown)) + shown + "\n")
            known = reason
        lines.append(f"{'':<17} {'':>8} {'':<19} {printable(one['recipient'])}\n")
    omitted = message["pending"] - len(message["recipients"])
    if omitted > 0:
        lines.append(f"{'':<17} {'':>8} {'':<19} ... and {omitted} more recipients\n")
    return "".join(lines)


def footer(octets: int, messages: int) -> str:
    """The last line."""
    plural = "" if messages == 1 else "s"
    return f"-- {octets // 1024} Kbytes in {messages} Request{plural}.\n"


def as_json(message: Result) -> str:
    """One line. Members that Postfix does not have come last."""
    recipients = []
    for one in message["recipients"]:
        members = f'"address": {quoted(one["recipient"])}'
        if one["text"]:
            members += f', "delay_reason": {quoted(one["text"])}'
        recipients.append(f"{{{members}}}")
    return (
        f'{{"queue_name": "{message["queue"]}", "queue_id": "{message["id"]}", '
        f'"arrival_time": {message["arrived_at_ns"] // _NS}, '
        f'"message_size": {message["size_octets"]}, "forced_expire": false, '
        f'"sender": {quoted(message["sender"] or NULL_SENDER)}, '
        f'"recipients": [{", ".join(recipients)}]}}\n'
    )


def printable(text: str) -> str:
    """What a terminal, or a script, may be given; `?` in place of the rest."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else "?" for one in text)


def quoted(text: str) -> str:
    """A string of JSON: UTF-8 stays as it is."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    parts = []
    for one in text:
        if one in _ESCAPES:
            parts.append(_ESCAPES[one])
        elif one < " " or one == "\x7f":
            parts.append(f"\\u{ord(one):04X}")
        else:
            parts.append("?" if "\ud800" <= one <= "\udfff" else one)
    return f'"{"".join(parts)}"'
