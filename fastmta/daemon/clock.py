"""The clocks that the pure rooms are given."""

import time

from fastmta.message.trace import message_date


class SystemClock:
    """Wall and monotonic clock of this machine."""

    __slots__ = ("_date", "_date_of_s")

    # Both are called several times per message: the functions themselves, without a frame of ours.
    wall_ns = staticmethod(time.time_ns)  # nanoseconds since the epoch
    monotonic_s = staticmethod(time.monotonic)  # seconds that only grow

    def __init__(self) -> None:
        self._date = b""
        self._date_of_s = -1

    def date(self) -> bytes:
        """Date-time for a trace field, rendered once a second."""
        second = int(time.time())
        if second != self._date_of_s:
            self._date_of_s = second
            self._date = message_date(second).encode("ascii")
        return self._date
