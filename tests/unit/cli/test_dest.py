"""`fastmta dest` without a server, and how explanations look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fastmta.cli import main
from fastmta.cli.explain import render
from fastmta.cli.talk import duration, moment


class Spool:
    """A configuration with an empty spool."""

    def __init__(self, place: Path) -> None:
        self.root = place / "spool"
        self.root.mkdir()
        self.file = place / "fastmta.toml"
        self.file.write_text(f'hostname = "a.example"\n[spool]\ndirectory = "{self.root}"\n')

    def run(self, *words: str, status: int = 0) -> tuple[str, str]:
        done = CliRunner().invoke(main, ["dest", *words, "-c", str(self.file)])
        assert done.exit_code == status, (words, done.output, done.exception)
        return done.stdout, done.stderr

    @property
    def shapes(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "overrides.json").read_bytes())["shapes"]
        return found


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)


def test_what_is_set_while_nobody_runs_is_in_the_file(spool: Spool) -> None:
    said, note = spool.run("pause", "x.example", "--for", "1h")
    assert said.startswith("pause domain:x.example, until 20")
    assert note == "no server answers: it takes effect at the next start\n"
    spool.run("limit", "(a|b).mx.example", "--rate", "100/min, burst 10", "--connections", "3")
    spool.run("limit", "X.example", "--tenant", "acme", "--connections", "1")
    assert list(spool.shapes) == [
        "pause domain:x.example",
        "limit site:(a|b).mx.example",
        "limit domain:x.example tenant:acme",
    ]
    limit = spool.shapes["limit site:(a|b).mx.example"]
    assert (limit["rate"], limit["connections"]) == ("100/min, burst 10", 3)
    pause = spool.shapes["pause domain:x.example"]
    assert pause["until"] == pytest.approx(pause["set_at"] + 3600)
    listed, note = spool.run("list", status=3)
    assert note == "fastmta: no server runs\n"
    assert listed.startswith("\nset by operators:\n")
    assert "  limit site:(a|b).mx.example: rate 100/min, burst 10, 3 connections, set by" in listed
    shown = json.loads(spool.run("list", "-o", "json", status=3)[0])
    assert list(shown["overrides"]) == list(spool.shapes)
    shown, _ = spool.run("show", "x.example")
    assert shown.split("\n")[0] == "x.example: no server runs"
    assert "pause domain:x.example" in shown
    assert "(a|b)" not in shown
    spool.run("show", "y.example", status=3)


def test_each_is_undone_by_the_name_it_was_given(spool: Spool) -> None:
    spool.run("pause", "x.example")
    spool.run("limit", "x.example", "--connections", "1")
    spool.run("limit", "x.example", "--tenant", "acme", "--connections", "1")
    spool.run("pause", "tenant:acme", "--yes")
    assert spool.run("unlimit", "domain:x.example")[0] == "ended: limit domain:x.example\n"
    _, complaint = spool.run("unlimit", "x.example", status=1)
    assert "no limit of `fastmta dest` is for x.example" in complaint
    said, _ = spool.run("unlimit", "x.example", "--tenant", "acme", "--dry-run")
    assert said == "would end: limit domain:x.example tenant:acme\n"
    assert len(spool.shapes) == 3
    spool.run("unlimit", "x.example", "--tenant", "acme")
    spool.run("resume", "acme", status=1)
    spool.run("resume", "tenant:acme")
    told = json.loads(spool.run("resume", "x.example", "-o", "json")[0])
    assert told["names"] == ["pause domain:x.example"]
    assert spool.shapes == {}


@pytest.mark.parametrize(
    "words", [("*",), ("*.x.example",), ("provider:google",), ("tenant:acme",)]
)
def test_what_is_for_many_needs_consent(spool: Spool, words: tuple[str, ...]) -> None:
    _, complaint = spool.run("pause", *words, status=2)
    assert "give --yes, nobody can be asked" in complaint
    assert not (spool.root / "overrides.json").exists()
    spool.run("pause", *words, "--yes")
    assert len(spool.shapes) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("limit", "x"), "give --rate, --connections, or both"),
        (("limit", "x", "--rate", "often"), "rate: "),
        (("pause", "domain:"), "printable"),
        (("pause", "x", "--for", "0s"), "a length such as"),
        (("pause", "x", "--for", "400d"), "a length such as"),
        (("pause", "x", "--for", "soon"), "a length such as"),
        (("pause", "tenant:a", "--tenant", "b"), "something else than a tenant"),
    ],
)
def test_what_makes_no_sense_changes_nothing(
    spool: Spool, words: tuple[str, ...], said: str
) -> None:
    _, complaint = spool.run(*words, status=2)
    assert said in complaint
    assert not (spool.root / "overrides.json").exists()


def test_moments_and_lengths() -> None:
    assert moment(0.0) == "1970-01-01 00:00:00 UTC"
    assert moment(125.0, 2.0) == "1970-01-01 00:02:05 UTC (in 2 min 3 s)"
    assert moment(5.0, 9.0) == "1970-01-01 00:00:05 UTC (now)"
    assert [duration(s) for s in (0.5, 59, 60, 3_700, 90_000)] == [
        "0 s", "59 s", "1 min 0 s", "1 h 1 min", "1 d 1 h",
    ]  # fmt: skip


def node(about: str, waits_on: str = "window", **more: Any) -> dict[str, Any]:
    return {
        "about": about, "name": "n", "waits_on": waits_on, "text": f"the {waits_on}", "detail": "",
        "next_attempt": None, "next_attempt_text": "some day", "last_reply": None, "facts": {},
        "children": [], **more,
    }  # fmt: skip


def test_a_tree_says_nothing_twice() -> None:
    reply = {"status": "", "remote": "mx[192.0.2.1]:25", "text": "450 later"}
    facts = {"in_flight": 3, "window": 5, "window_max": 20, "waiting": 7, "state": "open",
             "source": "default", "provider": "big"}  # fmt: skip
    site = node("site", name="mx", facts=facts)
    limit = node("limit", name="limit r", detail="1/min")
    also = node("reason", "rate", detail="r: 1/min")
    recipient = node(
        "recipient", facts={"status": "deferred", "attempts": 2}, last_reply=reply,
        children=[also, {**site, "last_reply": reply}, limit],
    )  # fmt: skip
    found = {"explanations": [{**recipient, "shard": 3}], "notes": ["a note"]}
    assert render(found, "").split("\n") == [
        "recipient <n>: deferred after 2 attempts, shard 3",
        "    waits for   the window",
        "    next try    some day",
        "    last reply  mx[192.0.2.1]:25: 450 later",
        "    and for     the rate (r: 1/min)",
        "    site mx",
        "        window      3/5 under way (at most 20), 7 wait in memory",
        "        path        open, source default, provider big",
        "    limit       r: 1/min",
        "note: a note",
    ]
    assert render({"explanations": [], "notes": []}, "nothing") == "nothing"


def test_a_provider_that_nobody_knows_is_refused(spool: Spool) -> None:
    _, complaint = spool.run("limit", "provider:gogle", "--rate", "1/min", "--yes", status=2)
    assert "there is no provider gogle; did you mean google?" in complaint
