"""docs/first-steps.md: its commands say what the page says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fastmta.lab.loopback import free_port
from tests.support.transcript import Shell, Step, commands_in, read_steps, replay, stable

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "first-steps.md"


def test_the_first_steps_are_as_written(tmp_path: Path) -> None:
    for tool in ("bash", "swaks"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    page = PAGE.read_text()
    # Tests share a machine: other ports, and a smaller spool that a full volume does not stop.
    replaced = {
        "2525": str(free_port()),
        "2526": str(free_port()),
        "[spool]\n": "[pressure]\nvolume_free = [0.003, 0.002, 0.001]\n[spool]\n",
    }
    with Shell(tmp_path, commands_in(tmp_path)) as shell:
        for step, answer in replay(page, shell, replaced):
            said = answer.replace(str(tmp_path), "/home/me")
            assert stable(said) == stable(step.answer), step.command


def test_steps_are_read_as_they_are_written() -> None:
    text = "$ one\n$ two <<END\n> more\n> END\nanswer\n  > quoted\n$ three &\n"
    steps = read_steps(text)
    assert steps == [
        Step("one"),
        Step("two <<END\nmore\nEND", "answer\n  > quoted\n"),
        Step("three &"),
    ]
    assert "".join(step.text for step in steps) == text


def test_only_what_varies_is_overlooked() -> None:
    one = "25UFIll200000004*   312 Thu Nov 25 20:49:31  a@b.example\n  (refused)\n\n"
    other = "25UFJxx300000001*  4711 Fri Dec  4 01:02:03  a@b.example\n(refused)\n"
    assert stable(one) == stable(other)
    assert stable(one) != stable(other.replace("refused", "timed out"))
    assert stable(one) != stable(other.replace("a@b", "a@c"))
