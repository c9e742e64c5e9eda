"""`sendmail -bs`: SMTP on standard input and output, into the drop directory."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from fastmta.drop import Submission

from .option import Fatal
from .request import Request
from .submission import find_place, send

if TYPE_CHECKING:
    from fastmta.message import Envelope


def converse(request: Request) -> int:
    """The command."""
    from fastmta.daemon.stdio import Setting
    from fastmta.daemon.stdio import converse as talk

    place = find_place(request.config)
    facts = place.read_facts()

    def keep(envelope: Envelope, content: bytes) -> None:
        try:
            send(place, submission_of(envelope), (content,))
        except Fatal as fatal:
            raise OSError(str(fatal)) from None

    setting = Setting(facts.hostname or socket.gethostname(), facts.message_octets, 10_000)
    talk(setting, keep, lambda octets: os.read(0, octets), _write)
    return 0


def submission_of(envelope: Envelope) -> Submission:
    """One file, whatever the recipients wish."""
    submission = Submission(envelope.reverse_path, list(envelope.forward_paths))
    dsn = envelope.dsn
    for word, value in (
        (b"body", b"8BITMIME" if envelope.is_8bit else b""),
        (b"ret", b"" if dsn is None else dsn.returned.encode("ascii")),
        (b"envid", b"" if dsn is None else dsn.envelope_id),
    ):
        if value:
            submission.options[word] = value
    if envelope.is_utf8:
        submission.options[b"smtputf8"] = b""
    if dsn is not None:
        for index in range(len(envelope.forward_paths)):
            for word, value in (
                (b"its-notify", dsn.notify_of(index).encode("ascii")),
                (b"its-orcpt", dsn.original_recipient_of(index)),
            ):
                if value:
                    submission.its[index, word] = value
    return submission


def _write(octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        view = view[os.write(1, view) :]
