"""What arrivals say of a drain: rates, and how well the connections were used. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .receivers import Arrival, Town

WINDOW = (0.05, 0.9)  # shares of the messages between which the drain is steady


@dataclass(frozen=True, slots=True)
class Flow:
    """Messages per second, and the share of `connections` x time that messages needed.

    A message needs a connection for its delayed replies; nothing else is necessary, so that a share
    of 1 is the optimum, whatever the mixture of slow and fast sites was in that time.
    """

    messages: int
    seconds: float  # from the first MAIL to the last reply
    rate: float
    share: float
    steady_rate: float  # in the window
    steady_share: float

    @property
    def optimum(self) -> float:
        """Messages per second that the connections could have carried in the window."""
        return self.steady_rate / self.steady_share if self.steady_share else 0.0


def flow_of(arrivals: Sequence[Arrival], town: Town, connections: int) -> Flow:
    """The flow of a drain of at least a few messages; order does not matter."""
    assert len(arrivals) >= 2
    assert connections > 0
    ended = sorted((each.ended_s + town.delay_s(each.site), each.site) for each in arrivals)
    begin_s, end_s = min(each.begun_s for each in arrivals), ended[-1][0]
    first, last = (int(share * (len(ended) - 1)) for share in WINDOW)
    window = ended[first + 1 : last + 1] or ended[-1:]
    window_s = ended[last][0] - ended[first][0]

    def share(some: Sequence[tuple[float, int]], seconds: float) -> float:
        work_s = sum(town.flights * town.delay_s(site) for _, site in some)
        return work_s / (connections * seconds) if seconds > 0 else 0.0

    return Flow(
        messages=len(ended),
        seconds=end_s - begin_s,
        rate=len(ended) / (end_s - begin_s),
        share=share(ended, end_s - begin_s),
        steady_rate=len(window) / window_s if window_s > 0 else 0.0,
        steady_share=share(window, window_s),
    )


def excess(begun_s: Sequence[float], rate: float, burst: int) -> float:
    """The most by which any stretch of time had more than `burst` + `rate` x its length.

    At most 0 where the rate was kept. The times are in order.
    """
    most = -float("inf")
    least = float("inf")
    for index, when_s in enumerate(begun_s):
        level = index - rate * when_s
        least = min(least, level)
        most = max(most, level - least + 1)
    return most - burst
