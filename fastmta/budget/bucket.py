"""The units of one throttle as the broker deals them out over workers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from .frame import RateAsk, RateGrant

JITTER_S: Final = 0.005  # a unit may come as much early after one that came late
BATCH_S: Final = 0.01  # units of a fast throttle are dealt out in batches of this time

_EXACT: Final = 1e-9  # sums of fractions
_NEVER: Final = float("inf")


class _Share:
    """What one worker has, and wants."""

    __slots__ = ("burst", "interval_s", "stock", "unread", "used", "used_at_s", "want")

    def __init__(self, ask: RateAsk) -> None:
        self.interval_s = ask.interval_s
        self.burst = ask.burst
        self.stock = 0  # units that it had when it wrote last
        self.unread: list[tuple[int, int]] = []  # (number of the message, units granted in it)
        self.want = 0
        self.used = ask.used
        self.used_at_s = ask.used_at_s

    @property
    def out(self) -> int:
        """Units that it may use without asking again."""
        return self.stock + sum(count for _, count in self.unread)


class Bucket:
    """A bucket of `burst` units which fills at the rate; units that are out take up room in it.

    So what is in the bucket and what is out together are never more than the burst, and whenever
    a unit is used, it conforms: the uses of all workers together are those of one exact rate. A
    unit that was used is told with the time of its use, from which on its room filled again. Who
    had units and is gone has used them.

    The interval is the longest and the burst the smallest that any of the workers knows. So that
    timers and messages that come late do not lower the rate, there is room for a fraction of a
    unit more, of which never a whole one comes.
    """

    __slots__ = ("_at_s", "_full_at_s", "_level", "_line", "_shares", "burst", "due_s",
                 "interval_s", "key")  # fmt: skip

    def __init__(self, key: bytes, ask: RateAsk, empty_at_s: float, now_s: float) -> None:
        """`empty_at_s`: when it was empty for sure; -inf: never, or long ago."""
        self.key = key
        self.interval_s = ask.interval_s
        self.burst = ask.burst
        self.due_s = _NEVER
        self._at_s = now_s
        self._level = min(self._capacity, (now_s - empty_at_s) / self.interval_s)
        # Since when there is no room; inf: there is.
        self._full_at_s = now_s if self._level == self._capacity else _NEVER
        self._shares: dict[int, _Share] = {}
        self._line: dict[int, None] = {}  # workers that want units, for its order

    @property
    def _capacity(self) -> float:
        return self.burst + min(0.5, JITTER_S / self.interval_s)

    @property
    def out(self) -> int:
        """Units that are out."""
        return sum(share.out for share in self._shares.values())

    @property
    def arrival_s(self) -> float:
        """When all of the burst will be there, if nothing more is granted."""
        return self._at_s + (self._capacity - self._level) * self.interval_s

    def is_empty(self, now_s: float) -> bool:
        """Nobody has or wants anything, and a new one would be the same."""
        return not self._shares and self.arrival_s <= now_s

    def remember(self, arrival_s: float, now_s: float) -> None:
        """The broker before this one had granted units, up to that arrival."""
        self._advance(now_s)
        owed = max(0.0, arrival_s - now_s) / self.interval_s
        if self._capacity - owed < self._level:
            self._level = self._capacity - owed
            self._full_at_s = _NEVER

    def empty(self) -> None:
        """It may have been used up a moment ago."""
        self._level = min(self._level, 0.0)
        self._full_at_s = _NEVER

    def hear(self, worker: int, ask: RateAsk, ack: int, now_s: float) -> None:
        """A worker says what it has, used and wants; `ack`: our last message it has read."""
        self._advance(now_s)
        share = self._shares.get(worker)
        if share is None:
            share = self._shares[worker] = _Share(ask)
        share.interval_s, share.burst = ask.interval_s, ask.burst
        before = share.out
        share.stock = ask.stock
        share.unread = [one for one in share.unread if one[0] > ack]
        used = max(0, ask.used - share.used)
        returned = before - share.out - used
        share.used = max(share.used, ask.used)
        share.used_at_s = min(now_s, max(share.used_at_s, ask.used_at_s))
        if returned > 0:
            self._level += returned
        if used:
            self._refill_since(share.used_at_s, now_s)
        share.want = max(0, ask.want - share.out + share.stock)
        if share.want:
            self._line.setdefault(worker)
        else:
            self._line.pop(worker, None)
        if not ask.want and not share.out:
            del self._shares[worker]
        self._agree()

    def leave(self, worker: int, now_s: float) -> None:
        """The worker is gone; its units count as used now."""
        self._advance(now_s)
        self._line.pop(worker, None)
        if self._shares.pop(worker, None) is not None:
            self._full_at_s = _NEVER
            self._agree()

    def settle(self, known: Collection[int], seqs: list[int], now_s: float) -> dict[int, RateGrant]:
        """Grant what is there, one unit after the other to those in line; what to say to whom."""
        self._advance(now_s)
        units: dict[int, int] = {}
        able = [worker for worker in self._line if worker in known]
        while able and self._level >= 1.0 - _EXACT and self.out + sum(units.values()) < self.burst:
            worker = able.pop(0)
            share = self._shares[worker]
            self._level -= 1.0
            share.want -= 1
            units[worker] = units.get(worker, 0) + 1
            del self._line[worker]
            if share.want > 0:
                self._line[worker] = None
                able.append(worker)
        for worker, count in units.items():
            self._shares[worker].unread.append((seqs[worker], count))
        self.due_s = self._due_s(able)
        arrival_s = self.arrival_s
        return {
            worker: RateGrant(self.key, count, max(0.0, arrival_s))
            for worker, count in units.items()
        }

    def _due_s(self, able: list[int]) -> float:
        """When there is a batch for those in line; a batch is one unit, unless that is too soon."""
        room = self._capacity - self._level - self.out
        if not able or room + self._level < 1.0:
            return _NEVER
        wanted = sum(self._shares[worker].want for worker in able)
        batch = max(1, min(wanted, int(BATCH_S / self.interval_s), self.burst // 4))
        return self._at_s + min(room, max(0.0, batch - self._level)) * self.interval_s

    def _advance(self, now_s: float) -> None:
        """Fill until now, as far as there is room."""
        passed_s, self._at_s = now_s - self._at_s, max(now_s, self._at_s)
        if passed_s <= 0:
            return
        room = self._capacity - self._level - self.out
        gain = passed_s / self.interval_s
        if gain < room:
            self._level += gain
            self._full_at_s = _NEVER
            return
        if room > 0:
            self._level += room
            self._full_at_s = now_s - (gain - room) * self.interval_s
        elif self._full_at_s == _NEVER:
            self._full_at_s = now_s - passed_s

    def _refill_since(self, used_at_s: float, now_s: float) -> None:
        """There has been room since `used_at_s`, but we did not know."""
        since_s = max(self._full_at_s, used_at_s)
        if since_s >= now_s:  # it was filling all the time
            return
        room = self._capacity - self._level - self.out
        gain = (now_s - since_s) / self.interval_s
        self._level += max(0.0, min(room, gain))
        self._full_at_s = since_s + room * self.interval_s if gain >= room else _NEVER

    def _agree(self) -> None:
        """On the slowest that anybody knows; what is owed stays."""
        if not self._shares:
            return
        owed = self._capacity - self._level
        self.interval_s = max(share.interval_s for share in self._shares.values())
        self.burst = min(share.burst for share in self._shares.values())
        self._level = min(self._level, self._capacity - owed)
