"""The client's side of TLS sessions: who the peer is, and what is resumed (RFC 8446 2.2)."""

from __future__ import annotations

import contextlib
import datetime
import enum
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from .certificate import TlsProblem
from .client_context import (
    LEVELS,
    ClientTlsOptions,
    Contexts,
    check_client_tls,
    normal_fingerprints,
)
from .memory import MemoryTls, TlsFailure
from .opinion import chain_of, has_fingerprint, prepare_opinion, trusted_names
from .peer_name import bare, make_names, to_address, to_name

__all__ = [
    "ClientContexts",
    "ClientTls",
    "ClientTlsOptions",
    "TlsFailure",
    "Trust",
    "check_client_tls",
]

NOT_VERIFIED: Final = "Server certificate not verified"  # Postfix's text of such a deferral
_SESSION_AGE_S_MAX: Final = 3600.0  # so long what was found out about a certificate is believed
_REFUSALS_MAX: Final = 3  # a server that resumes nothing is not offered sessions for that long


class Trust(enum.Enum):
    """What is known of the peer; the values are Postfix's words for it."""

    UNTRUSTED = "Untrusted"  # whoever it is
    TRUSTED = "Trusted"  # an authority that we trust signed for a name that we did not ask for
    VERIFIED = "Verified"  # the peer that was meant


@dataclass(slots=True)
class _Remembered:
    """A session that may be resumed, and what is known of its peer."""

    context: ssl.SSLContext
    session: ssl.SSLSession | None  # None: not to be offered
    at_s: float
    trust: Trust | None  # None: `chain` was not judged yet
    chain: tuple[bytes, ...]
    refusals_count: int = 0


_Key = tuple[ClientTlsOptions, str, tuple[str, ...], int]


class _Sessions:
    """Sessions by peer and what was wanted of it, the least used one forgotten first."""

    def __init__(self, count_max: int, now_s: Callable[[], float]) -> None:
        self._count_max = count_max
        self.now_s = now_s
        self._known: OrderedDict[_Key, _Remembered] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: _Key, context: ssl.SSLContext) -> _Remembered | None:
        known = self._known.get(key)
        if known is None:
            return None
        if known.context is not context or self.now_s() - known.at_s > _SESSION_AGE_S_MAX:
            del self._known[key]
            return None
        self._known.move_to_end(key)
        return known

    def put(self, key: _Key, remembered: _Remembered) -> None:
        self._known[key] = remembered
        self._known.move_to_end(key)
        while len(self._known) > self._count_max:
            self._known.popitem(last=False)

    def forget(self, key: _Key) -> None:
        self._known.pop(key, None)


class ClientContexts:
    """Begins TLS sessions with peers. One per process."""

    def __init__(
        self, max_sessions: int = 1024, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        """`max_sessions`: how many are remembered, of 14 kB each; `now_s` is monotonic."""
        self._contexts = Contexts()
        self._sessions = _Sessions(max_sessions, now_s)

    @property
    def sessions_count(self) -> int:
        """How many peers are remembered."""
        return len(self._sessions)

    def preparation(
        self, options: ClientTlsOptions, *, is_judged: bool = False
    ) -> Callable[[], None] | None:
        """What takes long before the first session with `options`: call it in a thread, or not.

        None: nothing does. `is_judged`: of sessions that need no trusted peer `trust` is asked.
        """
        if self._contexts.is_ready(options):
            return None
        return partial(self._prepare, options, is_judged and not options.is_chain_required)

    def _prepare(self, options: ClientTlsOptions, is_judged: bool) -> None:
        self._contexts.prepare(options)
        if is_judged:
            with contextlib.suppress(TlsProblem):
                prepare_opinion(self._contexts.get(options))

    def begin(
        self,
        options: ClientTlsOptions,
        host: str,
        next_hop_names: tuple[str, ...] = (),
        port: int = 0,
    ) -> ClientTls:
        """A session with `host`: the name that is connected to, or an address.

        `next_hop_names` are the names that routing knows the peer by, from before DNS was asked:
        the recipient's domain, or the relay in the configuration. Sessions are remembered by
        `port` too: behind another one there may be another server. Raises TlsProblem.
        """
        if options.level not in LEVELS:
            raise TlsProblem(f"TLS level {options.level!r} is not known: {', '.join(LEVELS)}")
        context = self._contexts.get(options)
        key = (options, host, next_hop_names, port)
        return ClientTls(context, key, self._sessions)


class ClientTls(MemoryTls):
    """A TLS session with one server; how it is used is written at `MemoryTls`.

    `handshake` is called once before anything is fed, for the first flight; it raises TlsFailure
    also for a peer that is not who the options want. What is written right after the handshake
    leaves together with its end.
    """

    __slots__ = ("_fingerprints", "_key", "_names", "_offered", "_sessions", "_trust")

    PEER = "server"

    def __init__(self, context: ssl.SSLContext, key: _Key, sessions: _Sessions) -> None:
        """Raises TlsProblem."""
        options, host, next_hop_names, _ = key
        self._fingerprints = normal_fingerprints(options)
        self._names = make_names(options.wanted_names, bare(host), next_hop_names)
        self._key = key
        self._sessions: _Sessions | None = sessions  # None: there is nothing more to remember
        self._offered = sessions.get(key, context)
        self._trust: Trust | None = None  # None: not judged yet
        session = self._offered.session if self._offered is not None else None
        name = _server_name(options, bare(host))
        super().__init__(context, server_side=False, server_name=name, session=session)

    @property
    def is_trusted(self) -> bool:
        """Whether the peer is who the options want. Known of every level, required by some."""
        return self.trust is Trust.VERIFIED

    @property
    def trust(self) -> Trust:
        """What is known of the peer; Trust.UNTRUSTED before the handshake is done.

        With `may` and `encrypt` it costs half a millisecond when it is asked for first.
        """
        if self._trust is None:
            if not self._is_established:
                return Trust.UNTRUSTED
            self._trust = self._judge(chain_of(self._sslobj))
            if self._offered is not None and self.facts.is_resumed:
                self._offered.trust = self._trust
        return self._trust

    def read_into(self, buffer: memoryview) -> int:
        """As that of MemoryTls."""
        count = super().read_into(buffer)
        if count and self._sessions is not None:
            self._remember(self._sessions)
            self._sessions = None
        return count

    def _establish(self, server_name: str = "", *, is_verified: bool = True) -> None:
        """Judge the certificate, if the level wants that. Raises TlsFailure."""
        options = self._key[0]
        if options.level == "fingerprint":
            certificate = self._sslobj.getpeercert(binary_form=True) or b""
            if not has_fingerprint(certificate, self._fingerprints):
                self._refuse("fingerprint not matched")
            self._trust = Trust.VERIFIED
        elif options.is_chain_required:
            if not self._names.has(_alt_names(self._sslobj)):
                self._refuse("name not matched")
            self._trust = Trust.VERIFIED
        elif self._sslobj.session_reused and self._offered is not None:
            self._trust = self._offered.trust
        super()._establish(
            self._sslobj.server_hostname or "", is_verified=self._trust is Trust.VERIFIED
        )

    def _judge(self, chain: tuple[bytes, ...]) -> Trust:
        if not chain and self._offered is not None:
            chain = self._offered.chain  # a resumed session has none of its own
        now = datetime.datetime.now(datetime.UTC)
        names = trusted_names(chain, self._sslobj.context, now) if chain else []
        if not names:
            return Trust.UNTRUSTED
        return Trust.VERIFIED if self._names.has(names) else Trust.TRUSTED

    def _refuse(self, reason: str) -> None:
        """It is not the peer that was meant: say goodbye, and nothing else. Raises TlsFailure."""
        self._is_established = True  # for the goodbye
        self.close()
        self._is_established = False
        self._break(f"{NOT_VERIFIED}: {reason}", self._detail_for(reason))
        raise TlsFailure(self._failure, self._detail)

    def _detail_for(self, reason: str) -> str:
        return f"certificate verification failed for {self._key[1]}: {reason}"

    def _text_of(self, error: ssl.SSLError) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"{NOT_VERIFIED}: {error.verify_message}"
        return super()._text_of(error)

    def _detail_of(self, error: ssl.SSLError) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._detail_for(error.verify_message)
        return ""

    def _break(self, text: str, detail: str = "") -> None:
        if not self._is_established and self._sessions is not None:
            self._sessions.forget(self._key)  # perhaps it was the session that was no good
        super()._break(text, detail)

    def _remember(self, sessions: _Sessions) -> None:
        """Now that the first plaintext is here, TLS 1.3's tickets are (RFC 8446 4.6.1)."""
        offered = self._offered
        refusals_count = 0
        if offered is not None:
            if offered.session is None:
                return
            if self.facts.is_resumed:
                # Goes on as long as the server resumes it, and until its certificate is looked at
                # again. To take each new ticket would cost half of what resuming saves.
                offered.refusals_count = 0
                return
            refusals_count = offered.refusals_count + 1
        session = self._sslobj.session if refusals_count < _REFUSALS_MAX else None
        if session is not None and not self._may_resume(session):
            return
        chain = chain_of(self._sslobj) if self._trust is None else ()
        remembered = _Remembered(
            self._sslobj.context, session, sessions.now_s(), self._trust, chain, refusals_count
        )
        sessions.put(self._key, remembered)

    def _may_resume(self, session: ssl.SSLSession) -> bool:
        """Before TLS 1.3 also without a ticket, by its id (RFC 5246 7.3)."""
        return session.has_ticket or (bool(session.id) and self.facts.protocol != "TLSv1.3")


def _server_name(options: ClientTlsOptions, host: str) -> str | None:
    """What to ask for by SNI: never an address (RFC 6066 3). Raises TlsProblem."""
    if options.server_name:
        return None if to_address(options.server_name) else to_name(options.server_name)
    try:
        return None if to_address(host) else to_name(host)
    except TlsProblem:
        return None  # a name from DNS that no certificate can be in


def _alt_names(sslobj: ssl.SSLObject) -> list[tuple[str, str]]:
    """The alternative names of a certificate whose chain OpenSSL has verified."""
    try:
        certificate = sslobj.getpeercert() or {}
    except ValueError:  # a name in it is not even text
        return []
    found = certificate.get("subjectAltName", ())
    return [(str(one[0]), str(one[1])) for one in found if len(one) == 2]
