"""Receivers: what a site does with our connections and our mail. One `Peer` for each site.

A peer is asked twice for each attempt: `connect`, when we open a connection, and `answer`, when it
would send its last reply. What it says is decided by its kind (a section of the scenario), by what
goes on at that moment, and by chance from a stream of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from fastmta.message import Outcome, OutcomeKind, Scope
from fastmta.message.category import Category
from fastmta.route import Site

from .mail import Mail
from .scenario import Receiver

REFUSED: Final = Outcome(
    OutcomeKind.DEFERRED,
    "4.4.1",
    "connection refused",
    Scope.HOST,
    category=Category.SOFT_CONNECTION,
)
TIMED_OUT: Final = Outcome(
    OutcomeKind.DEFERRED,
    "4.4.1",
    "connection timed out",
    Scope.HOST,
    category=Category.SOFT_TIMEOUT,
)


class Replies:
    """The outcomes that one kind of receiver gives, made once."""

    def __init__(self, name: str) -> None:
        remote = f"{name}[192.0.2.1]:25"
        self.delivered = Outcome(OutcomeKind.DELIVERED, "2.0.0", "250 taken", remote=remote)
        self.failed = Outcome(
            OutcomeKind.FAILED,
            "5.1.1",
            "550 no such user",
            remote=remote,
            category=Category.HARD_UNKNOWN_USER,
        )
        self.deferred = self._deferred(remote, "4.2.2", "452 mailbox full", "SOFT_MAILBOX_FULL")
        self.greylisted = self._deferred(remote, "4.7.1", "450 greylisted", "SOFT_GREYLIST")
        self.slowed = self._deferred(remote, "4.7.28", "450 rate exceeded", "SOFT_RATE")
        self.throttled = self._deferred(
            remote, "4.7.28", "421 rate exceeded", "SOFT_RATE", Scope.HOST
        )
        self.crowded = self._deferred(
            remote, "4.7.0", "421 too many connections", "SOFT_TOO_MANY_CONNECTIONS", Scope.HOST
        )
        self.lost = self._deferred(
            remote, "4.4.2", "lost connection", "SOFT_CONNECTION", Scope.HOST
        )

    @staticmethod
    def _deferred(
        remote: str, status: str, text: str, category: str, scope: Scope = Scope.RECIPIENT
    ) -> Outcome:
        kind = OutcomeKind.DEFERRED
        said = text if text[:1] == "4" else ""  # a lost connection says nothing
        return Outcome(kind, status, text, scope, remote, said, Category[category])


class Bucket:
    """What leaks at `rate_per_s` and holds `burst`: whether one more is within a rate."""

    __slots__ = ("_at_s", "_burst", "_level", "_rate_per_s")

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._level = 0.0
        self._at_s = 0.0

    def take(self, now_s: float) -> bool:
        """One more, if it fits."""
        level = max(0.0, self._level - (now_s - self._at_s) * self._rate_per_s)
        self._at_s = now_s
        is_within = level + 1.0 <= self._burst + 1e-6
        self._level = level + 1.0 if is_within else level
        return is_within


class Peer:
    """One site of a kind: its connections, its rate, its troubles."""

    __slots__ = (
        "_bucket",
        "_random",
        "busy",
        "busy_most",
        "errors",
        "idle",
        "kind",
        "open_most",
        "replies",
        "site",
        "spec",
    )

    def __init__(self, site: Site, kind: int, spec: Receiver, replies: Replies, seed: str) -> None:
        self.site = site
        self.kind = kind  # index
        self.spec = spec
        self.replies = replies
        self.busy = 0  # connections with an attempt on them
        self.busy_most = 0
        self.open_most = 0  # busy or idle
        self.idle: list[tuple[float, int]] = []  # connections: since when, messages they carried
        self.errors = spec.lost + spec.deferred + spec.failed
        self._bucket = Bucket(spec.rate_per_s, spec.rate_burst) if spec.rate_per_s else None
        self._random = Random(seed)

    def is_down(self, passed_s: float) -> bool:
        """Whether nobody answers just now."""
        spec = self.spec
        if spec.dead != "no" and not spec.outages:
            return True
        return any(begin <= passed_s < end for begin, end in spec.outages)

    def connect(self, passed_s: float) -> tuple[float, Outcome | None]:
        """Open one more connection: how long that takes, and the trouble that it met."""
        spec = self.spec
        if (spec.outages or spec.dead != "no") and self.is_down(passed_s):
            if spec.dead == "timeout":
                return spec.timeout_s, TIMED_OUT
            return self._jittered(spec.connect_s), REFUSED
        if spec.connections and self.busy + len(self.idle) >= spec.connections:
            return self._jittered(spec.connect_s), self.replies.crowded
        return self._jittered(spec.connect_s), None

    def reply_s(self) -> float:
        """How long a transaction takes, `busy` of them being under way, this one included."""
        spec = self.spec
        return self._jittered(spec.reply_s) + spec.tarpit_s * (self.busy - 1)

    def _jittered(self, seconds: float) -> float:
        jitter = self.spec.jitter
        if jitter == 0.0:
            return seconds
        return seconds * (1.0 + jitter * (2.0 * self._random.random() - 1.0))

    def answer(
        self, mail: Mail, indices: Sequence[int], now_s: float, passed_s: float
    ) -> tuple[Sequence[Outcome], Outcome | None]:
        """What becomes of these recipients, and the trouble of the whole connection."""
        spec, replies = self.spec, self.replies
        if spec.outages and self.is_down(passed_s):
            return (replies.lost,) * len(indices), replies.lost
        if self._bucket is not None and not self._bucket.take(now_s):
            if spec.over_rate == "450":
                return (replies.slowed,) * len(indices), None
            return (replies.throttled,) * len(indices), replies.throttled
        if spec.lost and self._random.random() < spec.lost:
            return (replies.lost,) * len(indices), replies.lost
        if spec.greylist_s and now_s - mail.first_start_s < spec.greylist_s:
            return (replies.greylisted,) * len(indices), None
        return [self._outcome() for _ in indices], None

    def _outcome(self) -> Outcome:
        spec, replies = self.spec, self.replies
        if not (spec.deferred or spec.failed):
            return replies.delivered
        chance = self._random.random()
        if chance < spec.deferred:
            return replies.deferred
        return replies.failed if chance < spec.deferred + spec.failed else replies.delivered
