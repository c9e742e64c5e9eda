"""Every section and key, its kind, its default and the sentence that documents it.

`docs/configuration.md` and `conf/fastmta.toml` are generated from this file by
`python -m fastmta.config`. Units stand last in a name: `_s` seconds, `_octets` octets.
"""

import ipaddress
from dataclasses import dataclass, field
from typing import Annotated

from .address import (
    Domain,
    Endpoint,
    IPAddress,
    Mailbox,
    Network,
    NextHop,
    Socket,
    TrustedNetwork,
)
from .credential import Fingerprint
from .inbound import Auth, ClientLimits, Hooks, Listen, Tls
from .key import DAY_S, KIB, MIB, Key
from .kind import (
    Choice,
    FieldName,
    FilePath,
    Flag,
    Integer,
    Listing,
    Number,
    Octets,
    Seconds,
    Watermarks,
    Word,
)
from .problem import Problem

PAGE_OCTETS = 4096
RELAY_HOSTS_MAX = 16  # as many does one next hop hold
RECORD_SLACK_OCTETS = 64 * KIB  # room for the envelope and framing of the largest record


@dataclass(frozen=True, slots=True, kw_only=True)
class Spool:
    """Where accepted mail is kept until its last recipient is final."""

    directory: Annotated[
        str,
        Key(FilePath(), "Root of the spool; it holds one directory per shard, on a local disk."),
    ] = "/var/lib/fastmta"
    durability: Annotated[
        str,
        Key(
            Choice("full", "os", "unsafe"),
            "What stands behind a 250: `full` survives power loss (fdatasync first), `os` survives "
            "a crash of fastmta but not of the machine, `unsafe` promises nothing.",
        ),
    ] = "full"
    in_doubt: Annotated[
        str,
        Key(
            Choice("redeliver", "hold"),
            "What becomes of a message that was being delivered when the server was killed: "
            "`redeliver` may deliver it twice, `hold` keeps it until it is released. Either way it "
            "is listed.",
        ),
    ] = "redeliver"
    segment_octets: Annotated[
        int,
        Key(
            Octets(MIB, 1024 * MIB, step=PAGE_OCTETS),
            "Size of one file of the log; `big_octets` must fit in it.",
        ),
    ] = 32 * MIB
    big_octets: Annotated[
        int,
        Key(
            Octets(256 * KIB, 16 * MIB),
            "A larger content becomes a file of its own, written while it comes in, and is never "
            "in memory as a whole.",
        ),
    ] = 512 * KIB
    clean_s: Annotated[
        float,
        Key(
            Seconds(1, DAY_S),
            "After a failed write or flush of the log: how long nothing else may fail before mail "
            "is taken and delivered again.",
        ),
    ] = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """Marks of yellow (large messages: 452), red (all: 452) and black (connections: 421)."""

    calm_s: Annotated[
        float,
        Key(Seconds(0, 3600), "A state is left when it has been a fifth better for so long."),
    ] = 10.0
    volume_free: Annotated[
        tuple[float, float, float],
        Key(
            Watermarks(Number(0, 0.95), is_falling=True),
            "Free share of the spool's volume, of its blocks and of its inodes.",
        ),
    ] = (0.15, 0.07, 0.03)
    memory_used: Annotated[
        tuple[float, float, float],
        Key(
            Watermarks(Number(0.01, 100)),
            "Used share of `memory_octets`, or of the control group's limit if that is more.",
        ),
    ] = (0.70, 0.85, 0.93)
    memory_octets: Annotated[
        int,
        Key(
            Octets(0, 1024 * 1024 * MIB),
            "Anonymous memory that all workers may have; 0 means three quarters of the tightest of "
            "machine, control group and resource limits.",
        ),
    ] = 0
    descriptors_used: Annotated[
        tuple[float, float, float],
        Key(Watermarks(Number(0.01, 100)), "Open share of the descriptors a worker may have."),
    ] = (0.70, 0.85, 0.93)
    loop_lag_s: Annotated[
        tuple[float, float, float],
        Key(Watermarks(Seconds(0.01, 3600)), "How late a worker's loop is, over a second."),
    ] = (0.5, 2.0, 10.0)
    flush_s: Annotated[
        tuple[float, float, float],
        Key(
            Watermarks(Seconds(0.01, 3600)),
            "Time of a flush of the log, of recent ones or of one that does not end.",
        ),
    ] = (1.0, 5.0, 10.0)
    unindexed_octets: Annotated[
        tuple[int, int, int],
        Key(
            Watermarks(Octets(MIB, 1024 * 1024 * MIB)),
            "Octets of a worker's log that its index does not know yet.",
        ),
    ] = (128 * MIB, 256 * MIB, 1024 * MIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client may ask of us. Workers share `content_octets` and `connections`."""

    message_octets: Annotated[
        int,
        Key(Octets(64 * KIB, 1024 * MIB), "Largest message; announced as SIZE (552 above it)."),
    ] = 25 * MIB
    content_octets: Annotated[
        int,
        Key(
            Octets(MIB, 1024 * 1024 * MIB),
            "Content that is being received, in memory, over all workers (452 or 421 above it); "
            "one over `spool.big_octets` counts 256 KiB.",
        ),
    ] = 256 * MIB
    recipients: Annotated[
        int, Key(Integer(100, 50_000), "Recipients of one message (452 above it).")
    ] = 1000
    command_octets: Annotated[
        int, Key(Integer(512, 64 * KIB), "Longest command line, CR LF included (500 above it).")
    ] = 2048
    errors_soft: Annotated[
        int, Key(Integer(1, 1000), "Errors of a session after which each reply waits a second.")
    ] = 10
    errors_hard: Annotated[
        int, Key(Integer(1, 1000), "Errors of a session after which it is closed with 421.")
    ] = 20
    junk_commands: Annotated[
        int,
        Key(
            Integer(1, 100_000),
            "NOOP, RSET, EHLO, HELO, VRFY and HELP between two messages before they are errors.",
        ),
    ] = 100
    idle_s: Annotated[float, Key(Seconds(1, 3600), "Longest silence of a client before 421.")] = (
        300.0
    )
    session_s: Annotated[
        float, Key(Seconds(10, 7 * DAY_S), "Longest life of a session; 421 between messages.")
    ] = 7200.0
    messages_per_session: Annotated[
        int, Key(Integer(1, 100_000_000), "Messages of one session; 421 after them.")
    ] = 10_000
    connections: Annotated[
        int, Key(Integer(1, 1_000_000), "Connections at a time, over all workers (421 above it).")
    ] = 20_000
    connections_per_client: Annotated[
        int,
        Key(
            Integer(1, 1_000_000),
            "Connections at a time of one client (421 above it): an address, or what "
            "`client_limits.prefix_v4` and `prefix_v6` make one, counted exactly over all workers. "
            "`client_limits.exceptions` are free.",
        ),
    ] = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """Who may send through us, to whom, and which way."""

    trusted_networks: Annotated[
        tuple[Network, ...],
        Key(Listing(TrustedNetwork()), "Clients from these networks may send to anyone."),
    ] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
    domains: Annotated[
        tuple[str, ...],
        Key(
            Listing(Domain(may_cover_subdomains=True)),
            "Mail to these domains is taken from anyone; `.example.com` means its subdomains.",
        ),
    ] = ()
    client_fingerprints: Annotated[
        tuple[str, ...],
        Key(
            Listing(Fingerprint()),
            "Clients whose certificate, accepted by `tls.client_ca`, is one of these may send to "
            "anyone.",
        ),
    ] = ()
    host: Annotated[
        tuple[str, ...],
        Key(
            Listing(NextHop(), most=RELAY_HOSTS_MAX),
            "All mail goes to this relay, or to the first of several that answers; empty: to the "
            "MX hosts of each recipient's domain. Brackets or an address mean no MX look-up. "
            "A relay that cannot be found delays mail; it bounces none.",
        ),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long to wait for a receiver, step by step (RFC 5321 4.5.3.2)."""

    connect_s: Annotated[float, Key(Seconds(1, 3600), "For the TCP connection.")] = 30.0
    greeting_s: Annotated[float, Key(Seconds(1, 3600), "For the greeting.")] = 300.0
    helo_s: Annotated[float, Key(Seconds(1, 3600), "For the reply to EHLO or HELO.")] = 300.0
    mail_s: Annotated[float, Key(Seconds(1, 3600), "For the reply to MAIL.")] = 300.0
    rcpt_s: Annotated[float, Key(Seconds(1, 3600), "For the reply to RCPT.")] = 300.0
    data_s: Annotated[float, Key(Seconds(1, 3600), "For the reply to DATA.")] = 120.0
    block_s: Annotated[
        float, Key(Seconds(1, 3600), "For the receiver to take more of the content.")
    ] = 180.0
    dot_s: Annotated[float, Key(Seconds(1, 7200), "For the reply to the final dot.")] = 600.0
    quit_s: Annotated[float, Key(Seconds(0.1, 3600), "For the reply to QUIT.")] = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How mail goes out. A site is the set of MX hosts that serve a domain, or a relay."""

    site_connections: Annotated[
        int, Key(Integer(1, 10_000), "Connections to one site at a time, over all workers.")
    ] = 20
    window_start: Annotated[
        int, Key(Integer(1, 10_000), "Connections to a site that we know nothing of yet.")
    ] = 5
    connections: Annotated[
        int, Key(Integer(1, 100_000), "Connections to all sites together, over all workers.")
    ] = 500
    addresses: Annotated[
        int, Key(Integer(1, 50), "Addresses of a site that one attempt tries to connect to.")
    ] = 5
    sessions: Annotated[
        int, Key(Integer(1, 50), "Sessions that one attempt opens after a connection was made.")
    ] = 2
    idle_s: Annotated[
        float, Key(Seconds(0, 300), "How long an idle connection is kept for the next message.")
    ] = 5.0
    messages_per_connection: Annotated[
        int, Key(Integer(1, 1_000_000), "Messages over one connection before a new one is made.")
    ] = 1000
    source: Annotated[
        tuple[str, ...],
        Key(
            Listing(IPAddress()),
            "Own addresses to connect from, at most one a family; empty: the system's choice.",
        ),
    ] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When deferred mail is tried again, and when we give up."""

    first_s: Annotated[
        float, Key(Seconds(1, DAY_S), "Wait after the first failed attempt; it doubles each time.")
    ] = 300.0
    max_s: Annotated[float, Key(Seconds(1, 7 * DAY_S), "Longest wait between attempts.")] = 4000.0
    jitter: Annotated[
        float, Key(Number(0, 0.5), "Fraction by which each wait is lengthened or shortened.")
    ] = 0.1
    lifetime_s: Annotated[
        float,
        Key(Seconds(1, 100 * DAY_S), "Age at which undelivered mail goes back to its sender."),
    ] = 5 * DAY_S
    bounce_lifetime_s: Annotated[
        float, Key(Seconds(1, 100 * DAY_S), "Age at which undelivered bounces are dropped.")
    ] = 5 * DAY_S
    site_backoff_min_s: Annotated[
        float, Key(Seconds(0.1, DAY_S), "First pause of a site that cannot be reached; it doubles.")
    ] = 10.0
    site_backoff_max_s: Annotated[
        float, Key(Seconds(0.1, DAY_S), "Longest pause of a site that cannot be reached.")
    ] = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns:
    """How names are looked up."""

    servers: Annotated[
        tuple[Endpoint, ...],
        Key(
            Listing(Socket(port=53, port_least=1)),
            "Name servers as address or `address:port`; empty: those of /etc/resolv.conf.",
        ),
    ] = ()
    timeout_s: Annotated[float, Key(Seconds(0.1, 60), "For one answer of one server.")] = 2.0
    tries: Annotated[int, Key(Integer(1, 10), "Queries before a look-up counts as failed.")] = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """What changes in the header section on the way through, beside our Received field."""

    drop: Annotated[tuple[str, ...], Key(Listing(FieldName()), "Fields that are removed.")] = (
        "bcc",
        "resent-bcc",
    )
    add_missing: Annotated[
        str,
        Key(
            Choice("submission", "always", "never"),
            "Where From, Date and Message-ID are added when they are missing: on submission "
            "listeners, on all, or nowhere.",
        ),
    ] = "submission"
    name_login: Annotated[
        bool,
        Key(Flag(), "Whether our Received field says as whom the client logged in."),
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """How addresses are completed."""

    origin: Annotated[
        str,
        Key(
            Domain(may_be_empty=True),
            "Domain for addresses without one, from trusted clients; empty: the hostname.",
        ),
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Who is told."""

    postmaster: Annotated[
        str,
        Key(Mailbox(), "Where mail to <postmaster> goes; empty: postmaster at `rewrite.origin`."),
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """The mail log."""

    file: Annotated[
        str,
        Key(
            FilePath(may_be_dash=True), 'Path of the log, reopened on USR1; "-" is standard output.'
        ),
    ] = "-"
    syslog_name: Annotated[
        str, Key(Word(), "First part of the program names: `postfix/smtpd`. Log tools look for it.")
    ] = "postfix"
    format: Annotated[
        str, Key(Choice("postfix"), "Shape of the lines: `postfix` is that of Postfix 3.7.")
    ] = "postfix"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """Where the server takes orders of its operator."""

    directory: Annotated[
        str,
        Key(
            FilePath(may_be_empty=True),
            "Directory of the workers' control sockets; empty: that of the spool.",
        ),
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """The processes that do the work."""

    count: Annotated[int, Key(Integer(0, 256), "How many; 0 means one per core.")] = 0
    stop_deadline_s: Annotated[
        float, Key(Seconds(0, 3600), "How long a stop waits for what is in flight.")
    ] = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole configuration, checked."""

    hostname: Annotated[
        str,
        Key(
            Domain(may_be_empty=True),
            "Our full name, for greetings, EHLO and Received fields; empty: the system's.",
        ),
    ] = ""
    spool: Spool = field(default_factory=Spool)
    listen: dict[str, Listen] = field(default_factory=lambda: {"smtp": Listen()})
    tls: Tls = field(default_factory=Tls)
    auth: Auth = field(default_factory=Auth)
    limits: Limits = field(default_factory=Limits)
    client_limits: ClientLimits = field(default_factory=ClientLimits)
    pressure: Pressure = field(default_factory=Pressure)
    relay: Relay = field(default_factory=Relay)
    delivery: Delivery = field(default_factory=Delivery)
    retry: Retry = field(default_factory=Retry)
    dns: Dns = field(default_factory=Dns)
    headers: Headers = field(default_factory=Headers)
    hooks: Hooks = field(default_factory=Hooks)
    rewrite: Rewrite = field(default_factory=Rewrite)
    notify: Notify = field(default_factory=Notify)
    journal: Journal = field(default_factory=Journal)
    control: Control = field(default_factory=Control)
    workers: Workers = field(default_factory=Workers)
    warnings: tuple[Problem, ...] = ()  # doubtful, but no reason not to start
