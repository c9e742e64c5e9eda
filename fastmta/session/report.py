"""What is told of a session: a refusal, and its end."""

from __future__ import annotations

from itertools import compress
from operator import add
from typing import TYPE_CHECKING

from fastmta.event import ClientDisconnected, CommandRefused, Notice, Severity
from fastmta.smtp import Reply, Verb

from .score import uncount
from .state import State

if TYPE_CHECKING:
    from .session import Session

STAGES = tuple(verb.name for verb in sorted(Verb, key=int))
_ADDRESS_OCTETS_MAX = 256  # of a bad one that are shown
_VERB_NAMES = tuple(stage.lower() for stage in STAGES)


def refusal_of_command(
    session: Session, stage: str, reply: Reply, paths: tuple[bytes | None, bytes | None]
) -> CommandRefused:
    """A command or content was refused for policy or limits; `paths` are those of the command."""
    transaction = session.transaction
    reverse_path, forward_path = paths
    if reverse_path is None and session.state >= State.MAIL:
        reverse_path = transaction.reverse_path
    return CommandRefused(
        client=session.client,
        stage=stage,
        reply=reply.text,
        queue_id=transaction.queue_id,
        reverse_path=reverse_path,
        forward_path=forward_path,
        protocol="ESMTP" if session.is_esmtp else "SMTP",
        helo=session.identity.helo,
        login=session.login,
        mechanism=session.mechanism if session.login else "",
        service=session.ports.settings.service,
    )


def bad_address(session: Session, stage: str) -> Notice:
    """The path of MAIL or RCPT is none."""
    shown = session.framing.argument.partition(b":")[2][:_ADDRESS_OCTETS_MAX].decode("latin-1")
    text = f"Illegal address syntax from {session.client} in {stage} command: {shown.strip(' ')}"
    return Notice("smtpd", text, Severity.WARNING)


def end_of_session(session: Session, reason: str, octets: int) -> ClientDisconnected:
    """The connection is gone; commands by verb: so many were accepted, of so many."""
    if session.is_starting_tls:  # accepted, and nothing came of it
        uncount(session, Verb.STARTTLS)
    totals = [*map(add, session.accepted, session.others)]
    counts = zip(session.accepted, totals, strict=True)
    verbs = dict(compress(zip(_VERB_NAMES, counts, strict=True), totals))
    service = session.ports.settings.service
    return ClientDisconnected(session.client, verbs, reason, session.stage, octets, service)
