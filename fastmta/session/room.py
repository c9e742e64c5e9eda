"""Room for contents that are being received, over all sessions of a worker."""


class ContentRoom:
    """A budget of octets. What does not fit is answered 452, never 5xx: it is our own shortage.

    A session takes room at DATA for what it was told (or `LEAST_OCTETS`), more as the content
    grows, and gives it back when the content is durable, refused or given up. `octets_expected` is
    what all contents under way may still come to (as declared, else the limit): room on the disk.
    A content that goes to a file has only `SPILLING_OCTETS` in memory, whatever its size.
    """

    LEAST_OCTETS = 64 * 1024
    SPILLING_OCTETS = 256 * 1024

    __slots__ = ("octets_expected", "octets_max", "used")

    def __init__(self, octets_max: int) -> None:
        self.octets_max = octets_max
        self.used = 0
        self.octets_expected = 0

    def take(self, octets: int, expected: int = 0) -> bool:
        """Room for `octets` more, if there is any. One content always fits into an empty room.

        `expected`: what a content that begins may come to.
        """
        used = self.used
        if used and used + octets > self.octets_max:
            return False
        self.used = used + octets
        self.octets_expected += expected
        return True

    def shrink(self, octets: int) -> int:
        """A content that has `octets` goes to a file from now on: what it has then."""
        left = min(octets, self.SPILLING_OCTETS)
        self.used -= octets - left
        return left

    def give(self, octets: int, expected: int = 0) -> None:
        """Give room back, and end the expectation that began with it."""
        assert 0 <= octets <= self.used
        self.used -= octets
        self.octets_expected -= expected
