"""Who needs units of two throttles: turns are kept, units not for longer than a rate can bear."""

from __future__ import annotations

from itertools import pairwise

from fastmta.budget.rate import Rate
from fastmta.budget.throttle import Throttle
from fastmta.budget.turn import wait_for_all
from tests.support.agenda import Agenda


class User:
    """Takes a unit of each as often as it can."""

    def __init__(self, agenda: Agenda, *throttles: Throttle) -> None:
        self.agenda = agenda
        self.throttles = throttles
        self.taken_at_s: list[float] = []

    def resume(self) -> None:
        while wait_for_all(self.throttles, self) is None:
            for one in self.throttles:
                one.take(self)
            self.taken_at_s.append(self.agenda.now_s)


def throttle(agenda: Agenda, rate: Rate) -> Throttle:
    return Throttle("t", rate, agenda.monotonic_s, agenda)


def test_units_that_never_come_at_the_same_time() -> None:
    """Both are used up at once, half a second apart; the third needs both."""
    agenda = Agenda()
    one, two = throttle(agenda, Rate(1, 1.0)), throttle(agenda, Rate(1, 1.0))
    users = [User(agenda, one), User(agenda, two), User(agenda, one, two)]
    users[0].resume()
    agenda.run(0.5)
    users[1].resume()
    users[2].resume()
    agenda.run(100.0)
    assert min(len(user.taken_at_s) for user in users) >= 25
    for first in (0, 1):
        uses = sorted(users[first].taken_at_s + users[2].taken_at_s)
        assert all(b - a >= 1 - 1e-6 for a, b in pairwise(uses))


def test_what_is_kept_for_somebody_who_does_not_come_is_for_others_again() -> None:
    agenda = Agenda()
    one = throttle(agenda, Rate(1, 1.0))
    gone, other = User(agenda, one), User(agenda, one)
    one.keep_turn(gone, has_unit=True)
    assert one.wait_s(other) > 0
    assert one.wait_s(gone) == 0.0
    other.resume()
    agenda.run(10.0)
    assert 7 <= len(other.taken_at_s) <= 10
    assert one.has_turn(gone)
    del gone
    assert len(one._line) == 1
