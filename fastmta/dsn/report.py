"""The parts of a delivery status notification (RFC 3464, RFC 6522) as octets."""

from collections.abc import Sequence

from fastmta.message import Message, Outcome
from fastmta.message.trace import message_date

from .text import (
    canonical,
    fold_long_lines,
    has_long_line,
    header_section,
    plain,
    plain_address,
    plain_original_recipient,
    plain_xtext,
    wrap,
)

ORIGINAL_OCTETS_MAX = 50_000  # a larger message comes back as its header section only

_NOTIFICATION = """\
Content-Description: Notification\r
Content-Type: text/plain; charset=us-ascii\r
\r
This is the mail system at host {hostname}.\r
\r
The message that you sent could not be delivered to the recipients below,\r
and no further attempt will be made. After each address stands the reason.\r
The message, or its header section if it is large or no more was asked for,\r
is attached.\r
\r
Questions about this report reach a human at <postmaster@{hostname}>;\r
please include it when you write.\r
\r
"""


def notification(hostname: str, message: Message, failures: Sequence[tuple[int, Outcome]]) -> bytes:
    """Part 1, for humans."""
    lines = [_NOTIFICATION.format(hostname=hostname)]
    for index, outcome in failures:
        recipient = plain_address(message.envelope.forward_paths[index])
        lines.append(wrap(f"<{recipient}>: {plain(outcome.text)}"))
        lines.append("\r\n")
    return "".join(lines).encode("ascii")


def delivery_report(
    hostname: str, message: Message, failures: Sequence[tuple[int, Outcome]]
) -> bytes:
    """Part 2, for programs: the per-message group and one group per recipient (RFC 3464 2)."""
    arrival = message_date(message.arrived_at_ns // 1_000_000_000)
    dsn = message.envelope.dsn
    envelope_id = "" if dsn is None else plain_xtext(dsn.envelope_id)
    if envelope_id:
        envelope_id = f"Original-Envelope-Id: {envelope_id}\r\n"
    groups = [
        "Content-Description: Delivery report\r\n"
        "Content-Type: message/delivery-status\r\n"
        "\r\n"
        f"Reporting-MTA: dns; {hostname}\r\n"
        f"{envelope_id}"
        f"X-Postfix-Queue-ID: {message.id.decode('ascii')}\r\n"
        f"X-Postfix-Sender: rfc822; {plain_address(message.envelope.reverse_path)}\r\n"
        f"Arrival-Date: {arrival}\r\n"
    ]
    for index, outcome in failures:
        original_recipient = b"" if dsn is None else dsn.original_recipient_of(index)
        forward_path = message.envelope.forward_paths[index]
        groups.append(_recipient_group(forward_path, original_recipient, outcome))
    return "\r\n".join(groups).encode("ascii")


def _recipient_group(forward_path: bytes, original_recipient: bytes, outcome: Outcome) -> str:
    recipient = plain_address(forward_path)
    named = plain_original_recipient(original_recipient) or f"rfc822;{recipient}"
    lines = [
        f"Final-Recipient: rfc822; {recipient}\r\n"
        f"Original-Recipient: {named}\r\n"
        "Action: failed\r\n"
        f"Status: {plain(outcome.status)}\r\n"
    ]
    remote_host = plain(outcome.remote.partition("[")[0])
    if remote_host and outcome.remote != "none":
        lines.append(f"Remote-MTA: dns; {remote_host}\r\n")
    if outcome.diagnostic:
        lines.append(wrap(f"Diagnostic-Code: smtp; {plain(outcome.diagnostic)}"))
    else:
        lines.append(wrap(f"Diagnostic-Code: X-Postfix; {plain(outcome.text)}"))
    return "".join(lines)


def original(reverse_path: bytes, content: bytes, *, is_head: bool) -> tuple[bytes, bool]:
    """Part 3, the message itself or its header section; and whether 8-bit octets are in it.

    `is_head`: only the header section goes back, and only the beginning of `content` is looked at,
    which may be all that the caller has. A line longer than 998 octets fits no transfer encoding
    that message/rfc822 may have (RFC 2046 5.2.1), so such a message too comes back as header
    section, its long lines folded.
    """
    content = canonical(header_section(content, ORIGINAL_OCTETS_MAX) if is_head else content)
    return_path = f"Return-Path: <{plain_address(reverse_path)}>\r\n".encode("ascii")
    if not is_head and not has_long_line(content):
        kind = b"Content-Description: Undelivered Message\r\nContent-Type: message/rfc822\r\n"
        if content and not content.startswith(b"\r\n") and b"\r\n\r\n" not in content:
            content += b"\r\n"  # no body at all: still ends its header section
    else:
        kind = (
            b"Content-Description: Undelivered Message Headers\r\n"
            b"Content-Type: text/rfc822-headers\r\n"
        )
        content = fold_long_lines(header_section(content, ORIGINAL_OCTETS_MAX))
    is_8bit = not content.isascii()
    encoding = b"Content-Transfer-Encoding: 8bit\r\n" if is_8bit else b""
    return b"%b%b\r\n%b%b" % (kind, encoding, return_path, content), is_8bit
