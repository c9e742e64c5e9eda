"""Lines of the mail log, read back: what `journal` writes, and what syslog makes of it.

Whatever a line says was escaped when it was written; a line of another program, or one that was
cut, is a notice of that text, or nothing.
"""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any, Final

from .logjson import LogLine, of_json

_HEAD: Final = re.compile(
    r"(?P<stamp>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S{8,32}) \S+ "
    r"(?P<program>[^\s\[\]]+)(?:\[(?P<process>\d{1,10})\])?: (?P<rest>.*)"
)
_SEVERITY: Final = re.compile(r"(warning|error|fatal|panic): ")
_QUEUE_ID: Final = re.compile(r"(?P<id>[0-9A-Za-z]{6,20}): (?P<rest>.*)")
_CLIENT: Final = re.compile(
    r"client=(?P<client>[^,]+)(?:, sasl_method=(?P<method>[^,]+))?"
    r"(?:, sasl_username=(?P<login>[^,]+))?(?P<origin>.*)"
)
_ACTIVE: Final = re.compile(
    r"from=<(?P<from>.*)>, size=(?P<size>\d{1,15}), nrcpt=(?P<nrcpt>\d{1,9}) \(queue active\)"
)
_TRIED: Final = re.compile(
    r"to=<(?P<to>.*?)>, (?:orig_to=<(?P<original>.*?)>, )?relay=(?P<relay>[^,]+)"
    r"(?:, conn_use=(?P<use>\d{1,9}))?, delay=(?P<delay>[0-9.]{1,20}), "
    r"delays=(?P<delays>[0-9./]{1,60}), dsn=(?P<dsn>[0-9.]{1,12}), "
    r"status=(?P<status>[a-z-]{1,20}) ?(?:\((?P<reply>.*)\))?"
)
_EXPIRED: Final = re.compile(r"from=<(?P<from>.*)>, status=(?:force-)?expired, .*")
_BOUNCED: Final = re.compile(
    r"(?P<kind>(?:sender|postmaster) [a-z ()-]{4,60}): (?P<bounce_id>[0-9A-Za-z]{6,20})"
)
_REJECT: Final = re.compile(
    r"(?:milter-)?reject: (?P<stage>\S+) from (?P<client>\S+?): (?P<reply>.*)"
)
_HELD: Final = re.compile(r"hold: <(?P<to>.*?)>: (?P<reply>.*); from=<(?P<from>.*)>")
_TLS: Final = re.compile(r"\S+ TLS connection established from (?P<client>\S+): (?P<tls>.*)")
_SESSION: Final = re.compile(r"(?P<event>(?:dis)?connect) from (?P<client>\S+)(?: .*)?")
_ENVELOPE: Final = re.compile(r"; (?:from=<(?P<from>.*?)> )?(?:to=<(?P<to>.*?)> )?proto=\S+.*")
_ATTEMPTS: Final = frozenset(("sent", "deferred", "bounced", "undeliverable", "deliverable"))
_VOWELS: Final = frozenset("aeiouAEIOU")
_MONTHS: Final = "JanFebMarAprMayJunJulAugSepOctNovDec"
_DAY_S: Final = 86_400.0


class Stamps:
    """Times of lines that name no year: the last one that was not after `end_s`."""

    def __init__(self, end_s: float) -> None:
        self._end_s = end_s + _DAY_S  # clocks differ
        self._last = ""
        self._last_s = 0.0

    def read(self, stamp: str) -> float:
        """Unix time; 0.0 when it is none."""
        if stamp != self._last:
            self._last, self._last_s = stamp, self._parse(stamp)
        return self._last_s

    def _parse(self, stamp: str) -> float:
        try:
            if stamp[0].isdigit():
                return datetime.fromisoformat(stamp).timestamp()
            month = _MONTHS.index(stamp[:3]) // 3 + 1
            hour, minute, second = (int(part) for part in stamp[7:].split(":"))
            day, year = int(stamp[4:6]), time.localtime(self._end_s).tm_year
            for guess in (year, year - 1):
                found_s = time.mktime((guess, month, day, hour, minute, second, 0, 0, -1))
                if found_s <= self._end_s:
                    return found_s
        except (ValueError, OverflowError):
            pass
        return 0.0


def parse_line(octets: bytes, stamps: Stamps) -> LogLine | None:
    """The line, without its end; None when it is not one of a mail log."""
    text = octets.decode("utf-8", "replace")
    if text.startswith("{"):
        return of_json(text)
    head = _HEAD.fullmatch(text)
    if head is None:
        return None
    if head["rest"].startswith("{"):  # JSON that went through syslog
        return of_json(head["rest"])
    program = head["program"].rpartition("/")[2]
    line = of_text(program, head["rest"], stamps.read(head["stamp"]))
    return line._replace(process=int(head["process"] or 0), text=text)


def of_text(program: str, text: str, time_s: float) -> LogLine:
    """The line of a program whose time is known otherwise, as journald keeps it."""
    severity = _SEVERITY.match(text)
    rest = text[severity.end() :] if severity else text
    found = _QUEUE_ID.fullmatch(rest)
    id = found["id"] if found and _is_queue_id(found["id"]) else ""
    if found and (id or found["id"] == "NOQUEUE"):
        rest = found["rest"]
    event, facts = _read(program, rest)
    if event == "notice" and severity:
        facts["severity"] = severity[1]
    return LogLine(time_s, program, 0, id, event, facts, text)


def _is_queue_id(word: str) -> bool:
    """Words such as `statistics` and NOQUEUE have vowels and no digits."""
    return any(one.isdigit() for one in word) or not _VOWELS.intersection(word)


def _read(program: str, rest: str) -> tuple[str, dict[str, Any]]:
    """Event and facts of what follows the queue id."""
    if match := _TRIED.fullmatch(rest):
        return _attempt(match)
    if match := _ACTIVE.fullmatch(rest):
        size, count = int(match["size"]), int(match["nrcpt"])
        return "queued", {"sender": match["from"], "size_octets": size, "recipients": count}
    if rest == "removed" and program != "postsuper":
        return "removed", {}
    if program == "postsuper":
        return "operation", {"operation": rest}
    if match := _CLIENT.fullmatch(rest):
        return "received", {
            "client": match["client"],
            "login": match["login"],
            "method": match["method"],
        }
    if rest.startswith(("message-id=", "resent-message-id=")):
        value = rest.partition("=")[2]
        return "message-id", {"message_id": None if value == "<>" else value}
    if match := _BOUNCED.fullmatch(rest):
        return "bounce", {"kind": match["kind"], "bounce_id": match["bounce_id"]}
    if match := _EXPIRED.fullmatch(rest):
        return "expired", {"sender": match["from"]}
    if match := _HELD.fullmatch(rest):
        facts = {"recipient": match["to"], "reply": match["reply"], "sender": match["from"]}
        return "held", facts
    if match := _REJECT.fullmatch(rest):
        reply, _, _ = match["reply"].partition("; from=<")
        found: dict[str, Any] = {"client": match["client"], "reply": reply.partition("; proto=")[0]}
        if envelope := _ENVELOPE.search(match["reply"]):
            found |= {"sender": envelope["from"], "recipient": envelope["to"]}
        return "rejected", found
    if match := _SESSION.fullmatch(rest):
        return match["event"], {"client": match["client"]}
    if match := _TLS.fullmatch(rest):
        return "tls", {"client": match["client"], "tls": match["tls"]}
    return "notice", {"severity": "info"}


def _attempt(match: re.Match[str]) -> tuple[str, dict[str, Any]]:
    parts = match["delays"].split("/")
    return "attempt", {
        "recipient": match["to"],
        "original_recipient": match["original"] or None,
        "relay": match["relay"],
        "outcome": match["status"],
        "status": match["dsn"],
        "reply": match["reply"] or "",
        "delay_s": _number(match["delay"]),
        "delays_s": [_number(part) for part in parts],
        "connection_use": int(match["use"] or 1),
        "next_attempt": None,
    }


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
