"""Trace fields (RFC 5321 4.4) and dates, without reading a clock."""

from datetime import UTC, datetime

from .envelope import ClientIdentity

# To "?" for what could break a field: everything but visible ASCII.
_PRINTABLE = bytes(octet if 0x20 < octet < 0x7F else 0x3F for octet in range(256))
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def message_date(seconds: int) -> str:
    """Date-time of RFC 5322 3.3 in UTC for `seconds` since the epoch, as Postfix writes it."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return (
        f"{_DAYS[moment.weekday()]}, {moment.day:02d} {_MONTHS[moment.month - 1]} {moment.year} "
        f"{moment.hour:02d}:{moment.minute:02d}:{moment.second:02d} +0000 (UTC)"
    )


def received_prefix(client: ClientIdentity, hostname: str) -> bytes:
    """The part of a Received field that stays the same for a whole session.

    The client's address decides the bracket form (RFC 5321 4.1.3); HELO text is peer-supplied, so
    octets outside printable ASCII become "?".
    """
    bracket = f"IPv6:{client.address}" if ":" in client.address else client.address
    helo = client.helo.translate(_PRINTABLE).decode("ascii")
    return (
        f"Received: from {helo} ({client.name} [{bracket}])\r\n"
        f"\tby {hostname} (fastmta) with {client.protocol} id "
    ).encode("ascii", "replace")


def received_field(prefix: bytes, queue_id: bytes, only_recipient: bytes, date: bytes) -> bytes:
    """The Received field, CR LF included. `only_recipient` is empty when there are several."""
    if only_recipient:
        return b"%b%b\r\n\tfor <%b>; %b\r\n" % (prefix, queue_id, only_recipient, date)
    return b"%b%b;\r\n\t%b\r\n" % (prefix, queue_id, date)
