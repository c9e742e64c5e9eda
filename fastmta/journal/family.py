"""Every metric: its name, kind, labels and what it says. `docs/metrics.md` is made from this.

What a worker counts stands in its block by the number of the family here; what the front desk knows
by itself is in `DESK`. Values in a block are whole numbers: `scale` makes seconds of nanoseconds.
"""

import enum
from typing import NamedTuple

PREFIX = "fastmta_"
OTHER = "other"  # the value of a label when there are too many
BOUND_COUNT = 15  # of every histogram, so that all are equally wide
WIDTH = BOUND_COUNT + 2  # words of a histogram: each bucket, the one without a bound, the sum
NANO = 1e-9


class Kind(enum.Enum):
    """As Prometheus has them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(enum.Enum):
    """What becomes of the values of several workers."""

    SUM = "sum"
    MAX = "max"
    WORKER = "worker"  # each for itself, with a label


class Bounds(enum.IntEnum):
    """Which upper bounds a histogram has."""

    SHORT = 0  # what should take milliseconds
    STAGE = 1  # parts of a delivery
    DELAY = 2  # up to the lifetime of a message


BOUNDS_S: dict[Bounds, tuple[float, ...]] = {
    Bounds.SHORT: (
        *(0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
        *(0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0),
    ),
    Bounds.STAGE: (
        *(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
        *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
    ),
    Bounds.DELAY: (
        *(0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0),
        *(60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0, 432000.0),
    ),
}


class Family(NamedTuple):
    """One metric."""

    name: str  # without the prefix
    kind: Kind
    labels: tuple[str, ...]
    help: str
    free: tuple[str, ...] = ()  # labels that become OTHER when there are `most` series
    most: int = 64  # series of one worker
    merge: Merge = Merge.SUM
    bounds: Bounds = Bounds.SHORT
    scale: float = 1.0

    @property
    def full_name(self) -> str:
        """As it is scraped."""
        return PREFIX + self.name

    @property
    def shown_labels(self) -> tuple[str, ...]:
        """As they are scraped."""
        return (*self.labels, "worker") if self.merge is Merge.WORKER else self.labels


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
_BY_SOURCE = ("listener", "tenant")
_SITE = ("destination", "provider")
_MANY = 4096

# Inbound.
RECEIVED = Family(
    "messages_received_total", _C, _BY_SOURCE,
    "Messages that were durable and answered 250; `tenant` is one of the configuration.",
    _BY_SOURCE, 256,
)  # fmt: skip
RECEIVED_RECIPIENTS = Family(
    "recipients_received_total", _C, _BY_SOURCE, "Their recipients.", _BY_SOURCE, 256
)
RECEIVED_BYTES = Family(
    "received_bytes_total", _C, _BY_SOURCE, "Their content, in octets.", _BY_SOURCE, 256
)
REJECTED = Family(
    "receive_rejected_total", _C, ("stage", "code", "reason"),
    "Commands and contents of clients that were refused; `reason` is a word, or the RFC 3463 code.",
    ("code", "reason"), 256,
)  # fmt: skip
CONNECTIONS = Family("connections_total", _C, (), "Connections of clients that were accepted.")
DISCONNECTS = Family(
    "disconnects_total", _C, ("reason",),
    "Sessions that ended: by `quit`, `lost`, `timeout` or `errors`.", ("reason",),
)  # fmt: skip
LOGIN_FAILURES = Family(
    "login_failures_total", _C, ("mechanism",), "AUTH commands that failed.", ("mechanism",)
)
TLS_SESSIONS = Family(
    "tls_sessions_total", _C, ("direction", "version", "policy", "result"),
    "TLS handshakes: `in` with clients that were completed, `out` with receivers, of these by the "
    "level that the way wants; `result` is `ok` or `failed` (also: not with whom it had to be).",
    ("version",),
)  # fmt: skip
ACCEPT_SECONDS = Family(
    "accept_seconds", _H, (), "From the end of a content to its 250.", merge=Merge.WORKER
)

# Outbound.
DELIVERIES = Family(
    "deliveries_total", _C, (*_SITE, "result", "enhanced_class"),
    "Recipients tried: `delivered`, `deferred` (to be tried again) or `bounced`; `deliverable` "
    "or `undeliverable` if they were only asked about (`sendmail -bv`); "
    "`enhanced_class` is the first half of the RFC 3463 code.",
    (*_SITE, "enhanced_class"), _MANY,
)  # fmt: skip
REPLIES = Family(
    "replies_total", _C, ("destination", "code", "enhanced"),
    "What the receivers answered about recipients; `code` is `none` when there was no reply.",
    ("destination", "code", "enhanced"), _MANY,
)  # fmt: skip
TROUBLE = Family(
    "delivery_trouble_total", _C, ("provider", "category"),
    "Recipients tried in vain, by the kind of trouble: `hard.unknown_user`.",
    ("provider", "category"), 512,
)  # fmt: skip
NOTIFICATIONS = Family(
    "notifications_total", _C, ("kind",),
    "Delivery status notifications queued: `failure`, `delay`, `success`, `other`.",
)  # fmt: skip
REMOVED = Family("messages_removed_total", _C, (), "Messages of which nothing is left to do.")
EXPIRED = Family("messages_expired_total", _C, (), "Messages whose lifetime ended.")
HELD = Family("recipients_held_total", _C, (), "Recipients that their route put on hold.")
DELIVERY_DELAY = Family(
    "delivery_delay_seconds", _H, (), "From the 250 to the final answer, for each recipient.",
    bounds=Bounds.DELAY,
)  # fmt: skip
ATTEMPT_SECONDS = Family(
    "attempt_seconds", _H, ("stage",),
    "Parts of the delay of each recipient tried, the four of the log's `delays=`: `before` the "
    "scheduler had it, `queue` until the attempt, `connect` (0 when a connection was there), "
    "`transmit`.",
    bounds=Bounds.STAGE,
)  # fmt: skip
DNS_QUERIES = Family("dns_queries_total", _C, (), "Questions put to name servers.")
DNS_FAILURES = Family("dns_failures_total", _C, (), "Those that had no usable answer.")
DNS_CACHE_HITS = Family(
    "dns_cache_hits_total", _C, (), "Look-ups of a name that were answered from memory."
)
DNS_CACHE_MISSES = Family(
    "dns_cache_misses_total", _C, (),
    "Those for which a name server had to be asked; who waits for the same answer is not counted.",
)  # fmt: skip

# Trouble of our own.
NOTICES = Family(
    "notices_total", _C, ("program", "severity"),
    "Lines of the log with a `warning`, `error` or `fatal`.", ("program",), 128,
)  # fmt: skip
UNCOUNTED = Family(
    "metrics_uncounted_total", _C, (), "Events that could not be counted: a fault of ours."
)

# The queue.
QUEUE_MESSAGES = Family(
    "queue_messages", _G, ("state",),
    "Messages that are not final: `active` (an attempt is under way), `ready` (in memory, "
    "goes as soon as its site lets it: with `active` the queue `active` of `mailq`), `held`, "
    "`scheduled` (all others).",
)  # fmt: skip
QUEUE_RECIPIENTS = Family(
    "queue_recipients", _G, (), "Recipients that wait; those on hold are not among them."
)
QUEUE_BYTES = Family("queue_bytes", _G, (), "Octets of the log that live messages take.")
QUEUE_OLDEST = Family(
    "queue_oldest_age_seconds", _G, (),
    "Age of the oldest message that was in the index, within 15 s; 0: there is none.",
    merge=Merge.MAX,
)  # fmt: skip
SITE_RECIPIENTS = Family(
    "destination_queue_recipients", _G, _SITE,
    "Recipients that wait for the destination, within 15 s.", _SITE, 512,
)  # fmt: skip
SITE_CONNECTIONS = Family("destination_connections", _G, _SITE, "Attempts under way.", _SITE, 512)
SITE_LIMIT = Family(
    "destination_connection_limit", _G, _SITE, "As many there may be now.", _SITE, 512
)
SITE_RATE = Family(
    "destination_rate_limit", _G, _SITE,
    "Messages a second that the slowest of the rates for all its mail allows.",
    _SITE, 512, Merge.MAX,
)  # fmt: skip
SITE_BACKOFF = Family(
    "destination_backoff", _G, _SITE, "1 while nothing is delivered there because of trouble.",
    _SITE, 512, Merge.MAX,
)  # fmt: skip

# The process.
SPOOL_COMMIT = Family(
    "spool_commit_seconds", _H, (), "Writing and flushing a group of the log.", merge=Merge.WORKER
)
LOOP_LAG = Family(
    "loop_lag_seconds", _H, (), "How late the event loop called back, ten times a second.",
    merge=Merge.WORKER,
)  # fmt: skip
SPOOL_FREE = Family(
    "spool_free_bytes", _G, (), "Free octets of the spool's volume.", merge=Merge.MAX
)
SPOOL_FREE_RATIO = Family(
    "spool_free_ratio", _G, (), "Free share of the spool's volume, as `pressure.volume_free`.",
    merge=Merge.MAX,
)  # fmt: skip
CLIENTS = Family("client_connections", _G, (), "Connections of clients that are open now.")
DESCRIPTORS = Family(
    "open_descriptors_ratio", _G, (), "Open share of the descriptors a worker may have.",
    merge=Merge.WORKER,
)  # fmt: skip
CPU = Family(
    "process_cpu_seconds_total", _C, (), "CPU time of the worker's process.",
    merge=Merge.WORKER, scale=NANO,
)  # fmt: skip
MEMORY = Family(
    "process_resident_bytes", _G, (), "Resident memory of the worker's process.",
    merge=Merge.WORKER,
)  # fmt: skip

FAMILIES = (
    RECEIVED, RECEIVED_RECIPIENTS, RECEIVED_BYTES, REJECTED, CONNECTIONS, DISCONNECTS, CLIENTS,
    LOGIN_FAILURES, TLS_SESSIONS, ACCEPT_SECONDS,
    DELIVERIES, REPLIES, TROUBLE, DELIVERY_DELAY, ATTEMPT_SECONDS, NOTIFICATIONS, REMOVED, EXPIRED,
    HELD, DNS_QUERIES, DNS_FAILURES, DNS_CACHE_HITS, DNS_CACHE_MISSES,
    QUEUE_MESSAGES, QUEUE_RECIPIENTS, QUEUE_BYTES, QUEUE_OLDEST,
    SITE_RECIPIENTS, SITE_CONNECTIONS, SITE_LIMIT, SITE_RATE, SITE_BACKOFF,
    SPOOL_COMMIT, SPOOL_FREE, SPOOL_FREE_RATIO, LOOP_LAG, CPU, MEMORY, DESCRIPTORS,
    NOTICES, UNCOUNTED,
)  # fmt: skip
NUMBERS = {family: number for number, family in enumerate(FAMILIES)}

# What the front desk knows of workers from the words in front of their blocks.
READY = Family("ready", _G, (), "1 when `/readyz` answers 200.")
WORKER_UP = Family("worker_up", _G, ("worker",), "1 when the worker lives and is not stuck.")
WORKER_STARTS = Family("worker_starts_total", _C, ("worker",), "How often it was started.")
PRESSURE = Family(
    "pressure_state", _G, ("worker",),
    "0 green, 1 yellow, 2 red, 3 black: what of its mail a worker refuses, see `[pressure]`.",
)  # fmt: skip
SPOOL_HEALTHY = Family("spool_healthy", _G, ("worker",), "1 when its spool takes mail.")
BUILD_INFO = Family("build_info", _G, ("version",), "Always 1.")
DESK = (READY, WORKER_UP, WORKER_STARTS, PRESSURE, SPOOL_HEALTHY, BUILD_INFO)
