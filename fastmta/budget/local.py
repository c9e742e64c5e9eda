"""The meters of one process, by name."""

from __future__ import annotations

from typing import Final
from weakref import WeakValueDictionary

from .meter import Alarm, Now, name_of_rest
from .place import Places
from .rate import Rate
from .throttle import Throttle

THROTTLES_MAX: Final = 50_000  # that are remembered
_SWEEP_S: Final = 1.0


class LocalMeters:
    """Makes meters, and keeps each as long as it is used or remembers something.

    Nobody may have a burst again because he was forgotten. So when there are THROTTLES_MAX, nobody
    is: who is new shares one throttle with all others of that rule who are, at the rate of one. Who
    gets one of his own after that begins with an empty one.
    """

    is_shared = False

    def __init__(self, now: Now, alarm: Alarm) -> None:
        self._now = now
        self._alarm = alarm
        self._throttles: WeakValueDictionary[str, Throttle] = WeakValueDictionary()
        self._places: WeakValueDictionary[str, Places] = WeakValueDictionary()
        # A throttle that was forgotten before its burst is there again would grant it twice.
        self._remembered: dict[str, Throttle] = {}
        self._swept_at_s = float("-inf")

    def throttle(self, name: str, rate: Rate) -> Throttle:
        """The throttle of that name, with this rate from now on."""
        throttle = self._throttles.get(name)
        if throttle is None:
            rest = self._throttles.get(name_of_rest(name))
            if self._is_full():
                name, throttle = name_of_rest(name), rest
            is_new = throttle is None
            throttle = throttle or Throttle(name, rate, self._now, self._alarm)
            if is_new and rest is not None and not rest.is_fresh:
                throttle.empty()
            self._throttles[name] = throttle
        throttle.change(rate)
        self._remembered[name] = throttle
        return throttle

    def _is_full(self) -> bool:
        if len(self._remembered) < THROTTLES_MAX:
            return False
        if self._now() - self._swept_at_s >= _SWEEP_S:
            self.sweep()
        return len(self._remembered) >= THROTTLES_MAX

    def places(self, name: str, limit: int) -> Places:
        """The places of that name, as many as `limit` from now on."""
        places = self._places.get(name)
        if places is None:
            places = self._places[name] = Places(name, limit)
        elif places.limit != limit:
            places.change(limit)
        return places

    def sweep(self) -> None:
        """Forget throttles that nobody has and that would be the same if they were made anew."""
        self._swept_at_s = self._now()
        for name in [name for name, one in self._remembered.items() if one.is_fresh]:
            del self._remembered[name]
            if name in self._throttles:  # somebody has it, and may use it before it lets it go
                self._remembered[name] = self._throttles[name]

    def __len__(self) -> int:
        return len(self._throttles) + len(self._places)
