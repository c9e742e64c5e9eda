"""Places: never more than the limit, first come, first served, idle ones are called back."""

from __future__ import annotations

from fastmta.budget.meter import Meter
from fastmta.budget.place import Places


class Path:
    """Keeps its places; `busy` of them have work."""

    def __init__(self, places: Places, wanted: int = 1) -> None:
        self.places = places
        self.wanted = wanted
        self.held = self.busy = self.closing = 0

    def go(self) -> None:
        while self.busy < self.wanted:
            if self.busy == self.held - self.closing:
                if not self.places.take(self):
                    self.places.wait(self)
                    return
                self.held += 1
            self.busy += 1

    resume = go

    def has_spare(self, places: Meter) -> bool:
        return self.held - self.closing > self.busy

    def yield_place(self, places: Meter) -> None:
        self.closing += 1

    def closed(self) -> None:
        self.closing -= 1
        self.held -= 1
        self.places.give(self)

    def rest(self) -> None:
        """Its work ends; it keeps the connections."""
        self.wanted = self.busy = 0


def test_the_limit_holds_and_the_line_is_served_in_order() -> None:
    places = Places("p", 2)
    paths = [Path(places) for _ in range(4)]
    for path in paths:
        path.go()
    assert [path.busy for path in paths] == [1, 1, 0, 0]
    paths[1].rest()
    paths[1].held -= 1
    places.give(paths[1])
    assert [path.busy for path in paths] == [1, 0, 1, 0]
    assert places.used == 2


def test_an_idle_connection_is_closed_before_its_place_is_lent() -> None:
    places = Places("p", 1)
    first, second = Path(places), Path(places)
    first.go()
    first.rest()
    second.go()
    assert first.closing == 1  # asked
    assert second.busy == 0  # but not yet served
    first.closed()
    assert second.busy == 1
    assert places.used == 1


def test_nobody_is_asked_twice_for_one_who_waits() -> None:
    places = Places("p", 3)
    idle = Path(places, 3)
    idle.go()
    idle.rest()
    first = Path(places)
    first.go()
    places.wait(first)
    assert idle.closing == 1
    idle.closed()
    assert (first.busy, idle.held) == (1, 2)


def test_who_comes_later_does_not_jump_the_line() -> None:
    places = Places("p", 1)
    first, second, third = Path(places), Path(places), Path(places)
    first.go()
    second.go()
    assert places.is_wanted_of(first)
    assert not places.is_wanted_of(second), "it is alone in the line"
    places.limit = 2  # silently: nobody was woken
    assert not places.take(third)
    places.change(2)
    assert second.busy == 1


def test_a_smaller_limit_takes_back_idle_places() -> None:
    places = Places("p", 3)
    path = Path(places, 3)
    path.go()
    path.rest()
    places.change(1)
    assert path.closing == 2
    assert places.is_wanted_of(path)
