"""A worker's side of the broker: meters by name, and the one lease under which all of them are.

What changed is told in one message (a few, if it is much) on the next turn of the loop. Any message
asks to renew the lease; one is sent every `RENEW_S`. The lease ends `LEASE_S` - `MARGIN_S` after
the latest message that the broker has answered was *sent*, so earlier than the broker thinks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias
from weakref import WeakValueDictionary

from .frame import COUNT_MAX, LINES_MAX, Ask, Grant, PlaceAsk, RateAsk, decode_grant, encode, key_of
from .leased import LeasedPlaces, LeasedThrottle
from .ledger import LEASE_S, MARGIN_S
from .meter import Alarm, Cancellable, Now, name_of_rest
from .rate import Rate

RENEW_S: Final = 10.0
RETRY_S: Final = 2.0  # while there is no answer
LOST_S: Final = 5.0  # without an answer, and somebody is told
LOOK_S: Final = 1.0
FULL_S: Final = 0.1  # until the next try when the socket takes no more
METERS_MAX: Final = 20_000  # with something remembered; all workers know less than NAMES_MAX
UNUSED_S: Final = 0.05  # units that nobody used go back

_UNANSWERED_MAX: Final = 4096
_SHORT_S: Final = 1e-9  # an interval that is no limit

_Meter: TypeAlias = LeasedPlaces | LeasedThrottle


class LeasedMeters:
    """`Meters` of one worker, leased from a broker that all workers share."""

    is_shared = True

    def __init__(
        self,
        life: int,
        now: Now,
        alarm: Alarm,
        send: Callable[[bytes], bool],
        tell: Callable[[str, bool], None],
    ) -> None:
        """`life` is higher than that of any process that was this worker before.

        `send` takes a packet for the broker; False: not now. `tell` is called with a sentence when
        the broker is lost (and True), and when it is back.
        """
        self._life = life
        self.now_s = now
        self._alarm = alarm
        self._send = send
        self._tell = tell
        self._named: dict[type[_Meter], WeakValueDictionary[bytes, _Meter]] = {
            LeasedPlaces: WeakValueDictionary(),
            LeasedThrottle: WeakValueDictionary(),
        }
        self._kept: dict[_Meter, None] = {}  # with something leased, wanted or remembered
        self._touched: dict[_Meter, None] = {}
        # What was granted for something that nobody here uses any more, to be refused.
        self._strays: dict[PlaceAsk | RateAsk, None] = {}
        self._seq = 0
        self._epoch = 0  # of the broker; 0: none was heard yet
        self._epochs = 0
        self._ack = 0
        self._is_reporting = False
        self._unanswered: deque[tuple[int, float]] = deque()
        self._sent_at_s = self._silent_since_s = self._restated_at_s = now()
        self._ends_s = float("-inf")
        self._was_live = False
        self._is_lost = False
        self._flush_timer: Cancellable | None = None
        self._unused_timer: Cancellable | None = None
        self._unused: dict[LeasedThrottle, None] = {}
        self._timer: Cancellable | None = None

    def start(self) -> None:
        """Say that we are there, and keep the lease from now on."""
        self._say(())
        self._timer = self._alarm.call_later(LOOK_S, self._look)

    def close(self) -> None:
        """No more messages; what is leased ends with the process."""
        for timer in (self._timer, self._flush_timer, self._unused_timer):
            if timer is not None:
                timer.cancel()

    # `Meters`

    def throttle(self, name: str, rate: Rate) -> LeasedThrottle:
        """The throttle of that name, with this rate from now on."""
        named = self._named[LeasedThrottle]
        one = named.get(key_of(name))
        if one is None and len(self._kept) >= METERS_MAX:
            name = name_of_rest(name)  # as in local.py
            one = named.get(key_of(name))
        if one is None:
            made = LeasedThrottle(name, rate, self)
            named[made.key] = made
            return made
        assert isinstance(one, LeasedThrottle)
        one.change(rate)
        return one

    def places(self, name: str, limit: int) -> LeasedPlaces:
        """The places of that name, as many as `limit` over all workers from now on."""
        named = self._named[LeasedPlaces]
        one = named.get(key_of(name))
        if one is None:
            made = LeasedPlaces(name, limit, self)
            named[made.key] = made
            return made
        assert isinstance(one, LeasedPlaces)
        if one.total != limit:
            one.change(limit)
        return one

    def sweep(self) -> None:
        """Forget what nobody uses and what remembers nothing."""
        now_s = self.now_s()
        for one in [one for one in self._kept if one.is_idle(now_s)]:
            if one not in self._touched:
                del self._kept[one]

    def __len__(self) -> int:
        return sum(len(named) for named in self._named.values())

    # `Lease`

    @property
    def is_live(self) -> bool:
        """Whether what was granted may be used."""
        return self.now_s() < self._ends_s

    @property
    def trouble(self) -> str:
        """Why there is no answer; "": there is, or it is too early to say."""
        silent_s = self.now_s() - self._silent_since_s
        if not self._unanswered or silent_s < LOST_S:
            return ""
        return f"the broker of limits over workers has not answered for {silent_s:.0f} s"

    def touch(self, one: _Meter) -> None:
        """Tell the broker about it on the next turn of the loop."""
        self._kept[one] = None
        self._touched[one] = None
        self._flush_later(0.0)

    # Messages

    def receive(self, frame: bytes) -> None:
        """A packet of the broker. Raises ValueError for what is none."""
        grant = decode_grant(frame)
        if grant.life not in (0, self._life) or grant.epoch < self._epoch:
            return  # for somebody who was here before, or of a broker that is gone
        if grant.epoch > self._epoch:
            self._epoch, self._ack = grant.epoch, 0
            self._epochs += 1
        if grant.seq <= self._ack:
            return
        if grant.seq > self._ack + 1 and self._ack:
            self._restate()  # what was in a message that is lost may be for those who wait
        self._ack = grant.seq
        self._hear(grant.heard)
        if grant.wants_report and not self._is_reporting:
            self._is_reporting = True
            self._flush_later(0.0)
        self._take_over(grant)

    def _hear(self, seq: int) -> None:
        """All messages up to number `seq` were read."""
        if self._unanswered and self._unanswered[0][0] <= seq:
            while self._unanswered and self._unanswered[0][0] <= seq:
                _, sent_at_s = self._unanswered.popleft()
                self._ends_s = max(self._ends_s, sent_at_s + LEASE_S - MARGIN_S)
            now_s = self.now_s()
            silent_s, self._silent_since_s = now_s - self._silent_since_s, now_s
            if self._is_lost:
                self._is_lost = False
                self._tell(f"limits over workers: the broker is back after {silent_s:.0f} s", False)
            if not self._was_live and self.is_live:
                self._was_live = True
                for one in list(self._kept):
                    one.look(now_s)

    def _take_over(self, grant: Grant) -> None:
        for line in grant.places:
            places = self._named[LeasedPlaces].get(line.key)
            if places is None:
                self._strays[PlaceAsk(line.key, COUNT_MAX, 0, 0)] = None
            else:
                assert isinstance(places, LeasedPlaces)
                self._kept[places] = None
                places.granted_more(line)
        for units in grant.rates:
            throttle = self._named[LeasedThrottle].get(units.key)
            if throttle is None:
                used = LeasedThrottle.used_at_least(self.now_s())
                stray = RateAsk(units.key, _SHORT_S, COUNT_MAX, 0, 0, used, 0.0, units.arrival_s)
                self._strays[stray] = None
            else:
                assert isinstance(throttle, LeasedThrottle)
                self._kept[throttle] = None
                throttle.granted_more(units)
                if throttle.stock:
                    self._look_at_unused(throttle)
        if self._strays:
            self._flush_later(0.0)

    def _flush_later(self, delay_s: float) -> None:
        if self._flush_timer is None:
            self._flush_timer = self._alarm.call_later(delay_s, self._flush)

    def _flush(self) -> None:
        self._flush_timer = None
        self._say(self._kept if self._is_reporting else self._touched)

    def _say(self, meters: Iterable[_Meter]) -> None:
        """Tell the broker about `meters`, in as many messages as that takes; try again if full."""
        told: list[_Meter | PlaceAsk | RateAsk] = [*meters, *self._strays]
        is_whole = self._is_reporting or not self._epoch
        for first in range(0, max(1, len(told)), LINES_MAX):
            part = told[first : first + LINES_MAX]
            lines = [one if isinstance(one, PlaceAsk | RateAsk) else one.ask() for one in part]
            self._seq += 1
            ask = Ask(
                self._life,
                self._seq,
                self._epoch,
                self._ack,
                self._epochs,
                is_whole and first + LINES_MAX >= len(told),
                False,
                [line for line in lines if isinstance(line, PlaceAsk)],
                [line for line in lines if isinstance(line, RateAsk)],
            )
            if not self._send(encode(ask)):
                self._flush_later(FULL_S)
                return
            self._sent_at_s = now_s = self.now_s()
            if not self._unanswered:
                self._silent_since_s = now_s
            if len(self._unanswered) < _UNANSWERED_MAX:
                self._unanswered.append((self._seq, now_s))
            for one in part:
                if isinstance(one, PlaceAsk | RateAsk):
                    del self._strays[one]
                else:
                    self._touched.pop(one, None)
        self._is_reporting = False

    # Recurring

    def _look(self) -> None:
        """Once a second: renew, notice that the broker is silent, end what has ended."""
        self._timer = self._alarm.call_later(LOOK_S, self._look)
        now_s = self.now_s()
        if self._was_live and not self.is_live:
            self._was_live = False
            for one in list(self._kept):
                one.lapse()
        else:
            for one in list(self._kept):
                one.look(now_s)
        self.sweep()
        trouble = self.trouble
        if trouble and not self._is_lost:
            self._is_lost = True
            left_s = max(0.0, self._ends_s - now_s)
            self._tell(f"{trouble}; what is leased lasts for {left_s:.0f} s more", True)
        if now_s - self._restated_at_s >= RENEW_S:
            self._restated_at_s = now_s
            self._restate()
        if self._unanswered and now_s - self._sent_at_s >= RETRY_S:
            self._restate()

    def _restate(self) -> None:
        """Tell again who waits; renews the lease whether there is anybody or not."""
        self._touched.update((one, None) for one in self._kept if one.is_waiting)
        self._flush_later(0.0)

    def _look_at_unused(self, throttle: LeasedThrottle) -> None:
        self._unused[throttle] = None
        if self._unused_timer is None:
            self._unused_timer = self._alarm.call_later(UNUSED_S, self._return_unused)

    def _return_unused(self) -> None:
        self._unused_timer = None
        unused, self._unused = self._unused, {}
        for throttle in unused:
            throttle.give_back()
