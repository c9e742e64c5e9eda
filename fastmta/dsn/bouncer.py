"""Makes the notification that goes back to the sender."""

from collections.abc import Callable, Sequence

from fastmta.message import (
    NULL_REVERSE_PATH,
    ClientIdentity,
    ContentFile,
    Envelope,
    Message,
    Outcome,
)
from fastmta.message.envelope import DSNRequest
from fastmta.message.trace import message_date

from .report import ORIGINAL_OCTETS_MAX, delivery_report, notification, original
from .text import plain, plain_address

BOUNDARY_HOST_MAX = 40  # a boundary has at most 70 octets, RFC 2046 5.1.1
_BOUNDARY_OCTETS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-._")
_NS_PER_S = 1_000_000_000


class Bouncer:
    """Knows who reports, and makes reports."""

    def __init__(
        self,
        hostname: str,
        new_id: Callable[[], bytes],
        wall_ns: Callable[[], int],
        queue_ns: Callable[[], int],
        head: Callable[[ContentFile, int], bytes] | None = None,
    ) -> None:
        """`new_id` gives a spool id; what is in fields is by `wall_ns`, what ages by `queue_ns`.

        `head(file, n)` gives the first n octets of a large content, b"" when they are not to be
        had: the report then says all but what the message's header section was.
        """
        self._head = head
        self._hostname = plain(hostname).replace(" ", "")
        self._new_id = new_id
        self._wall_ns = wall_ns
        self._queue_ns = queue_ns

    def bounce(self, message: Message, failures: Sequence[tuple[int, Outcome]]) -> Message | None:
        """The notification that `failures` (recipient index, outcome) of `message` call for.

        None when nobody is told: for a message with null reverse-path (RFC 5321 6.1), and when
        NOTIFY keeps each of these recipients out of a report (RFC 3461 4.1). Assumes canonical
        content, in memory or in a file; raises ValueError without it, and without failures.
        """
        envelope = message.envelope
        if envelope.reverse_path == NULL_REVERSE_PATH:
            return None
        if not failures:
            raise ValueError("a report needs at least one failure")
        failures = [each for each in failures if _is_wanted(envelope.dsn, each[0])]
        if not failures:
            return None
        content, is_large = self._original(message)
        is_head = is_large or (envelope.dsn is not None and envelope.dsn.returned == "HDRS")
        attached, is_8bit = original(envelope.reverse_path, content, is_head=is_head)
        parts = [
            notification(self._hostname, message, failures),
            delivery_report(self._hostname, message, failures),
            attached,
        ]
        dsn_id = self._new_id()
        now_ns = self._wall_ns()
        content = self._content(envelope.reverse_path, dsn_id, now_ns, parts, is_8bit=is_8bit)
        dsn = Message(
            dsn_id,
            Envelope(
                reverse_path=NULL_REVERSE_PATH,
                forward_paths=(envelope.reverse_path,),
                client=ClientIdentity(),
                is_8bit=is_8bit,
                tenant=envelope.tenant,
                is_utf8=not envelope.reverse_path.isascii(),
            ),
            content,
            self._queue_ns(),
        )
        dsn.message_id_field = f"<{dsn_id.decode('ascii')}@{self._hostname}>".encode("ascii")
        return dsn

    def _original(self, message: Message) -> tuple[bytes, bool]:
        """What there is of the message, and whether it is too large to go back whole."""
        if message.file is not None:
            # One octet more, so that a header section that goes on is seen to.
            octets = ORIGINAL_OCTETS_MAX + 1
            return self._head(message.file, octets) if self._head else b"", True
        if message.content is None:
            raise ValueError("a report needs the content of the message")
        return message.content, len(message.content) > ORIGINAL_OCTETS_MAX

    def _content(
        self, to: bytes, dsn_id: bytes, now_ns: int, parts: list[bytes], *, is_8bit: bool
    ) -> bytes:
        boundary = self._boundary(dsn_id, now_ns // _NS_PER_S, parts)
        queue_id = dsn_id.decode("ascii")
        date = message_date(now_ns // _NS_PER_S)
        encoding = "Content-Transfer-Encoding: 8bit\r\n" if is_8bit else ""
        head = (
            f"Received: by {self._hostname} (fastmta)\r\n"
            f"\tid {queue_id}; {date}\r\n"
            f"Date: {date}\r\n"
            f"From: Mail Delivery System <MAILER-DAEMON@{self._hostname}>\r\n"
            "Subject: Undelivered Mail Returned to Sender\r\n"
            f"To: {plain_address(to)}\r\n"
            "Auto-Submitted: auto-replied\r\n"
            "MIME-Version: 1.0\r\n"
            "Content-Type: multipart/report; report-type=delivery-status;\r\n"
            f'\tboundary="{boundary}"\r\n'
            f"{encoding}"
            f"Message-Id: <{queue_id}@{self._hostname}>\r\n"
            "\r\n"
            "This is a report in MIME format.\r\n"
            "\r\n"
        ).encode("ascii")
        delimiter = b"--" + boundary.encode("ascii")
        body = b"".join(b"%b\r\n%b\r\n" % (delimiter, part) for part in parts)
        return b"%b%b%b--\r\n" % (head, body, delimiter)

    def _boundary(self, dsn_id: bytes, now_s: int, parts: list[bytes]) -> str:
        """One that occurs in no part, though a sender may know how it is made."""
        host = "".join(c for c in self._hostname if c in _BOUNDARY_OCTETS)[:BOUNDARY_HOST_MAX]
        boundary = first = f"{dsn_id.decode('ascii')}.{now_s}/{host}"
        number = 0
        while any(b"--" + boundary.encode("ascii") in part for part in parts):
            number += 1
            boundary = f"{number}.{first}"[:70]
        return boundary


def _is_wanted(dsn: DSNRequest | None, index: int) -> bool:
    """Whether the sender is to hear that recipient `index` failed (RFC 3461 4.1)."""
    notify = "" if dsn is None else dsn.notify_of(index)
    return not notify or "FAILURE" in notify.split(",")
