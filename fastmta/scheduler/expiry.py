"""Giving up what is too old, whatever it waits for.

A sweep looks at the spool's own list of what is past its lifetime. A message with an attempt or a
record under way is left to its own end (the end of an attempt gives up what is over). Mail that was
past its lifetime already when we started, or when the clock jumped, gets an attempt first; if its
path or look-up is in a pause, that is waited for until `overdue_grace_s` after the start. While
nobody at all can be reached, expiry is put off (see `Uplink`); what became overdue meanwhile gets
an attempt first, too.
"""

from __future__ import annotations

from collections.abc import Callable

from fastmta.message import Envelope, Message, RecipientStatus

from .engine import Engine
from .health import PathState
from .hop import HopState
from .lifecycle import Lifecycle
from .retry import NS
from .table import Table
from .uplink import PUT_OFF_S, Uplink

EXPIRED_MAX = 200  # per look
EXPIRED_LIMIT_MAX = 10_000
AGAIN_S = 0.5  # after a full look that got somewhere


class Expiry:
    """Sweeps every `sweep_interval_s`."""

    __slots__ = (
        "_base_ns",
        "_base_s",
        "_engine",
        "_is_looking",
        "_lifecycle",
        "_limit",
        "_table",
        "_uplink",
    )

    def __init__(self, engine: Engine, table: Table, lifecycle: Lifecycle) -> None:
        self._engine = engine
        self._table = table
        self._lifecycle = lifecycle
        self._is_looking = False
        self._limit = EXPIRED_MAX
        self._uplink = Uplink(engine, table)
        clock = engine.ports.clock
        self._base_ns = clock.wall_ns()  # of overdue mail: the start, or the end of a pause
        self._base_s = clock.monotonic_s()

    def start(self) -> None:
        """Sweep from now on."""
        timers = self._engine.ports.timers
        timers.call_later(self._engine.options.sweep_interval_s, self._sweep)

    def _sweep(self) -> None:
        if self._engine.is_stopped:
            return
        self.start()
        if self._uplink.look():
            self.resume()
        self._table.sweep()
        self._look()

    def _look(self) -> None:
        if self._is_looking or not self._engine.may_start or self._engine.is_expiry_frozen:
            return
        self._is_looking = True
        now_ns = self._engine.ports.clock.wall_ns()
        backlog = self._engine.ports.backlog
        if self._engine.cut_off:
            backlog.expired(now_ns, 1, self._put_off)
        else:
            backlog.expired(now_ns, self._limit, self._found)

    def _put_off(self, messages: list[Message]) -> None:
        """The oldest that would expire; then those that do, as that was put off for long enough."""
        for message in messages:
            self._uplink.tell()
            if self._table.residence.find(message.id) is None:
                self._table.release(message)
        end_ns = self._engine.ports.clock.wall_ns() - int(PUT_OFF_S * NS)
        self._engine.ports.backlog.expired(end_ns, self._limit, self._found)

    def resume(self) -> None:
        """A pause of everything is over: what became overdue in it gets an attempt first."""
        clock = self._engine.ports.clock
        self._base_ns, self._base_s = clock.wall_ns(), clock.monotonic_s()

    def _found(self, messages: list[Message]) -> None:
        self._is_looking = False
        was_full = len(messages) >= self._limit
        count = sum(map(self._may_end, messages))
        if not was_full:
            self._limit = EXPIRED_MAX
        elif count:  # there are more
            self._engine.ports.timers.call_later(AGAIN_S, self._look)
        else:  # those in front cannot go yet: look past them
            self._limit = min(2 * self._limit, EXPIRED_LIMIT_MAX)

    def _may_end(self, message: Message) -> bool:
        """Give `message` up or see to its last attempt. True: it was given up."""
        resident = self._table.residence.find(message.id)
        if resident is not None:
            message = resident.message
        hops = pending(message, self._engine.ports.next_hop)
        end_ns = self._engine.retry_of(message).expires_at_ns(message)
        if end_ns > self._engine.ports.clock.wall_ns():  # its policy is another one by now
            if resident is None:
                self._table.release(message)
            return False
        if self._is_owed_attempt(message, hops):
            self._offer_last(message, hops)
            return False
        if resident is not None and not self._table.take_out(resident):
            return False
        indices = sorted(index for indices in hops.values() for index in indices)
        if not indices or not self._engine.may_start:  # all held, or no time for it
            self._table.release(message)
            return False
        self._lifecycle.expire(message, indices)
        return True

    def _is_owed_attempt(self, message: Message, hops: dict[bytes, list[int]]) -> bool:
        engine = self._engine
        if engine.retry_of(message).expires_at_ns(message) > self._base_ns:
            return False
        grace_s = engine.ports.clock.monotonic_s() - self._base_s
        return grace_s < engine.options.overdue_grace_s or any(map(self._is_open, hops))

    def _is_open(self, next_hop: bytes) -> bool:
        hop = self._table.hop(next_hop)
        if hop.path is not None:
            return hop.path.health.state is PathState.OPEN
        return hop.state is not HopState.BACKING_OFF

    def _offer_last(self, message: Message, hops: dict[bytes, list[int]]) -> None:
        """The attempt that is owed, though it may not be due yet. Its end ends the message."""
        residence = self._table.residence
        if residence.find(message.id) is not None:
            return
        residence.keep(message)
        for next_hop, indices in hops.items():
            self._lifecycle.offer_waiting(message, next_hop, indices)
        if residence.let_go(message):
            self._table.release(message)


def pending(message: Message, hop_of: Callable[[bytes, Envelope], bytes]) -> dict[bytes, list[int]]:
    """Recipients that are neither final nor held, by next hop."""
    found: dict[bytes, list[int]] = {}
    envelope = message.envelope
    for index, forward_path in enumerate(envelope.forward_paths):
        state = message.states.get(index)
        if state is None or not (state.status.is_final or state.status is RecipientStatus.HELD):
            found.setdefault(hop_of(forward_path, envelope), []).append(index)
    return found
