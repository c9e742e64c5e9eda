"""TLS and logins of clients: contexts, sessions, mechanisms, password hashes, sources of users.

Purpose   Who is at the other end, and that nobody listens.
In        Octets of TLS as they came from a socket; responses of clients; certificate, key and user
          files; Dovecot's auth socket; Python hooks.
Out       Plaintext, octets for the socket, the facts of a session (`smtp.tls.TlsFacts`); steps of
          an exchange (`smtp.sasl`).
Holds     The TLS contexts of a listener; per session OpenSSL's state and what is not read yet, both
          bounded; users, a bounded cache of verified logins, one connection to Dovecot.
Never     The sockets of clients, passphrases asked for; no plaintext before the handshake is done.
          No secret in a text, a log or a traceback. No hash on the event loop.
Fails     `TlsFailure` ends one session, its alert is still to be sent; `TlsProblem` (a ValueError)
          names a file or an option that cannot be used, and what to do. A refresh that fails keeps
          what is in use. A login that cannot be checked is UNAVAILABLE. RuntimeError means broken
          use.
Why       TLS runs on memory BIOs here and not in uvloop's transport: that keeps 280 kB per session
          and allocates 256 kB per read, and this session can be tested octet by octet.
          The server name is read from the ClientHello by us (`hello.py`): the ssl module's callback
          fails, loudly, for a name that is not ASCII.
          Unknown users cost the same work and get the same answer as known ones.
"""

from .authenticator import Authenticator, AuthError, AuthOptions
from .context import ServerContexts, TlsOptions, check_tls
from .selfsigned import ensure_selfsigned
from .tls import ServerTls, TlsFailure

__all__ = [
    "AuthError",
    "AuthOptions",
    "Authenticator",
    "ServerContexts",
    "ServerTls",
    "TlsFailure",
    "TlsOptions",
    "check_tls",
    "ensure_selfsigned",
]
