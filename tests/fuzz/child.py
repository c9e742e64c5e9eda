"""The process that is fuzzed: `python -m tests.fuzz.child MODULES CORPUS SEED SECONDS CASE_FILE`.

Runs mutants until the time is over, or (`--only NUMBER`) one of them. The number of the case is in
CASE_FILE before it is run, so that whoever finds this process dead can run that case again. Prints
what was reached as JSON. What must hold for every mutant:

* no reading or writing beyond a buffer, no undefined behaviour (the sanitizers end the process);
* scanner, parsers and decoders raise nothing but ValueError and msgspec's errors;
* a walk (`verify`) and a scan agree on whether a segment is whole, and what it has;
* every record found lies within its segment and carries its own position.
"""

from __future__ import annotations

import argparse
import array
import json
import mmap
import os
import random
import struct
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz.mutator import Mutator, Seed, mutate_value
from tests.fuzz.sanitized import install

if TYPE_CHECKING:
    from tests.fuzz.target import Target

CASES_AT_ONCE = 20  # between looks at the clock


def load_seeds(corpus: Path) -> list[Seed]:
    """The segments of a corpus."""
    from fastmta.spool._scan import scan_groups
    from fastmta.spool.segment import HEADER_OCTETS, Segment

    seeds = []
    for path in sorted(corpus.glob("*.seg")):
        octets = path.read_bytes()
        segment = Segment(str(path), -1, len(octets))
        if segment.parse_header(octets[:HEADER_OCTETS]):
            base, epoch = segment.base, segment.epoch
            records, _, _ = scan_groups(octets, base, epoch, HEADER_OCTETS, 0)
            seeds.append(Seed(octets, base, epoch, records))
    if not seeds:
        raise SystemExit(f"{corpus} holds no segments")
    return seeds


def run_case(target: Target, mutator: Mutator, seed: int, number: int) -> None:
    """One mutant of a segment and a few of rows; the same for the same numbers."""
    rng = random.Random(f"{seed}-{number}")
    octets, origin = mutator.mutant(rng)
    exact = array.array("B", (0,)) * len(octets)  # a repetition has no room behind it
    memoryview(exact)[:] = octets
    target.segment(rng, exact, origin)
    for _ in range(3):
        target.row(rng, mutate_value)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("modules", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("case_file", type=Path)
    parser.add_argument("--only", type=int)
    chosen = parser.parse_args()
    install(chosen.modules)
    from fastmta.spool._log import checksum
    from tests.fuzz.target import Target

    reached: Counter[str] = Counter()
    rows = json.loads((chosen.corpus / "rows.json").read_text())
    target = Target(rows, reached)
    mutator = Mutator(load_seeds(chosen.corpus), checksum)
    if chosen.only is not None:
        run_case(target, mutator, chosen.seed, chosen.only)
        return
    chosen.case_file.write_bytes(bytes(mmap.PAGESIZE))
    with chosen.case_file.open("r+b") as file, mmap.mmap(file.fileno(), 0) as case:
        deadline_s = time.monotonic() + chosen.seconds
        number = 0
        while time.monotonic() < deadline_s:
            for _ in range(CASES_AT_ONCE):
                struct.pack_into("<Q", case, 0, number)
                run_case(target, mutator, chosen.seed, number)
                number += 1
    reached["mutants"] = number
    sys.stdout.write(json.dumps(reached) + "\n")
    sys.stdout.flush()
    os._exit(0)  # what extensions leave at their end is not what is looked for


if __name__ == "__main__":
    main()
