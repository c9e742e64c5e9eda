"""The places of one path: how many connections it may have under each limit that it shares.

A place is kept while its connection idles, so that the next message finds it. Who wants it gets it
after the connection is closed, never before: no receiver sees more connections than the limit says.
A path that always has work gives its place at the end of a turn when others wait.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

from fastmta.budget.meter import Meter, PlaceMeter
from fastmta.route import Site

from .engine import Engine

TURN_JOBS = 10  # started while others wait for the place
TURN_S = 2.0  # ... and none after this time


class Lodger(Protocol):
    """The path."""

    site: Site
    in_flight: int
    is_proved: bool

    def resume(self) -> None:
        """A place may be free."""


class Tenure:
    """Its places are kept by name; `Holder` of each."""

    __slots__ = ("_closing", "_engine", "_held", "_may_be_crowded", "_path", "_requests",
                 "_turn_ends_s", "_turn_left", "places")  # fmt: skip

    def __init__(self, path: Lodger, engine: Engine) -> None:
        self._path = path
        self._engine = engine
        self.places: tuple[PlaceMeter, ...] = ()
        self._held: dict[Meter, int] = {}
        self._closing: dict[Meter, int] = {}
        self._requests: list[dict[PlaceMeter, int]] = []  # to close, not answered yet
        self._turn_left = TURN_JOBS
        self._turn_ends_s = 0.0
        self._may_be_crowded = False  # there may be more than the limits say: they are new

    def become(self, places: tuple[PlaceMeter, ...]) -> None:
        """These limits hold from now on; what is held of others is given back.

        What is under way counts, and nothing starts until there is less than the limits say.
        """
        gone = [one for one in self.places if one not in places]
        if self._path.is_proved and any(one not in self.places for one in places):
            # Connections that idle from before that limit are under no place of it.
            self._engine.ports.deliver.close_idle(self._path.site, _nothing)
        for one in places:
            if one not in self.places:
                self._held[one] = self._path.in_flight
                one.occupy(self, self._path.in_flight)
        self._may_be_crowded = True
        self.places = places
        for one in gone:
            count = self._held.pop(one, 0)
            self._closing.pop(one, None)
            for request in self._requests:
                request.pop(one, None)
            for _ in range(count):
                one.give(self)

    def enter(self) -> PlaceMeter | None:
        """A job is about to start: None, or what it has to wait for (and does)."""
        if self._may_be_crowded and (crowded := self._crowded()) is not None:
            self.give_spare()
            crowded.wait(self)
            return crowded
        if self._is_turn_over():
            self.give_spare()
        in_flight = self._path.in_flight
        for places in self.places:
            while self._usable(places) <= in_flight:
                if not places.take(self):
                    places.wait(self)
                    return places
                self._held[places] = self._held.get(places, 0) + 1
        return None

    def _crowded(self) -> PlaceMeter | None:
        for places in self.places:
            if places.used > places.limit and self._held.get(places):
                return places
        self._may_be_crowded = False
        return None

    def has_room(self, holdup: object) -> bool:
        """Whether the path waits (`holdup`) for one more place only: it has one to go on with."""
        if not any(places is holdup for places in self.places):
            return False
        return all(self._usable(places) > self._path.in_flight for places in self.places)

    def _usable(self, places: Meter) -> int:
        return self._held.get(places, 0) - self._closing.get(places, 0)

    def _is_turn_over(self) -> bool:
        if not any(places.is_wanted_of(self) for places in self.places):
            self._turn_left = TURN_JOBS
            return False
        now_s = self._engine.ports.clock.monotonic_s()
        if self._turn_left == TURN_JOBS:
            self._turn_ends_s = now_s + TURN_S
        if self._turn_left == 0 or now_s > self._turn_ends_s:
            self._turn_left = TURN_JOBS
            return True
        self._turn_left -= 1
        return False

    def rest(self) -> None:
        """The path has nothing to start: who wants its places may have them."""
        if any(places.is_spare_wanted_of(self) for places in self.places):
            self.give_spare()

    def give_spare(self) -> None:
        """Close the idle connections, then give their places back."""
        spare = {places: self._spare(places) for places in self.places if self._spare(places) > 0}
        if not spare:
            return
        for places, count in spare.items():
            self._closing[places] = self._closing.get(places, 0) + count
        self._requests.append(spare)
        self._engine.ports.deliver.close_idle(self._path.site, partial(self._closed, spare))

    def _closed(self, spare: dict[PlaceMeter, int]) -> None:
        self._requests = [one for one in self._requests if one is not spare]
        for places, count in spare.items():  # without those of limits that are gone since
            self._closing[places] -= count
            self._held[places] -= count
            for _ in range(count):
                places.give(self)

    def _spare(self, places: Meter) -> int:
        return self._usable(places) - self._path.in_flight

    # `Holder`

    def has_spare(self, places: Meter) -> bool:
        """Whether one of its places has only an idle connection."""
        return self._spare(places) > 0

    def yield_place(self, places: Meter) -> None:
        """Somebody waits."""
        self.give_spare()

    def resume(self) -> None:
        """A place may be free."""
        self._path.resume()


def _nothing() -> None:
    """Nobody waits for that."""
