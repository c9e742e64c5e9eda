"""One try of one job: which recipients are still open, and at which targets it has been."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from fastmta.message import AttemptResult, Job, Outcome, OutcomeKind
from fastmta.route import Site, Target

from .content import Source
from .transaction import Extras, Transaction

Done: TypeAlias = Callable[[Job, AttemptResult], None]


class Attempt:
    """From `start` to the one call of `done`.

    `places` are the positions within the job that have no final outcome yet; None stands for all
    of them, which is nearly every attempt there is.
    """

    __slots__ = (
        "begun_s",
        "connect_s",
        "content",
        "done",
        "has_ascii_header",
        "has_completed",
        "is_reusing",
        "is_starting",
        "job",
        "outcomes",
        "places",
        "session_count",
        "site",
        "source",
        "started_s",
        "target_count",
        "trouble",
        "use_count",
        "used_target",
    )

    def __init__(self, job: Job, site: Site, done: Done, now_s: float) -> None:
        self.job = job
        self.site = site
        self.done: Done | None = done  # None once it was called
        self.content = b""  # dot-stuffed
        self.source: Source | None = None  # of a large one, instead
        self.has_ascii_header: bool | None = None  # of a large one; None: nobody looked
        self.outcomes: list[Outcome | None] | None = None  # by place, once there are any
        self.places: list[int] | None = None
        self.trouble: Outcome | None = None
        self.has_completed = False  # some session took its transaction to the end
        self.is_starting = True  # `start` has not returned
        self.is_reusing = False  # the present session carried another message before
        self.used_target: Target | None = None  # of the session that was reused
        self.target_count = 0  # targets tried, in the site's order
        self.session_count = 0  # sessions that reached a transaction
        self.use_count = 1
        self.started_s = now_s
        self.begun_s = now_s  # of the last transaction
        self.connect_s = 0.0

    def next_transaction(self) -> Transaction:
        """What is left to send."""
        message, indices = self.job.message, self.job.indices
        envelope = message.envelope
        paths = envelope.forward_paths
        if self.places is not None:
            indices = tuple([indices[place] for place in self.places])
        transaction = Transaction(
            envelope.reverse_path,
            [paths[index] for index in indices],
            self.content,
            message.size_octets,
            envelope.is_8bit,
            self.source,
        )
        if envelope.is_utf8 or envelope.dsn is not None:
            transaction.extras = Extras(
                envelope.dsn, indices, envelope.is_utf8, self.has_ascii_header
            )
        return transaction

    def take(self, outcomes: list[Outcome | None]) -> bool:
        """Keep what a session found for the open places; whether some are deferred by it."""
        if self.places is None:
            self.outcomes = outcomes
            places = None
            for place, outcome in enumerate(outcomes):
                assert outcome is not None
                if outcome.kind is OutcomeKind.DEFERRED:
                    places = places or []
                    places.append(place)
            self.places = places or []
            return places is not None
        assert self.outcomes is not None
        assert len(outcomes) == len(self.places)
        left = []
        for place, outcome in zip(self.places, outcomes, strict=True):
            assert outcome is not None
            self.outcomes[place] = outcome
            if outcome.kind is OutcomeKind.DEFERRED:
                left.append(place)
        self.places = left
        return bool(left)

    def take_for_all(self, outcome: Outcome) -> bool:
        """One outcome for every open place; whether it defers them."""
        count = len(self.job.indices) if self.places is None else len(self.places)
        return self.take([outcome] * count)

    def break_off(self, outcome: Outcome) -> None:
        """Give `outcome` to every recipient without a final one, whatever state this is in."""
        known = self.outcomes or [None] * len(self.job.indices)
        self.outcomes = [
            outcome if one is None or one.kind is OutcomeKind.DEFERRED else one for one in known
        ]
        self.places = []

    def next_target(self, targets_max: int) -> Target | None:
        """The target to connect to now, counted as tried; None when there is no other."""
        targets = self.site.targets
        while self.target_count < min(len(targets), targets_max):
            target = targets[self.target_count]
            self.target_count += 1
            if target != self.used_target:
                return target
        return None

    def result(self, now_s: float) -> AttemptResult:
        """What is reported; every recipient of the job is in it."""
        outcomes = self.outcomes
        assert outcomes is not None
        assert len(outcomes) == len(self.job.indices)
        assert None not in outcomes
        return AttemptResult(
            outcomes,  # type: ignore[arg-type]  # no None in it, see above
            None if self.has_completed else self.trouble,
            self.connect_s,
            now_s - self.begun_s,
            self.use_count,
        )
