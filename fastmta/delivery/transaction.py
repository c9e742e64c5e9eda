"""One mail transaction (RFC 5321 3.3): what is to be sent, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fastmta.message import Outcome
from fastmta.message.envelope import DSNRequest

from .content import Source, is_ascii_header


class Extras(msgspec.Struct):
    """What few messages have: DSN parameters (RFC 3461 4), SMTPUTF8 (RFC 6531 3.4), REQUIRETLS."""

    dsn: DSNRequest | None
    indices: Sequence[int]  # of the envelope's recipients, one for each forward-path
    is_utf8: bool
    has_ascii_header: bool | None  # of a large content; None: look at the content
    is_tls_required: bool = False  # RFC 8689 2
    withheld: dict[int, Outcome] | None = None  # by the place that they had
    original_paths: Sequence[bytes] = ()  # as the envelope has them


class Transaction:
    """MAIL to the reply after end of data, over one session.

    `content` is dot-stuffed already; a large one is read from `source` instead. `outcomes` has one
    place per forward-path; a place stays None until that recipient's fate in this session is known,
    and is written once. `extras` is None for nearly every message there is. That of a probe ends
    with RSET after the replies to RCPT, and has no content.
    """

    __slots__ = (
        "content",
        "ends_attempt",
        "extras",
        "forward_paths",
        "is_8bit",
        "is_probe",
        "outcomes",
        "reverse_path",
        "size_octets",
        "source",
        "trouble",
        "undecided",
    )

    def __init__(
        self,
        reverse_path: bytes,
        forward_paths: Sequence[bytes],
        content: bytes,
        size_octets: int,
        is_8bit: bool,
        source: Source | None = None,
    ) -> None:
        count = len(forward_paths)
        assert count
        self.reverse_path = reverse_path
        self.forward_paths = forward_paths
        self.content = content
        self.source = source
        self.size_octets = size_octets  # before stuffing, for SIZE (RFC 1870 6)
        self.is_8bit = is_8bit
        self.is_probe = False
        self.extras: Extras | None = None
        self.outcomes: list[Outcome | None] = [None] * count
        self.undecided = count
        self.trouble: Outcome | None = None  # the host's fault, or a signal of it to go slower
        self.ends_attempt = False  # another host of the site would say the same

    def decide(self, index: int, outcome: Outcome) -> None:
        """The fate of one recipient; nobody decides twice."""
        assert self.outcomes[index] is None
        self.outcomes[index] = outcome
        self.undecided -= 1

    def decide_rest(self, outcome: Outcome) -> None:
        """The fate of every recipient that has none yet."""
        outcomes = self.outcomes
        for index, decided in enumerate(outcomes):
            if decided is None:
                outcomes[index] = outcome
        self.undecided = 0

    def withhold(self, places: Sequence[int], outcome: Outcome) -> None:
        """Decide some, not all, before anything is said; the others alone are said and counted."""
        extras = self.extras
        assert extras is not None
        assert extras.withheld is None
        extras.withheld = dict.fromkeys(places, outcome)
        kept = [at for at in range(len(self.forward_paths)) if at not in extras.withheld]
        assert kept
        self.forward_paths = [self.forward_paths[at] for at in kept]
        extras.indices = [extras.indices[at] for at in kept]
        self.outcomes = [None] * len(kept)
        self.undecided = len(kept)

    def all_outcomes(self) -> list[Outcome | None]:
        """For each forward-path that it was made with, withheld or not, in their order."""
        withheld = None if self.extras is None else self.extras.withheld
        if withheld is None:
            return self.outcomes
        decided = iter(self.outcomes)
        count = len(self.outcomes) + len(withheld)
        return [withheld[at] if at in withheld else next(decided) for at in range(count)]

    @property
    def has_ascii_header(self) -> bool:
        """Whether the header section can do without SMTPUTF8; looks through it."""
        known = None if self.extras is None else self.extras.has_ascii_header
        return is_ascii_header(self.content) if known is None else known
