"""Telling senders that their mail is late, whatever it waits for, once.

A scan looks at what arrived before now less the delay, by id, which is nearly the order of arrival,
and goes on from where the last one ended: each message is looked at once. What cannot be warned of
just now, because an attempt of it is under way, is where the next scan begins. Whether a sender was
told stands in a recipient's state, so a scan from the beginning (at a start, every hour, after a
release of held mail, when the clock went back) tells nobody twice; it costs a look at the rows of
each message. Mail whose policy names another delay is left to the scan of that one.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastmta.message import Message, Outcome, OutcomeKind

from .cursor import just_before
from .engine import Engine
from .expiry import pending
from .health import PathState
from .lifecycle import Lifecycle
from .retold import retold
from .retry import NS
from .table import Table

AGAIN_S = 0.2  # between steps that told somebody
LEAST_S = 1.0  # between scans
NEXT_S = 0.02  # between steps that did not
RESCAN_S = 3600.0
STATUS = "4.0.0"  # when nothing better is known
TEXT = "no attempt was possible yet"


class Delays:
    """One scan for each `warn_s` of a policy; none for 0. See `Scan`."""

    __slots__ = ("_scans",)

    def __init__(self, engine: Engine, table: Table, lifecycle: Lifecycle) -> None:
        policies = (engine.options.retry, *engine.options.profiles)
        delays_s = {engine.warn_s_of(policy) for policy in policies} - {0.0}
        self._scans = [Scan(engine, table, lifecycle, delay_s) for delay_s in sorted(delays_s)]

    def start(self) -> None:
        """Scan from now on."""
        for scan in self._scans:
            scan.start()

    def rescan(self) -> None:
        """Mail that was looked at may be late now: begin anew."""
        for scan in self._scans:
            scan.rescan()


class Scan:
    """Scans every `sweep_interval_s`, oftener for a short delay, for mail with that delay."""

    __slots__ = (
        "_at",
        "_begin",
        "_delay_s",
        "_engine",
        "_is_rescan_due",
        "_is_scanning",
        "_lifecycle",
        "_lowest",
        "_newest_ns",
        "_rescan_at_s",
        "_table",
    )

    def __init__(self, engine: Engine, table: Table, lifecycle: Lifecycle, delay_s: float) -> None:
        self._engine = engine
        self._table = table
        self._lifecycle = lifecycle
        self._delay_s = delay_s
        self._is_scanning = False
        self._is_rescan_due = True
        self._rescan_at_s = 0.0
        self._newest_ns = 0  # up to which arrival the last scan looked
        self._begin = b""  # of the next scan: an id, and what comes after it
        self._at = b""  # of the scan under way
        self._lowest: bytes | None = None  # where that scan left something

    def start(self) -> None:
        """Scan from now on."""
        options = self._engine.options
        interval_s = min(options.sweep_interval_s, max(LEAST_S, self._delay_s / 4))
        self._engine.ports.timers.call_later(interval_s, self._sweep)

    def rescan(self) -> None:
        """Mail that was looked at may be late now: begin anew."""
        self._is_rescan_due = True

    def _sweep(self) -> None:
        if self._engine.is_stopped:
            return
        self.start()
        if self._is_scanning:
            return
        clock = self._engine.ports.clock
        newest_ns = self._late_ns()
        if newest_ns < self._newest_ns or clock.monotonic_s() >= self._rescan_at_s:
            self._is_rescan_due = True
        self._newest_ns = newest_ns
        if self._is_rescan_due:
            self._is_rescan_due = False
            self._rescan_at_s = clock.monotonic_s() + RESCAN_S
            self._begin = b""
        self._at, self._lowest = self._begin, None
        self._step()

    def _late_ns(self) -> int:
        """What arrived by then is late."""
        delay_ns = int(self._delay_s * NS)
        return self._engine.ports.clock.wall_ns() - delay_ns

    def _step(self) -> None:
        # Ages are in doubt for a while after a step of the clock, as for the expiry.
        self._is_scanning = self._engine.may_start and not self._engine.is_expiry_frozen
        if self._is_scanning:
            backlog = self._engine.ports.backlog
            backlog.unwarned(self._at, self._late_ns(), self._found)

    def _found(self, ids: Sequence[bytes], last: bytes, young: bytes | None) -> None:
        if last:
            self._begin = last
        if young is not None:
            self._leave(young)
        self._at = last
        if ids:
            self._engine.ports.backlog.take(ids, True, self._taken)
        else:
            self._go_on(NEXT_S)

    def _taken(self, messages: list[Message]) -> None:
        for message in messages:
            if not self._is_settled(message):
                self._leave(message.id)
        self._go_on(AGAIN_S)

    def _leave(self, id: bytes) -> None:
        """The next scan begins there."""
        if self._lowest is None or id < self._lowest:
            self._lowest = id

    def _go_on(self, pause_s: float) -> None:
        if self._at:
            self._engine.ports.timers.call_later(pause_s, self._step)
            return
        self._is_scanning = False
        if self._lowest is not None:
            self._begin = just_before(self._lowest)

    def _is_settled(self, message: Message) -> bool:
        """Warn of `message` if that is to be done. False: it must be looked at again."""
        engine, table = self._engine, self._table
        resident = table.residence.find(message.id)
        if resident is not None:
            message = resident.message
        hops = pending(message, engine.ports.next_hop)
        is_warned = any(state.is_warned for state in message.states.values())
        policy = engine.retry_of(message)
        is_over = engine.ports.clock.wall_ns() >= policy.expires_at_ns(message)
        is_other = engine.warn_s_of(policy) != self._delay_s
        if is_warned or is_over or is_other or not hops:  # told, given up, or held
            if resident is None:
                table.release(message)
            return True
        if not engine.may_start or (resident is not None and not table.take_out(resident)):
            if resident is None:
                table.release(message)
            return False
        delayed = {
            index: self._outcome(message, index, next_hop)
            for next_hop, indices in hops.items()
            for index in indices
        }
        self._lifecycle.warn(message, sorted(delayed.items(), key=lambda each: each[0]))
        return True

    def _outcome(self, message: Message, index: int, next_hop: bytes) -> Outcome:
        """Why this recipient waits: its path's trouble, or what its last attempt met."""
        state, hop = message.states.get(index), self._table.hops.get(next_hop)
        cause = None
        if hop is not None and hop.path is not None:
            health = hop.path.health
            if health.state is not PathState.OPEN or state is None or not state.text:
                cause = health.cause
        elif hop is not None:
            cause = hop.cause
        if cause is not None:
            return cause
        text = state.text if state is not None and state.text else TEXT
        return retold(OutcomeKind.DEFERRED, text, STATUS)
