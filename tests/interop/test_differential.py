"""Generated sessions to us, to Postfix's smtpd and to aiosmtpd: the same replies, the same mail.

A thousand sessions here, more in `make test-long`, resumed where the last run ended. Compared are
the code of every reply, and envelope and content of every message that was accepted; ours is what
a receiver got from us. Differences that are as they should be have a name in divergences.toml.
To see one again: `Trial(directory, Table(TABLE)).run([session(seed)])`.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import long
from tests.support.differential.grammar import session
from tests.support.differential.play import Difference
from tests.support.differential.side import Answer
from tests.support.differential.table import Table
from tests.support.differential.trial import Outcome, Trial
from tests.support.long import LongRun

pytestmark = pytest.mark.interop

TABLE = Path(__file__).parent / "divergences.toml"
SESSIONS = 1000  # of one trial
RARE = (2899, 6351, 10313)  # they show a class which the first thousand do not


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """aiosmtpd tells its log of every bad command."""
    logger = logging.getLogger("mail.log")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


def compare(directory: Path, seeds: Sequence[int]) -> list[Outcome]:
    """A trial of these sessions; what has no name fails the test, with what was said."""
    outcomes = Trial(directory, Table(TABLE)).run([session(seed) for seed in seeds])
    problems = [f"{one.server}: {text}" for one in outcomes for text in one.problems]
    if problems:
        pytest.fail("\n\n".join([f"{len(problems)} unexplained", *problems]), pytrace=False)
    return outcomes


def test_a_thousand_sessions(tmp_path: Path) -> None:
    outcomes = compare(tmp_path, [*range(SESSIONS), *RARE])
    for outcome in outcomes:
        assert outcome.sessions >= SESSIONS
        assert outcome.replies > 10 * SESSIONS
        assert outcome.messages > SESSIONS / 2
    seen = {name for outcome in outcomes for name in outcome.named}
    unused = {one.name for one in Table(TABLE).classes} - seen
    assert not unused, "a class that takes nothing is no longer true"


def sums(name: str) -> str:
    """All trials recorded so far, added up."""
    counts: Counter[str] = Counter()
    for line in long.RESULTS.read_text().splitlines():
        facts = json.loads(line)
        if facts["test"] == name:
            counts.update({key: facts[key] for key in facts if " " in key})
    return "\n".join(f"{key:40}{count:>10,}" for key, count in sorted(counts.items()))


@pytest.mark.long
def test_more_sessions(tmp_path: Path, long_run: LongRun) -> None:
    for seed in long_run.seeds():
        directory = tmp_path / str(seed)
        directory.mkdir()
        facts: dict[str, int] = {}
        for outcome in compare(directory, range((seed + 1) * SESSIONS, (seed + 2) * SESSIONS)):
            facts |= outcome.facts()
        long_run.record(seed, **facts)
        shutil.rmtree(directory)
    print(f"\n{sums(long_run.name)}")


# The table itself.

REFUSED, TAKEN = Answer(501), Answer(250)
CLASS = """
[[class]]
name = "{name}"
servers = ["postfix"]
rfc = "RFC 5321 4.1.2"
reason = "because"
{design}
[[class.row]]
verbs = ["MAIL"]
ours = [501]
theirs = [250, 555]
"""


def table(directory: Path, *texts: str) -> Table:
    file = directory / "table.toml"
    file.write_text("".join(texts))
    return Table(file)


def test_class_without_a_design_does_not_decide_what_is_taken(tmp_path: Path) -> None:
    taken = Difference("MAIL", b"MAIL x\r\n", REFUSED, TAKEN, True)
    refused = Difference("MAIL", b"MAIL x\r\n", REFUSED, Answer(555), True)
    plain = table(tmp_path, CLASS.format(name="a", design=""))
    assert plain.name_of("postfix", refused) == "a"
    assert plain.name_of("postfix", taken) == ""
    assert plain.name_of("aiosmtpd", refused) == ""
    settled = table(tmp_path, CLASS.format(name="a", design='design = "section 7"'))
    assert settled.name_of("postfix", taken) == "a"


@pytest.mark.parametrize(
    "text",
    [
        "".join(CLASS.format(name=number, design="") for number in range(21)),
        CLASS.format(name="a", design="") * 2,
        CLASS.format(name="a", design="").replace("RFC 5321 4.1.2", "RFC 5321"),
        CLASS.format(name="a", design="").replace("because", ""),
        CLASS.format(name="a", design="").replace("theirs", "there"),
    ],
    ids=["too-many", "twice", "no-section", "no-reason", "unknown-key"],
)
def test_table_that_breaks_its_rules_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="a"):
        table(tmp_path, text)
