"""Every section and key, its kind, its default and the sentence that documents it.

`docs/configuration.md` and `conf/fastmta.toml` are generated from this file by
`python -m fastmta.config`. Units stand last in a name: `_s` seconds, `_octets` octets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from .address import (
    Domain,
    Mailbox,
)
from .drop import Aliases, Drop
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
)
from .metrics import Metrics
from .operating import Control, Journal, Workers
from .outbound import Delivery, Dns, Retry
from .problem import Problem
from .process import Process
from .relay import NamedRelay, Relay, Route, TlsPolicy
from .shaping import Profile, Provider, Shape, Tenant

PAGE_OCTETS = 4096
NOTICES = ("bounce", "2bounce", "delay", "policy", "protocol", "resource", "software", "data")
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
    """Who is told of mail that fails or is late, and of trouble."""

    postmaster: Annotated[
        str,
        Key(Mailbox(), "Where mail to <postmaster> goes; empty: postmaster at `rewrite.origin`."),
    ] = ""
    classes: Annotated[
        tuple[str, ...],
        Key(
            Listing(Choice(*NOTICES)),
            "What the postmaster hears of: `bounce` and `2bounce` (failed mail, failed bounces), "
            "`delay`, and lines of the log about `policy`, `protocol`, `resource`, `software` and "
            "`data` in a notice every ten minutes at most.",
        ),
    ] = ("resource", "software")
    delay_s: Annotated[
        float,
        Key(
            Seconds(0, 30 * DAY_S),
            "Age at which a sender hears once that mail is late; 0: never.",
        ),
    ] = 0.0
    original_octets: Annotated[
        int,
        Key(
            Octets(1 * KIB, 10 * MIB),
            "A larger message goes back as its header section only.",
        ),
    ] = 50_000


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
    relays: dict[str, NamedRelay] = field(default_factory=dict)
    route: tuple[Route, ...] = ()
    tls_policy: tuple[TlsPolicy, ...] = ()
    delivery: Delivery = field(default_factory=Delivery)
    retry: Retry = field(default_factory=Retry)
    profile: dict[str, Profile] = field(default_factory=dict)
    tenant: dict[str, Tenant] = field(default_factory=dict)  # in the order of the file
    provider: dict[str, Provider] = field(default_factory=dict)  # the same
    shape: dict[str, Shape] = field(default_factory=dict)
    dns: Dns = field(default_factory=Dns)
    headers: Headers = field(default_factory=Headers)
    hooks: Hooks = field(default_factory=Hooks)
    rewrite: Rewrite = field(default_factory=Rewrite)
    notify: Notify = field(default_factory=Notify)
    journal: Journal = field(default_factory=Journal)
    control: Control = field(default_factory=Control)
    drop: Drop = field(default_factory=Drop)
    aliases: Aliases = field(default_factory=Aliases)
    metrics: Metrics = field(default_factory=Metrics)
    workers: Workers = field(default_factory=Workers)
    process: Process = field(default_factory=Process)
    warnings: tuple[Problem, ...] = ()  # doubtful, but no reason not to start
    places: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)  # by key

    def located(self, text: str) -> str:
        """`key: what is wrong` behind the place where that key, or its section, was set."""
        key = text.partition(": ")[0]
        while key and key not in self.places:
            key = key.rpartition(".")[0]
        return f"{self.places[key]}: {text}" if key else text
