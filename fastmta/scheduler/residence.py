"""What is in RAM: which job of which message, and how much content that is."""

from __future__ import annotations

from collections.abc import Callable, ItemsView
from typing import TypeAlias

from fastmta.message import Message
from fastmta.message.attempt import Job

WINDOWS_GUARANTEED = 2  # of jobs in RAM, to each next hop
FULL_FACTOR = 2  # guarantees of next hops end when this many times the shared pool is in RAM
OCTETS_GUESS = 4_096  # of a message, before there is one to look at
FILE_OCTETS = 64 * 1024  # what a message counts whose content is in a file, never in RAM


class Party:
    """A message of which several jobs are in RAM, or that somebody keeps there without a job.

    Of a claimed one nothing starts: jobs leave as attempts end, and then `on_alone` is called.
    """

    __slots__ = ("is_claimed", "is_kept", "jobs", "message", "on_alone")

    def __init__(self, message: Message, *jobs: Job) -> None:
        self.message = message
        self.jobs = {job.next_hop: job for job in jobs}
        self.is_kept = False
        self.is_claimed = False
        self.on_alone: Callable[[], None] | None = None


Resident: TypeAlias = Job | Party


class Residence:
    """Every job in RAM, by message id; a job stays until its outcomes are durable.

    One message has at most one job per next hop here, so nothing is ever delivered twice at once.
    `messages` and `octets` count jobs: two of one message count twice.
    """

    __slots__ = ("_by_id", "expected", "messages", "messages_max", "octets", "octets_max")

    def __init__(self, messages_max: int, octets_max: int) -> None:
        self._by_id: dict[bytes, Resident] = {}
        self.messages = 0
        self.octets = 0
        self.messages_max = messages_max
        self.octets_max = octets_max
        self.expected = 0  # jobs that reads under way may bring; there must be room for them too

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, id: bytes) -> Resident | None:
        """What is in RAM of message `id`."""
        return self._by_id.get(id)

    def items(self) -> ItemsView[bytes, Resident]:
        """Everything in RAM, by message id."""
        return self._by_id.items()

    def unclaimed(self) -> list[Message]:
        """Everything in RAM that nobody claims."""
        found = []
        for resident in self._by_id.values():
            if isinstance(resident, Job) or not resident.is_claimed:
                found.append(resident.message)
        return found

    def enter(self, job: Job) -> None:
        """`job` is in RAM from now on."""
        message = job.message
        self.messages += 1
        self.octets += message.size_octets if message.file is None else FILE_OCTETS
        known = self._by_id.setdefault(message.id, job)
        if known is job:
            return
        if isinstance(known, Job):
            known = self._by_id[message.id] = Party(message, known)
        assert job.next_hop not in known.jobs
        assert known.message is message
        known.jobs[job.next_hop] = job

    def leave(self, job: Job) -> bool:
        """`job` is not in RAM any more. True: nor is anything of its message."""
        message = job.message
        self.messages -= 1
        self.octets -= message.size_octets if message.file is None else FILE_OCTETS
        known = self._by_id.pop(message.id)
        if known is job:
            return True
        assert isinstance(known, Party)
        assert known.jobs[job.next_hop] is job
        del known.jobs[job.next_hop]
        if not known.jobs and not known.is_kept:
            return True
        self._by_id[message.id] = known
        if not known.jobs and known.on_alone is not None:
            on_alone, known.on_alone = known.on_alone, None
            on_alone()
        return False

    def replace(self, old: Job, new: Job) -> None:
        """`new` takes the place of `old`: same message, same next hop."""
        known = self._by_id[old.message.id]
        if isinstance(known, Party):
            known.jobs[old.next_hop] = new
        else:
            self._by_id[old.message.id] = new

    def keep(self, message: Message) -> Party:
        """Nothing of `message` is in RAM; it counts as being there until `let_go`."""
        assert message.id not in self._by_id
        party = self._by_id[message.id] = Party(message)
        party.is_kept = True
        return party

    def claim(self, message: Message) -> Party:
        """Nothing of `message` starts, whatever is in RAM of it, until `let_go`."""
        known = self._by_id.get(message.id)
        if not isinstance(known, Party):
            known = self._by_id[message.id] = Party(message, *([known] if known else []))
        assert known.message is message
        assert not known.is_claimed
        known.is_kept = known.is_claimed = True
        return known

    def is_claimed(self, id: bytes) -> bool:
        """Whether somebody claims message `id`."""
        known = self._by_id.get(id)
        return isinstance(known, Party) and known.is_claimed

    def let_go(self, message: Message) -> bool:
        """End `keep` or `claim`. True: nothing of the message is in RAM."""
        party = self._by_id[message.id]
        assert isinstance(party, Party)
        party.is_kept = party.is_claimed = False
        if party.jobs:
            return False
        del self._by_id[message.id]
        return True

    @property
    def room(self) -> int:
        """For how many more messages there is room in the shared pool; 0 when it is full."""
        mean_octets = self.mean_octets
        octets_left = self.octets_max - self.octets - self.expected * mean_octets
        messages_left = self.messages_max - self.messages - self.expected
        if messages_left <= 0 or octets_left <= 0:
            return 0
        return min(messages_left, octets_left // (mean_octets + 1) + 1)

    @property
    def mean_octets(self) -> int:
        """Content of a job in RAM."""
        return self.octets // self.messages if self.messages else OCTETS_GUESS

    @property
    def has_room(self) -> bool:
        """The shared pool is not full."""
        return self.messages < self.messages_max and self.octets < self.octets_max

    @property
    def has_room_to_spare(self) -> bool:
        """Less than three quarters of the shared pool are taken."""
        return 4 * self.messages < 3 * self.messages_max and 4 * self.octets < 3 * self.octets_max

    @property
    def is_half_full(self) -> bool:
        """Time to keep nothing that cannot be sent."""
        return 2 * self.messages >= self.messages_max or 2 * self.octets >= self.octets_max

    @property
    def is_overfull(self) -> bool:
        """Guarantees end."""
        return (
            self.messages + self.expected >= FULL_FACTOR * self.messages_max
            or self.octets + self.expected * self.mean_octets >= FULL_FACTOR * self.octets_max
        )
