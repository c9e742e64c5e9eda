"""Facts about TLS and logins of clients."""

import msgspec

from fastmta.smtp.tls import TlsFacts


class TlsStarted(msgspec.Struct, frozen=True, gc=False):
    """A client's TLS handshake is done."""

    client: str
    facts: TlsFacts
    service: str = ""


class LoginRefused(msgspec.Struct, frozen=True, gc=False):
    """An AUTH command failed: `SASL PLAIN authentication failed: reason, sasl_username=login`."""

    client: str
    mechanism: str
    login: str  # as far as the client named one
    reason: str
    service: str = ""
