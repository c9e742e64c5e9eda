"""The spool as the scheduler sees it: Backlog and Record, in RAM and in virtual time.

A message with one recipient has no row until it is released, as the real index elides what is
final soon; one with several has rows from the start, because one next hop may want it while another
has it. Outcomes become durable in groups: the first of a group waits RECORD_S, the others come
along, as with the committer.

What the scheduler must not do (record what it released, release what it does not hold, change what
is final) raises `AssertionError`: a defect of the scheduler, not of the scenario.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, cast

from fastmta.message import Envelope, Message, RecipientState, RecipientStatus

from .clock import NS, Agenda
from .mail import Mail
from .rows import SortedKeys

DUE_OCTETS = 8
PAGE = 1_000  # ids of one look for late mail
RECORD_S = 0.005  # until a mark is durable
FETCH_S = 0.002

Fetched: TypeAlias = Callable[[list[Message], int | None], None]
Found: TypeAlias = Callable[[list[Message]], None]
Late: TypeAlias = Callable[[Sequence[bytes], bytes, bytes | None], None]
Recorded: TypeAlias = Callable[[Message, Exception | None], None]
Settle: TypeAlias = Callable[[Mail, RecipientState], None]
_Mark: TypeAlias = tuple[Mail, Sequence[RecipientState], Recorded, Message | None]


class ModelSpool:
    """Every message that is not final, by id, in the order of arrival; and the rows."""

    def __init__(
        self,
        agenda: Agenda,
        next_hop: Callable[[bytes, Envelope], bytes],
        settle: Settle,
        lifetime_s: Callable[[Envelope], float],
        shortest_s: float,
    ) -> None:
        """`settle(mail, state)` hears of each recipient that has become final, durably.

        No lifetime is shorter than `shortest_s`.
        """
        self._agenda = agenda
        self._next_hop = next_hop
        self._settle = settle
        self._lifetime_s = lifetime_s
        self._shortest_ns = int(shortest_s * NS)
        self.messages: dict[bytes, Mail] = {}
        self._rows: dict[bytes, SortedKeys] = {}
        self._marks: list[_Mark] = []
        self._ids: list[bytes] = []  # of a scan for late mail
        self.fetch_count = 0
        self.record_count = 0

    # In

    def add(self, mail: Mail) -> None:
        """A new message is durable, and the scheduler holds it."""
        self.messages[mail.id] = mail
        mail.is_held = True
        if len(mail.envelope.forward_paths) > 1:
            self._index(mail)

    def store(self, mail: Mail) -> None:
        """A message of the backlog, which nobody holds."""
        self.messages[mail.id] = mail
        self._index(mail)

    def accept(self, message: Message, done: Recorded) -> None:
        """Reports are not simulated: `Notify` makes none."""
        raise AssertionError("the simulated scheduler has no mail of its own")

    # Record

    def record(
        self,
        message: Message,
        changes: Sequence[RecipientState],
        done: Recorded,
        dsn: Message | None = None,
    ) -> None:
        """See the port."""
        mail = cast(Mail, message)
        assert mail.is_held, "recorded what was released or is final"
        if not self._marks:
            self._agenda.post(RECORD_S, self._flush)
        self._marks.append((mail, changes, done, dsn))

    def _flush(self) -> None:
        marks, self._marks = self._marks, []
        self.record_count += len(marks)
        for mail, changes, done, _ in marks:
            for change in changes:
                self._apply(mail, change)
            if mail.pending == 0:
                del self.messages[mail.id]
                mail.is_held = False
                if mail.rows:
                    self._unindex(mail)
            elif mail.rows:
                self._unindex(mail)
                self._index(mail)
            done(mail, None)

    def _apply(self, mail: Mail, change: RecipientState) -> None:
        assert not mail.is_final(change.index), "a final recipient was tried again"
        mail.states[change.index] = change
        if change.status.is_final:
            mail.pending -= 1
            self._settle(mail, change)

    # Backlog

    def release(self, message: Message) -> None:
        """See the port."""
        mail = cast(Mail, message)
        assert mail.is_held, "released what was not held"
        assert mail.pending, "released what is final"
        mail.is_held = False
        if not mail.rows:
            self._index(mail)

    def crash(self) -> None:
        """Nobody holds anything any more; what was durable stays, marks under way are lost."""
        self._marks.clear()
        for mail in self.messages.values():
            if mail.is_held:
                self.release(mail)

    def fetch(self, next_hop: bytes, now_ns: int, after: bytes, limit: int, done: Fetched) -> None:
        """See the port."""
        assert limit > 0
        self.fetch_count += 1
        rows = self._rows.get(next_hop)
        ids: list[bytes] = []
        next_due_ns = None
        if rows is not None:
            end = (now_ns + 1).to_bytes(DUE_OCTETS, "big")
            ids = [key[DUE_OCTETS:] for key in rows.between(after, end, limit)]
            later = rows.first_from(end)
            if later is not None:
                next_due_ns = int.from_bytes(later[:DUE_OCTETS], "big")
        self._agenda.post(FETCH_S, self._fetched, ids, next_due_ns, done)

    def _fetched(self, ids: list[bytes], next_due_ns: int | None, done: Fetched) -> None:
        done(self._hold(ids), next_due_ns)

    def expired(self, now_ns: int, limit: int, done: Found) -> None:
        """See the port."""
        ids: list[bytes] = []
        for mail in self.messages.values():  # in the order of arrival
            age_ns = now_ns - mail.arrived_at_ns
            if len(ids) >= limit or age_ns < self._shortest_ns:
                break
            if age_ns >= int(self._lifetime_s(mail.envelope) * NS):
                ids.append(mail.id)
        self.take(ids, True, done)

    def take(self, ids: Sequence[bytes], with_content: bool, done: Found) -> None:
        """See the port."""
        self._agenda.post(FETCH_S, self._taken, ids, done)

    def _taken(self, ids: Sequence[bytes], done: Found) -> None:
        done(self._hold(ids))

    def _hold(self, ids: Sequence[bytes]) -> list[Message]:
        found: dict[bytes, Message] = {}  # a message may have two rows of one next hop
        for id in ids:
            mail = self.messages.get(id)
            if mail is not None:
                mail.is_held = True
                found[id] = mail
        return list(found.values())

    def unwarned(self, after: bytes, arrived_by_ns: int, done: Late) -> None:
        """See the port."""
        if not after or not self._ids or after >= self._ids[-1]:
            self._ids = sorted(self.messages)
        begin = bisect_right(self._ids, after)
        page = self._ids[begin : begin + PAGE]
        mails = [self.messages[id] for id in page if id in self.messages]
        late = [mail for mail in mails if mail.arrived_at_ns <= arrived_by_ns]
        young = next((mail.id for mail in mails if mail.arrived_at_ns > arrived_by_ns), None)
        ids = [mail.id for mail in late if not any(one.is_warned for one in mail.states.values())]
        last = page[-1] if len(page) == PAGE and young is None else b""
        self._agenda.post(FETCH_S, done, ids, last, young)

    def hops(self) -> list[tuple[bytes, int]]:
        """See the port."""
        found = []
        for next_hop, rows in sorted(self._rows.items()):
            first = rows.first_from(b"")
            if first is not None:
                found.append((next_hop, int.from_bytes(first[:DUE_OCTETS], "big")))
        return found

    # The index

    def _index(self, mail: Mail) -> None:
        for next_hop, due_ns in dict.fromkeys(self._dues(mail)):
            key = due_ns.to_bytes(DUE_OCTETS, "big") + mail.id
            rows = self._rows.get(next_hop)
            if rows is None:
                rows = self._rows[next_hop] = SortedKeys()
            rows.add(key)
            mail.rows.append((next_hop, key))

    def _unindex(self, mail: Mail) -> None:
        for next_hop, key in mail.rows:
            self._rows[next_hop].remove(key)
        mail.rows.clear()

    def _dues(self, mail: Mail) -> Iterator[tuple[bytes, int]]:
        """(next hop, due time) of every recipient that is neither final nor held."""
        for index, forward_path in enumerate(mail.envelope.forward_paths):
            state = mail.states.get(index)
            due_ns = mail.arrived_at_ns
            if state is not None:
                if state.status.is_final or state.status is RecipientStatus.HELD:
                    continue
                if state.status is RecipientStatus.DEFERRED:
                    due_ns = state.due_at_ns
            yield self._next_hop(forward_path, mail.envelope), due_ns
