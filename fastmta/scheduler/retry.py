"""When a message-specific 4xx is tried again, and when we give up."""

import msgspec

from fastmta.budget.backoff import jittered
from fastmta.message import NULL_REVERSE_PATH, Envelope, Message

NS = 1_000_000_000
DAY_S = 86_400.0
_DOUBLINGS_MAX = 40  # enough to reach any `max_s`


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """After attempt n comes a wait of first_s * 2^(n-1), at most max_s, plus or minus jitter.

    One is everybody's (`Options.retry`), others are those of tenants or classes of mail.
    """

    first_s: float = 300.0
    max_s: float = 4000.0
    jitter: float = 0.1
    lifetime_s: float = 5 * DAY_S
    bounce_lifetime_s: float = 5 * DAY_S  # for the null reverse-path
    warn_s: float | None = None  # after which a sender is told; None: as everybody; 0: never

    def __post_init__(self) -> None:
        if not (self.first_s > 0 and 0 <= self.jitter < 1):
            raise ValueError("a retry comes later than its attempt, with a jitter below 1")
        if self.warn_s is not None and not self.warn_s >= 0:
            raise ValueError("a sender is told of a delay after the arrival")

    def delay_s(self, attempts: int, random: float) -> float:
        """The wait after attempt number `attempts` (1 is the first); `random` is in [0, 1)."""
        doublings = min(max(attempts, 1) - 1, _DOUBLINGS_MAX)
        return jittered(min(self.first_s * 2.0**doublings, self.max_s), self.jitter, random)

    def expires_at_ns(self, message: Message) -> int:
        """When the message is given up (wall clock)."""
        return message.arrived_at_ns + int(self.lifetime_of(message.envelope) * NS)

    def lifetime_of(self, envelope: Envelope) -> float:
        """How old a message may become, in seconds."""
        is_bounce = envelope.reverse_path == NULL_REVERSE_PATH
        return self.bounce_lifetime_s if is_bounce else self.lifetime_s
