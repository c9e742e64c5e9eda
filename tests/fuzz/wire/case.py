"""One run of one target, and its form as a line of text, in which inputs and findings are kept."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

INPUTS = Path(__file__).parent / "inputs"
REGRESSIONS = Path(__file__).parent / "regressions"
SETTINGS_BITS = 16
_CR, _LF = re.compile(b"\r"), re.compile(b"\n")
_DRIPPED_MAX = 600  # octets that come one by one


class Case(NamedTuple):
    """What is not in the octets comes from `seed`: the settings from its lower half alone."""

    target: str
    seed: int
    octets: bytes

    def settings_chance(self) -> random.Random:
        """Decides about the world that the octets come into."""
        return random.Random(f"settings-{self.seed % (1 << SETTINGS_BITS)}")

    def chance(self) -> random.Random:
        """Decides about pieces, delays, and whatever else can happen."""
        return random.Random(self.seed)

    def line(self) -> str:
        """`target seed octets`, the octets escaped as in a Python literal."""
        escaped = self.octets.decode("latin-1").encode("unicode_escape").decode("ascii")
        return f"{self.target} {self.seed} {escaped}"


def parse_case(line: str) -> Case:
    target, seed, escaped = line.split(" ", 2)
    octets = escaped.encode("ascii").decode("unicode_escape").encode("latin-1")
    return Case(target, int(seed), octets)


def read_cases(path: Path) -> Iterator[Case]:
    """The cases of a file; lines that begin with "#" are for readers."""
    for line in path.read_text("ascii").split("\n"):
        if line and not line.startswith("#"):
            yield parse_case(line)


def write_cases(path: Path, cases: Iterable[Case]) -> None:
    path.write_text("".join(case.line() + "\n" for case in cases), "ascii")


def pieces_of(chance: random.Random, octets: bytes) -> list[bytes]:
    """The octets as they may arrive: by lines most often, as from a client that waits."""
    kind = chance.random()
    line_ends = [found.end() for found in _LF.finditer(octets)]
    if kind < 0.04:
        cuts = []
    elif kind < 0.08 and len(octets) < _DRIPPED_MAX:
        cuts = list(range(1, len(octets)))
    elif kind < 0.14:
        cuts = [chance.randrange(len(octets) + 1) for _ in range(chance.randrange(1, 9))]
    elif kind < 0.2:  # in the middle of line ends
        cuts = [found.end() for found in _CR.finditer(octets)]
    elif kind < 0.3:  # some lines in one group
        cuts = [cut for cut in line_ends if chance.random() < 0.9]
    else:
        cuts = line_ends
        if kind < 0.6:
            cuts += [chance.randrange(len(octets) + 1) for _ in range(chance.randrange(9))]
    bounds = [0, *sorted(cuts), len(octets)]
    return [octets[begin:end] for begin, end in itertools.pairwise(bounds) if end > begin]
