"""The error policy: what each thing that can go wrong means, how far it reaches, how it is told.

One function per kind of failure, each making the `Outcome` that stands for it. Texts are Postfix's,
because people and programs read logs and bounces by them. Nobody else in this room makes a failed
or deferred outcome.
"""

from typing import Final

import msgspec

from fastmta.message import Outcome, OutcomeKind, Scope
from fastmta.route import Target
from fastmta.smtp import Reply

DEFERRED: Final = OutcomeKind.DEFERRED
FAILED: Final = OutcomeKind.FAILED
CLOSING: Final = 421  # RFC 5321 3.8: the server closes the session, whatever it was asked


class Peer:
    """A target as texts show it, made once per session."""

    __slots__ = ("name", "relay")

    def __init__(self, target: Target) -> None:
        self.name = f"{target.host}[{target.address}]"
        self.relay = f"{self.name}:{target.port}"  # the log's relay= field


def status_of(reply: Reply) -> str:
    """Enhanced status code of `reply`, made from its class when the server gave none."""
    return reply.enhanced_status or f"{reply.code // 100}.0.0"


def said(peer: Peer, reply: Reply, command: str) -> Outcome:
    """The server refused `command` (`RCPT TO command`) with `reply`.

    421 is the host's trouble. A reply of a class that answers no such command is a broken server:
    that defers, as no recipient may be given up for it.
    """
    scope = Scope.RECIPIENT if command == "RCPT TO command" else Scope.TRANSACTION
    if reply.code == CLOSING:
        scope = Scope.HOST
    text = f"host {peer.name} said: {reply.text} (in reply to {command})"
    if reply.is_permanent:
        return Outcome(FAILED, status_of(reply), text, scope, peer.relay, reply.text)
    if reply.is_transient:
        return Outcome(DEFERRED, status_of(reply), text, scope, peer.relay, reply.text)
    return Outcome(DEFERRED, "4.5.0", f"Protocol error: {text}", scope, peer.relay, reply.text)


def refused_greeting(peer: Peer, reply: Reply) -> Outcome:
    """The greeting was no 220. A 5xx there is no verdict on the mail: the next host may take it."""
    status = "4" + status_of(reply)[1:]
    text = f"host {peer.name} refused to talk to me: {reply.text}"
    return Outcome(DEFERRED, status, text, Scope.HOST, peer.relay, reply.text)


def refused_helo(peer: Peer, reply: Reply) -> Outcome:
    """The server refused EHLO with 421, or HELO with anything."""
    text = f"host {peer.name} refused to talk to me: {reply.text}"
    if reply.is_permanent:
        return Outcome(FAILED, status_of(reply), text, Scope.HOST, peer.relay, reply.text)
    status = status_of(reply) if reply.is_transient else "4.5.0"
    return Outcome(DEFERRED, status, text, Scope.HOST, peer.relay, reply.text)


def lost(peer: Peer, stage: str) -> Outcome:
    """The connection ended while `stage` (`sending RCPT TO`)."""
    text = f"lost connection with {peer.name} while {stage}"
    return Outcome(DEFERRED, "4.4.2", text, Scope.HOST, peer.relay)


def in_doubt(outcome: Outcome) -> Outcome:
    """`outcome` of a session, as it is for a message that the peer may have taken.

    It counts as an attempt and waits like one: sent again as soon as the peer answers, a message
    that makes a server hang up after storing it would arrive over and over.
    """
    return msgspec.structs.replace(outcome, scope=Scope.TRANSACTION)


def timed_out(peer: Peer, stage: str) -> Outcome:
    """The server did not answer, or not read, in time while `stage`."""
    text = f"conversation with {peer.name} timed out while {stage}"
    return Outcome(DEFERRED, "4.4.2", text, Scope.HOST, peer.relay)


def broke_protocol(peer: Peer, stage: str, detail: str) -> Outcome:
    """What came is no reply, or a reply nobody asked for."""
    text = f"protocol error by {peer.name} while {stage}: {detail}"
    return Outcome(DEFERRED, "4.5.0", text, Scope.HOST, peer.relay)


def too_big(peer: Peer, size_octets: int, limit_octets: int) -> Outcome:
    """The message is larger than the server announced to take (RFC 1870 5)."""
    text = f"message size {size_octets} exceeds size limit {limit_octets} of server {peer.name}"
    return Outcome(FAILED, "5.3.4", text, Scope.TRANSACTION, peer.relay)


def needs_utf8(peer: Peer, scope: Scope) -> Outcome:
    """The server would not understand the addresses or the header section (RFC 6531 3.2)."""
    text = f"SMTPUTF8 is required, but was not offered by host {peer.name}"
    return Outcome(FAILED, "5.6.7", text, scope, peer.relay)


def unreachable(peer: Peer, reason: str) -> Outcome:
    """No connection came about. `reason` as the system words it: `Connection refused`."""
    text = f"connect to {peer.relay}: {reason}"
    return Outcome(DEFERRED, "4.4.1", text, Scope.HOST)


def internal(detail: str) -> Outcome:
    """We are at fault. The mail waits; nothing about the path or the recipient is known."""
    return Outcome(DEFERRED, "4.3.0", f"internal error: {detail}", Scope.TRANSACTION)


def unsendable(detail: str) -> Outcome:
    """The stored content must never leave (RFC 5321 2.3.8: a lone CR or LF smuggles mail)."""
    return Outcome(DEFERRED, "4.3.0", f"content cannot be sent: {detail}", Scope.TRANSACTION)


def unreadable() -> Outcome:
    """The stored content is damaged, or the disk does not give it; the log says which."""
    text = "content cannot be read from the queue"
    return Outcome(DEFERRED, "4.3.0", text, Scope.TRANSACTION)


def shut_down() -> Outcome:
    """This courier closes: tried again by the next one."""
    return Outcome(DEFERRED, "4.3.2", "delivery interrupted by shutdown", Scope.EGRESS)
