"""The twin of ext/budget/tally.pyx and its specification: obvious, slow.

The table is one buffer in memory that all workers share, a region for each. Only its worker writes
a region; whoever wants a count sums what all regions say. So there are no locks, and a worker that
dies leaves nothing half done that matters.

A region is words of 8 octets in the machine's order, for E entries (a multiple of 8):

    key       E words. 0: the place is free
    entry     E times 5 words:
                until     ns; the counts are those of a window that ends then
                counts    6 numbers of 4 octets, one for each `Use`
                live      number of 4 octets: connections, whatever the window
                nothing   4 octets

A key belongs in one of two buckets of eight places, chosen by its own bits, and nowhere else: both
are always looked at, so an entry may be removed without a trace. Keys are keyed hashes (see
client.py): nobody can aim at a bucket.

The last fifth of the buckets is kept for the keys 1, 2, 3 ... `shared`, eight to a bucket: these
always have a place, however full the rest is. Whoever must not go uncounted is counted there,
together with others (see failure.py). A table of less than five buckets has none.

Why no limit is ever exceeded: a worker first counts in its own region, then (behind a fence) sums
all of them, and takes back what is too much. Of two that count at once, at least one sees both. At
worst both take back, and the last unit is granted to the next who asks. A worker that read the
clock and was then held up, until others began the next window, finds that when it sums, and counts
in the next window as they do.
"""

import threading

from fastmta.smtp.use import Use

BUCKET = 8
KEY_OCTETS = 8
ENTRY_OCTETS = 40
USES = len(Use)
SHARED_PART = 5  # one in so many buckets
COUNT_MAX = 2**31  # of anything; sums of two do not overflow 4 octets

REFUSED = 0
COUNTED = 1
UNCOUNTED = 2  # granted, but there was no place to count it

_UNTIL = 0  # word of an entry
_COUNTS = 2  # numbers of 4 octets, from the begin of an entry
_LIVE = _COUNTS + USES


class Tally:
    """Counts of one worker, and limits over the counts of all.

    A count belongs to a key, a `Use` and the present window of the key, which begins with the first
    unit counted by any worker. The length of the windows of one key is always the same. Times come
    from a clock that all workers share and that never goes back.
    """

    def __init__(self, buffer: bytearray | memoryview, workers: int, index: int) -> None:
        """Take region `index` of `workers`, whose worker is gone or was never there.

        The connections that it had are forgotten, what else it counted goes on. `buffer` begins as
        zeros and stays with the Tally. Raises ValueError when it cannot be divided.
        """
        octets = memoryview(buffer).cast("B")
        region, rest = divmod(len(octets), workers) if workers > 0 else (0, 1)
        self._entries, odd = divmod(region, KEY_OCTETS + ENTRY_OCTETS)
        if rest or odd or self._entries % BUCKET or self._entries < BUCKET:
            raise ValueError("the table is no whole number of buckets for each worker")
        self._buckets = self._entries // BUCKET - self._entries // BUCKET // SHARED_PART
        self.shared = self._entries - self._buckets * BUCKET  # the last key that has its own place
        if not 0 <= index < workers:
            raise ValueError("there is no such region")
        self._regions = [octets[at * region : (at + 1) * region] for at in range(workers)]
        self._words = [one.cast("Q") for one in self._regions]
        self._numbers = [one.cast("I") for one in self._regions]
        self._index = index
        self._own = self._words[index]
        self._own_numbers = self._numbers[index]
        self._fence = threading.Lock()
        self.overflow = 0  # how often there was no place to count in
        for place in range(self._entries):
            self._own_numbers[self._number(place, _LIVE)] = 0

    def spend(
        self, key: int, use: int, amount: int, limit: int, window_ns: int, now_ns: int
    ) -> bool:
        """Count `amount` more, unless that makes more than `limit` in this window.

        False: it would, and nothing was counted. Without a place to count in: True, but for a limit
        that others used up.
        """
        self._check(key, use, amount)
        for _ in range(2):
            place = self._place(key, now_ns, window_ns)
            if place < 0:
                return self._without_place(self.count(key, use, now_ns) + amount <= limit)
            at = self._number(place, _COUNTS + use)
            before = self._own_numbers[at]
            if before + amount > min(limit, COUNT_MAX):
                return False
            self._own_numbers[at] = before + amount
            with self._fence:
                pass
            total = self.count(key, use, now_ns)
            ends = self._ends(key)
            until = self._word(place, _UNTIL)
            if max(ends) - self._own[until] < window_ns:
                # Another may have begun its window at the same moment: it is one.
                self._own[until] = min(end for end in ends if end > now_ns)
                if total <= limit:
                    return True
                self._own_numbers[at] = before
                return False
            self._own_numbers[at] = before
            now_ns = max(ends) - window_ns  # we are late: they have begun the next window
        return False

    def give_back(self, key: int, use: int, amount: int, now_ns: int) -> int:
        """Count `amount` less, as far as this worker counted that much in this window: how much."""
        self._check(key, use, amount)
        place = self._find(self._index, key)
        if place < 0 or self._own[self._word(place, _UNTIL)] <= now_ns:
            return 0
        at = self._number(place, _COUNTS + use)
        less = min(amount, self._own_numbers[at])
        self._own_numbers[at] -= less
        return less

    def count(self, key: int, use: int, now_ns: int) -> int:
        """What all workers counted in this window."""
        self._check(key, use, 0)
        total = 0
        for index, words in enumerate(self._words):
            place = self._find(index, key)
            if place >= 0 and words[self._word(place, _UNTIL)] > now_ns:
                total += self._numbers[index][self._number(place, _COUNTS + use)]
        return total

    def enter(self, key: int, limit: int, window_ns: int, now_ns: int) -> int:
        """One connection more: COUNTED, REFUSED (there are `limit`), or UNCOUNTED (no place)."""
        self._check(key, 0, 0)
        place = self._place(key, now_ns, window_ns)
        if place < 0:
            return UNCOUNTED if self._without_place(self.live(key) < limit) else REFUSED
        at = self._number(place, _LIVE)
        before = self._own_numbers[at]
        if before >= min(limit, COUNT_MAX):
            return REFUSED
        self._own_numbers[at] = before + 1
        with self._fence:
            pass
        if self.live(key) > limit:
            self._own_numbers[at] = before
            return REFUSED
        return COUNTED

    def leave(self, key: int) -> None:
        """One connection that was COUNTED here is gone."""
        self._check(key, 0, 0)
        place = self._find(self._index, key)
        if place >= 0:
            at = self._number(place, _LIVE)
            self._own_numbers[at] = max(0, self._own_numbers[at] - 1)

    def live(self, key: int) -> int:
        """Connections over all workers."""
        self._check(key, 0, 0)
        total = 0
        for index, numbers in enumerate(self._numbers):
            place = self._find(index, key)
            if place >= 0:
                total += numbers[self._number(place, _LIVE)]
        return total

    def _check(self, key: int, use: int, amount: int) -> None:
        if not 0 < key < 2**64 or not 0 <= use < USES or not 0 <= amount <= COUNT_MAX:
            raise ValueError("a key, a use or an amount is out of bounds")

    def _without_place(self, is_granted: bool) -> bool:
        """Limits are there to keep mail flowing: what cannot be counted is granted."""
        self.overflow += is_granted
        return is_granted

    def _word(self, place: int, word: int) -> int:
        return self._entries + place * (ENTRY_OCTETS // 8) + word

    def _number(self, place: int, number: int) -> int:
        return 2 * self._word(place, 0) + number

    def _places(self, key: int) -> list[int]:
        """The two buckets of a key; twice the same for one that has its own place."""
        low, high = (key & 0xFFFFFFFF) % self._buckets, (key >> 32) % self._buckets
        if key <= self.shared:
            low = high = self._buckets + (key - 1) // BUCKET
        return [bucket * BUCKET + at for bucket in (low, high) for at in range(BUCKET)]

    def _find(self, index: int, key: int) -> int:
        words = self._words[index]
        return next((place for place in self._places(key) if words[place] == key), -1)

    def _is_free(self, place: int, now_ns: int) -> bool:
        if self._own[place] == 0:
            return True
        is_over = self._own[self._word(place, _UNTIL)] <= now_ns
        return is_over and self._own_numbers[self._number(place, _LIVE)] == 0

    def _place(self, key: int, now_ns: int, window_ns: int) -> int:
        """Our place of the key, with a window that runs; -1 when there is none to be had."""
        place = self._find(self._index, key)
        if place >= 0 and self._own[self._word(place, _UNTIL)] > now_ns:
            return place
        if place < 0:
            place = self._free_place(key, now_ns)
            if place < 0:
                return -1
            self._own[place] = 0  # first: whoever looks for the key that was here finds nothing
            self._own_numbers[self._number(place, _LIVE)] = 0
        for use in range(USES):  # before the window: nobody sees old counts in a new one
            self._own_numbers[self._number(place, _COUNTS + use)] = 0
        # The window which runs with another worker; else one begins now.
        running = (end for end in self._ends(key) if end > now_ns)
        self._own[self._word(place, _UNTIL)] = min(running, default=now_ns + window_ns)
        self._own[place] = key
        return place

    def _free_place(self, key: int, now_ns: int) -> int:
        """The first free place in the emptier bucket: so the table gets nearly full."""
        places = self._places(key)
        first = [one for one in places[:BUCKET] if self._is_free(one, now_ns)]
        second = [one for one in places[BUCKET:] if self._is_free(one, now_ns)]
        free = second if len(second) > len(first) else first
        return free[0] if free else -1

    def _ends(self, key: int) -> list[int]:
        """Ends of the windows that the workers have for this key."""
        places = [(words, self._find(index, key)) for index, words in enumerate(self._words)]
        return [words[self._word(place, _UNTIL)] for words, place in places if place >= 0]
