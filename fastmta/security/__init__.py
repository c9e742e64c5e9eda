"""TLS and logins, of clients here and of ours elsewhere: contexts, sessions, mechanisms, secrets.

Purpose   Who is at the other end, and that nobody listens.
In        Octets of TLS as they came from a socket; responses of clients, challenges of servers;
          certificate, key, user and token files; Dovecot's auth socket; Python hooks; an OAuth 2
          server's tokens.
Out       Plaintext, octets for the socket, the facts of a session (`smtp.tls.TlsFacts`) and how far
          its server is trusted; steps of an exchange (`smtp.sasl`), our answers to challenges.
Holds     The TLS contexts of a listener and of our client; per session OpenSSL's state and what is
          not read yet, both bounded; users, bounded caches of verified logins, of sessions to
          resume and of SCRAM keys, one connection to Dovecot, a token of each account.
Never     The sockets of clients and servers, passphrases asked for; no plaintext before the
          handshake is done, and with a level that names a peer none to anybody else. No secret in a
          text, a log or a traceback. No hash on the event loop.
Fails     `TlsFailure` ends one session, its alert is still to be sent; `TlsProblem` (a ValueError)
          names a file or an option that cannot be used, and what to do. A refresh that fails keeps
          what is in use. A login that cannot be checked is UNAVAILABLE. `SaslFailure` ends a login
          of ours, `TokenProblem` says why there is no token; neither bounces mail. RuntimeError
          means broken use.
Why       TLS runs on memory BIOs here and not in uvloop's transport: that keeps 280 kB per session
          and allocates 256 kB per read, and this session can be tested octet by octet.
          The server name is read from the ClientHello by us (`hello.py`): the ssl module's callback
          fails, loudly, for a name that is not ASCII.
          Unknown users cost the same work and get the same answer as known ones.
          Names of servers are matched here (`peer_name.py`): several may be good, and the ssl
          module knows one. Where no certificate is required OpenSSL keeps its verdict to itself, so
          `opinion.py` gives one, when somebody asks, and never better than OpenSSL's.
"""

from .authenticator import Authenticator, AuthError, AuthOptions
from .client_sasl import Credential
from .client_tls import ClientContexts
from .context import ServerContexts, TlsOptions, check_tls
from .selfsigned import ensure_selfsigned
from .tls import ServerTls, TlsFailure
from .token import RefreshingToken

__all__ = [
    "AuthError",
    "AuthOptions",
    "Authenticator",
    "ClientContexts",
    "Credential",
    "RefreshingToken",
    "ServerContexts",
    "ServerTls",
    "TlsFailure",
    "TlsOptions",
    "check_tls",
    "ensure_selfsigned",
]
