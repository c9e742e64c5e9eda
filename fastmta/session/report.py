"""What is told of a session: a refusal, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmta.event import ClientDisconnected, CommandRefused
from fastmta.smtp import Reply, Verb

from .state import State

if TYPE_CHECKING:
    from .session import Session

STAGES = tuple(verb.name for verb in sorted(Verb, key=int))
_VERB_NAMES = tuple(stage.lower() for stage in STAGES)


def refusal_of_command(
    session: Session, stage: str, reply: Reply, forward_path: bytes | None
) -> CommandRefused:
    """A command or content was refused for policy or limits."""
    transaction = session.transaction
    return CommandRefused(
        client=session.client,
        stage=stage,
        reply=reply.text,
        queue_id=transaction.queue_id,
        reverse_path=None if session.state < State.MAIL else transaction.reverse_path,
        forward_path=forward_path,
        protocol="ESMTP" if session.is_esmtp else "SMTP",
        helo=session.identity.helo,
    )


def end_of_session(
    client: str, accepted: list[int], totals: list[int], reason: str, stage: str, octets: int
) -> ClientDisconnected:
    """The connection is gone; commands by verb: of `totals` so many were `accepted`."""
    verbs = {}
    for verb, total in enumerate(totals):
        if total:
            verbs[_VERB_NAMES[verb]] = (accepted[verb], total)
    return ClientDisconnected(client, verbs, reason, stage, octets)
