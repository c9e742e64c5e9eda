"""The parts of a delivery status notification (RFC 3464, RFC 6522, RFC 6533) as octets."""

import binascii
import re
from typing import NamedTuple

from fastmta.message import Outcome
from fastmta.message.report import PROBED, SUCCESS
from fastmta.message.trace import message_date

from .story import Form, Story, action_of, is_failure
from .text import (
    TEXT_OCTETS_MAX,
    canonical,
    fold_long_lines,
    has_long_line,
    header_section,
    is_international,
    plain,
    plain_address,
    plain_original_recipient,
    plain_xtext,
    safe_address,
    typed_address,
    wrap,
)
from .wording import ALSO_DELIVERED, INTRODUCTIONS

ORIGINAL_OCTETS_MAX = 50_000  # a larger message comes back as its header section only
# A report must always be smaller than what the spool can store: with very many recipients the
# reasons are cut, and the part for humans names the first of them only.
TEXTS_OCTETS_MAX = 1_000_000
TEXT_OCTETS_MIN = 80
NAMED_MAX = 2_000
_NS_PER_S = 1_000_000_000
_STATUS = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}")
_CLASSES = {
    "failed": "54",
    "delayed": "4",
    "delivered": "2",
    "relayed": "2",
    "deliverable": "2",
    "undeliverable": "54",
}
_SAY_WHERE = ("delivered", "relayed", "deliverable", "undeliverable")
_NOT_UNDELIVERED = (SUCCESS, PROBED)  # kinds
_BASE64_OCTETS = 57  # that make a line of 76


class Part(NamedTuple):
    """One part of a report, its header section included."""

    octets: bytes
    is_8bit: bool


def notification(story: Story) -> Part:
    """Part 1, for humans."""
    until = message_date(story.until_ns // _NS_PER_S)
    introduction = INTRODUCTIONS[story.kind]
    lines = [introduction.format(hostname=story.hostname, until=until)]
    paths = story.message.envelope.forward_paths
    has_failure = story.has_failure
    is_apart = False
    for index, outcome in story.facts[:NAMED_MAX]:
        if has_failure and not is_apart and not is_failure(outcome):
            is_apart = True
            lines.append(ALSO_DELIVERED)
        show = safe_address if story.form.is_global else plain_address
        text = plain(_reason(outcome))[: _text_octets(story)]
        given = story.message.envelope.original_path_of(index)
        shown = f"<{show(paths[index])}>" + (f" (expanded from <{show(given)}>)" if given else "")
        lines.append(wrap(f"{shown}: {text}") + "\r\n")
    left_out = len(story.facts) - NAMED_MAX
    if left_out > 0:
        lines.append(f"({left_out} more recipients are named in the next part only.)\r\n")
    text = "".join(lines)
    charset = "us-ascii" if text.isascii() else "utf-8"
    head = f"Content-Description: Notification\r\nContent-Type: text/plain; charset={charset}\r\n"
    return _part(head, text.encode("utf-8"), story.form)


def _reason(outcome: Outcome) -> str:
    """What is said of a recipient. A reply that is all of the text does not say whose it is."""
    if action_of(outcome) in _SAY_WHERE and "[" in outcome.remote:
        return f"delivery via {outcome.remote}: {outcome.text}"
    return outcome.text


def delivery_report(story: Story) -> Part:
    """Part 2, for programs: the per-message group and one group per recipient (RFC 3464 2)."""
    message, is_global = story.message, story.form.is_global
    dsn = message.envelope.dsn
    envelope_id = "" if dsn is None else plain_xtext(dsn.envelope_id)
    if envelope_id:
        envelope_id = f"Original-Envelope-Id: {envelope_id}\r\n"
    sender = message.envelope.reverse_path
    if sender:
        sender_field = f"X-Postfix-Sender: {typed_address(sender, is_global=is_global)}\r\n"
    else:
        sender_field = ""
    groups = [
        f"Reporting-MTA: dns; {story.hostname}\r\n"
        f"{envelope_id}"
        f"X-Postfix-Queue-ID: {message.id.decode('ascii')}\r\n"
        f"{sender_field}"
        f"Arrival-Date: {message_date(message.arrived_at_ns // _NS_PER_S)}\r\n"
    ]
    groups += [_recipient_group(story, index, outcome) for index, outcome in story.facts]
    text = "\r\n".join(groups)
    kind = "message/global-delivery-status" if is_global else "message/delivery-status"
    head = f"Content-Description: Delivery report\r\nContent-Type: {kind}\r\n"
    return _part(head, text.encode("utf-8"), story.form)


def _recipient_group(story: Story, index: int, outcome: Outcome) -> str:
    envelope, is_global = story.message.envelope, story.form.is_global
    final = typed_address(envelope.forward_paths[index], is_global=is_global)
    asked = b"" if envelope.dsn is None else envelope.dsn.original_recipient_of(index)
    named = plain_original_recipient(asked, is_global=is_global)
    if not named:
        given = envelope.original_path_of(index) or envelope.forward_paths[index]
        named = typed_address(given, is_global=is_global).replace("; ", ";", 1)
    lines = [
        f"Final-Recipient: {final}\r\n"
        f"Original-Recipient: {named}\r\n"
        f"Action: {action_of(outcome)}\r\n"
        f"Status: {_status(outcome)}\r\n"
    ]
    remote_host = plain(outcome.remote.partition("[")[0])
    if remote_host and outcome.remote != "none":
        lines.append(f"Remote-MTA: dns; {remote_host}\r\n")
    octets_max = _text_octets(story)
    if outcome.diagnostic:
        lines.append(wrap(f"Diagnostic-Code: smtp; {plain(outcome.diagnostic)[:octets_max]}"))
    else:
        lines.append(wrap(f"Diagnostic-Code: X-Postfix; {plain(outcome.text)[:octets_max]}"))
    if story.until_ns:
        lines.append(f"Will-Retry-Until: {message_date(story.until_ns // _NS_PER_S)}\r\n")
    return "".join(lines)


def _status(outcome: Outcome) -> str:
    """The status of `outcome`, if it is one and its class fits the action (RFC 3464 2.3.4)."""
    classes = _CLASSES[action_of(outcome)]
    found = _STATUS.fullmatch(outcome.status)
    return outcome.status if found and found[1] in classes else f"{classes[0]}.0.0"


def _text_octets(story: Story) -> int:
    """How much of each reason there is room for."""
    share = TEXTS_OCTETS_MAX // len(story.facts)
    return max(TEXT_OCTETS_MIN, min(TEXT_OCTETS_MAX, share))


def original(story: Story, content: bytes, octets_max: int, *, is_head: bool) -> Part:
    """Part 3, the message itself or its header section.

    `is_head`: only the header section goes back, and only the beginning of `content` is looked at,
    which may be all that the caller has. A line longer than 998 octets fits no transfer encoding
    that message/rfc822 may have (RFC 2046 5.2.1), so such a message too comes back as header
    section, its long lines folded.
    """
    content = canonical(header_section(content, octets_max) if is_head else content)
    reverse_path, form = story.message.envelope.reverse_path, story.form
    sender = safe_address(reverse_path) if form.is_global else plain_address(reverse_path)
    return_path = f"Return-Path: <{sender}>\r\n".encode()
    is_whole = not is_head and not has_long_line(content)
    if is_whole:
        if content and not content.startswith(b"\r\n") and b"\r\n\r\n" not in content:
            content += b"\r\n"  # no body at all: still ends its header section
    else:
        content = fold_long_lines(header_section(content, octets_max))
    is_global = form.is_global and (
        not return_path.isascii() or is_international(header_section(content, len(content)))
    )
    what = "Message" if story.kind in _NOT_UNDELIVERED else "Undelivered Message"
    if is_whole:
        kind = "message/global" if is_global else "message/rfc822"
        head = f"Content-Description: {what}\r\nContent-Type: {kind}\r\n"
    else:
        kind = "message/global-headers" if is_global else "text/rfc822-headers"
        head = f"Content-Description: {what} Headers\r\nContent-Type: {kind}\r\n"
    # Nothing but 7bit, 8bit and binary may be the encoding of message/rfc822 (RFC 2046 5.2.1).
    return _part(head, return_path + content, form if is_global else Form.CLASSIC)


def _part(head: str, body: bytes, form: Form) -> Part:
    """`head` and `body` with the transfer encoding that is needed."""
    is_8bit = not body.isascii()
    if is_8bit and form is Form.ENCODED:
        head += "Content-Transfer-Encoding: base64\r\n"
        steps = range(0, len(body), _BASE64_OCTETS)
        lines = (binascii.b2a_base64(body[at : at + _BASE64_OCTETS]) for at in steps)
        return Part(b"%b\r\n%b" % (head.encode(), b"".join(lines).replace(b"\n", b"\r\n")), False)
    if is_8bit:
        head += "Content-Transfer-Encoding: 8bit\r\n"
    return Part(b"%b\r\n%b" % (head.encode("ascii"), body), is_8bit)
