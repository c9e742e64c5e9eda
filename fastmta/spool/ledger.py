"""The ledger: which messages are live in memory, and what the index must still be told of them.

A message is *fresh* from its acceptance until its first rows are made. One that is final while it
is fresh never touches the index (elision). Fresh messages that are older than AGE_S get rows even
though somebody holds them, so that the checkpoint, and with it the reuse of segments, moves on.

While the index is being rebuilt nothing is written to it; whatever the ledger knows by then is left
out of the rebuilding and written afterwards, with the first commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from fastmta.message import Message, RecipientState

from .codec import apply_states
from .rows import Batch, Keys, Move, RowMaker, log_octets
from .segment import COLD_BASE, Logs, Segment
from .statistic import Statistics

AGE_S = 0.8  # with a commit every 0.2 s an idle shard is indexed within 1 s


class Ledger:
    """Loop thread only, but for `messages`, in which the index thread may look ids up."""

    def __init__(
        self, maker: RowMaker, logs: Logs, statistics: Statistics, live_count: int
    ) -> None:
        self.messages: dict[bytes, Message] = {}
        self.live_count = live_count
        self._maker = maker
        self._logs = logs
        self._statistics = statistics
        self._fresh: dict[bytes, Message] = {}  # in the order of their positions
        self._rows: dict[bytes, Keys] = {}  # what the index has of messages held here
        self._changed: dict[bytes, Message] = {}  # rows to be written
        self._gone: list[tuple[bytes, Keys, int, int]] = []  # id, rows to be deleted, place
        self._moves: list[Move] = []  # for the next commit
        self._moving: dict[bytes, int] = {}  # new positions, until no older one can be met
        self._ended: set[bytes] | None = None  # final since the trimmer last looked
        self._recording: dict[bytes, int] = {}  # records on their way to the log
        self._to_release: dict[bytes, Message] = {}  # once those are durable
        self._ages: deque[tuple[float, int]] = deque()  # (time, durable position then)
        self._asked = 0  # questions put to the index
        self._answered = 0
        # Ids that left memory while questions were under way: whether final, last question then.
        self._departed: dict[bytes, tuple[bool, int]] = {}
        self._departures: deque[tuple[int, bytes]] = deque()

    @property
    def is_asked(self) -> bool:
        """Whether questions are under way."""
        return self._asked > self._answered

    @property
    def has_fresh(self) -> bool:
        """Whether some message is not in the index."""
        return bool(self._fresh)

    @property
    def has_changes(self) -> bool:
        """Whether the next commit will write rows."""
        return bool(self._changed or self._gone or self._moves)

    def fresh(self) -> list[Message]:
        """The messages that are not in the index, nor on their way to it."""
        return list(self._fresh.values())

    def unwritten(self) -> list[Message]:
        """Live messages of which the index knows nothing, or not the latest."""
        return [*self._fresh.values(), *self._changed.values()]

    def unwritten_of(self, ids: Iterable[bytes]) -> dict[bytes, Message]:
        """Those of these messages of which the index knows nothing, or not the latest."""
        found: dict[bytes, Message] = {}
        for id in ids:
            message = self._changed.get(id) or self._fresh.get(id)
            if message is not None:
                found[id] = message
        return found

    def ended(self) -> set[bytes]:
        """Messages that are final, of which the index still has rows."""
        return {entry[0] for entry in self._gone}

    def is_behind(self, ids: Iterable[bytes]) -> bool:
        """Whether the index has other rows of one of `ids` than it will get."""
        changed = self._changed
        return any(id in changed for id in ids) or not self.ended().isdisjoint(ids)

    def accepted(self, message: Message, segment: Segment) -> None:
        """A MSG or REF is durable."""
        segment.live += 1
        segment.live_octets += log_octets(message)
        self.live_count += 1
        self._statistics.accepted += 1
        self.messages[message.id] = message
        self._fresh[message.id] = message

    def recording(self, message: Message) -> None:
        """A STATE is on its way to the log. Raises ValueError for a message nobody holds."""
        id = message.id
        if self.messages.get(id) is not message:
            raise ValueError(f"message {id.decode('ascii', 'replace')} is final or released")
        self._recording[id] = self._recording.get(id, 0) + 1

    def recorded(
        self,
        message: Message,
        changes: Sequence[RecipientState] | None,
        segment: Segment | None = None,
    ) -> None:
        """A STATE is durable in `segment`, or (changes None) will never be."""
        id = message.id
        left = self._recording.pop(id) - 1
        if left:
            self._recording[id] = left
        if changes is None:
            return
        self._statistics.recorded += 1
        position = message.position
        if segment is not None and (position < segment.base or position >= COLD_BASE):
            segment.add_stray(id)
        was_pending = message.pending
        message.pending = apply_states(message.states, was_pending, changes)
        if message.pending == 0:
            if was_pending:
                self._finish(message)
        elif id not in self._fresh:
            self._changed[id] = message
        if not left and id in self._to_release:
            del self._to_release[id]
            self.release(message)

    def release(self, message: Message) -> None:
        """Nobody holds a live message any more: it becomes rows. No-op for a final one."""
        id = message.id
        if self.messages.get(id) is not message:
            return
        if id in self._recording:
            self._to_release[id] = message
            return
        del self.messages[id]
        self._fresh.pop(id, None)
        self._changed[id] = message
        message.content = None  # the log has it, and the rows may wait for a while
        self._depart(id, False)

    def fetched(self, message: Message, keys: Keys) -> None:
        """A message came back from the index."""
        message.position = self._moving.get(message.id, message.position)
        self.messages[message.id] = message
        self._rows[message.id] = keys

    def lost(self, id: bytes, keys: Keys, position: int, octets: int) -> None:
        """The record of an indexed message is damaged on disk: it is live no more."""
        position = self._moving.get(id, position)
        if self._ended is not None:
            self._ended.add(id)
        self._gone.append((id, keys, position, octets))
        self._forget(position, octets)
        self._depart(id, True)

    def knows(self, id: bytes) -> bool:
        """Whether the message is live and held here, or its rows are yet to be written."""
        return id in self.messages or id in self._changed

    def asked(self) -> None:
        """A question goes to the index thread, which answers in order."""
        self._asked += 1

    def answered(self) -> None:
        """The oldest question has been answered."""
        self._answered += 1

    def departed(self, id: bytes) -> bool | None:
        """Whether `id` is final, if it left memory while a question was under way, else None."""
        departure = self._departed.get(id)
        return None if departure is None else departure[0]

    def forget_departures(self) -> None:
        """Forget those that no question still under way can have seen before."""
        departures = self._departures
        while departures and departures[0][0] <= self._answered:
            number, id = departures.popleft()
            if self._departed[id][1] == number:
                del self._departed[id]

    def order_key(self, message: Message, next_hop: bytes) -> bytes:
        """Where `message` stands among the mail for `next_hop`: its earliest due time and id."""
        return self._maker.due_at_ns(message, next_hop).to_bytes(8, "big") + message.id

    def watch(self) -> None:
        """The trimmer is about to look at the index: note what becomes final meanwhile."""
        self._ended = {entry[0] for entry in self._gone}

    def moved(self, moves: Sequence[Move]) -> None:
        """These records stand in the cold log as well now, durably: that is their place."""
        ended, self._ended = self._ended or set(), None
        for move in moves:
            if move.id in ended:
                continue  # its copy is of no use
            for holder in (self.messages, self._changed):
                message = holder.get(move.id)
                if message is not None:
                    message.position = move.new
            self._shift(move.old, -1, -move.octets)
            self._shift(move.new, 1, move.octets)
            self._moves.append(move)
            self._moving[move.id] = move.new

    def settled(self, moves: Sequence[Move]) -> None:
        """The index has these places: nobody will come with the old ones any more."""
        for move in moves:
            if self._moving.get(move.id) == move.new:
                del self._moving[move.id]

    def unindex(self) -> frozenset[bytes]:
        """The index is gone: all that is known here is to be written anew. The ids of that."""
        for id, message in self.messages.items():
            if id not in self._fresh:
                self._changed[id] = message
        self._rows.clear()
        self._gone.clear()
        self._moves.clear()
        self._moving.clear()
        self._ended = None
        return frozenset(self.messages) | frozenset(self._changed)

    def prepare(self, durable: int, now_s: float, is_cold_void: bool, may_void_cold: bool) -> Batch:
        """The changes for the next commit: nothing in it goes beyond `durable`.

        `is_cold_void`: nothing of the cold log can come back, so what became of a message that once
        was in it matters to nobody. `may_void_cold`: nobody is writing to it.
        """
        self._age(durable, now_s)
        fresh = self._fresh
        checkpoint = next(iter(fresh.values())).position if fresh else durable
        batch = Batch(checkpoint)
        changed, self._changed = self._changed, {}
        gone, self._gone = self._gone, []
        for id, message in changed.items():
            rows = self._maker.make(message, durable)
            batch.put(rows, self._rows.pop(id, None), message.position, log_octets(message))
            if id in self.messages:
                self._rows[id] = rows.keys
        for entry in gone:
            batch.delete(*entry)
        batch.moves, self._moves = self._moves, []
        hot, cold = self._logs.hot, self._logs.cold
        for segment in hot:
            if segment.end > checkpoint or segment is hot.last:
                break
            if not segment.is_trimmed and (
                segment.live or not (is_cold_void or segment.strays == [])
            ):
                break
            batch.freeable += 1
        for segment in cold:
            if segment.live and not segment.is_trimmed:
                break
            if segment is cold.last and not may_void_cold:
                break
            batch.freeable_cold += 1
        return batch

    def drain(self) -> None:
        """Release everything; for a clean end."""
        for message in list(self.messages.values()):
            if message.id in self._fresh:
                self.release(message)

    def _age(self, durable: int, now_s: float) -> None:
        ages = self._ages
        limit = 0
        while ages and ages[0][0] <= now_s - AGE_S:
            limit = ages.popleft()[1]
        ages.append((now_s, durable))
        if not limit:
            return
        old = []
        for message in self._fresh.values():
            if message.position >= limit:
                break
            old.append(message)
        for message in old:
            del self._fresh[message.id]
            self._changed[message.id] = message

    def _finish(self, message: Message) -> None:
        id = message.id
        del self.messages[id]
        if self._fresh.pop(id, None) is not None:
            self._statistics.elided += 1
        else:
            self._changed.pop(id, None)
            keys = self._rows.pop(id, None)
            if keys is not None:
                self._gone.append((id, keys, message.position, log_octets(message)))
        self._to_release.pop(id, None)
        if self._ended is not None:
            self._ended.add(id)
        self.live_count -= 1
        self._shift(message.position, -1, -log_octets(message))
        if self._asked > self._answered:
            self._depart(id, True)

    def _depart(self, id: bytes, is_final: bool) -> None:
        if self._asked > self._answered:
            self._departed[id] = (is_final, self._asked)
            self._departures.append((self._asked, id))

    def _forget(self, position: int, octets: int) -> None:
        self.live_count -= 1
        self._shift(position, -1, -octets)

    def _shift(self, position: int, count: int, octets: int) -> None:
        logs = self._logs
        segment = (logs.hot if position < COLD_BASE else logs.cold).find(position)
        if segment is not None:
            segment.live += count
            segment.live_octets += octets
