"""The sections about clients: listeners, TLS, logins, what a client may use up, hooks."""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from .address import TRUSTED, BindPlace, Endpoint, ExemptNetwork, Network, TrustedNetwork
from .credential import Credentials, HookTarget, SocketPlace
from .key import DAY_S, Key
from .kind import (
    Choice,
    FilePath,
    Flag,
    Integer,
    Keyword,
    Listing,
    LogName,
    Mode,
    Seconds,
    Text,
)


class ListenKind(NamedTuple):
    """What `auto` stands for in a listener of one kind."""

    port: int  # where clients look for it
    tls: str
    login: str
    is_adding_fields: bool  # headers.add_missing = "submission"


KINDS = {
    "relay": ListenKind(25, "may", "off", False),
    "submission": ListenKind(587, "encrypt", "required", True),  # RFC 6409
    "submissions": ListenKind(465, "implicit", "required", True),  # RFC 8314 3.3
    "lmtp": ListenKind(24, "none", "off", False),  # RFC 2033
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """One listener. The name after `listen.` is yours to choose; it shows up in messages."""

    bind: Annotated[
        tuple[Endpoint, ...],
        Key(
            Listing(BindPlace(), least=1),
            "Addresses to listen on; port 0 takes a free one and the start-up line says which. A "
            "unix socket is for kind `lmtp`: who may connect is trusted, and known as "
            "`localhost[127.0.0.1]`.",
        ),
    ] = (Endpoint("127.0.0.1", 2525),)
    socket_mode: Annotated[
        str,
        Key(
            Mode(),
            "Who may connect to a unix socket of `bind`. Its group is the server's, or its "
            "directory's where that has the setgid bit.",
        ),
    ] = "0660"
    kind: Annotated[
        str,
        Key(
            Choice("relay", "submission", "submissions", "lmtp"),
            "What the listener is for: mail between servers, mail of users who log in (with "
            "STARTTLS or with TLS from the first octet), or LMTP (LHLO, a reply per recipient).",
        ),
    ] = "relay"
    log_name: Annotated[
        str,
        Key(
            LogName(),
            "What the log calls it: `submission` makes `postfix/submission/smtpd` of "
            '`postfix/smtpd`. `auto`: the kind for submission and submissions, else "".',
        ),
    ] = "auto"
    line_endings: Annotated[
        str,
        Key(
            Choice("auto", "reject", "normalize"),
            "A bare CR or LF in content: `reject` refuses the message, `normalize` repairs it "
            "before it is stored, `auto` repairs for trusted networks and logged-in clients and "
            "refuses for others.",
        ),
    ] = "auto"
    tls: Annotated[
        str,
        Key(
            Choice("auto", "none", "may", "encrypt", "implicit"),
            "`none` offers no TLS, `may` offers STARTTLS, `encrypt` insists on it (530 before it), "
            "`implicit` speaks TLS from the first octet; `auto`: by `kind`, see the table.",
        ),
    ] = "auto"
    login: Annotated[
        str,
        Key(
            Choice("auto", "off", "offered", "required"),
            "`offered`: AUTH is offered; `required`: without a login or a known client certificate "
            "no mail is taken (530), either; `off`: neither; `auto`: by `kind`, see the table. It "
            "needs a source of users in `[auth]`, or a handler that judges logins.",
        ),
    ] = "auto"
    proxies: Annotated[
        tuple[Network, ...],
        Key(
            Listing(TrustedNetwork()),
            "Peers that begin with a PROXY header (version 1 or 2) and are believed; one that "
            "sends none, such as a plain health check, is cut. Others are ordinary clients.",
        ),
    ] = ()
    xclient: Annotated[
        tuple[Network, ...],
        Key(
            Listing(TrustedNetwork()),
            "Peers that may say by XCLIENT who their client is, for every purpose.",
        ),
    ] = ()
    xforward: Annotated[
        tuple[Network, ...],
        Key(
            Listing(TrustedNetwork()),
            "Peers that may say by XFORWARD who their client was, for the log.",
        ),
    ] = ()
    client_certificates: Annotated[
        str,
        Key(
            Choice("auto", "none", "ask", "require"),
            "Whether clients are asked for a certificate; one that `tls.client_ca` does not accept "
            "ends the handshake. `auto`: `ask` where there is `tls.client_ca` and `login` is not "
            "`off`.",
        ),
    ] = "auto"
    discard_keywords: Annotated[
        tuple[str, ...],
        Key(Listing(Keyword()), "EHLO keywords that are not shown, such as `CHUNKING`."),
    ] = ()

    @property
    def service(self) -> str:
        """What stands before `smtpd` in the log; "" for nothing."""
        if self.log_name == "auto":
            return self.kind if self.kind in ("submission", "submissions") else ""
        return self.log_name

    @property
    def tls_level(self) -> str:
        """`none`, `may`, `encrypt` or `implicit`."""
        return KINDS[self.kind].tls if self.tls == "auto" else self.tls

    def certificate_level(self, client_ca: str) -> str:
        """`none`, `ask` or `require`; `client_ca` is `tls.client_ca`."""
        if self.client_certificates != "auto":
            return self.client_certificates
        is_asking = client_ca and self.login_level != "off" and self.tls_level != "none"
        return "ask" if is_asking else "none"

    @property
    def login_level(self) -> str:
        """`off`, `offered` or `required`."""
        return KINDS[self.kind].login if self.login == "auto" else self.login


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """TLS with clients. Changed files are noticed within seconds; sessions under way go on."""

    certificate: Annotated[
        str,
        Key(
            FilePath(may_be_empty=True),
            "PEM with our certificate and its chain; empty: one is made and signed by ourselves at "
            "the first start, in `tls/` of the spool's directory.",
        ),
    ] = ""
    key: Annotated[
        str,
        Key(FilePath(may_be_empty=True), "PEM with its key; empty: it stands in `certificate`."),
    ] = ""
    sni_certificates: Annotated[
        tuple[str, ...],
        Key(
            Listing(FilePath()),
            "More PEM files, each with key and chain; a client that asks for a name gets the one "
            "that has it.",
        ),
    ] = ()
    minimum: Annotated[str, Key(Choice("1.2", "1.3"), "The oldest version of TLS.")] = "1.2"
    ciphers: Annotated[
        str,
        Key(Text(), "OpenSSL's list of ciphers for TLS 1.2; empty: a sound default."),
    ] = ""
    client_ca: Annotated[
        str,
        Key(
            FilePath(may_be_empty=True),
            "PEM that certificates of clients are checked against: CAs, or the certificates "
            "themselves. See `listen.<name>.client_certificates`.",
        ),
    ] = ""
    handshake_s: Annotated[
        float, Key(Seconds(0.1, 3600), "How long a handshake may take before the client is cut.")
    ] = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """Who may log in (AUTH), and as whom they may send."""

    accounts_file: Annotated[
        str,
        Key(
            FilePath(may_be_empty=True),
            "Users and their hashes, written by `fastmta user add`; read again when it changes. "
            "Such as `/etc/fastmta/users`.",
        ),
    ] = ""
    users: Annotated[
        tuple[str, ...],
        Key(
            Credentials(),
            "Users as `name:password`. Better in the environment: `FASTMTA_AUTH__USERS`, separated "
            "by commas, or `FASTMTA_AUTH__USERS_FILE` that names a file of them, one a line; a "
            "password with a comma needs the latter.",
        ),
    ] = ()
    dovecot: Annotated[
        str,
        Key(SocketPlace(), "Dovecot's auth socket: an absolute path, or `host:port`; empty: none."),
    ] = ""
    hook: Annotated[
        str,
        Key(
            HookTarget(),
            "A Python function `module:function` that says whether a password is right: "
            "`(login, password, address)` returns True or False, within 10 s, or the client gets "
            "454. `def` runs in a thread, `async def` on the worker's loop, where one that blocks "
            "stops all sessions.",
        ),
    ] = ""
    token_hook: Annotated[
        str,
        Key(
            HookTarget(),
            "A Python function `module:function` for XOAUTH2 and OAUTHBEARER: `(login, token, "
            "address)` returns whose token it is (text), or None; otherwise as `hook`.",
        ),
    ] = ""
    mechanisms: Annotated[
        tuple[str, ...],
        Key(
            Listing(Choice("PLAIN", "LOGIN", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER"), least=1),
            "What is offered, as far as the sources of users can do it: SCRAM needs users of "
            "`fastmta user add --scram` or `users`, the last two need `token_hook`; Dovecot has "
            "its own.",
        ),
    ] = ("PLAIN", "LOGIN", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER")
    without_tls: Annotated[
        bool, Key(Flag(), "Whether AUTH is offered on connections without TLS.")
    ] = False
    senders_file: Annotated[
        str,
        Key(
            FilePath(may_be_empty=True),
            "Lines `address login[,login]` or `@domain login[,login]`: who may send as whom. It "
            "binds clients that have logged in, and nobody else: not trusted networks, not clients "
            "known by certificate.",
        ),
    ] = ""
    senders: Annotated[
        str,
        Key(
            Choice("listed", "strict"),
            "`listed`: a sender of `senders_file` belongs to its logins only (553); `strict`: a "
            "login may send as itself and what is listed for it, so it needs logins that are "
            "addresses.",
        ),
    ] = "listed"
    failures_per_session: Annotated[
        int, Key(Integer(1, 1000), "Refused logins after which a session is closed.")
    ] = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """What one client may use up in `window_s`, counted over all workers; 0 means no limit."""

    window_s: Annotated[
        float,
        Key(
            Seconds(1, DAY_S),
            "Length of a window; it begins with its first event. A worker has room for 4,096 "
            "clients and 16,384 entries of accounts at a time; what finds no place is not counted, "
            "and the log says so.",
        ),
    ] = 60.0
    connections: Annotated[
        int, Key(Integer(0, 100_000_000), "Connections begun (421 above it).")
    ] = 0
    messages: Annotated[int, Key(Integer(0, 100_000_000), "MAIL commands (450 above it).")] = 0
    recipients: Annotated[int, Key(Integer(0, 100_000_000), "RCPT commands (450 above it).")] = 0
    tls_sessions: Annotated[
        int,
        Key(
            Integer(0, 100_000_000),
            "Handshakes begun (STARTTLS: 421 above it; implicit TLS: cut without a reply).",
        ),
    ] = 0
    auths: Annotated[int, Key(Integer(0, 100_000_000), "AUTH commands (450 above it).")] = 0
    login_messages: Annotated[
        int, Key(Integer(0, 100_000_000), "MAIL commands of one login (450 above it).")
    ] = 0
    login_recipients: Annotated[
        int, Key(Integer(0, 100_000_000), "RCPT commands of one login (450 above it).")
    ] = 0
    auth_failures: Annotated[
        int, Key(Integer(0, 1_000_000), "Refused logins of one client in `auth_failure_s`.")
    ] = 10
    auth_failure_s: Annotated[float, Key(Seconds(1, DAY_S), "The window of `auth_failures`.")] = (
        600.0
    )
    account_failures: Annotated[
        int,
        Key(
            Integer(0, 1_000_000),
            "Refused logins of one account, from anywhere, in `account_failure_s`.",
        ),
    ] = 20
    account_failure_s: Annotated[
        float, Key(Seconds(1, DAY_S), "The window of `account_failures`.")
    ] = 3600.0
    prefix_v4: Annotated[
        int, Key(Integer(8, 32), "Clients whose addresses share so many bits are one (IPv4).")
    ] = 32
    prefix_v6: Annotated[
        int, Key(Integer(16, 128), "Clients whose addresses share so many bits are one (IPv6).")
    ] = 64
    exceptions: Annotated[
        tuple[Network | str, ...],
        Key(
            Listing(ExemptNetwork()),
            "Clients that are not counted; `trusted` stands for `relay.trusted_networks`, an empty "
            "list means nobody. Limits of logins and accounts hold for them, too.",
        ),
    ] = (TRUSTED,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Python code of yours that has a say in each session."""

    aiosmtpd: Annotated[
        str,
        Key(HookTarget(), "A handler of aiosmtpd, `module:Class`, made once per worker."),
    ] = ""
    arguments: Annotated[
        tuple[str, ...], Key(Listing(Text()), "What the class is called with, as text.")
    ] = ()
    mode: Annotated[
        str,
        Key(
            Choice("filter", "sink"),
            "`filter`: what the handler does not refuse is queued, as the handler left it; `sink`: "
            "the handler is the destination, and its reply is given. Either way for every "
            "listener, and contents up to `limits.message_octets` are kept in memory.",
        ),
    ] = "filter"
    timeout_s: Annotated[
        float, Key(Seconds(0.1, 3600), "How long one call may take before the client gets 451.")
    ] = 30.0
    threads: Annotated[
        int,
        Key(
            Integer(1, 256),
            "Threads of a worker for methods that are not async, and as many for stuck ones that "
            "are; 1: one call at a time, as under aiosmtpd.",
        ),
    ] = 16
    directories: Annotated[
        tuple[str, ...],
        Key(Listing(FilePath()), "Where the module is looked for before Python's own path."),
    ] = ()
    decode_data: Annotated[
        bool, Key(Flag(), "Whether `envelope.content` is `str`, as aiosmtpd's `decode_data`.")
    ] = False
    authenticator: Annotated[
        str,
        Key(
            HookTarget(),
            "aiosmtpd's `authenticator`, `module:function`: `(server, session, envelope, "
            "mechanism, auth_data)`. Its logins, or those of the handler's `auth_*` methods, take "
            "the place of `[auth]`.",
        ),
    ] = ""
