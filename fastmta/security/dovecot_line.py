"""Lines of Dovecot's authentication protocol, version 1, between a client and the auth process.

Fields are separated by TAB and escaped by 0x01. https://doc.dovecot.org, "Auth protocol".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from .step import Client

VERSION_MAJOR: Final = b"1"
LINE_OCTETS_MAX: Final = 8192  # what every release accepts
READ_OCTETS_MAX: Final = 65_536  # of one line from Dovecot
ID_MAX: Final = 2**31 - 1
_ESCAPED = re.compile(rb"\x01(.)", re.DOTALL)
_ESCAPES = {b"0": b"\0", b"1": b"\x01", b"t": b"\t", b"r": b"\r", b"n": b"\n", b"l": b"\n"}
_NEEDS_ESCAPE = re.compile(rb"[\0\x01\t\r\n]")
_ESCAPE_OF = {b"\0": b"\x010", b"\x01": b"\x011", b"\t": b"\x01t", b"\r": b"\x01r", b"\n": b"\x01n"}
_ID = re.compile(rb"[0-9]{1,10}")
_FAIL_TEMPORARY = b"temp_fail"  # value of code=, since Dovecot 2.2


class Answer(msgspec.Struct, frozen=True):
    """What Dovecot says to one request: OK, CONT or FAIL."""

    command: bytes
    id: int
    fields: tuple[bytes, ...]  # behind the id, unescaped
    values: dict[bytes, bytes]  # the same as name=value; b"" for a name alone

    @property
    def is_temporary(self) -> bool:
        """Of FAIL: it may be right another time."""
        return b"temp" in self.values or self.values.get(b"code") == _FAIL_TEMPORARY


def parse_answer(line: bytes) -> Answer | None:
    """A line that belongs to a request; None: it does not."""
    command, *fields = line.split(b"\t")
    if command not in (b"OK", b"CONT", b"FAIL") or not fields or not _ID.fullmatch(fields[0]):
        return None
    rest = tuple(unescape(field) for field in fields[1:])
    pairs = (field.partition(b"=") for field in rest)
    return Answer(command, int(fields[0]), rest, {name: value for name, _, value in pairs})


def handshake(client_id: int) -> bytes:
    """What a client says first. `client_id` tells it from other clients of the same Dovecot."""
    return b"VERSION\t%s\t1\nCPID\t%d\n" % (VERSION_MAJOR, client_id)


def auth_request(id: int, mechanism: str, client: Client, response: bytes | None) -> bytes | None:
    """An AUTH line; None: it would be too long. `nologin`: nobody will ask for the login."""
    fields = [b"AUTH", b"%d" % id, mechanism.encode("ascii"), b"service=smtp", b"nologin"]
    if client.address:
        fields.append(b"rip=" + escape(client.address.encode("utf-8")))
    if client.is_secure:
        fields.append(b"secured")
    if response is not None:
        fields.append(b"resp=" + base64.b64encode(response))  # has to be the last one
    return _line(fields)


def continuation(id: int, response: bytes) -> bytes | None:
    """The client's answer to a CONT; None: it would be too long."""
    return _line([b"CONT", b"%d" % id, base64.b64encode(response)])


def cancellation(id: int) -> bytes:
    return b"CANCEL\t%d\n" % id


def _line(fields: Sequence[bytes]) -> bytes | None:
    line = b"\t".join(fields) + b"\n"
    return line if len(line) <= LINE_OCTETS_MAX else None


def escape(octets: bytes) -> bytes:
    return _NEEDS_ESCAPE.sub(lambda match: _ESCAPE_OF[match[0]], octets)


def unescape(octets: bytes) -> bytes:
    if b"\x01" not in octets:
        return octets
    return _ESCAPED.sub(lambda match: _ESCAPES.get(match[1], match[1]), octets)
