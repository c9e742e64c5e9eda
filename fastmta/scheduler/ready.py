"""The jobs that wait for a path, in the order in which they will go."""

from collections import deque
from collections.abc import Iterator, MutableSequence

from fastmta.message.attempt import Job


class Ready:
    """Fresh mail and mail from the backlog, one of each in turn while there are both.

    The order within is first in, first out. (Fair shares of tenants will replace `fresh` here.)
    """

    __slots__ = ("_is_backlog_turn", "backlog", "fresh")

    def __init__(self) -> None:
        self.fresh: deque[Job] = deque()
        # Fetched from the spool, or to be tried again. A list: there are hundreds of jobs at most,
        # but tens of thousands of paths, and an empty deque takes 624 octets.
        self.backlog: list[Job] = []
        self._is_backlog_turn = False

    def __len__(self) -> int:
        return len(self.fresh) + len(self.backlog)

    def __iter__(self) -> Iterator[Job]:
        yield from self.fresh
        yield from self.backlog

    def pop(self) -> Job:
        """The next job; there must be one."""
        if not self.fresh or (self._is_backlog_turn and self.backlog):
            self._is_backlog_turn = False
            return self.backlog.pop(0)
        self._is_backlog_turn = True
        return self.fresh.popleft()

    def prefer_fresh(self) -> None:
        """Let a fresh job be next: what was tried before may be what the peer dislikes."""
        self._is_backlog_turn = False

    def remove(self, job: Job) -> bool:
        """Take `job` out wherever it is; False when it is not here. Slow, for rare use."""
        queues: tuple[MutableSequence[Job], ...] = (self.fresh, self.backlog)
        for queue in queues:
            for position, one in enumerate(queue):
                if one is job:
                    del queue[position]
                    return True
        return False

    def keep_first(self, count: int) -> list[Job]:
        """Keep at most `count` jobs, those that would go last are taken out and returned."""
        dropped: list[Job] = []
        queues: tuple[MutableSequence[Job], ...] = (self.fresh, self.backlog)
        for queue in queues:
            while queue and len(self) > count:
                dropped.append(queue.pop())
        return dropped

    def take_hop(self, next_hop: bytes) -> list[Job]:
        """Take out every job of one next hop (its site has changed)."""
        taken = [job for job in self if job.next_hop == next_hop]
        if taken:
            self.fresh = deque(job for job in self.fresh if job.next_hop != next_hop)
            self.backlog = [job for job in self.backlog if job.next_hop != next_hop]
        return taken
