"""How many jobs may be under way on one path at a time."""

SHRINK_FACTOR = 2
_FULL_CREDIT = 1.0 - 1e-9  # the sum of w times 1/w may fall short of 1 by rounding


class Window:
    """Grows by one per window of clean attempts, halves once per flight of trouble.

    * Clean attempt: +1/size, but only while the window binds (it was full when the attempt ended),
      so that it never grows beyond what is really used; up to `limit`.
    * Trouble: halved, not below 1. Attempts that were already under way at the last halving belong
      to the same flight and do not halve again: twenty connections that die together count once.
    * Trouble with a window of 1 (of an attempt that started after the last halving): the path is
      dead. From 5 that takes three flights in a row (5, 2, 1), from 20 five.
    * After a death it begins with 1 and is recovering: each clean attempt adds one, which doubles
      it with every flight, up to `start`. Trouble ends that too; from there it grows as ever.
    """

    __slots__ = ("_credit", "_halved_at_s", "_start", "is_recovering", "limit", "size")

    def __init__(self, start: int, limit: int) -> None:
        if start < 1 or limit < 1:
            raise ValueError("a window is at least 1")
        self.limit = limit
        self._start = start
        self.size = self.start
        self.is_recovering = False
        self._credit = 0.0
        self._halved_at_s = float("-inf")

    @property
    def start(self) -> int:
        """What it begins with."""
        return min(self._start, self.limit)

    def clean(self, in_flight: int) -> None:
        """An attempt ended well; `in_flight` counts it and the others that were under way."""
        size = self.size
        if self.is_recovering:
            self._recover(size + 1)
            return
        if in_flight < size or size >= self.limit:
            return
        self._credit += 1.0 / size
        if self._credit >= _FULL_CREDIT:
            self.size = size + 1
            self._credit = 0.0

    def trouble(self, started_at_s: float, now_s: float) -> bool:
        """An attempt that started at `started_at_s` met trouble. True: the path is dead."""
        if started_at_s < self._halved_at_s:
            return False
        if self.size == 1:
            return True
        self.size = max(1, self.size // SHRINK_FACTOR)
        self.is_recovering = False
        self._credit = 0.0
        self._halved_at_s = now_s
        return False

    def resize(self, limit: int) -> None:
        """Another limit; a window that was as large as it could be grows from there."""
        if limit == self.limit:
            return
        self.limit = limit
        self.size = min(self.size, limit)
        self.is_recovering = self.is_recovering and self.size < self.start
        self._credit = 0.0

    def reopen(self) -> None:
        """One attempt shows that the path works again: two may be under way now, and so on."""
        self._credit = 0.0
        self._recover(2)

    def _recover(self, size: int) -> None:
        self.size = min(size, self.start)
        self.is_recovering = self.size < self.start
