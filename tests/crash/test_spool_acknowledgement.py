"""Nothing is acknowledged before the flush that covers it, and nothing that was not flushed.

kill -9 cannot see a missing flush; a preload shim that delays and fails fdatasync can.
"""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import shim
from tests.support.spool import Shard

ROOT = Path(__file__).parents[2]
SEGMENT = "/hot/0000000000000001.seg"  # the first; the keeper works on others meanwhile
DELAY_S = 0.3
TIMEOUT_S = 20


class Child:
    """A process with an open shard that obeys step by step, under the shim."""

    def __init__(self, place: Path, **steering: Any) -> None:
        self.root = place / "spool"
        self.counts_file = place / "counts"
        self.switch = place / "switch"
        self.events: list[str] = []
        steering = {"match": SEGMENT, "only_while": self.switch, **steering}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.spool_child", "steps", str(self.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=shim.environment(self.counts_file, **steering),
        )
        assert self.read() == ["ready"]

    def read(self) -> list[Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def ask(self, text: str) -> list[Any]:
        """The answer to a step; notices in front of it are kept in `events`."""
        self.say(text)
        while (answer := self.read())[0] == "event":
            self.events.append(answer[1])
        return answer

    @property
    def counts(self) -> shim.Counts:
        return shim.read_counts(self.counts_file)

    def end(self) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT_S)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    children: list[Child] = []

    def make(**steering: Any) -> Child:
        children.append(Child(tmp_path, **steering))
        return children[-1]

    yield make
    for child in children:
        child.end()


def test_no_acknowledgement_comes_before_its_flush(start: Any) -> None:
    child = start(delay_s=DELAY_S)
    child.switch.touch()
    for number in range(2):
        flushes = child.counts.delayed
        verb, answered, problem, took_s, _ = child.ask(f"accept {number}")
        assert (verb, answered, problem) == ("accept", number, None)
        assert took_s >= DELAY_S
        assert child.counts.delayed > flushes
    verb, _, problem, took_s, _ = child.ask("deliver 0")
    assert (verb, problem) == ("deliver", None)
    assert took_s >= DELAY_S


def test_what_comes_during_a_flush_waits_for_the_next_one(start: Any) -> None:
    child = start(delay_s=DELAY_S)
    child.switch.touch()
    child.say("accept 0")
    subprocess.run(["sleep", "0.1"], check=True)  # the first flush is now under way
    child.say("accept 1\naccept 2")
    first, second, third = child.read(), child.read(), child.read()
    assert DELAY_S <= first[3] < 2 * DELAY_S
    assert second[3] >= 2 * DELAY_S - 0.15
    assert third[3] >= 2 * DELAY_S - 0.15
    assert child.counts.delayed == 2


def test_failed_flush_is_not_tried_again_on_its_file(start: Any) -> None:
    child = start(error=errno.EIO)
    assert child.ask("accept 0")[2] is None
    child.switch.touch()
    calls = child.counts.calls
    assert child.ask("accept 1")[2::2] == [None, False]  # durable elsewhere, and not healthy
    child.switch.unlink()  # the file works again, but nobody may believe it
    assert child.ask("accept 2")[2::2] == [None, False]
    assert child.ask("deliver 0")[2::2] == [None, False]
    assert (child.counts.calls, child.counts.failed) == (calls + 1, 1)
    child.end()
    with Shard(child.root) as recovered:
        messages, _ = recovered.fetch(b"smtp:one.example", 2**62)
        assert {message.content for message in messages} == {b"number 1\r\n", b"number 2\r\n"}


def test_no_acknowledgement_comes_before_the_flush_of_the_other_file(start: Any) -> None:
    child = start(error=errno.EIO, times=1, delay_s=DELAY_S, match="/hot/")
    assert child.ask("accept 0")[2] is None
    subprocess.run(["sleep", "0.3"], check=True)  # the keeper is done
    child.switch.touch()
    _, _, problem, took_s, is_healthy = child.ask("accept 1")
    assert (problem, is_healthy) == (None, False)
    assert child.counts.failed == 1
    assert took_s >= 2 * DELAY_S


def test_two_failed_flushes_acknowledge_nothing_and_end_it(start: Any) -> None:
    child = start(error=errno.EIO, match="/hot/")
    assert child.ask("accept 0")[2] is None
    child.switch.touch()
    verb, _, problem, _, is_healthy = child.ask("accept 1")
    assert (verb, is_healthy) == ("accept", False)
    assert problem.startswith("SpoolError: the log could not be written")
    assert child.counts.failed >= 2
    child.switch.unlink()  # the disk works again, but nobody may believe it
    for text in ("accept 2", "deliver 0"):
        assert child.ask(text)[2].startswith("SpoolError")
    child.say("stop")
    while (answer := child.read())[0] == "event":
        pass
    assert answer == ["closed"]
    with Shard(child.root) as recovered:
        messages, _ = recovered.fetch(b"smtp:one.example", 2**62)
        contents = [message.content for message in messages]
        assert b"number 0\r\n" in contents  # acknowledged, and its mark was not
        assert set(contents) <= {b"number 0\r\n", b"number 1\r\n"}


def test_failed_flush_of_a_mark_is_not_acknowledged(start: Any) -> None:
    child = start(error=errno.ENOSPC, match="/hot/")
    assert child.ask("accept 0")[2] is None
    child.switch.touch()
    answer = child.ask("deliver 0")
    assert answer[2].startswith("SpoolError: the log could not be written")
    assert answer[4] is False


def test_shard_can_be_opened_again_after_a_failed_flush(start: Any) -> None:
    child = start(error=errno.EIO)
    assert child.ask("accept 0")[2] is None
    child.switch.touch()
    child.ask("accept 1")
    child.end()
    with Shard(child.root) as recovered:
        assert recovered.spool.is_healthy
        recovered.accept_new()
