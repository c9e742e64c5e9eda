"""What the scheduler needs of the world. All of it is called per message at most.

No `done` is called before the call that it was handed to has returned, except that of `Resolve`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from fastmta.event import Event
from fastmta.message import Envelope, Message, Outcome, RecipientState
from fastmta.message.attempt import AttemptResult, Job
from fastmta.message.report import Report
from fastmta.route import RouteProblem, Site

from .tenant import Tenant, Tenants

Emit: TypeAlias = Callable[[Event], None]
Attempted: TypeAlias = Callable[[Job, AttemptResult], None]
Recorded: TypeAlias = Callable[[Message, Exception | None], None]
Fetched: TypeAlias = Callable[[list[Message], int | None], None]
Late: TypeAlias = Callable[[Sequence[bytes], bytes, bytes | None], None]
Found: TypeAlias = Callable[[list[Message]], None]
Resolved: TypeAlias = Callable[[bytes, Site | RouteProblem], None]


class Clock(Protocol):
    """Time. Resolution finer than an attempt: `time.monotonic`, not a loop's cached time."""

    stepped_at_s: float  # monotonic; when the wall clock was last set by more than a minute

    def monotonic_s(self) -> float:
        """Seconds that never jump."""

    def wall_ns(self) -> int:
        """Queue time, nanoseconds since the epoch: what due times and ages are counted in."""


class Timer(Protocol):
    """A call that is yet to come."""

    def cancel(self) -> object:
        """Not any more."""


class Timers(Protocol):
    """The event loop's timers."""

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call once, after `delay_s`; at the loop's next turn when that is 0."""


class Backlog(Protocol):
    """The part of the queue that is not in RAM: the spool."""

    def release(self, message: Message) -> None:
        """Nobody here needs this message, of which recipients are not final, any more."""

    def fetch(self, next_hop: bytes, now_ns: int, after: bytes, limit: int, done: Fetched) -> None:
        """Call `done(messages, next_due_ns)`: those with recipients of `next_hop` due by now.

        Ordered by (due, id), from beyond the position `after`: the due time of the last one, 8
        octets big-endian, and its id; `b""` is the beginning. Recipients without an attempt are due
        since their message arrived. At most `limit`. Fewer only when there are no more, or some
        were damaged and `next_due_ns` is not later than `now_ns`; else that is the earliest due
        time later than `now_ns`. Everything released before the call is seen; messages that are
        in RAM may be among them, then as the same objects. Contents are loaded. Whoever gets a
        message that is not in RAM holds it from then on, and releases it.
        """

    def expired(self, now_ns: int, limit: int, done: Found) -> None:
        """Call `done` with messages past their lifetime, oldest first, whatever queue they are in.

        Messages that are in RAM may be among them; held and released as with `fetch`.
        """

    def take(self, ids: Sequence[bytes], with_content: bool, done: Found) -> None:
        """Call `done` with those of these messages that have recipients which are not final.

        Whatever queue they are in; held and released as with `fetch`. Contents are there only if
        `with_content`, or if the message is in RAM.
        """

    def unwarned(self, after: bytes, arrived_by_ns: int, done: Late) -> None:
        """Call `done(ids, last, young)`: messages that arrived by then, of which no recipient is
        marked `is_warned`, in some order of ids.

        A bounded step from beyond id `after` to `last`, which is b"" when nothing older can come
        after it. `young` is the first id beyond `after` that arrived later, or is not known well
        enough yet; None: there was none.
        """

    def hops(self) -> Sequence[tuple[bytes, int]]:
        """At the start: every next hop that has mail, with its earliest due time (ns)."""


class Record(Protocol):
    """Makes outcomes durable: the spool."""

    def record(
        self,
        message: Message,
        changes: Sequence[RecipientState],
        done: Recorded,
        dsn: Message | None = None,
    ) -> None:
        """Store `dsn`, then `changes`; update `states` and `pending`; then `done(message, error)`.

        A message whose `pending` reaches 0 is forgotten by the spool; nobody releases it.
        """

    def accept(self, message: Message, done: Recorded) -> None:
        """Store a new message, not later than what is recorded after it; `done(message, error)`."""


class Doubt(Protocol):
    """Keeps, whatever happens to us, which messages are being tried: the spool."""

    def begin(self, id: bytes, /) -> int:
        """An attempt on message `id` starts; what to hand to `end`, -1 when nothing was kept."""

    def end(self, at: int, /) -> None:
        """Its outcome is durable, or it had none; -1 is a no-op."""


class NoDoubt:
    """Keeps nothing."""

    def begin(self, _: bytes, /) -> int:
        """Nothing was kept."""
        return -1

    def end(self, _: int, /) -> None:
        """Nothing to do."""


class Deliver(Protocol):
    """Makes attempts."""

    def start(self, job: Job, site: Site, done: Attempted) -> None:
        """Try once; call `done(job, result)` exactly once, with an outcome per recipient."""

    def close_idle(self, site: Site, done: Callable[[], None]) -> None:
        """Close every connection to `site` that idles; then, on a later turn, call `done`."""


class Notify(Protocol):
    """Makes delivery status notifications."""

    def bounce(
        self,
        message: Message,
        failures: Sequence[tuple[int, Outcome]],
        successes: Sequence[tuple[int, Outcome]] = (),
    ) -> Report | None:
        """The notification to the reverse-path: of failures, and of successes (relayed or not).

        None when the sender wants no word about these recipients. That of a failed notification
        goes to the postmaster, if that is wanted.
        """

    def delay(
        self, message: Message, delayed: Sequence[tuple[int, Outcome]], until_ns: int
    ) -> Report | None:
        """The warning that `message` is late and is tried until then; None: nobody wants it."""

    def copy(
        self, message: Message, outcomes: Sequence[tuple[int, Outcome]], until_ns: int = 0
    ) -> Report | None:
        """What the postmaster is told of the same failures, or (`until_ns`) of the delay."""


class Resolve(Protocol):
    """Finds the site of a next hop."""

    def resolve(self, next_hop: bytes, done: Resolved) -> None:
        """Call `done(next_hop, answer)` once, at once when the answer is known."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The world, wired by the daemon (or by a test, or by a simulator)."""

    backlog: Backlog
    record: Record
    deliver: Deliver
    notify: Notify
    resolve: Resolve
    clock: Clock
    timers: Timers
    next_hop: Callable[[bytes, Envelope], bytes]  # of a forward-path in its envelope; pure, cheap
    random: Callable[[], float]  # uniform in [0, 1)
    emit: Emit
    on_halt: Callable[[str], None]  # outcomes cannot be recorded: end the process
    doubt: Doubt = field(default_factory=NoDoubt)
    tenant_of: Callable[[Envelope], Tenant] = field(default_factory=lambda: Tenants().of)
