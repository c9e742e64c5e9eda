"""Lines of the log as datagrams of syslog (RFC 3164) and of journald's own protocol."""

import re
import time
from typing import NamedTuple

from .line import Origin

_STAMP_OCTETS = 15  # `Nov  3 07:00:00`
_INFO = 6
# RFC 3164 4.1.1, by the word that Postfix puts in front of a text.
_SEVERITIES = ((b"warning: ", 4), (b"error: ", 3), (b"fatal: ", 2))
_RECORD_SEVERITIES = tuple(
    (b'"severity":"%s"' % word.rstrip(b": "), severity) for word, severity in _SEVERITIES
)
FACILITIES = {
    "user": 1,
    "mail": 2,
    "daemon": 3,
    **{f"local{number}": 16 + number for number in range(8)},
}
_QUEUE_ID = re.compile(rb"([0-9A-Za-z]{10,20}): ")
_RECORD_ID = re.compile(rb',"qid":"([0-9A-Za-z]{10,20})"')


class Shown(NamedTuple):
    """A line, taken apart."""

    stamp: bytes
    tag: bytes  # `postfix/smtpd[42]`
    text: bytes
    severity: int
    queue_id: bytes


class SyslogForm:
    """As the C library says it; `has_host` for a daemon on another machine."""

    def __init__(self, origin: Origin, facility: str, *, has_host: bool) -> None:
        self._origin = origin
        self._facility = FACILITIES[facility] * 8
        self._host = origin.hostname.encode("ascii", "replace") + b" " if has_host else b""

    def __call__(self, line: bytes) -> bytes:
        """The datagram for `line`."""
        shown = take_apart(line, self._origin)
        priority = self._facility + shown.severity
        return b"<%d>%s %s%s: %s" % (priority, shown.stamp, self._host, shown.tag, shown.text)


class JournaldForm:
    """Fields of journald; the id of the message is one of our own."""

    def __init__(self, origin: Origin, facility: str) -> None:
        self._origin = origin
        self._facility = b"SYSLOG_FACILITY=%d\n" % FACILITIES[facility]

    def __call__(self, line: bytes) -> bytes:
        """The datagram for `line`."""
        shown = take_apart(line, self._origin)
        identifier, _, process_id = shown.tag.rpartition(b"[")
        fields = b"MESSAGE=%s\nPRIORITY=%d\n%sSYSLOG_IDENTIFIER=%s\nSYSLOG_PID=%s\n" % (
            shown.text,
            shown.severity,
            self._facility,
            identifier,
            process_id.rstrip(b"]"),
        )
        if shown.queue_id:
            fields += b"FASTMTA_QID=%s\n" % shown.queue_id
        return fields


def take_apart(line: bytes, origin: Origin) -> Shown:
    """A line of Postfix's shape, or a JSON record, which stays whole as the text."""
    if line.startswith(b"{"):
        return _take_record(line, origin)
    host_end = line.index(b" ", _STAMP_OCTETS + 1)
    tag, _, text = line[host_end + 1 :].partition(b": ")
    severity, rest = _INFO, text
    for word, number in _SEVERITIES:
        if text.startswith(word):
            severity, rest = number, text[len(word) :]
    match = _QUEUE_ID.match(rest)
    return Shown(line[:_STAMP_OCTETS], tag, text, severity, match[1] if match else b"")


def _take_record(line: bytes, origin: Origin) -> Shown:
    """A quote within a value is escaped, so nobody's text can look like a key."""
    severity = _INFO
    for word, number in _RECORD_SEVERITIES:
        if word in line:
            severity = number
    match = _RECORD_ID.search(line)
    tag = f"{origin.syslog_name}[{origin.process_id}]".encode("ascii", "replace")
    # strftime would ask the locale for the month, which the writer of a log must not.
    stamp = time.asctime()[4:19].encode("ascii")
    return Shown(stamp, tag, line, severity, match[1] if match else b"")
