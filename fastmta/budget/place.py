"""Places: how many connections may exist at once under one name, and who has them."""

from __future__ import annotations

from .meter import Holder, Holdup, Waiter


class Places:
    """Within one process. A place is kept with its idle connection until somebody else wants it.

    First come, first served. When nothing is free, who has idle connections is asked to close one
    for each that waits; who is busy gives its place at the end of its turn (`is_wanted_of`).
    """

    __slots__ = ("__weakref__", "_asked", "_holders", "_is_releasing", "_line", "limit", "name",
                 "used")  # fmt: skip

    def __init__(self, name: str, limit: int) -> None:
        if limit < 1:
            raise ValueError("there is at least one place")
        self.name = name
        self.limit = limit
        self.used = 0
        self._holders: dict[Holder, int] = {}
        self._line: dict[Waiter, None] = {}  # for its order
        self._asked = 0  # idle connections that are being closed for those in line
        self._is_releasing = False

    def take(self, holder: Holder) -> bool:
        """Take a place, if one is free and nobody stands in line for it."""
        if self.used >= self.limit or (self._line and not self._is_releasing):
            return False
        self.used += 1
        self._holders[holder] = self._holders.get(holder, 0) + 1
        return True

    def occupy(self, holder: Holder, count: int) -> None:
        """So many connections of `holder` are there already, whatever the limit says."""
        if count:
            self.used += count
            self._holders[holder] = self._holders.get(holder, 0) + count

    def give(self, holder: Holder) -> None:
        """The connection of one place is closed: the next in line may have it."""
        count = self._holders[holder] - 1
        if count:
            self._holders[holder] = count
        else:
            del self._holders[holder]
        self.used -= 1
        self._asked = max(0, self._asked - 1)
        self._release()

    def wait(self, waiter: Waiter) -> None:
        """Join the end of the line; again is nothing."""
        self._line.setdefault(waiter)
        self._ask()

    def change(self, limit: int) -> None:
        """Another limit: more can start at once, less takes effect as work ends."""
        self.limit = limit
        self._ask(max(0, self.used - limit))
        self._release()

    def is_wanted_of(self, holder: Holder) -> bool:
        """Whether a place of `holder` that has done its turn should be given.

        That it stands in line itself, for more, is no reason.
        """
        return len(self._line) > (holder in self._line) or self.used > self.limit

    def is_spare_wanted_of(self, holder: Holder) -> bool:
        """Whether somebody else would have a place of `holder` whose connection idles."""
        return self.is_wanted_of(holder)

    def state(self) -> Holdup:
        """Why those in the line wait."""
        return Holdup(
            "connections", self.name, f"{self.used}/{self.limit} open", 0.0, len(self._line)
        )

    def _ask(self, more: int = 0) -> None:
        """Who has an idle connection closes one for each in line but itself."""
        wanted = len(self._line) + more - max(0, self.limit - self.used)
        for holder in list(self._holders):
            others = wanted - (holder in self._line)
            while self._asked < others and holder in self._holders and holder.has_spare(self):
                self._asked += 1
                holder.yield_place(self)

    def _release(self) -> None:
        if self._is_releasing:
            return
        self._is_releasing = True
        try:
            while self._line and self.used < self.limit:
                waiter = next(iter(self._line))
                del self._line[waiter]
                waiter.resume()
        finally:
            self._is_releasing = False
