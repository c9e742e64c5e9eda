"""`sendmail -bv`: ask about addresses; nothing is delivered, and the sender is mailed a report."""

from __future__ import annotations

from .option import EX_USAGE, Fatal
from .submission import addresses_of, find_place, send, sender_of, submission_of

TYPE_CHECKING = False  # as mypy knows it: importing `typing` takes as long as all of ours
if TYPE_CHECKING:
    from .request import Request

_TO_OCTETS_MAX = 64 * 1024  # of the field that names them; it is part of the report


def probe(request: Request) -> None:
    """Leave it with the server. Standard input is not read. Raises Fatal."""
    recipients = list(dict.fromkeys(addresses_of(request.recipients)))
    if not recipients:
        raise Fatal("Recipient addresses must be specified on the command line", EX_USAGE)
    sender = sender_of(request.sender)
    submission = submission_of(request, sender)
    submission.options.pop(b"verp", None)  # the report is for whoever asks
    submission.options[b"probe"] = b""
    submission.recipients = recipients
    send(find_place(request.config), submission, [_content(sender, recipients)])


def _content(sender: bytes, recipients: list[bytes]) -> bytes:
    """What the report shows of it. The fields that it lacks are added as to any other."""
    shown: list[bytes] = []
    octets = 0
    for recipient in recipients:
        octets += len(recipient) + 3
        if octets > _TO_OCTETS_MAX:
            break
        shown.append(recipient)
    author = b"From: %b\n" % sender if sender else b""
    return author + b"Subject: probe\nTo:\t" + b",\n\t".join(shown) + b"\n\n"
