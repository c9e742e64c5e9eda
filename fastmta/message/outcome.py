"""What one attempt did for one recipient, and how far a failure reaches."""

import enum

import msgspec


class OutcomeKind(enum.Enum):
    """The value is the word of Postfix's `status=` log field."""

    DELIVERED = "sent"
    DEFERRED = "deferred"
    FAILED = "bounced"
    EXPIRED = "expired"
    HELD = "held"  # the route says so: it waits for an operator
    DELIVERABLE = "deliverable"  # of a probe: the recipient would be taken
    UNDELIVERABLE = "undeliverable"  # of a probe: it would not, for now or for ever


class Scope(enum.IntEnum):
    """How far a failure reaches; larger is wider. Only HOST and wider are "site trouble"."""

    RECIPIENT = 0
    TRANSACTION = 1
    HOST = 2
    SITE = 3
    EGRESS = 4


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """Result for one recipient. `status` is never empty, `text` is what the log line shows."""

    kind: OutcomeKind
    status: str  # enhanced status code, RFC 3463: "2.0.0"
    text: str  # e.g. `host mx[192.0.2.1] said: 550 5.1.1 ... (in reply to RCPT TO command)`
    scope: Scope = Scope.RECIPIENT
    remote: str = "none"  # `host[address]:port` as in the relay= log field, or "none"
    diagnostic: str = ""  # the peer's reply alone, for Diagnostic-Code: smtp; "" if there was none
    category: str = ""  # what kind of trouble: "hard.unknown_user"; "" when nothing is known
    is_relayed: bool = False  # to a peer that will send no report (RFC 3461 5.2.2)
