"""Pauses that double."""

FACTOR = 2.0


def jittered(delay_s: float, jitter: float, random: float) -> float:
    """`delay_s` made longer or shorter by at most the fraction `jitter`; `random` is in [0, 1)."""
    return delay_s * (1.0 + jitter * (2.0 * random - 1.0))


class Backoff:
    """How long to leave alone what does not answer: `first_s`, doubling to `max_s`, jittered."""

    __slots__ = ("_first_s", "_jitter", "_max_s", "_next_s")

    def __init__(self, first_s: float, max_s: float, jitter: float) -> None:
        if not first_s > 0 or not 0 <= jitter < 1:
            raise ValueError("a pause is longer than nothing and its jitter below 1")
        self._first_s = first_s
        self._max_s = max(first_s, max_s)
        self._jitter = jitter
        self._next_s = first_s

    def next_s(self, random: float) -> float:
        """The pause after one more failure."""
        delay_s = self._next_s
        self._next_s = min(delay_s * FACTOR, self._max_s)
        return jittered(delay_s, self._jitter, random)

    def reset(self) -> None:
        """It answered: begin with the shortest pause next time."""
        self._next_s = self._first_s
