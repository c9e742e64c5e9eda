"""One mail transaction (RFC 5321 3.3): what is to be sent, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence

from fastmta.message import Outcome

from .content import Source


class Transaction:
    """MAIL to the reply after end of data, over one session.

    `content` is dot-stuffed already; a large one is read from `source` instead. `outcomes` has one
    place per forward-path; a place stays None until that recipient's fate in this session is known,
    and is written once.
    """

    __slots__ = (
        "content",
        "forward_paths",
        "is_8bit",
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
        assert forward_paths
        self.reverse_path = reverse_path
        self.forward_paths = forward_paths
        self.content = content
        self.source = source
        self.size_octets = size_octets  # before stuffing, for SIZE (RFC 1870 6)
        self.is_8bit = is_8bit
        self.outcomes: list[Outcome | None] = [None] * len(forward_paths)
        self.undecided = len(forward_paths)
        self.trouble: Outcome | None = None  # the host's fault, if that is what ended it

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
