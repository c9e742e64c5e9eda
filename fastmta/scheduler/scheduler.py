"""The scheduler of one worker: its parts put together, and what others may ask of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from fastmta.budget import Broker
from fastmta.budget.meter import Meters
from fastmta.budget.shape import Shape
from fastmta.message import Envelope, Message
from fastmta.message.report import Report

from .delay import Delays
from .engine import Engine, Options
from .expiry import Expiry
from .explain import Explainer
from .health import PathState
from .lifecycle import Lifecycle
from .operation import Kind, Operations, Order, Told
from .port import Ports
from .standing import Standing
from .table import Table


class Counts(msgspec.Struct, frozen=True):
    """What is under way and in RAM just now."""

    in_flight: int
    marks: int  # records of outcomes under way
    ram_jobs: int
    ram_octets: int
    next_hops: int
    paths: int
    paths_closed: int


class Scheduler:
    """Everything outbound of one worker. Single-threaded: all calls come on the loop."""

    def __init__(
        self,
        ports: Ports,
        options: Options,
        broker: Broker | None = None,
        meters: Meters | None = None,
    ) -> None:
        """`broker` and `meters` see to limits that hold over all workers; None: there is one."""
        self._engine = Engine(ports, options, broker, meters)
        self._table = Table(self._engine)
        self._lifecycle = self._table.lifecycle = Lifecycle(self._engine, self._table)
        self._expiry = Expiry(self._engine, self._table, self._lifecycle)
        self._delays = Delays(self._engine, self._table, self._lifecycle)
        self._operations = Operations(self._engine, self._table, self._lifecycle)
        self.explain = Explainer(self._engine, self._table)  # why anything does not move
        self.standing = Standing(self._engine, self._table)  # where mail stands, for lists
        # The door for mail: call it on the loop with each message that has become durable.
        self.accepted: Callable[[Message], None] = self._lifecycle.accepted
        # The same for a message of which nothing may start yet when it becomes durable: before
        # that, and when it may start, or when it did not become durable.
        self.reserve: Callable[[Message], None] = self._lifecycle.reserve
        self.begin: Callable[[Message], None] = self._lifecycle.begin
        self.forget: Callable[[Message], None] = self._lifecycle.forget

    def start(self) -> None:
        """Take up the backlog. Overdue mail comes as fast as windows and RAM let it."""
        self._engine.renew()  # others may have joined the broker since we were made
        self.take_up()
        self._expiry.start()
        self._delays.start()

    def take_up(self) -> None:
        """Learn what the backlog holds: at the start, and when it knows more than it did then."""
        for next_hop, due_at_ns in self._engine.ports.backlog.hops():
            self._table.due.note(self._table.hop(next_hop), due_at_ns)

    def drain(self, on_idle: Callable[[], None]) -> int:
        """Start nothing any more; say how many attempts are under way.

        `on_idle` is called once, when these have ended and their outcomes are durable; at once when
        there are none. Mail may still be accepted: it stays in the spool for the next start.
        """
        self._engine.stop(on_idle)
        return self._engine.slots.used + self._engine.contacts.hung_count

    def pause(self, reason: str) -> None:
        """Start no attempt and give nobody up until `resume`; explanations say why.

        Attempts under way end, and their outcomes are recorded. Mail may still be accepted.
        """
        self._engine.pause(reason)

    def resume(self) -> None:
        """Go on. No-op without a pause."""
        if self._engine.pause_reason:
            self._engine.resume()
            self._expiry.resume()
            self._table.resume()

    def shape(self, overrides: Sequence[Shape]) -> None:
        """These shapes of an operator hold from now on, and those of the configuration whose names
        they do not have."""
        self._table.shape(overrides)
        self.standing.changed()

    def renew(self, options: Options, next_hop: Callable[[bytes, Envelope], bytes]) -> None:
        """Do as these say from now on. `shape` follows, and `reroute` if `next_hop` may answer
        otherwise than before.

        Pools in RAM keep their sizes, and scans for delayed mail their delays.
        """
        self._engine.options = options
        self._engine.ports = replace(self._engine.ports, next_hop=next_hop)
        self._engine.renew()

    def reroute(self) -> None:
        """`next_hop` and the sites behind next hops may be others: what waits goes back to the
        backlog, to be read as it is routed now; what is under way ends, and then does so, too."""
        self._table.reroute()

    def operate(self, order: Order, ids: Sequence[bytes], told: Told) -> None:
        """Do to these messages what an operator ordered: see `Operations.operate`."""
        if order.kind in (Kind.RELEASE, Kind.REQUEUE):
            self._delays.rescan()  # held mail is not late, whatever its age
        self._operations.operate(order, ids, told)

    def submit(self, report: Report) -> None:
        """Store mail of our own and deliver it; a log line says when it cannot be stored."""
        self._lifecycle.store(report)

    @property
    def next_due_ns(self) -> int | None:
        """When the next attempt is likely (wall clock); 0: now; None: not until somebody does
        something, or there is no mail."""
        return self.standing.outlook.next_ns

    @property
    def counts(self) -> Counts:
        """For metrics and status."""
        engine, table = self._engine, self._table
        paths = table.paths.values()
        return Counts(
            engine.slots.used + engine.contacts.hung_count,
            engine.marks,
            table.residence.messages,
            table.residence.octets,
            len(table.hops),
            len(paths),
            sum(path.health.state is not PathState.OPEN for path in paths),
        )
