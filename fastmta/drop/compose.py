"""From what a local program wrote to a message: its envelope, and what its header section lacks.

As Postfix does for local mail: a Received field; addresses without a domain get the origin, in the
envelope and in the fields; From, Date and Message-Id are added when they are missing; Bcc goes.
"""

from __future__ import annotations

import re
import time
from typing import NamedTuple

from fastmta.message import ClientIdentity, Envelope
from fastmta.message.envelope import DSNRequest
from fastmta.smtp import limit, parse_mail, parse_rcpt, scan_header_section
from fastmta.smtp.parameter import parse_envid, parse_notify, parse_orcpt, parse_ret
from fastmta.smtp.problem import Problem

from .address import parse_addresses
from .alias import Aliases
from .form import HEADER_FIELDS_MAX, HEADER_OCTETS_MAX, FormError, Submission
from .mailbox import Mailbox
from .verp import return_path

NAMED_OCTETS_MAX = 254  # of what is no address
REMARKS_MAX = 20  # of one message: each is a line of the log
# RFC 2606 2: mail to what is no address goes where it is refused, and its sender hears of it.
_NOWHERE = b"@bad-address.invalid"
_LOCAL_DOMAINS = (b"localhost", b"localhost.localdomain")
_ADDRESS_FIELD = re.compile(
    rb"^(?:(?:resent-)?(?:from|sender|to|cc|reply-to)|return-receipt-to|errors-to)[ \t]*:"
    rb"((?:.*\r\n)(?:[ \t].*\r\n)*)",
    re.IGNORECASE | re.MULTILINE,
)
_SEEN = re.compile(rb"^((?:resent-)?(?:from|date|message-id)|resent-[a-z-]+)[ \t]*:",
                   re.IGNORECASE | re.MULTILINE)  # fmt: skip
_EMPTY_LINE = b"\r\n\r\n"
_ATOMS = re.compile(rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ \x80-\xff-]*")


class Rules(NamedTuple):
    """What the server's configuration says of local mail."""

    hostname: bytes
    origin: bytes
    postmaster: bytes
    drop_fields: frozenset[bytes]


class Author(NamedTuple):
    """Who wrote a file, by its owner."""

    user_id: int
    login: str  # "" when that user has no name


class Addressed(NamedTuple):
    """An envelope, and what a person should know of how it came about."""

    envelope: Envelope
    sender: bytes  # for From: the reverse-path, but for what VERP adds to it
    remarks: list[str]


def address(submission: Submission, author: Author, rules: Rules, aliases: Aliases) -> Addressed:
    """The envelope of a submission: each recipient is in it, in some form."""
    remarks: list[str] = []
    is_utf8 = b"smtputf8" in submission.options or not _is_ascii(submission)
    paths: dict[bytes, int] = {}  # and which recipient each is of
    originals: list[bytes] = []  # and what was named instead
    expanded: set[bytes] = set()
    for index, recipient in enumerate(submission.recipients):
        for path in _resolve(recipient, rules, aliases, expanded, remarks):
            if path not in paths:
                paths[path] = index
                originals.append(_named(recipient, path))
    sender = reverse_path = _sender(submission.sender, author, rules, remarks)
    if sender and b"verp" in submission.options:
        reverse_path = _return_path(sender, submission, remarks)
    if len(remarks) > REMARKS_MAX:
        remarks[REMARKS_MAX:] = [f"and {len(remarks) - REMARKS_MAX} more of the like"]
    login = f"local:{author.login or author.user_id}"
    client = ClientIdentity("127.0.0.1", "localhost", rules.hostname, "local", login)
    envelope = Envelope(
        reverse_path,
        tuple(paths),
        client,
        submission.options.get(b"body", b"").upper() == b"8BITMIME",
        login,
        is_utf8,
        _dsn(submission, list(paths.values())),
        is_probe=b"probe" in submission.options,
        original_paths=tuple(originals) if any(originals) else (),
    )
    return Addressed(envelope, sender, remarks)


def received(author: Author, id: bytes, rules: Rules, date: bytes) -> bytes:
    """Our Received field (RFC 5321 4.4)."""
    return b"Received: by %b (fastmta, from userid %d)\r\n\tid %b; %b\r\n" % (
        rules.hostname,
        author.user_id,
        id,
        date,
    )


class Header(NamedTuple):
    """The beginning of a content, completed."""

    octets: bytes
    message_id: bytes


def complete(
    first: bytes, trace_octets: int, submission: Submission, sender: bytes,
    rules: Rules, times: tuple[bytes, int, bytes],
) -> Header:  # fmt: skip
    """`first` is canonical, begins with our Received field and has the whole header section.

    `times` is the date as a field has it, the same as seconds, and the queue id. Raises FormError.
    """
    end, hops, fields, message_id, spans = scan_header_section(
        first, trace_octets, rules.drop_fields
    )
    if hops > limit.HOPS_MAX:
        raise FormError("it has been here before: too many Received fields")
    if end - trace_octets > HEADER_OCTETS_MAX or fields > HEADER_FIELDS_MAX:
        raise FormError("its header section is too long")
    has_blank = first[max(end - 4, trace_octets - 2) : end] == _EMPTY_LINE
    at = end - 2 if has_blank else end
    header, rest = first[trace_octets:at], first[at:]
    seen = {match[1].lower() for match in _SEEN.finditer(header)}
    for begin, behind in reversed(spans):
        header = header[: begin - trace_octets] + header[behind - trace_octets :]
    if header and not header.endswith(b"\r\n"):
        header += b"\r\n"
    if b"gateway" not in submission.options:
        header = _qualify(header, rules.origin)
        added, message_id = _missing(seen, message_id, submission, sender, rules, times)
        header += added
    between = b"\r\n" if rest and not has_blank else b""
    return Header(first[:trace_octets] + header + between + rest, message_id)


def _is_ascii(submission: Submission) -> bool:
    return submission.sender.isascii() and all(one.isascii() for one in submission.recipients)


def _resolve(
    recipient: bytes, rules: Rules, aliases: Aliases, known: set[bytes], remarks: list[str]
) -> list[bytes]:
    """The forward-paths that a recipient means: aliases of this machine, or itself.

    None of an alias that is `known`, in whatever form: each is looked up, and its lists are read,
    once for a message.
    """
    path = _path(recipient)
    if path is None:
        return [_nowhere(recipient, remarks)]
    name = _local_name(path, rules)
    if name is None:
        return [path]
    if name.lower() in known:
        return []
    expanded = aliases.expand(name)
    if expanded is None:
        return [_default(name, rules)]
    known.add(name.lower())
    targets, lacks = expanded
    paths = []
    for target in targets:
        found = _path(target)
        if found is None:
            paths.append(_nowhere(target, remarks))
            continue
        local = _local_name(found, rules)
        paths.append(found if local is None else _default(local, rules))
    if lacks or not paths:
        paths.append(rules.postmaster)
        shown = name.decode("ascii", "replace")
        for why in lacks or ["nobody"]:
            remarks.append(f"alias {shown} leads to {why}; the mail goes to the postmaster")
    return paths


def _named(recipient: bytes, path: bytes) -> bytes:
    """What a recipient was called, when that is not `path`; b"" when it is, but for its case."""
    named = (_path(recipient) or recipient[:NAMED_OCTETS_MAX]).removesuffix(b"@")
    return b"" if named.lower() == path.lower() else named


def _path(text: bytes) -> bytes | None:
    """The canonical path, `name@` when it has no domain; None: it is no address."""
    found = parse_addresses(text)
    if len(found) != 1:
        return None
    octets = found[0].octets
    if octets.isascii():
        problem, path, _ = parse_rcpt(b"TO:<%b>" % octets)
    else:
        problem, path, _ = parse_rcpt(b"TO:<%b>" % octets, True)
    return path if problem in (Problem.NONE, Problem.SOURCE_ROUTE) and path else None


def _local_name(path: bytes, rules: Rules) -> bytes | None:
    """The name that aliases are for; None: it is not one of this machine."""
    local_part, _, domain = path.rpartition(b"@")
    is_here = not domain or domain == rules.hostname or domain in _LOCAL_DOMAINS
    return local_part if is_here else None


def _default(name: bytes, rules: Rules) -> bytes:
    return rules.postmaster if name.lower() == b"postmaster" else name + b"@" + rules.origin


def _nowhere(text: bytes, remarks: list[str]) -> bytes:
    shown = bytes(octet if 32 <= octet < 127 else 63 for octet in text[:100])
    remarks.append(f"<{shown.decode('ascii')}> is not an address; its mail comes back")
    return b'"' + re.sub(rb'(["\\])', rb"\\\1", shown[:60]) + b'"' + _NOWHERE


def _sender(text: bytes, author: Author, rules: Rules, remarks: list[str]) -> bytes:
    found = parse_addresses(text)
    if not found:
        return b""
    path = _reverse_path(found[0].octets)
    if path is None:
        login = author.login or f"uid{author.user_id}"
        remarks.append(f"the sender it names is not an address; it is {login}")
        path = login.encode("ascii", "replace").replace(b"?", b"_") + b"@"
    return path + rules.origin if path.endswith(b"@") else path


def _reverse_path(octets: bytes) -> bytes | None:
    """The canonical path, `name@` when it has no domain; None: it is no address."""
    suffix = b"" if octets.isascii() else b" SMTPUTF8"
    problem, path, _ = parse_mail(b"FROM:<%b>%b" % (octets, suffix), True)
    return path if problem in (Problem.NONE, Problem.SOURCE_ROUTE) else None


def _return_path(sender: bytes, submission: Submission, remarks: list[str]) -> bytes:
    """The reverse-path of mail for one recipient, by which it is known in a report."""
    recipient = submission.recipients[0]
    found = parse_addresses(recipient)
    mailbox = found[0] if len(found) == 1 else Mailbox(recipient, False, 0)
    made = return_path(sender, mailbox, submission.options[b"verp"])
    path = _reverse_path(made)
    if path is None:
        remarks.append("no return path can be made of its recipient; the plain sender hears of it")
    return path or sender


def _dsn(submission: Submission, recipients: list[int]) -> DSNRequest | None:
    """`recipients`: of which of those in the submission each forward-path is."""
    options, its = submission.options, submission.its
    general = parse_notify(options[b"notify"]) if b"notify" in options else None
    returned = parse_ret(options.get(b"ret", b"")) if b"ret" in options else None
    envelope_id = parse_envid(options.get(b"envid", b"")) if b"envid" in options else None
    notify = tuple(
        parse_notify(its.get((index, b"its-notify"), b"")) or general or "" for index in recipients
    )
    original = tuple(
        parse_orcpt(its.get((index, b"its-orcpt"), b"")) or b"" for index in recipients
    )
    if not (any(notify) or any(original) or returned or envelope_id):
        return None
    return DSNRequest(
        returned or "",
        envelope_id or b"",
        notify if any(notify) else (),
        original if any(original) else (),
    )


def _qualify(header: bytes, origin: bytes) -> bytes:
    """Addresses in fields that have no domain get the origin."""

    def qualified(match: re.Match[bytes]) -> bytes:
        field, value = match[0], match[1]
        if value.count(b"@") > value.count(b","):
            return field  # as nearly all are
        begin = len(field) - len(value)
        pieces: list[bytes] = []  # joined once: there may be very many
        done = 0
        for mailbox in parse_addresses(value):
            if not mailbox.is_qualified:
                at = begin + mailbox.end
                pieces += (field[done:at], b"@", origin)
                done = at
        return b"".join((*pieces, field[done:]))

    return _ADDRESS_FIELD.sub(qualified, header)


def _missing(
    seen: set[bytes], message_id: bytes, submission: Submission, sender: bytes,
    rules: Rules, times: tuple[bytes, int, bytes],
) -> tuple[bytes, bytes]:  # fmt: skip
    """(fields to add to those `seen`, the Message-Id then); of mail sent again, Resent- ones."""
    date, seconds, id = times
    prefix = b"Resent-" if any(name.startswith(b"resent-") for name in seen) else b""
    added = []
    if (prefix + b"Message-Id").lower() not in seen:
        stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime(seconds)).encode("ascii")
        made = b"<%b.%b@%b>" % (stamp, id, rules.hostname)
        added.append(b"%bMessage-Id: %b\r\n" % (prefix, made))
        if not prefix:
            message_id = made
    if (prefix + b"Date").lower() not in seen:
        added.append(b"%bDate: %b\r\n" % (prefix, date))
    if (prefix + b"From").lower() not in seen:
        path = sender or b"MAILER-DAEMON@" + rules.origin
        name = submission.options.get(b"name", b"").strip(b" \t")
        added.append(b"%bFrom: %b\r\n" % (prefix, _mailbox(name, path)))
    return b"".join(added), message_id


def _mailbox(name: bytes, path: bytes) -> bytes:
    """`Full Name <path>`, quoted where it has to be."""
    name = bytes(octet if octet >= 32 and octet != 127 else 32 for octet in name)
    if not name:
        return path
    if not _ATOMS.fullmatch(name):
        name = b'"' + re.sub(rb'(["\\])', rb"\\\1", name) + b'"'
    return b"%b <%b>" % (name, path)
