"""Trace fields (RFC 5321 4.4) and dates, without reading a clock."""

from datetime import UTC, datetime

from .envelope import ClientIdentity

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def message_date(seconds: int) -> str:
    """Date-time of RFC 5322 3.3 in UTC for `seconds` since the epoch, as Postfix writes it."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return (
        f"{_DAYS[moment.weekday()]}, {moment.day:02d} {_MONTHS[moment.month - 1]} {moment.year} "
        f"{moment.hour:02d}:{moment.minute:02d}:{moment.second:02d} +0000 (UTC)"
    )


def received_field(
    client: ClientIdentity, hostname: str, queue_id: bytes, date: str, only_recipient: bytes
) -> bytes:
    """The Received field, CR LF included. `only_recipient` is empty when there are several.

    The client's address decides the bracket form (RFC 5321 4.1.3); HELO text is peer-supplied, so
    octets outside printable ASCII become "?".
    """
    bracket = f"IPv6:{client.address}" if ":" in client.address else client.address
    helo = client.helo.decode("ascii", "replace").replace("\ufffd", "?")
    recipient = b"\r\n\tfor <" + only_recipient + b">" if only_recipient else b""
    return (
        f"Received: from {helo} ({client.name} [{bracket}])\r\n"
        f"\tby {hostname} (fastmta) with {client.protocol} id "
    ).encode("ascii", "replace") + b"%b%b;\r\n\t%b\r\n" % (queue_id, recipient, date.encode())
