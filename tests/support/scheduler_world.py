"""A world for the scheduler: virtual time, a model of the spool, receivers that obey a function.

Nothing here sleeps. Ports never call back from within a call (`World.run` does), as the real ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from fastmta.event import Event
from fastmta.message import (
    ClientIdentity,
    Envelope,
    Message,
    Outcome,
    RecipientState,
    RecipientStatus,
)
from fastmta.message.envelope import DSNRequest
from fastmta.message.report import (
    DELAY,
    NON_DELIVERY,
    POSTMASTER_DELAY,
    POSTMASTER_NON_DELIVERY,
    SUCCESS,
    Report,
)
from fastmta.route import RouteProblem, Site, Target
from fastmta.route.hop import build_owner, plain_hop
from fastmta.scheduler import Options, Ports, Scheduler
from fastmta.scheduler.tenant import Tenant, Tenants
from tests.support.agenda import NS, Agenda
from tests.support.scheduler_receivers import (
    DEFERRED,
    DELIVERED,
    FAILED,
    LOST,
    REFUSED,
    Behaviour,
    Receivers,
    answer,
    deliver_all,
    fail_site,
)

__all__ = [
    "DEFERRED",
    "DELIVERED",
    "FAILED",
    "LOST",
    "NS",
    "REFUSED",
    "Behaviour",
    "ModelSpool",
    "World",
    "answer",
    "deliver_all",
    "fail_site",
    "hop_of",
]

RECORD_S = 0.001
FETCH_S = 0.002


class ModelSpool:
    """Backlog and Record: rows are what was released, exactly; holding is checked."""

    def __init__(self, agenda: Agenda, next_hop: Callable[[bytes, Envelope], bytes]) -> None:
        self._agenda = agenda
        self._next_hop = next_hop
        self.lifetime_ns = 5 * 86_400 * NS
        self.lifetime_of: Callable[[Envelope], int] = lambda _: self.lifetime_ns
        self.held: dict[bytes, Message] = {}
        self.rows: dict[bytes, Message] = {}
        self.final: dict[bytes, Message] = {}
        self.error: Exception | None = None
        self.accept_error: Exception | None = None
        self.record_s = RECORD_S
        self.fetches: Counter[bytes] = Counter()
        self.released = 0
        self.records = 0
        self.marks_done = 0
        self.page = 200
        self.scans = 0

    def accept(
        self, message: Message, done: Callable[[Message, Exception | None], None] | None = None
    ) -> None:
        if done is not None:
            self._agenda.call_later(self.record_s, self._accepted, message, done)
            return
        assert message.id not in self.held
        message.position = 1
        self.held[message.id] = message

    def _accepted(
        self, message: Message, done: Callable[[Message, Exception | None], None]
    ) -> None:
        error = self.error or self.accept_error
        if error is None:
            self.accept(message)
        done(message, error)

    def record(
        self,
        message: Message,
        changes: Sequence[RecipientState],
        done: Callable[[Message, Exception | None], None],
        dsn: Message | None = None,
    ) -> None:
        assert self.held.get(message.id) is message, "recorded what was released or is final"
        assert changes
        self.records += 1
        self._agenda.call_later(self.record_s, self._durable, message, tuple(changes), done, dsn)

    def _durable(
        self,
        message: Message,
        changes: Sequence[RecipientState],
        done: Callable[[Message, Exception | None], None],
        dsn: Message | None,
    ) -> None:
        self.marks_done += 1
        if self.error is not None:
            done(message, self.error)
            return
        if dsn is not None:
            self.accept(dsn)
        for change in changes:
            was_final = message.is_final(change.index)
            if change.status is RecipientStatus.REQUEUED:
                change = RecipientState(change.index, RecipientStatus.QUEUED)
                message.pending += was_final
            else:
                assert not was_final, "a final recipient was tried again"
            message.states[change.index] = change
            message.pending -= change.status.is_final
        if message.pending == 0:
            del self.held[message.id]
            self.final[message.id] = message
        done(message, None)

    def release(self, message: Message) -> None:
        assert self.held.get(message.id) is message, "released what was not held"
        assert message.pending
        self.released += 1
        del self.held[message.id]
        copy = Message(message.id, message.envelope, b"", message.arrived_at_ns)
        copy.size_octets = message.size_octets
        copy.states = dict(message.states)
        copy.pending = message.pending
        copy.position = message.position
        self.rows[message.id] = copy

    def crash(self) -> None:
        """Nobody holds anything any more; what is durable stays."""
        for message in list(self.held.values()):
            self.release(message)

    def _tails(self, message: Message) -> list[tuple[bytes, int]]:
        """(next hop, due time) of every recipient that is neither final nor held."""
        found = []
        for index, path in enumerate(message.envelope.forward_paths):
            state = message.states.get(index)
            due = message.arrived_at_ns
            if state is not None:
                if state.status.is_final or state.status is RecipientStatus.HELD:
                    continue
                if state.status is RecipientStatus.DEFERRED:
                    due = state.due_at_ns
            found.append((self._next_hop(path, message.envelope), due))
        return found

    def _all(self) -> list[Message]:
        return [*self.rows.values(), *self.held.values()]

    def fetch(
        self,
        next_hop: bytes,
        now_ns: int,
        after: bytes,
        limit: int,
        done: Callable[[list[Message], int | None], None],
    ) -> None:
        assert limit > 0
        self.fetches[next_hop] += 1
        tails = sorted(
            (due.to_bytes(8, "big") + message.id, due, message.id)
            for message in self._all()
            for hop, due in self._tails(message)
            if hop == next_hop
        )
        found: dict[bytes, None] = {}
        for tail, due, id in tails:
            if due <= now_ns and tail > after and len(found) < limit:
                found[id] = None
        later = min((due for _, due, _ in tails if due > now_ns), default=None)
        self._agenda.call_later(FETCH_S, self._fetched, list(found), later, done)

    def _fetched(
        self,
        ids: list[bytes],
        later: int | None,
        done: Callable[[list[Message], int | None], None],
    ) -> None:
        done(self._hold(ids), later)

    def _hold(self, ids: list[bytes]) -> list[Message]:
        messages = []
        for id in ids:
            message = self.rows.pop(id, None)
            if message is not None:
                self.held[id] = message
            message = self.held.get(id)
            if message is not None:
                messages.append(message)
        return messages

    def expired(self, now_ns: int, limit: int, done: Callable[[list[Message]], None]) -> None:
        old = sorted(
            (message.arrived_at_ns, message.id)
            for message in self._all()
            if message.arrived_at_ns + self.lifetime_of(message.envelope) <= now_ns
            and self._tails(message)
        )
        ids = [id for _, id in old[:limit]]
        self._agenda.call_later(FETCH_S, self._expired, ids, done)

    def _expired(self, ids: list[bytes], done: Callable[[list[Message]], None]) -> None:
        done(self._hold(ids))

    def unwarned(
        self,
        after: bytes,
        arrived_by_ns: int,
        done: Callable[[Sequence[bytes], bytes, bytes | None], None],
    ) -> None:
        """A page of `page` rows, as the index gives it."""
        self.scans += 1
        rows = sorted((one.id, one) for one in self._all() if one.id > after)[: self.page]
        old = [(id, one) for id, one in rows if one.arrived_at_ns <= arrived_by_ns]
        young = next((id for id, one in rows if one.arrived_at_ns > arrived_by_ns), None)
        ids = [id for id, one in old if not any(each.is_warned for each in one.states.values())]
        last = rows[-1][0] if len(rows) == self.page and old else b""
        self._agenda.call_later(FETCH_S, done, ids, last, young)

    def take(
        self, ids: Sequence[bytes], with_content: bool, done: Callable[[list[Message]], None]
    ) -> None:
        self._agenda.call_later(FETCH_S, self._expired, list(ids), done)

    def hops(self) -> list[tuple[bytes, int]]:
        earliest: dict[bytes, int] = {}
        for message in self.rows.values():
            for hop, due in self._tails(message):
                earliest[hop] = min(due, earliest.get(hop, due))
        return sorted(earliest.items())


class World:
    """A scheduler and everything around it."""

    def __init__(self, options: Options | None = None, tenants: Tenants | None = None) -> None:
        self.agenda = Agenda()
        self.tenants = tenants or Tenants()
        self.spool = ModelSpool(self.agenda, self.hop_of)
        self.receivers = Receivers(self.agenda)
        self.events: list[Event] = []
        self.problems: dict[bytes, RouteProblem] = {}
        self.site_of: dict[bytes, str] = {}  # next hop: label of its site, if not its own name
        self.provider_of: dict[str, str] = {}  # label of a site: name of its provider
        self.ttl_s: float | None = None
        self.resolve_s = 0.0
        self.lookups: Counter[bytes] = Counter()
        self.halted: list[str] = []
        self.randomness = 0.5  # no jitter
        self.accepted: dict[bytes, Message] = {}
        self.ended: dict[bytes, float] = {}  # by order of an operator: id, when it was answered
        self.wants_reports = True  # whoever sends; otherwise NOTIFY=NEVER
        self.wants_copies = False  # the postmaster
        self.reported: list[tuple[bytes, list[tuple[int, Outcome]]]] = []
        self.delayed: list[tuple[bytes, list[tuple[int, Outcome]]]] = []
        self.options = options or Options()
        self.tenant_of: Callable[[Envelope], Tenant] = self.tenants.of
        self._count = 0
        self.scheduler = self.new_scheduler()

    def new_scheduler(self) -> Scheduler:
        ports = Ports(
            backlog=self.spool,
            record=self.spool,
            deliver=self.receivers,
            notify=self,
            resolve=self,
            clock=self.agenda,
            timers=self.agenda,
            next_hop=self.hop_of,
            tenant_of=lambda envelope: self.tenant_of(envelope),
            random=self.random,
            emit=self.events.append,
            on_halt=self.halted.append,
        )
        scheduler = Scheduler(ports, self.options)
        scheduler.start()
        return scheduler

    def hop_of(self, forward_path: bytes, envelope: Envelope) -> bytes:
        """As the real table has it: whoever is named in a rule has next hops of its own."""
        owner = self.tenants.owner(envelope)
        return hop_of(forward_path, envelope) + (build_owner(owner) if owner else b"")

    def restart(self) -> None:
        """Kill the scheduler, with everything that is under way, and start a new one."""
        self.agenda.clear()
        self.spool.crash()
        self.receivers.restart()
        self.scheduler = self.new_scheduler()

    def random(self) -> float:
        return self.randomness

    def resolve(self, next_hop: bytes, done: Callable[[bytes, Site | RouteProblem], None]) -> None:
        self.lookups[next_hop] += 1
        if self.resolve_s:
            self.agenda.call_later(self.resolve_s, self._resolved, next_hop, done)
        else:
            self._resolved(next_hop, done)

    def _resolved(
        self, next_hop: bytes, done: Callable[[bytes, Site | RouteProblem], None]
    ) -> None:
        problem = self.problems.get(next_hop)
        done(next_hop, problem if problem is not None else self.site(next_hop))

    def site(self, next_hop: bytes) -> Site:
        next_hop = plain_hop(next_hop)
        label = self.site_of.get(next_hop, next_hop.decode().removeprefix("smtp:"))
        ends = None if self.ttl_s is None else self.agenda.now_s + self.ttl_s
        return Site(label.encode(), label, (Target(label, "192.0.2.1", 25),), ends,
                    provider=self.provider_of.get(label, ""))  # fmt: skip

    def bounce(
        self,
        message: Message,
        failures: Sequence[tuple[int, Outcome]],
        successes: Sequence[tuple[int, Outcome]] = (),
    ) -> Report | None:
        assert failures or successes
        self.reported.append((message.id, [*failures, *successes]))
        return self._report(message, NON_DELIVERY if failures else SUCCESS)

    def delay(
        self, message: Message, delayed: Sequence[tuple[int, Outcome]], until_ns: int
    ) -> Report | None:
        assert delayed
        assert message.content is not None
        assert until_ns > self.agenda.wall_ns()
        self.delayed.append((message.id, list(delayed)))
        return self._report(message, DELAY)

    def copy(
        self, message: Message, outcomes: Sequence[tuple[int, Outcome]], until_ns: int = 0
    ) -> Report | None:
        assert outcomes
        if not self.wants_copies or not message.envelope.reverse_path:
            return None
        kind = POSTMASTER_DELAY if until_ns else POSTMASTER_NON_DELIVERY
        return self.report_to(b"postmaster@home.example", kind)

    def _report(self, message: Message, kind: str) -> Report | None:
        reverse_path = message.envelope.reverse_path
        if not reverse_path or not self.wants_reports:
            return None
        return self.report_to(reverse_path, kind)

    def report_to(self, forward_path: bytes, kind: str) -> Report:
        plain = self._message(b"", (forward_path,))
        assert plain.content is not None
        dsn = Report(plain.id, plain.envelope, plain.content, plain.arrived_at_ns, kind)
        self.accepted[dsn.id] = dsn
        return dsn

    def _message(
        self,
        reverse_path: bytes,
        forward_paths: tuple[bytes, ...],
        size: int = 4_000,
        dsn: DSNRequest | None = None,
        client: str = "",
    ) -> Message:
        self._count += 1
        id = b"%016d" % self._count
        envelope = Envelope(reverse_path, forward_paths, ClientIdentity(client), dsn=dsn)
        return Message(id, envelope, b"x" * size, self.agenda.wall_ns())

    def send(
        self,
        *forward_paths: bytes,
        reverse_path: bytes = b"sender@home.example",
        size: int = 4_000,
        age_s: float = 0.0,
        dsn: DSNRequest | None = None,
        client: str = "",
    ) -> Message:
        """A message as the listener hands it over after its 250."""
        message = self._message(reverse_path, forward_paths, size, dsn, client)
        message.arrived_at_ns -= int(age_s * NS)
        self.spool.accept(message)
        self.accepted[message.id] = message
        self.scheduler.accepted(message)
        return message

    def store(
        self,
        *forward_paths: bytes,
        age_s: float = 0.0,
        due_in_s: float = 0.0,
        client: str = "",
    ) -> Message:
        """A message that is in the spool's rows only, as after a restart."""
        message = self._message(b"sender@home.example", forward_paths, client=client)
        message.arrived_at_ns -= int(age_s * NS)
        if due_in_s:
            due_at_ns = self.agenda.wall_ns() + int(due_in_s * NS)
            for index in range(len(forward_paths)):
                message.states[index] = RecipientState(
                    index, RecipientStatus.DEFERRED, 1, due_at_ns, "later"
                )
        self.spool.rows[message.id] = message
        self.accepted[message.id] = message
        return message

    def client_of(self, id: bytes) -> str:
        """Whose message that is."""
        return self.accepted[id].envelope.client.address

    def run(self, duration_s: float) -> int:
        return self.agenda.run(duration_s)

    def seen(self, kind: type[Any]) -> list[Any]:
        """Events of one type."""
        return [event for event in self.events if isinstance(event, kind)]

    def state(self, message: Message, index: int = 0) -> RecipientStatus:
        """Where a recipient stands in the spool."""
        stored = (
            self.spool.final.get(message.id)
            or self.spool.held.get(message.id)
            or self.spool.rows[message.id]
        )
        state = stored.states.get(index)
        return RecipientStatus.QUEUED if state is None else state.status


def hop_of(forward_path: bytes, _: Envelope) -> bytes:
    """MX delivery to the recipient's domain, or what transport the name of that begins with."""
    domain = forward_path[forward_path.rfind(b"@") + 1 :]
    transport = domain.partition(b".")[0]
    return (transport if transport in (b"lmtp", b"file", b"hold") else b"smtp") + b":" + domain
