"""Trace fields (RFC 5321 4.4) and dates, without reading a clock."""

from datetime import UTC, datetime

from .envelope import ClientIdentity

# To "?" for what could break a field: everything but visible ASCII.
_PRINTABLE = bytes(octet if 0x20 < octet < 0x7F else 0x3F for octet in range(256))
# Within a comment (RFC 5322 3.2.2) a parenthesis or backslash would change where it ends.
_COMMENT = bytes(0x3F if octet in b"()\\" else _PRINTABLE[octet] for octet in range(256))
_LOGIN_OCTETS_MAX = 200
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def message_date(seconds: int) -> str:
    """Date-time of RFC 5322 3.3 in UTC for `seconds` since the epoch, as Postfix writes it."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return (
        f"{_DAYS[moment.weekday()]}, {moment.day:02d} {_MONTHS[moment.month - 1]} {moment.year} "
        f"{moment.hour:02d}:{moment.minute:02d}:{moment.second:02d} +0000 (UTC)"
    )


def protocol_keyword(
    is_esmtp: bool,
    is_tls: bool = False,
    is_authenticated: bool = False,
    is_utf8: bool = False,
    is_lmtp: bool = False,
) -> str:
    """The keyword of the "with" clause (RFC 3848, RFC 6531 3.7.3): what the session has become.

    `is_utf8` is of a message, not of a session: its MAIL said SMTPUTF8. After HELO it is SMTP,
    whatever else there was.
    """
    if not (is_esmtp or is_lmtp):
        return "SMTP"
    name = "LMTP" if is_lmtp else "SMTP" if is_utf8 else "ESMTP"
    if not (is_tls or is_authenticated or is_utf8):
        return name
    return ("UTF8" if is_utf8 else "") + name + "S" * is_tls + "A" * is_authenticated


def received_prefix(client: ClientIdentity, hostname: str, *, shows_login: bool = False) -> bytes:
    """The part of a Received field that stays the same for a whole session.

    The client's address decides the bracket form (RFC 5321 4.1.3); HELO text and login are
    peer-supplied, so octets outside printable ASCII become "?". The login is shown if the operator
    wants that.
    """
    bracket = f"IPv6:{client.address}" if ":" in client.address else client.address
    helo = client.helo.translate(_PRINTABLE).decode("ascii")
    comments = f"\t(using {client.tls})\r\n" if client.tls else ""
    if shows_login and client.login:
        comments += f"\t(Authenticated sender: {_comment(client.login)})\r\n"
    return (
        f"Received: from {helo} ({client.name} [{bracket}])\r\n"
        f"{comments}\tby {hostname} (fastmta) with {client.protocol} id "
    ).encode("ascii", "replace")


def _comment(text: str) -> str:
    octets = text.encode("utf-8", "replace")[:_LOGIN_OCTETS_MAX]
    return octets.translate(_COMMENT).decode("ascii")


def received_field(prefix: bytes, queue_id: bytes, only_recipient: bytes, date: bytes) -> bytes:
    """The Received field, CR LF included. `only_recipient` is empty when there are several."""
    if only_recipient:
        return b"%b%b\r\n\tfor <%b>; %b\r\n" % (prefix, queue_id, only_recipient, date)
    return b"%b%b;\r\n\t%b\r\n" % (prefix, queue_id, date)
