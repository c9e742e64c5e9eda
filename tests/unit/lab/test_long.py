"""Seeds of the long harnesses are resumed."""

from pathlib import Path

from tests.support.long import LongRun


def test_next_run_goes_on_after_the_last_recorded_seed(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    first = LongRun("a", 0, results)
    assert list(first.seeds()) == [0]
    first.record(0, messages=3)
    LongRun("b", 0, results).record(7)
    assert list(LongRun("a", 0, results).seeds()) == [1]
    assert list(LongRun("b", 0, results).seeds()) == [8]


def test_failed_seed_is_tried_again(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    LongRun("a", 0, results).record(0)
    assert list(LongRun("a", 0, results).seeds()) == [1]
    assert list(LongRun("a", 0, results).seeds()) == [1]
