"""Random harnesses for `make test-long MINUTES=n`: resumed where the last run ended.

A test marked `long` asks for seeds until its share of the time is over:

    @pytest.mark.long
    def test_histories(long_run: LongRun) -> None:
        for seed in long_run.seeds():
            facts = run_history(seed)
            long_run.record(seed, **facts)

Each record is one line of `build/test-long.jsonl`; the next run goes on with the seed after the
last one recorded for that test. A seed that was begun and not recorded (it failed) is tried again.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

RESULTS = Path(__file__).parent.parent.parent / "build" / "test-long.jsonl"


class LongRun:
    """Seeds and results of one test."""

    def __init__(self, name: str, seconds: float, results: Path = RESULTS) -> None:
        self.name = name
        self._seconds = seconds
        self._results = results

    def seeds(self) -> Iterator[int]:
        """Seeds not yet done, at least one, until the time is over."""
        deadline = time.monotonic() + self._seconds
        seed = self._next_seed()
        while True:
            yield seed
            seed += 1
            if time.monotonic() >= deadline:
                return

    def record(self, seed: int, **facts: int | float | str) -> None:
        """This seed passed; the facts are kept for whoever sums them up."""
        self._results.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"test": self.name, "seed": seed, "at": int(time.time()), **facts})
        with self._results.open("a") as results:
            results.write(line + "\n")

    def _next_seed(self) -> int:
        last = -1
        if self._results.exists():
            for line in self._results.read_text().split("\n"):
                values = json.loads(line) if line else {}
                if values.get("test") == self.name:
                    last = max(last, values["seed"])
        return last + 1
