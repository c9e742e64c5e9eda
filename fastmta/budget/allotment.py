"""The places of one name as the broker deals them out over workers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from .frame import COUNT_MAX, PlaceAsk, PlaceGrant

HOLD_S: Final = 1.0  # nothing is called back from who has just been granted something
TURN_S: Final = 3.0  # a place that others wait for is called back after this time
REPEAT_S: Final = 2.0  # a wish that is not met is said again


class _Share:
    """What one worker has, and wants."""

    __slots__ = ("cap", "granted", "grown_at_s", "limit", "said_at_s", "since_s", "spare", "unread",
                 "want")  # fmt: skip

    def __init__(self) -> None:
        self.limit = 0
        self.granted = 0  # what it may use at the most, messages under way included
        self.want = 0
        self.unread: list[tuple[int, int]] = []  # (number of the message, places granted in it)
        self.since_s = 0.0  # when it got its first place
        self.grown_at_s = float("-inf")  # when it got its last one
        self.cap = COUNT_MAX  # as said last
        self.spare = 0
        self.said_at_s = 0.0


class Allotment:
    """Never grants more than `limit`, the lowest that any of the workers knows.

    Who waits is in a line and gets one place at a time. While there are places for everybody, they
    are shared evenly: nobody keeps more than that when others want it. When there are fewer places
    than workers that want one, each has one for a turn.

    A place that goes to another worker costs a connection. So who got one has it for HOLD_S, though
    it idles now and then; who has had it longer is asked for it as soon as it idles.
    """

    __slots__ = ("_line", "_shares", "due_s", "key", "limit")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.limit = 0
        self.due_s = float("inf")  # when `settle` has something to do, if nothing is heard before
        self._shares: dict[int, _Share] = {}
        self._line: dict[int, None] = {}  # workers that want more, for its order

    @property
    def granted(self) -> int:
        """Places that are out."""
        return sum(share.granted for share in self._shares.values())

    @property
    def is_empty(self) -> bool:
        """Nobody has or wants anything."""
        return not self._shares

    def hear(self, worker: int, ask: PlaceAsk, ack: int) -> None:
        """A worker says what it has and wants; `ack`: the last of our messages it has read."""
        share = self._shares.setdefault(worker, _Share())
        share.limit = ask.limit
        share.unread = [one for one in share.unread if one[0] > ack]
        share.granted = ask.keep + sum(count for _, count in share.unread)
        share.want = ask.want
        if not share.granted and not share.want:
            self.leave(worker)
            return
        self._renew(worker, share)
        self.limit = min(each.limit for each in self._shares.values())

    def leave(self, worker: int) -> None:
        """The worker has nothing any more."""
        self._shares.pop(worker, None)
        self._line.pop(worker, None)
        if self._shares:
            self.limit = min(each.limit for each in self._shares.values())

    def settle(
        self, known: Collection[int], seqs: list[int], now_s: float
    ) -> dict[int, PlaceGrant]:
        """Grant what is free, call back what is due; what to say to whom.

        `known`: the workers that may be granted something. `seqs`: the numbers of the next messages
        to each.
        """
        more = self._grant(known, seqs, now_s)
        targets = self._targets()
        missing = sum(
            max(0, targets[worker] - self._shares[worker].granted)
            for worker in self._line
            if worker in known
        )
        missing = max(0, missing - max(0, self.limit - self.granted))
        missing = max(missing, self.granted - self.limit)  # the limit was lowered
        self.due_s = float("inf")
        back = self._call_back(missing, targets, now_s)
        spare = self._spare(known, sum(back.values()))
        is_over = self.granted > self.limit
        said = {}
        for worker, share in self._shares.items():
            cap = share.granted - back[worker] if worker in back else COUNT_MAX
            wish = spare if worker not in self._line and share.granted else 0
            if wish and not is_over and self._is_held(share, now_s):
                wish = 0
            is_wish = worker in back or wish > 0
            is_new = cap != share.cap or wish != share.spare
            if is_wish:
                self.due_s = min(self.due_s, now_s + REPEAT_S)
            if worker in more or is_new or (is_wish and now_s - share.said_at_s >= REPEAT_S):
                share.cap, share.spare, share.said_at_s = cap, wish, now_s
                said[worker] = PlaceGrant(self.key, more.get(worker, 0), cap, wish)
        return said

    def _renew(self, worker: int, share: _Share) -> None:
        """Into the line, or out of it."""
        if share.want > share.granted:
            self._line.setdefault(worker)
        else:
            self._line.pop(worker, None)

    def _grant(self, known: Collection[int], seqs: list[int], now_s: float) -> dict[int, int]:
        more: dict[int, int] = {}
        free = self.limit - self.granted
        while free > 0:
            targets = self._targets()
            able = [worker for worker in self._line if worker in known]
            below = [one for one in able if self._shares[one].granted < targets[one]]
            if not able:
                break
            worker = (below or able)[0]
            share = self._shares[worker]
            if not share.granted:
                share.since_s = now_s
            share.granted += 1
            share.grown_at_s = now_s
            free -= 1
            more[worker] = more.get(worker, 0) + 1
            del self._line[worker]
            self._renew(worker, share)
        for worker, count in more.items():
            self._shares[worker].unread.append((seqs[worker], count))
        return more

    def _targets(self) -> dict[int, int]:
        """How many each may have when all that want more are served evenly; at least one."""
        left = self.limit
        targets = {}
        claims = sorted((share.want, worker) for worker, share in self._shares.items())
        for number, (want, worker) in enumerate(claims):
            even = max(left, 0) // (len(claims) - number)
            targets[worker] = min(want, max(1, even))
            left -= targets[worker]
        return targets

    def _call_back(self, missing: int, targets: dict[int, int], now_s: float) -> dict[int, int]:
        """How many of each go back: first what is above an even share, then whose turn is over."""
        back: dict[int, int] = {}
        for worker, share in self._shares.items():
            excess = min(missing, max(0, share.granted - targets[worker]))
            missing -= excess
            if excess and (self.granted > self.limit or not self._is_held(share, now_s)):
                back[worker] = excess
        holders = [
            (share.since_s, worker)
            for worker, share in self._shares.items()
            if share.granted > back.get(worker, 0)
        ]
        for since_s, worker in sorted(holders):
            if missing <= 0:
                break
            missing -= 1
            if now_s < since_s + TURN_S and self.granted <= self.limit:
                self.due_s = min(self.due_s, since_s + TURN_S)
                continue
            back[worker] = back.get(worker, 0) + 1
        return back

    def _is_held(self, share: _Share, now_s: float) -> bool:
        """Whether the last place it got is so new that it keeps what it has; looked at again."""
        until_s = share.grown_at_s + HOLD_S
        if now_s >= until_s:
            return False
        self.due_s = min(self.due_s, until_s)
        return True

    def _spare(self, known: Collection[int], back: int) -> int:
        """How many places with idle connections somebody has work for."""
        shares = [self._shares[worker] for worker in self._line if worker in known]
        wanted = sum(share.want - share.granted for share in shares)
        return max(0, min(self.limit, wanted - back - max(0, self.limit - self.granted)))
