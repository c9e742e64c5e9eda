"""The operator of a scenario: sets shapes on the running system, and takes them back."""

from __future__ import annotations

from fastmta.budget.shape import Shape
from fastmta.scheduler import Scheduler

from .clock import Agenda
from .scenario import Scenario, Shaping
from .watch import Watch


class Operator:
    """What stands in the configuration holds from the start; the rest is set while it runs."""

    def __init__(self, scenario: Scenario, agenda: Agenda, watch: Watch) -> None:
        self._agenda = agenda
        self._watch = watch
        self._shapings = scenario.shape
        self.configured = tuple(
            shape_of(name, one) for name, one in self._shapings.items() if not _is_set(one)
        )

    def attend(self, scheduler: Scheduler) -> None:
        """See to a scheduler that has just been made."""
        self._apply(scheduler)
        now_s = self._agenda.passed_s
        for shaping in self._shapings.values():
            for at_s in (shaping.from_s, shaping.until_s):
                if at_s > now_s:
                    self._agenda.post(at_s - now_s, self._apply, scheduler)

    def _apply(self, scheduler: Scheduler) -> None:
        now_s = self._agenda.passed_s
        in_force = {
            name: (shape_of(name, one), one)
            for name, one in self._shapings.items()
            if not _is_set(one) or (one.from_s <= now_s + 1e-6 and _ends_later(one, now_s + 1e-6))
        }
        overrides = [shape for shape, one in in_force.values() if _is_set(one)]
        self._watch.hold(in_force)  # before: what a shape held up starts at once when it ends
        scheduler.shape(overrides)


def _is_set(shaping: Shaping) -> bool:
    """By an operator, not in the configuration."""
    return shaping.from_s > 0 or shaping.until_s > 0


def _ends_later(shaping: Shaping, now_s: float) -> bool:
    return not shaping.until_s or now_s < shaping.until_s


def shape_of(name: str, shaping: Shaping) -> Shape:
    """A shape as the scheduler knows it."""
    return Shape(
        name=name,
        site=shaping.site,
        domain=shaping.domain,
        provider=shaping.provider,
        source=shaping.source,
        tenant=shaping.tenant,
        rate=shaping.rate,
        connections=shaping.connections,
        is_paused=shaping.paused,
    )
