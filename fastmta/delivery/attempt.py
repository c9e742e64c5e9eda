"""One try of one job: which recipients are still open, and at which targets it has been."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from fastmta.message import AttemptResult, Job, Outcome, OutcomeKind, Scope
from fastmta.message.category import Category
from fastmta.route import Site, Target
from fastmta.route.way import Way

from .content import Source
from .session_key import session_key
from .transaction import Extras, Transaction
from .trouble import IN_DOUBT, NO_REQUIRETLS

Done: TypeAlias = Callable[[Job, AttemptResult], None]
# Looked at for each message; reading them off their classes every time costs more than that.
_DELIVERED = OutcomeKind.DELIVERED
_TAKEN = (_DELIVERED, OutcomeKind.DELIVERABLE)


class Attempt:
    """From `start` to the one call of `done`.

    `places` are the positions within the job that have no final outcome yet; None stands for all
    of them, which is nearly every attempt there is. `rest` are those that the server's limit kept
    out of the present transaction, `passed` those that an earlier part of it deferred.
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
        "key",
        "outcomes",
        "passed",
        "places",
        "rest",
        "session_count",
        "site",
        "source",
        "spent_way",
        "started_s",
        "target_count",
        "trouble",
        "use_count",
        "used_target",
    )

    def __init__(self, job: Job, site: Site, done: Done, now_s: float) -> None:
        self.job = job
        self.site = site
        self.key = session_key(site, job)
        self.done: Done | None = done  # None once it was called
        self.content = b""  # dot-stuffed
        self.source: Source | None = None  # of a large one, instead
        self.has_ascii_header: bool | None = None  # of a large one; None: nobody looked
        self.outcomes: list[Outcome | None] | None = None  # by place, once there are any
        self.places: list[int] | None = None
        self.rest: list[int] | None = None
        self.passed: list[int] = []
        self.spent_way: Way | None = None  # its login is no good: its other targets are left alone
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

    def next_transaction(self, recipients_max: int = 0) -> Transaction:
        """What is left to send, or the first part of it (RFC 9422 4.2); 0: there is no limit."""
        message, indices = self.job.message, self.job.indices
        envelope = message.envelope
        paths = envelope.forward_paths
        if recipients_max:
            self._split(recipients_max)
        if self.places is not None:
            indices = tuple([indices[place] for place in self.places])
        if len(indices) == 1:  # of nearly every message: without the frame of the list below
            paths = (paths[indices[0]],)
        else:
            paths = tuple([paths[index] for index in indices])
        transaction = Transaction(
            envelope.reverse_path,
            paths,
            self.content,
            message.size_octets,
            envelope.is_8bit,
            self.source,
        )
        transaction.is_probe = envelope.is_probe
        if envelope.is_utf8 or envelope.dsn is not None or envelope.is_tls_required:
            transaction.extras = Extras(
                envelope.dsn,
                indices,
                envelope.is_utf8,
                self.has_ascii_header,
                envelope.is_tls_required,
                original_paths=envelope.original_paths,
            )
        return transaction

    def _split(self, recipients_max: int) -> None:
        """Keep what is more than that for later."""
        places = list(range(len(self.job.indices))) if self.places is None else self.places
        if len(places) > recipients_max:
            if self.outcomes is None:
                self.outcomes = [None] * len(self.job.indices)
            self.places, self.rest = places[:recipients_max], places[recipients_max:]

    def take_up_rest(self) -> None:
        """The present part is done with: the rest is what is open now."""
        assert self.rest is not None
        assert self.places is not None
        self.passed += self.places
        self.places, self.rest = self.rest, None

    def rejoin(self) -> None:
        """Nothing came of the present part: it is open together with the rest."""
        if self.rest is not None and self.places is not None:
            self.places, self.rest = self.places + self.rest, None

    def give_up_rest(self, outcome: Outcome) -> bool:
        """The rest gets `outcome`; whether any recipient is open then."""
        self.take_up_rest()
        assert self.places is not None
        self.take([outcome] * len(self.places))
        return self.take_back()

    def take_back(self) -> bool:
        """All parts are done with: what they deferred is open; whether that is any."""
        assert self.rest is None
        assert self.places is not None
        self.places, self.passed = sorted(self.passed + self.places), []
        return bool(self.places)

    def take(self, outcomes: list[Outcome | None]) -> bool:
        """Keep what a session found for the open places; whether some are deferred by it."""
        if self.places is None:
            self.outcomes = outcomes
            places = None
            for place, outcome in enumerate(outcomes):
                assert outcome is not None
                if outcome.kind is not _DELIVERED and _is_open(outcome):
                    places = places or []
                    places.append(place)
            self.places = places or []
            return places is not None
        assert self.outcomes is not None
        assert len(outcomes) == len(self.places)
        left = []
        for place, outcome in zip(self.places, outcomes, strict=True):
            assert outcome is not None
            if not _is_said_in_vain(self.outcomes[place], outcome):
                self.outcomes[place] = outcome
            if _is_open(outcome):
                left.append(place)
        self.places = left
        return bool(left)

    def set_aside(self, outcomes: list[Outcome | None]) -> int:
        """Whoever was one recipient too many in what was taken just now is part of the rest.

        RFC 5321 4.5.3.1.10. How many the server took; 0: it spoke of no limit, or took nobody.
        """
        assert self.places is not None
        assert self.outcomes is not None
        over = [place for place in self.places if _is_one_too_many(self.outcomes[place])]
        count = sum(outcome is not None and outcome.kind in _TAKEN for outcome in outcomes)
        if not over or not count:
            return 0
        self.places = [place for place in self.places if place not in set(over)]
        self.rest = over + (self.rest or [])
        return count

    def take_for_all(self, outcome: Outcome) -> bool:
        """One outcome for every open place; whether that leaves any open."""
        if self.rest is not None:
            self.take_up_rest()
        if self.passed:
            self.take_back()
        count = len(self.job.indices) if self.places is None else len(self.places)
        return self.take([outcome] * count)

    def break_off(self, outcome: Outcome) -> None:
        """Give `outcome` to every recipient without a final one, whatever state this is in."""
        known = self.outcomes or [None] * len(self.job.indices)
        self.outcomes = [
            outcome if one is None or (one.kind is OutcomeKind.DEFERRED and _is_open(one)) else one
            for one in known
        ]
        self.rest, self.passed = None, []
        self.places = []

    def has_target(self, targets_max: int) -> bool:
        """Whether `next_target` would find one."""
        targets = self.site.targets[self.target_count : targets_max]
        return any(self._is_fit(target) for target in targets)

    def next_target(self, targets_max: int) -> Target | None:
        """The target to connect to now, counted as tried; None when there is no other."""
        targets = self.site.targets
        while self.target_count < min(len(targets), targets_max):
            target = targets[self.target_count]
            self.target_count += 1
            if self._is_fit(target):
                return target
        return None

    def _is_fit(self, target: Target) -> bool:
        return target != self.used_target and self.way_to(target) != self.spent_way

    def way_to(self, target: Target) -> Way:
        """A fallback relay has its own."""
        return self.site.way if target.way is None else target.way

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


def _is_open(outcome: Outcome) -> bool:
    """Whether another host may do better (RFC 8689 4.2.1: that is so of REQUIRETLS).

    Where the mail may have arrived, another host could only deliver it twice.
    """
    if outcome.kind is OutcomeKind.DEFERRED:
        return outcome.category != IN_DOUBT
    return outcome.status == NO_REQUIRETLS and not outcome.diagnostic


def _is_one_too_many(outcome: Outcome | None) -> bool:
    if outcome is None or outcome.kind is not OutcomeKind.DEFERRED:
        return False
    if not outcome.category:
        return outcome.status == "4.5.3"
    return outcome.category == Category.SOFT_TOO_MANY_RECIPIENTS


def _is_said_in_vain(before: Outcome | None, now: Outcome) -> bool:
    """Whether `now` is only a host's trouble, and an earlier host said something of the recipient.

    That word stays: as trouble of the path it would burn no attempt, and the recipient would be
    tried again as soon as the path is.
    """
    return (
        before is not None
        and before.kind is OutcomeKind.DEFERRED
        and before.scope < Scope.HOST
        and now.kind is OutcomeKind.DEFERRED
        and now.scope >= Scope.HOST
    )
