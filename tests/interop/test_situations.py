"""In each situation of the table we print what Debian's Postfix printed, line by line.

`record_situations.py` noted that; divergences are in situation_divergences.toml, each with its
reason. All situations happen at once, on one server of each kind.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.interop.record_situations import RECORDED
from tests.support.situation import divergence
from tests.support.situation.divergence import unexplained
from tests.support.situation.ours import Run, Shown, differences
from tests.support.situation.table import Situation, load

pytestmark = pytest.mark.interop

SITUATIONS = load()
THEIRS: Shown = json.loads(RECORDED.read_text())
DIVERGENCES = divergence.load(Path(__file__).parent / "situation_divergences.toml")


@pytest.fixture(scope="module")
def ours(situation_run: Run) -> Shown:
    """What we print in all of them."""
    return situation_run.shown


def compare(ours: Shown, situation: str) -> tuple[list[str], set[str]]:
    left: list[str] = []
    used: set[str] = set()
    for what in ("lines", "replies", "reports"):
        mine, theirs = differences(ours[situation][what], THEIRS[situation][what])
        more, names = unexplained(DIVERGENCES, situation, mine, theirs)
        left += more
        used |= names
    return left, used


def test_the_recording_is_of_this_table() -> None:
    assert list(THEIRS) == [one.name for one in SITUATIONS], "record_situations.py, please"
    assert len(SITUATIONS) >= 100


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.name)
def test_lines_and_replies_are_those_of_postfix(ours: Shown, situation: Situation) -> None:
    left, _ = compare(ours, situation.name)
    assert not left, "\n" + "\n".join(left)


def test_every_divergence_is_one(ours: Shown) -> None:
    used = set().union(*(compare(ours, one.name)[1] for one in SITUATIONS))
    assert used == {one.name for one in DIVERGENCES}, "one that takes nothing is no longer true"
