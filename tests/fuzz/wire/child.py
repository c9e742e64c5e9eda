"""The process that is fuzzed: `python -m tests.fuzz.wire.child MODULES CASE_FILE SEED SECONDS`.

Runs the kept inputs and regressions, then mutants until the time is over. The case is in CASE_FILE
before it is run, so that whoever finds this process dead has it. A mutant that does something new
is one to make other mutants of. `--only LINE` runs one case; `--keep DIRECTORY` writes the inputs
which together do most of what was seen. Prints what was reached as JSON.
"""

from __future__ import annotations

import argparse
import heapq
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

from tests.fuzz.sanitized import install
from tests.fuzz.wire.case import (
    INPUTS,
    REGRESSIONS,
    SETTINGS_BITS,
    Case,
    parse_case,
    read_cases,
    write_cases,
)

if TYPE_CHECKING:
    from tests.fuzz.wire.mutator import Grammar
    from tests.fuzz.wire.targets import Targets

CASES_AT_ONCE = 50  # between looks at the clock
CASE_FILE_OCTETS = 1 << 20
POOL_MAX = 4000  # inputs of a target
KEPT_OCTETS = 270_000  # of all inputs that are kept for ever
FRESH = 0.5  # of the sessions are written anew


class Fuzzer:
    """Makes cases, and remembers those that did something new."""

    def __init__(self, targets: Targets, seed: int) -> None:
        from tests.fuzz.wire.mutator import Grammar, Mutator, dictionary
        from tests.fuzz.wire.targets import WEIGHTS, seeds_of
        from tests.fuzz.wire.words import vector_seeds

        vectors = vector_seeds()
        self._grammar: Grammar = Grammar(vectors)
        self._mutator = Mutator(self._grammar, dictionary())
        self._seeds = seeds_of(vectors)
        self._names, self._weights = list(WEIGHTS), list(WEIGHTS.values())
        self._chance = random.Random(seed)
        self._targets = targets
        self._seen: set[object] = set()
        self.pool: dict[str, list[Case]] = {name: [] for name in WEIGHTS}
        self.reached: Counter[str] = Counter()

    def first(self) -> list[Case]:
        """What is run before all mutants: the kept inputs, and the seeds as they are."""
        cases = [case for path in sorted(INPUTS.glob("*.txt")) for case in read_cases(path)]
        cases += [case for path in sorted(REGRESSIONS.glob("*.txt")) for case in read_cases(path)]
        for name, seeds in self._seeds.items():
            cases += [Case(name, number, octets) for number, octets in enumerate(seeds)]
        return cases

    def next(self) -> Case:
        chance = self._chance
        (name,) = chance.choices(self._names, self._weights)
        seed = chance.getrandbits(32)
        if name == "session" and chance.random() < FRESH:
            octets = self._grammar.session(chance)
            if chance.random() < 0.5:
                octets = self._mutator.mutate(chance, octets, [octets])
            return Case(name, seed, octets)
        pool = self.pool[name]
        others = [case.octets for case in chance.choices(pool, k=3)] + self._seeds[name][:1]
        one = chance.choice(pool)
        if chance.random() < 0.5:  # in the same world
            mask = (1 << SETTINGS_BITS) - 1
            seed = (seed & ~mask) | (one.seed & mask)
        return Case(name, seed, self._mutator.mutate(chance, one.octets, others))

    def run(self, case: Case) -> None:
        features = self._targets.run(case)
        self.reached[case.target] += 1
        new = features - self._seen
        if new:
            self._seen |= new
            pool = self.pool[case.target]
            if len(pool) < POOL_MAX:
                pool.append(case)
            else:
                pool[self._chance.randrange(POOL_MAX)] = case

    def report(self) -> dict[str, int]:
        reached = dict(self.reached)
        reached["mutants"] = self.reached.total()
        reached["features"] = len(self._seen)
        reached["accepted"] = self._targets.sessions.accepted_count
        reached["relayed"] = self._targets.oracle.relayed_count
        reached["aiosmtpd"] = self._targets.oracle.aiosmtpd_count
        return reached

    def keep(self, directory: Path) -> None:
        """The inputs that show most for their size, as many as there is room for."""
        directory.mkdir(parents=True, exist_ok=True)
        total = sum(self._weights)
        for name, weight in zip(self._names, self._weights, strict=True):
            room = KEPT_OCTETS * weight // total
            chosen = self._choose(self.pool[name], room)
            write_cases(directory / f"{name}.txt", sorted(chosen, key=Case.line))

    def _choose(self, pool: list[Case], room: int) -> list[Case]:
        """Greedily: how much is new in a case can only become less, so old numbers are bounds."""
        features = [self._targets.run(case) for case in pool]
        sizes = [len(case.line()) + 1 for case in pool]
        heap = [(-len(features[at]) / sizes[at], at) for at in range(len(pool))]
        heapq.heapify(heap)
        seen: set[object] = set()
        chosen = []
        while heap:
            before, at = heapq.heappop(heap)
            worth = -len(features[at] - seen) / sizes[at]
            if not worth or sizes[at] > room:
                continue
            if worth > before and heap and worth > heap[0][0]:
                heapq.heappush(heap, (worth, at))
                continue
            seen |= features[at]
            room -= sizes[at]
            chosen.append(pool[at])
        return chosen


def note(file: mmap.mmap, case: Case) -> None:
    """Put the case where it can be found when this process is no more."""
    line = case.line().encode("ascii")[: CASE_FILE_OCTETS - 8]
    file[:8] = struct.pack("<Q", len(line))
    file[8 : 8 + len(line)] = line


def fuzz(fuzzer: Fuzzer, targets: Targets, file: mmap.mmap, seconds: float) -> None:
    from tests.fuzz.wire.oracle import SmugglingError

    deadline_s = time.monotonic() + seconds
    try:
        for case in fuzzer.first():
            note(file, case)
            fuzzer.run(case)
        while time.monotonic() < deadline_s:
            for _ in range(CASES_AT_ONCE):
                case = fuzzer.next()
                note(file, case)
                fuzzer.run(case)
        targets.oracle.flush()
    except SmugglingError as problem:
        note(file, problem.case)
        raise


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("modules", type=Path)
    parser.add_argument("case_file", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--only")
    parser.add_argument("--keep", type=Path)
    chosen = parser.parse_args()
    install(chosen.modules, "smtp")
    from tests.fuzz.wire.targets import Targets

    targets = Targets()
    if chosen.only is not None:
        targets.run(parse_case(chosen.only))
        targets.oracle.flush()
        return
    chosen.case_file.write_bytes(bytes(CASE_FILE_OCTETS))
    fuzzer = Fuzzer(targets, chosen.seed)
    with chosen.case_file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as file:
        fuzz(fuzzer, targets, file, chosen.seconds)
    if chosen.keep is not None:
        fuzzer.keep(chosen.keep)
    sys.stdout.write(json.dumps(fuzzer.report()) + "\n")
    sys.stdout.flush()
    os._exit(0)  # what extensions leave at their end is not what is looked for


if __name__ == "__main__":
    main()
