"""One type per fact. Order of fields is part of the contract: hot events are made by position."""

import enum
from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from .hold import RecipientHeld
from .pickup import MessagePickedUp
from .security import LoginRefused, TlsStarted


class Severity(enum.Enum):
    """Word in front of a notice's text, as in Postfix's logs; INFO has none."""

    INFO = ""
    WARNING = "warning: "
    ERROR = "error: "
    FATAL = "fatal: "


class ClientConnected(msgspec.Struct, frozen=True, gc=False):
    """A client's connection was accepted."""

    client: str  # `name[address]`
    service: str = ""  # of the listener, as the log shows it: "submission"; "" for plain smtpd


class ClientDisconnected(msgspec.Struct, frozen=True, gc=False):
    """A client's session ended.

    `verbs` counts (accepted, total) by verb in lower case, plus "unknown"; `reason` is "" for a
    QUIT, else "lost connection", "timeout" or "too many errors"; `stage` is the last verb or
    "CONNECT"; `content_octets` is what arrived when it broke off within DATA, else -1.
    """

    client: str
    verbs: Mapping[str, tuple[int, int]]
    reason: str = ""
    stage: str = ""
    content_octets: int = -1
    service: str = ""


class CommandRefused(msgspec.Struct, frozen=True, gc=False):
    """A command or content was refused for policy or limits (the NOQUEUE: reject line)."""

    client: str
    stage: str  # CONNECT, HELO, MAIL, RCPT, DATA, END-OF-MESSAGE
    reply: str  # `554 5.7.1 <user@example>: Relay access denied`
    queue_id: bytes = b""  # empty: NOQUEUE
    reverse_path: bytes | None = None
    forward_path: bytes | None = None
    protocol: str = "ESMTP"
    helo: bytes = b""
    login: str = ""
    mechanism: str = ""
    service: str = ""


class MessageReceived(msgspec.Struct, frozen=True, gc=False):
    """A message is durable and answered: the `client=` and `message-id=` lines."""

    queue_id: bytes
    client: str
    message_id_field: bytes  # value of Message-ID, empty when there is none
    login: str = ""
    mechanism: str = ""  # that the client logged in with
    origin: str = ""  # end of the `client=` line, as XFORWARD told: ", orig_client=name[address]"
    listener: str = ""  # where the client is
    tenant: str = ""  # whose mail it is, if that is a tenant of the configuration
    size_octets: int = 0
    recipient_count: int = 0
    stored_s: float = 0.0  # from the end of its content until it was durable
    service: str = ""


class MessageActive(msgspec.Struct, frozen=True, gc=False):
    """A message entered the scheduler: `from=<..>, size=.., nrcpt=.. (queue active)`."""

    queue_id: bytes
    reverse_path: bytes
    size_octets: int
    recipient_count: int


class RecipientTried(msgspec.Struct, frozen=True, gc=False):
    """One attempt for one recipient ended (sent, deferred, bounced; of a probe: (un)deliverable).

    Delays in seconds as in Postfix: before the scheduler had it, in the scheduler, connection
    set-up, transmission.
    """

    queue_id: bytes
    forward_path: bytes
    remote: str  # `host[address]:port` or "none"
    delays_s: tuple[float, float, float, float]
    status: str  # RFC 3463
    kind: str  # "sent", "deferred", "bounced", "deliverable", "undeliverable"
    text: str
    connection_use: int = 1  # messages on this connection, this one included
    transport: str = "smtp"
    category: str = ""  # what kind of trouble: "hard.unknown_user"; "" when nothing is known
    next_hop: bytes = b""
    reply: str = ""  # the peer's alone, "" when there was none, or when `text` is that
    # What lines of Postfix's shape have no place for.
    reverse_path: bytes = b""
    attempt: int = 1  # which one of this recipient
    due_at_ns: int = 0  # when the next one is, since the epoch; 0: there is none, or nobody knows
    original_path: bytes = b""  # what the sender named, if that was another address


class MessageExpired(msgspec.Struct, frozen=True, gc=False):
    """The lifetime of a message is over and the rest of its recipients failed."""

    queue_id: bytes
    reverse_path: bytes
    is_forced: bool = False  # an operator said so


class MessageRemoved(msgspec.Struct, frozen=True, gc=False):
    """Every recipient of a message is final."""

    queue_id: bytes


class BounceQueued(msgspec.Struct, frozen=True, gc=False):
    """A delivery status notification was queued as `dsn_id`."""

    queue_id: bytes
    dsn_id: bytes
    kind: str = "sender non-delivery notification"


class Notice(msgspec.Struct, frozen=True, gc=False):
    """Anything else an operator must read: one sentence, escaped by the journal."""

    program: str  # smtpd, qmgr, smtp, master, spool, postsuper (an operation on a message)
    text: str
    severity: Severity = Severity.INFO
    queue_id: bytes = b""


Event: TypeAlias = (
    ClientConnected
    | ClientDisconnected
    | CommandRefused
    | MessageReceived
    | TlsStarted
    | LoginRefused
    | MessagePickedUp
    | MessageActive
    | RecipientTried
    | RecipientHeld
    | MessageExpired
    | MessageRemoved
    | BounceQueued
    | Notice
)
