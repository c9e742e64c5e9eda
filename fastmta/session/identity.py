"""Who the client of a session is, by all that it has shown, and what it may do by that."""

from __future__ import annotations

from fastmta.message import ClientIdentity
from fastmta.smtp.sasl import Exchange
from fastmta.smtp.tls import TlsFacts
from fastmta.smtp.use import Use
from fastmta.smtp.xclient import XForward

from .port import Authenticate, Hook, Ports


class IdentifiedSession:
    """A session as to its client: what hooks may look at; what is said in it, `Session` says.

    A client is known by its socket, and may become another one by XCLIENT; it may show more of
    itself by TLS and a login. Whoever notes more of it calls `judge`.
    """

    __slots__ = (
        "client", "exchange", "forwarded", "front_helo", "front_port", "front_protocol", "hook",
        "identity", "is_fronted", "is_normalizing", "login", "mechanism", "peer_address",
        "peer_name", "peer_port", "ports", "quota", "received_prefix", "rights", "tls",
    )  # fmt: skip

    def __init__(self, ports: Ports, address: str, name: str, port: int) -> None:
        self.ports = ports
        # Of the socket; XCLIENT changes none of it.
        self.peer_address, self.peer_name, self.peer_port = address, name, port
        self.front_port: int | None = None
        self.front_helo: bytes | None = None  # what a front end said by XCLIENT
        self.front_protocol = ""
        self.is_fronted = False  # XCLIENT was said
        self.forwarded: XForward | None = None  # by XFORWARD, for the next message
        self.tls: TlsFacts | None = None
        self.become(address, name)
        self.hook: Hook | None = None if ports.hook is None else ports.hook(self)

    def become(self, address: str, name: str, login: str = "") -> None:
        """From here on the client is that one (at the start, and by XCLIENT)."""
        self.client = f"{name}[{address}]"
        self.identity = ClientIdentity(address, name)
        self.received_prefix = b""
        self.login = login
        self.mechanism = ""
        self.exchange: Exchange | None = None
        self.judge()

    def judge(self) -> None:
        """What this client may do, by all that we know of it."""
        ports = self.ports
        address = self.identity.address
        # A front end's certificate says nothing of the client behind it.
        fingerprint = "" if self.tls is None or self.is_fronted else self.tls.fingerprint
        if self.login or fingerprint:
            self.rights = ports.policy.admit(address, self.login, fingerprint)
        else:
            self.rights = ports.policy.admit(address)
        self.is_normalizing = ports.settings.is_normalizing(self.rights.is_trusted)
        self.quota = ports.quota
        if ports.quota is not None and not self.login and ports.quota.is_exempt(address):
            self.quota = None

    def become_secure(self, facts: TlsFacts) -> None:
        """Of what the client has shown in clear nothing counts (RFC 3207 4.2)."""
        self.tls = facts
        self.front_helo, self.front_protocol, self.front_port = None, "", None
        self.forwarded, self.is_fronted = None, False
        self.become(self.peer_address, self.peer_name)

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port of the client, as far as we know."""
        port = self.peer_port if self.front_port is None else self.front_port
        return self.identity.address, port

    @property
    def is_trusted(self) -> bool:
        """It may send to anyone."""
        return self.rights.is_trusted

    @property
    def is_known(self) -> bool:
        """It has logged in, or shown a certificate that we know."""
        return bool(self.login) or self.rights.is_known

    @property
    def hostname(self) -> str:
        """Our name."""
        return self.ports.settings.hostname

    @property
    def authenticate(self) -> Authenticate | None:
        """Who says what a login is worth."""
        if self.hook is not None and self.hook.authenticate is not None:
            return self.hook.authenticate
        return self.ports.authenticate

    def mechanisms(self) -> tuple[str, ...]:
        """What this client may log in with."""
        authenticate = self.authenticate
        if authenticate is None or not self.ports.settings.has_auth:
            return ()
        return authenticate.mechanisms(self.tls is not None)

    def spend(self, use: Use) -> bool:
        """Whether the client may have one more of it."""
        quota = self.quota
        return quota is None or quota.spend(use, self.identity.address, self.login)
