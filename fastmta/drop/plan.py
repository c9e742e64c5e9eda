"""What becomes of a claim that makes several messages: a file beside it, replaced as a whole.

fastmta plan 1
step 1000                           recipients of each message
date Thu, 01 Jan 2026 ...           of the first look, for the fields that all of them share
seconds 1767225600                  the same
next 7                              messages from this number on were not begun
5 25UHio4G00000001                  this one may exist, under this id
6 25UHio4G00000002
                                    whichever has neither is done with
"""

from __future__ import annotations

import re

from .form import RECIPIENTS_MAX, FormError

PLAN_OCTETS_MAX = 64 * 1024
PORTION_MAX = 100  # messages that may exist and not be attempted yet
_FORM = re.compile(
    rb"fastmta plan 1\nstep ([0-9]{1,9})\ndate ([^\n]{1,100})\nseconds ([0-9]{1,12})\n"
    rb"next ([0-9]{1,9})\n((?:[0-9]{1,9} [0-9A-Za-z]{12,20}\n)*)end\n"
)


class Plan:
    """How far a claim has got: `ids` has every message of it that may exist and be unattempted."""

    __slots__ = ("date", "ids", "next", "seconds", "step")

    def __init__(self, step: int, date: bytes, seconds: int) -> None:
        self.step = step
        self.date = date
        self.seconds = seconds
        self.next = 0
        self.ids: dict[int, bytes] = {}

    def advance(self, done: set[int], count: int, portion: int, ids: list[bytes]) -> Plan:
        """What comes next, under fresh ids, of which there are `PORTION_MAX`.

        Those that are not done, then more of `count` messages, `portion` at a time.
        """
        plan = Plan(self.step, self.date, self.seconds)
        numbers = [number for number in self.ids if number not in done and number < count]
        more = min(max(count - self.next, 0), max(portion - len(numbers), 0))
        numbers += range(self.next, self.next + more)
        plan.next = self.next + more
        plan.ids = dict(zip(numbers, ids, strict=False))
        return plan

    def encode(self) -> bytes:
        """As a file has it."""
        lines = b"".join(b"%d %b\n" % pair for pair in self.ids.items())
        return b"fastmta plan 1\nstep %d\ndate %b\nseconds %d\nnext %d\n%bend\n" % (
            self.step,
            self.date,
            self.seconds,
            self.next,
            lines,
        )

    @classmethod
    def decode(cls, octets: bytes) -> Plan:
        """From a file. Raises FormError."""
        match = _FORM.fullmatch(octets)
        if match is None or not int(match[1]) > 0 or int(match[4]) > RECIPIENTS_MAX:
            raise FormError("its plan is damaged")
        plan = cls(int(match[1]), match[2], int(match[3]))
        plan.next = int(match[4])
        for line in match[5].split(b"\n")[:-1]:
            number, _, id = line.partition(b" ")
            plan.ids[int(number)] = id
        if len(plan.ids) > PORTION_MAX:
            raise FormError("its plan is damaged")
        return plan
