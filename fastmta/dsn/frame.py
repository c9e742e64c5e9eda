"""The header section of mail that we write ourselves, and the parts put together."""

from __future__ import annotations

from collections.abc import Sequence

from fastmta.message.trace import message_date

from .report import Part
from .text import safe_address

BOUNDARY_OCTETS_MAX = 70  # RFC 2046 5.1.1
BOUNDARY_HOST_MAX = 40
_BOUNDARY_OCTETS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-._")
_NS_PER_S = 1_000_000_000


class Frame:
    """Who writes what to whom, when."""

    __slots__ = ("_fields", "_hostname", "_now_s", "id", "is_8bit", "is_sender", "to")

    def __init__(
        self, hostname: str, id: bytes, now_s: int, to: bytes, fields: str, *, is_sender: bool
    ) -> None:
        """Use `frame`."""
        self._hostname = hostname
        self._now_s = now_s
        self._fields = fields
        self.id = id
        self.to = to
        self.is_sender = is_sender  # a sender is written to, not a postmaster
        self.is_8bit = False  # what was put together is not ASCII

    @property
    def message_id_field(self) -> bytes:
        """Value of Message-ID."""
        return f"<{self.id.decode('ascii')}@{self._hostname}>".encode("ascii")

    def plain(self, text: str) -> bytes:
        """The mail with this body, which is ASCII."""
        kind = "Content-Type: text/plain; charset=us-ascii\r\n"
        return self._head(kind) + text.encode("ascii")

    def report(self, parts: Sequence[Part]) -> bytes:
        """The mail with these parts (RFC 6522 3)."""
        self.is_8bit = any(part.is_8bit for part in parts)
        boundary = self._boundary([part.octets for part in parts])
        kind = (
            "Content-Type: multipart/report; report-type=delivery-status;\r\n"
            f'\tboundary="{boundary}"\r\n'
        )
        if self.is_8bit:
            kind += "Content-Transfer-Encoding: 8bit\r\n"
        delimiter = b"--" + boundary.encode("ascii")
        body = b"".join(b"%b\r\n%b\r\n" % (delimiter, part.octets) for part in parts)
        preamble = b"This is a report in MIME format.\r\n\r\n"
        return b"%b%b%b%b--\r\n" % (self._head(kind), preamble, body, delimiter)

    def _head(self, kind: str) -> bytes:
        message_id = self.message_id_field.decode("ascii")
        return f"{self._fields}{kind}Message-Id: {message_id}\r\n\r\n".encode()

    def _boundary(self, parts: list[bytes]) -> str:
        """One that occurs in no part, though a sender may know how it is made."""
        host = "".join(c for c in self._hostname if c in _BOUNDARY_OCTETS)[:BOUNDARY_HOST_MAX]
        boundary = first = f"{self.id.decode('ascii')}.{self._now_s}/{host}"
        number = 0
        while any(b"--" + boundary.encode("ascii") in part for part in parts):
            number += 1
            boundary = f"{number}.{first}"[:BOUNDARY_OCTETS_MAX]
        return boundary


def frame(
    hostname: str, id: bytes, now_ns: int, to: bytes, subject: str, *, is_sender: bool
) -> Frame:
    """The frame of mail to a sender, or else to the postmaster."""
    now_s = now_ns // _NS_PER_S
    date = message_date(now_s)
    local_part = "MAILER-DAEMON" if is_sender else "double-bounce"
    fields = (
        f"Received: by {hostname} (fastmta)\r\n"
        f"\tid {id.decode('ascii')}; {date}\r\n"
        f"Date: {date}\r\n"
        f"From: Mail Delivery System <{local_part}@{hostname}>\r\n"
        f"Subject: {subject}\r\n"
        f"To: {safe_address(to)}\r\n"
        f"Auto-Submitted: {'auto-replied' if is_sender else 'auto-generated'}\r\n"
        "MIME-Version: 1.0\r\n"
    )
    return Frame(hostname, id, now_s, to, fields, is_sender=is_sender)
