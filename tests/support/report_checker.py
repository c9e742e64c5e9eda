"""A reader of delivery reports of the tests' own, by the grammar of RFC 3464, 6522 and 6533.

It shares no code with what makes them and nothing with the `email` package. Every departure is a
`BadReport` that says where.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field

LINE_OCTETS_MAX = 998  # RFC 5322 2.1.1
_FIELD = re.compile(rb"([!-9;-~]+):[ \t]*(.*)", re.S)
_BOUNDARY = re.compile(rb'multipart/report; report-type=delivery-status; boundary="([^"]+)"')
_BCHARS = re.compile(rb"[0-9A-Za-z'()+_,\-./:=?]{1,70}")  # RFC 2046 5.1.1, no space
_DATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4}"
    r" \d{2}:\d{2}:\d{2} [+-]\d{4}( \([A-Z]+\))?"
)
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")  # RFC 3464 2.3.4
_TYPED = re.compile(r"([A-Za-z0-9-]+);(.*)", re.S)
_UNITEXT = re.compile(r"[!-~ ]*")
PER_MESSAGE = {
    "original-envelope-id",
    "reporting-mta",
    "dsn-gateway",
    "received-from-mta",
    "arrival-date",
}
PER_RECIPIENT = {
    "original-recipient",
    "final-recipient",
    "action",
    "status",
    "remote-mta",
    "diagnostic-code",
    "last-attempt-date",
    "final-log-id",
    "will-retry-until",
}
STATUS_CLASSES = {"failed": "45", "delayed": "4", "delivered": "2", "relayed": "2", "expanded": "2"}
ORIGINALS = {
    b"message/rfc822",
    b"text/rfc822-headers",
    b"message/global",
    b"message/global-headers",
}
TOP_FIELDS = ("received", "date", "from", "to", "subject", "auto-submitted", "message-id")


class BadReport(AssertionError):
    """What is wrong with a report."""


@dataclass
class Part:
    """One part of a multipart, decoded."""

    kind: bytes
    encoding: bytes
    description: bytes
    body: bytes
    raw: bytes


@dataclass
class Report:
    """What a report says."""

    fields: dict[str, bytes] = field(default_factory=dict)
    text: str = ""
    is_global: bool = False
    message: dict[str, str] = field(default_factory=dict)
    recipients: list[dict[str, str]] = field(default_factory=list)
    original_kind: bytes = b""
    original: bytes = b""
    is_8bit: bool = False


def read_report(octets: bytes) -> Report:
    """What `octets`, a whole message, report. Raises BadReport."""
    check_lines(octets)
    head, _, body = octets.partition(b"\r\n\r\n")
    found = Report(fields=fields_of(head + b"\r\n"))
    for name in TOP_FIELDS:
        want(name in found.fields, f"no field {name}")
    want(found.fields["mime-version"] == b"1.0", "MIME-Version is not 1.0")
    kind = _BOUNDARY.fullmatch(found.fields["content-type"])
    want(kind is not None, f"content type {found.fields['content-type']!r}")
    assert kind is not None
    want(_BCHARS.fullmatch(kind[1]) is not None, f"boundary {kind[1]!r}")
    parts = [part_of(one) for one in split(body, kind[1])]
    want(len(parts) == 3, f"{len(parts)} parts")
    found.is_8bit = any(part.encoding == b"8bit" for part in parts)
    top = found.fields.get("content-transfer-encoding", b"7bit")
    want(top == (b"8bit" if found.is_8bit else b"7bit"), f"{top!r} around parts that differ")
    want(found.is_8bit or body.isascii(), "8-bit octets in parts that do not say so")
    read_text(parts[0], found)
    read_status(parts[1], found)
    read_original(parts[2], found)
    return found


def want(is_right: bool, text: str) -> None:
    """Raise BadReport with `text` unless `is_right`."""
    if not is_right:
        raise BadReport(text)


def check_lines(octets: bytes) -> None:
    """Canonical line ends, no NUL, no line too long."""
    want(octets.endswith(b"\r\n"), "does not end with a line")
    want(octets.count(b"\r") == octets.count(b"\n") == octets.count(b"\r\n"), "bare CR or LF")
    want(b"\0" not in octets, "NUL")
    longest = max(map(len, octets.split(b"\r\n")))
    want(longest <= LINE_OCTETS_MAX, f"a line of {longest} octets")


def fields_of(section: bytes) -> dict[str, bytes]:
    """The fields of a header section, by lower-case name, unfolded; each only once."""
    found: dict[str, bytes] = {}
    for line in re.sub(rb"\r\n([ \t])", rb"\1", section).split(b"\r\n")[:-1]:
        match = _FIELD.fullmatch(line)
        want(match is not None, f"no field: {line[:80]!r}")
        assert match is not None
        name = match[1].decode("ascii").lower()
        want(name not in found, f"{name} twice")
        found[name] = re.sub(rb"[ \t]+", b" ", match[2])
    return found


def split(body: bytes, boundary: bytes) -> list[bytes]:
    """The parts between the delimiters of a multipart."""
    lines = b"\r\n" + body
    delimiter = b"\r\n--" + boundary
    pieces = lines.split(delimiter)
    want(pieces[-1] == b"--\r\n", "no closing delimiter at the end")
    want(b"--" + boundary not in b"".join(pieces), "the boundary is within a part")
    want(all(piece.startswith(b"\r\n") for piece in pieces[1:-1]), "a delimiter with a tail")
    return [piece[2:] for piece in pieces[1:-1]]


def part_of(octets: bytes) -> Part:
    """One part, its transfer encoding undone."""
    head, separator, raw = octets.partition(b"\r\n\r\n")
    want(bool(separator), "a part without a body")
    fields = fields_of(head + b"\r\n")
    encoding = fields.get("content-transfer-encoding", b"7bit")
    body = raw
    if encoding == b"base64":
        want(all(len(line) <= 76 for line in raw.split(b"\r\n")), "a base64 line over 76")
        body = base64.b64decode(raw.replace(b"\r\n", b""), validate=True)
    else:
        want(encoding in (b"7bit", b"8bit"), f"encoding {encoding!r}")
        want((encoding == b"8bit") != raw.isascii(), f"{encoding!r} of other octets")
    return Part(fields["content-type"], encoding, fields.get("content-description", b""), body, raw)


def read_text(part: Part, found: Report) -> None:
    """The part for humans."""
    want(part.description == b"Notification", "the first part is no notification")
    charset = "utf-8" if part.kind == b"text/plain; charset=utf-8" else "us-ascii"
    want(charset == "utf-8" or part.kind == b"text/plain; charset=us-ascii", f"{part.kind!r}")
    found.text = part.body.decode(charset)


def read_status(part: Part, found: Report) -> None:
    """The part for programs (RFC 3464 2, RFC 6533 4)."""
    found.is_global = part.kind == b"message/global-delivery-status"
    want(found.is_global or part.kind == b"message/delivery-status", f"{part.kind!r}")
    want(found.is_global or part.encoding == b"7bit", "a classic status part is 7bit")
    check_lines(part.body + b"\r\n")
    text = part.body.decode("utf-8" if found.is_global else "us-ascii")
    want(not re.search("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]", text), "controls")
    groups = text.removesuffix("\r\n").split("\r\n\r\n")
    want(len(groups) >= 2, "no group of a recipient")
    read = [{k: v.decode() for k, v in fields_of((g + "\r\n").encode()).items()} for g in groups]
    found.message, *found.recipients = read
    check_names(found.message, PER_MESSAGE)
    check_typed(found.message, "reporting-mta", {"dns", "x-local-hostname"}, found)
    if "arrival-date" in found.message:
        want(bool(_DATE.fullmatch(found.message["arrival-date"])), "arrival-date")
    for group in found.recipients:
        check_recipient(group, found)


def check_names(group: dict[str, str], known: set[str]) -> None:
    """Nothing but fields of the kind of group, and extensions."""
    for name in group:
        want(name in known or name.startswith("x-"), f"field {name} in this group")


def check_recipient(group: dict[str, str], found: Report) -> None:
    """One group of RFC 3464 2.3."""
    check_names(group, PER_RECIPIENT)
    check_typed(group, "final-recipient", {"rfc822", "utf-8"}, found)
    if "original-recipient" in group:
        check_typed(group, "original-recipient", None, found)
    action, status = group.get("action", ""), group.get("status", "")
    want(action in STATUS_CLASSES, f"action {action!r}")
    want(_STATUS.fullmatch(status) is not None, f"status {status!r}")
    want(status[0] in STATUS_CLASSES[action], f"status {status} of action {action}")
    if "remote-mta" in group:
        check_typed(group, "remote-mta", {"dns"}, found)
    if "diagnostic-code" in group:
        check_typed(group, "diagnostic-code", {"smtp", "x-postfix"}, found)
    if "will-retry-until" in group:
        want(action == "delayed", "will-retry-until of what is not delayed")
        want(bool(_DATE.fullmatch(group["will-retry-until"])), "will-retry-until")


def check_typed(group: dict[str, str], name: str, kinds: set[str] | None, found: Report) -> None:
    """`type; value`, of one of these types; utf-8 addresses as the kind of report has them."""
    want(name in group, f"no {name}")
    match = _TYPED.fullmatch(group[name])
    want(match is not None, f"{name} without a type: {group[name]!r}")
    assert match is not None
    kind = match[1].lower()
    want(kinds is None or kind in kinds, f"{name} of type {kind}")
    if kind != "utf-8" or not found.is_global:
        want(_UNITEXT.fullmatch(match[2]) is not None, f"{name} is not ASCII: {group[name]!r}")


def read_original(part: Part, found: Report) -> None:
    """The message that the report is about, or its header section."""
    want(part.kind in ORIGINALS, f"{part.kind!r} is returned")
    if not part.kind.startswith(b"message/global"):
        want(part.encoding in (b"7bit", b"8bit"), "an encoded message/rfc822")
    else:
        want(found.is_global, "a global message in a classic report")
    want(part.body.startswith(b"Return-Path: <"), "no Return-Path in front")
    if part.kind.endswith(b"headers"):
        want(b"\r\n\r\n" not in part.body, "a body behind the header section")
    found.original_kind, found.original = part.kind, part.body
