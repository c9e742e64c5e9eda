"""The broker of budgets: what is leased to which worker. A state machine; it sees time as a number.

A worker's lease is one for all that it has, and any message of it renews it. A worker that is
silent for `LEASE_S` has lost everything; the worker itself stops `MARGIN_S` earlier, by the same
clock. So silence costs time, and exceeds nothing:

* a message that is lost is told again, or found to be missing by its number (see frame.py);
* a worker that ended says nothing more, but the supervisor says so for it, after its connections
  are closed; its successor has a higher `life`, which says the same;
* a broker that begins anew grants nothing until every worker has told what it has, or until
  a lease that it does not know of must have ended;
* a broker that stood still knows that it did by the clock, and lets all leases begin anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Final

from .allotment import Allotment
from .bucket import Bucket
from .frame import LINES_MAX, Ask, Grant, PlaceGrant, RateGrant

LEASE_S: Final = 30.0
MARGIN_S: Final = 5.0  # the lease of a worker ends so much earlier with itself
GAP_S: Final = 5.0  # between two turns: who stood still so long missed messages
TURN_S: Final = 1.0  # between two turns at the most
SWEEP_S: Final = 10.0
NAMES_MAX: Final = 200_000  # of each kind; who asks for more gets nothing

_LONG_AGO_S: Final = float("-inf")
_NEVER_S: Final = float("inf")


class _Member:
    """One worker as the broker knows it."""

    __slots__ = ("epochs", "is_known", "is_owed", "is_told", "life", "sent", "seq", "until_s")

    def __init__(self) -> None:
        self.life = 0
        self.seq = 0  # its last message
        self.sent = 0  # our last message to it
        self.epochs = 0
        self.until_s = _LONG_AGO_S  # end of its lease
        self.is_known = False  # it told all that it has
        self.is_owed = False  # it waits for an answer
        self.is_told = False  # it knows of us, or should


class Ledger:
    """Places and units that `workers` have from it."""

    def __init__(
        self,
        workers: int,
        epoch: int,
        now_s: float,
        *,
        is_first: bool,
        absent: Iterable[int] = (),
    ) -> None:
        """`epoch` is above those of all brokers before; `is_first`: there was none.

        `absent`: the workers that do not live now.
        """
        if workers < 1 or epoch < 1:
            raise ValueError("there is at least one worker, and an epoch above zero")
        self._epoch = epoch
        self._members = [_Member() for _ in range(workers)]
        self._allotments: dict[bytes, Allotment] = {}
        self._buckets: dict[bytes, Bucket] = {}
        self._dirty: dict[Allotment | Bucket, None] = {}
        self._due: list[tuple[float, int, Allotment | Bucket]] = []  # a heap
        self._due_count = 0
        self._is_open = is_first
        self._opens_s = now_s + LEASE_S
        self._turned_s = now_s
        self._swept_s = now_s
        # What nobody tells of: all of its burst is there, if that is known for sure.
        self._empty_at_s = _LONG_AGO_S
        for index in () if is_first else absent:
            self._members[index].is_known = True

    def hear(self, index: int, ask: Ask, now_s: float) -> None:
        """A message of worker `index`."""
        member = self._members[index]
        if ask.life < member.life:
            return
        if ask.life > member.life:  # the one before is gone
            self._free(index, now_s)
            member.life, member.seq, member.epochs = ask.life, 0, 0
            member.is_told = ask.epoch == self._epoch
        if ask.is_gone:
            self._free(index, now_s)
            member.seq, member.is_known = ask.seq, True
            return
        if ask.seq <= member.seq:
            return
        member.seq, member.is_owed = ask.seq, True
        if ask.epoch not in (0, self._epoch):
            member.is_told = False  # it does not know us, nor what we want to know
            return
        member.until_s = now_s + LEASE_S
        member.epochs = ask.epochs
        self._take_down(index, ask, now_s)
        if ask.is_whole:
            member.is_known = True

    def turn(self, now_s: float) -> list[tuple[int, Grant]]:
        """What is to be sent to whom. Hear first all that came; then again within `wait_s`."""
        self._check_time(now_s)
        if not self._is_open:
            self._open(now_s)
        lines = self._settle(now_s) if self._is_open else {}
        said: list[tuple[int, Grant]] = []
        for index, member in enumerate(self._members):
            is_calling = not member.is_told and not member.is_known
            if index in lines or member.is_owed or is_calling:
                said.extend((index, grant) for grant in self._grants(member, lines.get(index, [])))
        return said

    def wait_s(self, now_s: float) -> float:
        """How long until `turn` has something to do, if nothing is heard before."""
        due_s = now_s + TURN_S
        if self._due and self._is_open:
            due_s = min(due_s, self._due[0][0])
        return max(0.0, due_s - now_s)

    @property
    def is_open(self) -> bool:
        """Whether it grants anything yet."""
        return self._is_open

    def granted(self, key: bytes) -> int:
        """Places under this key that are out."""
        allotment = self._allotments.get(key)
        return allotment.granted if allotment else 0

    def out(self, key: bytes) -> int:
        """Units under this key that are out."""
        bucket = self._buckets.get(key)
        return bucket.out if bucket else 0

    def __len__(self) -> int:
        return len(self._allotments) + len(self._buckets)

    def _take_down(self, index: int, ask: Ask, now_s: float) -> None:
        member = self._members[index]
        is_first_report = not member.is_known and member.epochs > 1
        ack = ask.ack if ask.epoch else 0
        for line in ask.places:
            allotment = self._allotments.get(line.key)
            if allotment is None:
                if len(self._allotments) >= NAMES_MAX:
                    continue
                allotment = self._allotments[line.key] = Allotment(line.key)
            allotment.hear(index, line, ack)
            self._dirty[allotment] = None
        for rate in ask.rates:
            bucket = self._buckets.get(rate.key)
            if bucket is None:
                if len(self._buckets) >= NAMES_MAX:
                    continue
                bucket = Bucket(rate.key, rate, self._empty_at_s, now_s)
                self._buckets[rate.key] = bucket
            if is_first_report:
                bucket.remember(rate.arrival_s, now_s)
            bucket.hear(index, rate, ack, now_s)
            self._dirty[bucket] = None

    def _free(self, index: int, now_s: float) -> None:
        """The worker has nothing any more."""
        self._members[index].is_known = False
        for allotment in self._allotments.values():
            allotment.leave(index)
            self._dirty[allotment] = None
        for bucket in self._buckets.values():
            bucket.leave(index, now_s)
            self._dirty[bucket] = None

    def _check_time(self, now_s: float) -> None:
        """End leases that were not renewed, unless it is us who slept."""
        if now_s - self._turned_s > GAP_S:
            self._opens_s = max(self._opens_s, now_s + LEASE_S)
            for member in self._members:
                member.until_s = max(member.until_s, now_s + LEASE_S)
        self._turned_s = now_s
        for index, member in enumerate(self._members):
            if _LONG_AGO_S < member.until_s <= now_s:
                member.until_s = _LONG_AGO_S
                member.is_told = False
                self._free(index, now_s)
        if now_s - self._swept_s >= SWEEP_S:
            self._sweep(now_s)

    def _open(self, now_s: float) -> None:
        """Begin to grant, if all is known or nothing unknown can be left."""
        is_known = all(member.is_known for member in self._members)
        if not is_known and now_s < self._opens_s:
            return
        self._is_open = True
        is_sure = is_known and all(member.epochs > 1 for member in self._members)
        if not is_sure:
            self._empty_at_s = now_s
            for bucket in self._buckets.values():
                bucket.empty()
        self._dirty.update(dict.fromkeys((*self._allotments.values(), *self._buckets.values())))

    def _settle(self, now_s: float) -> dict[int, list[PlaceGrant | RateGrant]]:
        """What is granted now and what is called back, for each worker in the order of messages."""
        known = {index for index, member in enumerate(self._members) if member.is_known}
        lines: dict[int, list[PlaceGrant | RateGrant]] = {}
        dirty, self._dirty = self._dirty, {}
        while self._due and self._due[0][0] <= now_s:
            due_s, _, one = heappop(self._due)
            if one.due_s == due_s:
                dirty[one] = None
        for one in dirty:
            # The number of the message that a line will be in.
            seqs = [
                member.sent + 1 + len(lines.get(index, ())) // LINES_MAX
                for index, member in enumerate(self._members)
            ]
            for index, line in one.settle(known, seqs, now_s).items():
                lines.setdefault(index, []).append(line)
            if one.due_s < _NEVER_S:
                self._due_count += 1
                heappush(self._due, (one.due_s, self._due_count, one))
            elif isinstance(one, Allotment) and one.is_empty:
                self._allotments.pop(one.key, None)
        return lines

    def _grants(self, member: _Member, lines: list[PlaceGrant | RateGrant]) -> Iterator[Grant]:
        """One or more messages for it. Its lease is renewed if we know what that is good for."""
        member.is_told, member.is_owed = True, False
        heard = member.seq if member.is_known else 0
        for first in range(0, max(1, len(lines)), LINES_MAX):
            part = lines[first : first + LINES_MAX]
            member.sent += 1
            yield Grant(
                self._epoch,
                member.life,
                member.sent,
                heard,
                not member.is_known,
                [line for line in part if isinstance(line, PlaceGrant)],
                [line for line in part if isinstance(line, RateGrant)],
            )

    def _sweep(self, now_s: float) -> None:
        self._swept_s = now_s
        for key in [key for key, one in self._buckets.items() if one.is_empty(now_s)]:
            del self._buckets[key]
        for member in self._members:
            member.is_told &= member.is_known  # call the others again
        if len(self._due) > 2 * len(self) + LINES_MAX:  # most of it was put off since
            latest = {one: due_s for due_s, _, one in self._due if one.due_s == due_s}
            self._due = sorted((due_s, n, one) for n, (one, due_s) in enumerate(latest.items()))
