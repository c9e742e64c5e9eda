"""The error policy: what each thing that can go wrong means, how far it reaches, how it is told.

One function per kind of failure, each making the `Outcome` that stands for it. Texts are Postfix's,
because people and programs read logs and bounces by them. Nobody else in this room makes a failed
or deferred outcome.
"""

from typing import Final

import msgspec

from fastmta.message import Outcome, OutcomeKind, Scope
from fastmta.message.category import Category
from fastmta.route import Target
from fastmta.smtp import Reply

from .classify import Rules, Verdict

DEFERRED: Final = OutcomeKind.DEFERRED
FAILED: Final = OutcomeKind.FAILED
NO_REQUIRETLS: Final = "5.7.30"  # RFC 8689 5
UNREACHED: Final = "4.4.1"
IN_DOUBT: Final = Category.SOFT_IN_DOUBT.value
_CERTIFICATE: Final = "Server certificate"
CLOSING: Final = 421  # RFC 5321 3.8: the server closes the session, whatever it was asked


class Peer:
    """A target as texts show it and as its replies are judged, made once per session."""

    __slots__ = ("_provider", "_rules", "name", "relay")

    def __init__(self, target: Target, rules: Rules | None = None, label: str = "") -> None:
        """`label`: the name of the relay, which may say whose server it is."""
        self._rules = rules
        self._provider = "" if rules is None else rules.provider_of(target.host, label)
        self.name = f"{target.host}[{target.address}]"
        is_unix = target.address.startswith("/")
        self.relay = self.name if is_unix else f"{self.name}:{target.port}"  # the log's relay=

    def judge(self, reply: Reply, command: str, scope: Scope) -> Verdict | None:
        """What a refusal means, reaching at least `scope`; None: nobody says."""
        if self._rules is None or not (reply.is_permanent or reply.is_transient):
            return None
        return self._rules.classify(reply, command, self._provider, scope)


def status_of(reply: Reply) -> str:
    """Enhanced status code of `reply`, made from its class when the server gave none."""
    return reply.enhanced_status or f"{reply.code // 100}.0.0"


def said(
    peer: Peer, reply: Reply, command: str, scope: Scope = Scope.TRANSACTION
) -> tuple[Outcome, bool]:
    """The server refused `command` (`DATA command`) with `reply`; `scope` is the command's.

    421 is the host's trouble. A reply of a class that answers no such command is a broken server:
    that defers, as no recipient may be given up for it. The second value says that another host of
    the site would say the same, and count it.
    """
    if reply.code == CLOSING:
        scope = Scope.HOST
    text = f"host {peer.name} said: {reply.text} (in reply to {command})"
    verdict = peer.judge(reply, command, scope)
    if verdict is not None:
        status, category = verdict.status_of(reply), verdict.category.value
        outcome = Outcome(
            verdict.kind, status, text, verdict.scope, peer.relay, reply.text, category
        )
        return outcome, verdict.ends_attempt
    if reply.is_permanent:
        return Outcome(FAILED, status_of(reply), text, scope, peer.relay, reply.text), False
    if reply.is_transient:
        return Outcome(DEFERRED, status_of(reply), text, scope, peer.relay, reply.text), False
    text = f"Protocol error: {text}"
    category = Category.HARD_PROTOCOL.value
    outcome = Outcome(DEFERRED, "4.5.0", text, scope, peer.relay, reply.text, category)
    return outcome, False


def _with_verdict(peer: Peer, outcome: Outcome, reply: Reply, command: str) -> Outcome:
    """`outcome` of a session that did not come about, in the words and the width of the rules."""
    verdict = peer.judge(reply, command, outcome.scope)
    if verdict is None:
        return outcome
    kind, status = outcome.kind, outcome.status
    if verdict.kind is DEFERRED and kind is FAILED:  # a signal: nothing bounces for it
        kind, status = DEFERRED, verdict.status_of(reply)
    return msgspec.structs.replace(
        outcome, kind=kind, status=status, scope=verdict.scope, category=verdict.category.value
    )


def refused_greeting(peer: Peer, reply: Reply) -> Outcome:
    """The greeting was no 220. A 5xx there is no verdict on the mail: the next host may take it."""
    status = "4" + status_of(reply)[1:]
    text = f"host {peer.name} refused to talk to me: {reply.text}"
    outcome = Outcome(DEFERRED, status, text, Scope.HOST, peer.relay, reply.text)
    return _with_verdict(peer, outcome, reply, "connect")


def refused_helo(peer: Peer, reply: Reply) -> Outcome:
    """The server refused EHLO with 421, or HELO with anything."""
    text = f"host {peer.name} refused to talk to me: {reply.text}"
    kind = FAILED if reply.is_permanent else DEFERRED
    status = status_of(reply) if reply.is_permanent or reply.is_transient else "4.5.0"
    outcome = Outcome(kind, status, text, Scope.HOST, peer.relay, reply.text)
    return _with_verdict(peer, outcome, reply, "EHLO")


def lost(peer: Peer, stage: str) -> Outcome:
    """The connection ended while `stage` (`sending RCPT TO`)."""
    text = f"lost connection with {peer.name} while {stage}"
    return Outcome(
        DEFERRED, "4.4.2", text, Scope.HOST, peer.relay, category=Category.SOFT_CONNECTION.value
    )


def in_doubt(outcome: Outcome) -> Outcome:
    """`outcome` of a session, as it is for a message that the peer may have taken.

    It counts as an attempt and waits like one: sent again as soon as the peer answers, a message
    that makes a server hang up after storing it would arrive over and over. For the same reason no
    other host of the site is asked at once.
    """
    return msgspec.structs.replace(outcome, scope=Scope.TRANSACTION, category=IN_DOUBT)


def timed_out(peer: Peer, stage: str) -> Outcome:
    """The server did not answer, or not read, in time while `stage`."""
    text = f"conversation with {peer.name} timed out while {stage}"
    return Outcome(
        DEFERRED, "4.4.2", text, Scope.HOST, peer.relay, category=Category.SOFT_TIMEOUT.value
    )


def broke_protocol(peer: Peer, stage: str, detail: str) -> Outcome:
    """What came is no reply, or a reply nobody asked for."""
    text = f"protocol error by {peer.name} while {stage}: {detail}"
    return Outcome(
        DEFERRED, "4.5.0", text, Scope.HOST, peer.relay, category=Category.HARD_PROTOCOL.value
    )


def too_big(peer: Peer, size_octets: int, limit_octets: int) -> Outcome:
    """The message is larger than the server announced to take (RFC 1870 5)."""
    text = f"message size {size_octets} exceeds size limit {limit_octets} of server {peer.name}"
    return Outcome(
        FAILED, "5.3.4", text, Scope.TRANSACTION, peer.relay, category=Category.HARD_TOO_BIG.value
    )


def needs_utf8(peer: Peer, scope: Scope) -> Outcome:
    """The server would not understand the addresses or the header section (RFC 6531 3.2)."""
    text = f"SMTPUTF8 is required, but was not offered by host {peer.name}"
    return Outcome(FAILED, "5.6.7", text, scope, peer.relay, category=Category.HARD_UTF8.value)


def needs_requiretls(peer: Peer) -> Outcome:
    """The message must not go this way (RFC 8689 4.2.1); another host of the site may be fit."""
    text = f"REQUIRETLS is required, but was not offered by host {peer.name}"
    return Outcome(
        FAILED,
        NO_REQUIRETLS,
        text,
        Scope.TRANSACTION,
        peer.relay,
        category=Category.HARD_PROTOCOL.value,
    )


def tls_not_offered(peer: Peer) -> Outcome:
    """In clear the server gets nothing. Nobody knows who took the offer away: it may come back."""
    text = f"TLS is required, but was not offered by host {peer.name}"
    return Outcome(
        DEFERRED, "4.7.4", text, Scope.HOST, peer.relay, category=Category.SOFT_TLS.value
    )


def tls_refused(peer: Peer, reply: Reply, is_required: bool) -> Outcome:
    """STARTTLS was answered with anything but 220."""
    text = f"host {peer.name} refused to start TLS: {reply.text}"
    if is_required:
        text = f"TLS is required, but {text}"
    return Outcome(
        DEFERRED,
        "4" + reply.enhanced_status[1:] if reply.enhanced_status else "4.7.4",
        text,
        Scope.HOST,
        peer.relay,
        reply.text,
        category=Category.SOFT_TLS.value,
    )


def tls_unavailable(peer: Peer) -> Outcome:
    """We cannot start TLS ourselves: no engine, or a file that cannot be used.

    Which file it is, like that of a login, is nothing for a bounce.
    """
    text = "TLS is required, but our TLS engine is unavailable"
    return Outcome(
        DEFERRED, "4.7.5", text, Scope.HOST, peer.relay, category=Category.SOFT_TLS.value
    )


def tls_failed(peer: Peer, detail: str) -> Outcome:
    """The handshake did not come to its end; `detail` is the engine's text."""
    text = f"Cannot start TLS: handshake failure with {peer.name}: {detail}"
    if detail.startswith(_CERTIFICATE):  # the engine words it as Postfix does
        text = f"{detail} (host {peer.name})"
    return Outcome(
        DEFERRED, "4.7.5", text, Scope.HOST, peer.relay, category=Category.SOFT_TLS.value
    )


def tls_untrusted(peer: Peer) -> Outcome:
    """The handshake succeeded with somebody else."""
    text = f"{_CERTIFICATE} not trusted (host {peer.name})"
    return Outcome(
        DEFERRED, "4.7.5", text, Scope.HOST, peer.relay, category=Category.SOFT_TLS.value
    )


def tls_injected(peer: Peer) -> Outcome:
    """Octets in clear behind the 220: somebody wants them to be read as if they were protected."""
    text = f"Cannot start TLS: plaintext injection: octets behind the reply of {peer.name}"
    return Outcome(
        DEFERRED,
        "4.7.5",
        f"{text} to STARTTLS",
        Scope.HOST,
        peer.relay,
        category=Category.SOFT_TLS.value,
    )


def login_failed(peer: Peer, reason: str) -> Outcome:
    """We cannot log in, whatever the server would say: nothing was sent."""
    text = f"SASL authentication failed; cannot authenticate to server {peer.name}: {reason}"
    return Outcome(
        DEFERRED, "4.7.0", text, Scope.SITE, peer.relay, category=Category.LOCAL_CREDENTIALS.value
    )


def login_refused(peer: Peer, reply: Reply, notice: str) -> Outcome:
    """The server refused our login. That is no verdict on the mail: it waits for the operator.

    `notice`: what it said before, within the mechanism.
    """
    text = f"SASL authentication failed; server {peer.name} said: {reply.text}"
    if notice:
        text = f"{text} ({notice})"
    status = f"4{status_of(reply)[1:]}" if reply.is_permanent or reply.is_transient else "4.5.0"
    scope = Scope.SITE if reply.is_permanent else Scope.HOST
    return Outcome(
        DEFERRED,
        status,
        text,
        scope,
        peer.relay,
        reply.text,
        category=Category.LOCAL_CREDENTIALS.value,
    )


def forbidden(peer: Peer, kind: str) -> Outcome:
    """A name in somebody's DNS leads to an address that is not theirs to name."""
    text = f"connect to {peer.relay}: the address is {kind}, names in DNS may not lead there"
    return Outcome(DEFERRED, "4.4.4", text, Scope.HOST, category=Category.SOFT_CONNECTION.value)


def unreachable(peer: Peer, reason: str) -> Outcome:
    """No connection came about. `reason` as the system words it: `Connection refused`."""
    text = f"connect to {peer.relay}: {reason}"
    return Outcome(DEFERRED, UNREACHED, text, Scope.HOST, category=Category.SOFT_CONNECTION.value)


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
