"""The meters of one process, by name."""

from __future__ import annotations

from weakref import WeakValueDictionary

from .meter import Alarm, Now
from .place import Places
from .rate import Rate
from .throttle import Throttle


class LocalMeters:
    """Makes meters, and keeps each as long as it is used or remembers something."""

    is_shared = False

    def __init__(self, now: Now, alarm: Alarm) -> None:
        self._now = now
        self._alarm = alarm
        self._throttles: WeakValueDictionary[str, Throttle] = WeakValueDictionary()
        self._places: WeakValueDictionary[str, Places] = WeakValueDictionary()
        # A throttle that was forgotten before its burst is there again would grant it twice.
        self._remembered: dict[str, Throttle] = {}

    def throttle(self, name: str, rate: Rate) -> Throttle:
        """The throttle of that name, with this rate from now on."""
        throttle = self._throttles.get(name)
        if throttle is None:
            throttle = self._throttles[name] = Throttle(name, rate, self._now, self._alarm)
        else:
            throttle.change(rate)
        self._remembered[name] = throttle
        return throttle

    def places(self, name: str, limit: int) -> Places:
        """The places of that name, as many as `limit` from now on."""
        places = self._places.get(name)
        if places is None:
            places = self._places[name] = Places(name, limit)
        elif places.limit != limit:
            places.change(limit)
        return places

    def sweep(self) -> None:
        """Forget throttles that would be the same if they were made anew."""
        for name in [name for name, one in self._remembered.items() if one.is_fresh]:
            del self._remembered[name]

    def __len__(self) -> int:
        return len(self._throttles) + len(self._places)
