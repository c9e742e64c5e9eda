"""From standard input to a file in the drop directory."""

from __future__ import annotations

import os
import pwd
from itertools import chain

from fastmta.drop import DropFile, FormError, Place, Submission
from fastmta.drop.address import parse_addresses
from fastmta.drop.form import HEADER_FIELDS_MAX, HEADER_OCTETS_MAX

from .file import config_file
from .option import EX_TEMPFAIL, EX_UNAVAILABLE, EX_USAGE, Fatal
from .reading import Lines, count_fields, read_header, recipients_of
from .request import Request
from .whereabouts import drop_directory

TYPE_CHECKING = False  # as mypy knows it: importing `typing` takes as long as all of ours
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

EX_DATAERR, EX_OSERR = 65, 71
_NOBODY = b"MAILER-DAEMON"  # who the null address is, as a recipient


def find_place(chosen: str | None) -> Place:
    """The drop directory that the configuration names.

    One that may not be read names none: then it is the usual one.
    """
    path = config_file(chosen, os.environ, EX_TEMPFAIL)
    if path is not None and not os.access(path, os.R_OK):
        path = None
    directory = drop_directory(path)
    return Place(_ask(path) if directory is None else directory)


def _ask(path: str | None) -> str:
    """A configuration that is not plain, or that is broken: mail is taken all the same."""
    from fastmta.config.glimpse import glimpse, glimpse_of, guess

    seen = glimpse(path, os.environ)
    if seen is None:
        from fastmta.config import ConfigError, load

        try:
            seen = glimpse_of(load(path, os.environ))
        except ConfigError:
            seen = None if path is None else guess(path, os.environ)
            seen = seen or glimpse(None, {})
    assert seen is not None
    return seen.drop_directory


def login_name() -> str:
    """Who runs us. Raises Fatal."""
    user = os.getuid()
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        raise Fatal(f"no login name found for user ID {user}", EX_OSERR) from None


def _whose(sender: bytes) -> str:
    """Begins what is fatal, as at Postfix."""
    return f"{sender.decode('utf-8', 'replace')}({os.getuid()}): "


def full_name() -> str:
    """What the environment or the system calls them, as Postfix has it."""
    name = os.environ.get("NAME", "")
    if name:
        return name
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        return ""
    own = entry.pw_name[:1].upper() + entry.pw_name[1:]
    name = entry.pw_gecos
    for mark in ",;%":
        name = name.partition(mark)[0]
    return name.replace("&", own)


def addresses_of(arguments: Sequence[str]) -> list[bytes]:
    """The recipients on the command line: each word is a list of addresses, perhaps empty."""
    addresses: list[bytes] = []
    for word in arguments:
        found = [mailbox.octets for mailbox in parse_addresses(os.fsencode(word))]
        addresses += found or [_NOBODY]
    return addresses


def sender_of(text: str | None) -> bytes:
    """The reverse-path: b"" is the null one."""
    if text is None:
        return login_name().encode("utf-8", "surrogateescape")
    found = parse_addresses(os.fsencode(text))
    return found[0].octets if found else b""


def submission_of(request: Request, sender: bytes) -> Submission:
    """What the options say of a message, but for its recipients."""
    submission = Submission(sender, [])
    options = submission.options
    name = full_name() if request.full_name is None else request.full_name
    shown = bytes(octet if octet >= 32 else 32 for octet in os.fsencode(name)[:500])
    notify = request.notify
    if request.verbosity and not notify:
        notify = "SUCCESS,FAILURE,DELAY"  # -v: somebody wants to hear what became of it
    envelope_id = b"".join(  # RFC 3461 4: xtext
        b"%c" % octet if 0x21 <= octet <= 0x7E and octet not in b"+=" else b"+%02X" % octet
        for octet in request.envelope_id.encode("ascii", "replace")
    )
    for word, value in (
        (b"name", shown),
        (b"body", request.body.encode()),
        (b"notify", notify.encode()),
        (b"ret", request.returned.encode()),
        (b"envid", envelope_id),
    ):
        if value:
            options[word] = value
    if request.verp:
        options[b"verp"] = request.verp.encode("ascii")
    if request.is_gateway:
        options[b"gateway"] = b""
    if request.is_utf8:
        options[b"smtputf8"] = b""
    return submission


def enqueue(request: Request, read: Callable[[int], bytes]) -> None:
    """Take one message, durably. Raises Fatal."""
    place = find_place(request.config)
    sender = sender_of(request.sender)
    if request.verp and not sender:
        text = "-V option requires non-null sender address"
        raise Fatal(_whose(sender) + text, EX_USAGE)
    recipients = addresses_of(request.recipients)
    if not recipients and not request.takes_fields:
        text = "Recipient addresses must be specified on the command line or via the -t option"
        raise Fatal(_whose(sender) + text, EX_USAGE)
    blocks = iter(Lines(read, request.ends_at_dot))
    octets, end = read_header(blocks, HEADER_OCTETS_MAX)
    if end < 0 or end > HEADER_OCTETS_MAX or count_fields(octets[:end]) > HEADER_FIELDS_MAX:
        raise Fatal(_whose(sender) + "the header section of the message is too long", EX_DATAERR)
    if request.takes_fields:
        recipients += recipients_of(octets[:end])
        if not recipients:
            text = "No recipient addresses found in message header"
            raise Fatal(_whose(sender) + text, EX_USAGE)
    submission = submission_of(request, sender)
    submission.recipients = list(dict.fromkeys(recipients))
    send(place, submission, chain((octets,), blocks))


def send(place: Place, submission: Submission, blocks: Iterable[bytes]) -> None:
    """Leave a message with the server: one file, so it is there for all recipients or for none.

    Raises Fatal: there is nothing of it, then.
    """
    whose = _whose(submission.sender)
    file: DropFile | None = None
    try:
        head = submission.encode()
        facts = place.read_facts()
        refusal = place.refusal(0, facts.free_share)
        if refusal:
            raise Fatal(f"{whose}mail cannot be queued: {refusal}", EX_TEMPFAIL)
        file = DropFile(place)
        file.write(head)
        octets = 0
        for block in blocks:
            octets += len(block) + block.count(b"\n")
            if octets > facts.message_octets:
                text = f"{whose}message is larger than {facts.message_octets} octets"
                raise Fatal(text, EX_UNAVAILABLE)
            file.write(block)
        file.finish()
        file.publish()
    except FormError as problem:
        raise Fatal(f"{whose}bad address or option: {problem}", EX_DATAERR) from None
    except OSError as problem:
        where = problem.filename or place.new
        text = f"{whose}mail cannot be queued: {where}: {problem.strerror}"
        raise Fatal(text, EX_TEMPFAIL) from None
    finally:
        if file is not None:
            file.abandon()
    place.call()
