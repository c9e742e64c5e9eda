"""One write or flush of the log fails: the group goes to another segment, and nothing is lost.

A child process under the preload shim plays the failure and copies its shard at each moment; here
the copies are damaged in the ways a crash or a lying disk can damage them, and recovered.
"""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastmta.event import Notice, Severity
from tests.support import shim
from tests.support.flush_child import OPTIONS, content_of
from tests.support.spool import Shard, delete_index

ROOT = Path(__file__).parents[2]
HEADER_OCTETS = 4096
TORN_OCTETS = 512
States = dict[str, list[int]]


class Story:
    """What the child did, and its copies."""

    def __init__(self, place: Path, scenario: str, **steering: Any) -> None:
        self.place = place
        switch = place / "switch"
        # Only the log flushes these files while the switch is there.
        match = "/hot/000000000000000" + ("1" if scenario == "middle" else "2")
        steering = {"match": match, "error": errno.EIO, "only_while": switch, **steering}
        run = subprocess.run(
            [sys.executable, "-m", "tests.support.flush_child", str(place), str(switch), scenario],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=shim.environment(place / "counts", **steering),
            timeout=60,
        )
        assert run.returncode == 0, run.stderr
        self.told = json.loads(run.stdout)
        assert shim.read_counts(place / "counts").failed >= 1
        self.scenario = scenario
        path, self.offset, self.octets = self.told["failed"]
        self.failed_name = Path(path).name
        self.rescue_name = Path(self.told["rescue"]).name
        self.refused = set(self.told["refused"])
        self.count = 0

    def promised(self, moment: str) -> States:
        """State of every live message that was acknowledged then."""
        return dict(self.told["moments"][moment])

    def copy(self, moment: str, *, is_indexed: bool = True) -> Path:
        """A fresh copy of the files of that moment."""
        self.count += 1
        target = self.place / f"try-{self.count}"
        shutil.copytree(self.place / moment, target)
        if not is_indexed:
            delete_index(target)
        return target

    def segment(self, root: Path, name: str) -> Path:
        return root / "shard-00" / "hot" / name

    def forget(self, root: Path, *, header: bool = False, group: bool = True) -> None:
        """The failed file never got these octets, though later flushes of it said nothing."""
        path = self.segment(root, self.failed_name)
        if group:
            overwrite(path, self.offset, self.octets)
        if header:
            overwrite(path, 0, HEADER_OCTETS)


def overwrite(path: Path, offset: int, octets: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(octets))


def recover(root: Path) -> tuple[States, list[str]]:
    """The states found, the same twice, and what was said about damage."""
    found: list[States] = []
    said: list[str] = []
    for _ in range(2):
        with Shard(root, OPTIONS) as shard:
            live = {
                id.decode(): [
                    int(each.states[index].status) if index in each.states else 0
                    for index in (0, 1)
                ]
                for id, each in shard.recovered.items()
            }
            messages, _ = shard.fetch(b"smtp:one.example", 2**62)
            assert sorted(message.id.decode() for message in messages) == sorted(live)
            for message in messages:
                content = message.content
                assert content is not None
                assert content.rstrip(b".") == content_of(message.id)
            found.append(live)
            said += [
                event.text
                for event in shard.events
                if isinstance(event, Notice) and event.severity is Severity.ERROR
            ]
    assert found[0] == found[1]
    shutil.rmtree(root)
    return found[0], said


def check(story: Story, root: Path, before: States, after: States, extra: set[str]) -> None:
    """Every message is in its state before the failed group, or after it; nobody else is there."""
    live, said = recover(root)
    assert said == []
    for id, states in before.items():
        assert live.pop(id) in (states, after.get(id, states))
    for id, states in live.items():
        assert states == after.get(id, [0, 0])
    assert set(live) <= set(after) | extra


SCENARIOS = pytest.mark.parametrize("scenario", ["middle", "first"])


@SCENARIOS
@pytest.mark.parametrize("is_writing", [False, True])
def test_a_crash_at_every_moment_loses_nothing(
    tmp_path: Path, scenario: str, is_writing: bool
) -> None:
    story = Story(tmp_path, scenario, is_writing=is_writing)
    assert story.refused == set()
    assert story.failed_name != story.rescue_name
    after = story.promised("acknowledged")
    assert len(after) == len(story.promised("failed")) + 2
    for is_indexed in (True, False):
        for moment in ("failed", "written"):
            root = story.copy(moment, is_indexed=is_indexed)
            check(story, root, story.promised(moment), after, set())
        for moment in ("acknowledged", "told", "later"):
            promised = story.promised(moment)
            root = story.copy(moment, is_indexed=is_indexed)
            check(story, root, promised, promised, set())


@SCENARIOS
def test_a_disk_that_lies_about_the_failed_range_loses_nothing(
    tmp_path: Path, scenario: str
) -> None:
    """The flush fails once, then says 0 for ever, and what it should have written is gone."""
    story = Story(tmp_path, scenario)
    lies = [{"group": True}]
    if scenario == "first":
        lies += [{"header": True, "group": True}, {"header": True, "group": False}]
    for lie in lies:
        for is_indexed in (True, False):
            for moment in ("acknowledged", "told", "later"):
                promised = story.promised(moment)
                root = story.copy(moment, is_indexed=is_indexed)
                story.forget(root, **lie)
                check(story, root, promised, promised, set())


@SCENARIOS
@pytest.mark.parametrize("is_lying", [False, True])
def test_power_fails_while_the_group_is_written_anew(
    tmp_path: Path, scenario: str, is_lying: bool
) -> None:
    """Any first part of the other segment is on the disk, or all of it but its header."""
    story = Story(tmp_path, scenario)
    before, after = story.promised("failed"), story.promised("acknowledged")
    whole = HEADER_OCTETS + story.octets
    cuts = [(end, whole) for end in range(0, whole + 1, TORN_OCTETS)] + [(0, HEADER_OCTETS)]
    for number, (start, end) in enumerate(cuts):
        root = story.copy("written", is_indexed=number % 2 == 0)
        if is_lying:
            story.forget(root, header=scenario == "first")
        overwrite(story.segment(root, story.rescue_name), start, end - start)
        check(story, root, before, after, set())


@SCENARIOS
def test_when_the_second_place_fails_too_all_are_refused(tmp_path: Path, scenario: str) -> None:
    story = Story(tmp_path, scenario, match="/hot/")
    assert len(story.refused) == 2
    assert any("FATAL" in event for event in story.told["events"])
    promised = story.promised("told")
    for is_indexed in (True, False):
        for lie in ([], [story.failed_name], [story.failed_name, story.rescue_name]):
            root = story.copy("told", is_indexed=is_indexed)
            if lie:
                story.forget(root)
            if len(lie) == 2:
                overwrite(story.segment(root, story.rescue_name), 0, HEADER_OCTETS + story.octets)
            marked = {id: [1, 0] for id in promised}  # a mark that was refused may be there
            check(story, root, promised, marked, story.refused)
