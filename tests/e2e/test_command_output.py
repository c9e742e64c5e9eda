"""What commands print as JSON is what docs/json.md says, and what `fastmta top` shows is true."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from fastmta.cli import main
from tests.support.client import Client, until
from tests.support.schema import Schema
from tests.support.screen import Screen
from tests.support.tracing import World, world_at

# Objects that only a damaged spool, an index that is being rebuilt, or 50 sites would bring.
NOT_MET = {"problem", "note", "next page"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_at(tmp_path_factory.mktemp("output")) as made:
        yield made


def lines_of(text: str) -> list[Any]:
    return [json.loads(line) for line in text.split("\n")[:-1]]


class Checker:
    """Runs commands in both forms and holds what they print against the page."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.schema = Schema()
        self.met: set[str] = set()

    def check(self, name: str, *words: str, status: int = 0, twice: bool = True) -> Any:
        """`name` is the command as the page has it; the JSON document."""
        kind, lines = self.schema.commands[name]
        self.met.add(name)
        document = json.loads(self.world.run(*words, "-o", "json", status=status))
        assert list(self.schema.problems(document, kind, name)) == []
        if twice:
            for line in lines_of(self.world.run(*words, "-o", "jsonl", status=status)):
                self.check_line(name, line, lines)
        return document

    def check_line(self, name: str, line: Any, kinds: tuple[str, ...]) -> None:
        kind = kinds[0]
        if len(kinds) > 1:
            kind = "next page" if line["kind"] == "next" else line["kind"]
            assert kind in kinds
        assert list(self.schema.problems(line, kind, name)) == []


def test_every_command_prints_what_the_page_says(world: World) -> None:
    checker = Checker(world)
    done = world.send("a@dest.example", content="Message-ID: <a@x>\r\n\r\nbody\r\n")
    failed = world.send("a@gone.test")
    waiting = [world.send("a@full.test", "b@full.test") for _ in range(3)]
    for id in (done, failed):
        world.wait_for(f"{id}: removed")
    until(lambda: world.server.log_text().count("to=<b@full.test>") == 3)
    check_queue(checker, waiting)
    check_destinations(checker, waiting)
    (bounced,) = checker.check("trace", "trace", failed)["messages"]
    assert {one["event"] for one in bounced["events"]} >= {"attempt", "bounce", "removed"}
    for subject in (done, waiting[0]):
        checker.check("trace", "trace", subject)
    checker.check("top", "top", twice=False)
    check_server(checker)
    _, lines = checker.schema.commands["log tail"]
    for line in lines_of(world.run("log", "tail", "-n", "500", "--count", "20", "-o", "jsonl")):
        checker.check_line("log tail", line, lines)
    checker.met.add("log tail")
    assert checker.check("spool info", "spool", "info")["format"] >= 1
    assert len(checker.check("spool verify", "spool", "verify")["shards"]) == 2
    assert checker.met == set(checker.schema.commands)
    for kind in checker.schema.objects.keys() - NOT_MET:
        fields = checker.schema.objects[kind]
        wanted = {name for name, field in fields.items() if not field.is_optional}
        assert wanted <= checker.schema.seen.get(kind, set()), kind


def check_queue(checker: Checker, ids: list[str]) -> None:
    shown = checker.check("queue show", "queue", "show", *ids)
    assert sorted(one["id"] for one in shown) == sorted(ids)
    assert checker.check("queue count", "queue", "count") == {"messages": 3}
    by_domain = checker.check("queue count --by domain", "queue", "count", "--by", "domain")
    assert by_domain["next_hops"][0]["messages"] == 3
    for verb in ("hold", "release", "requeue"):
        told = checker.check(f"queue {verb}", "queue", verb, ids[0], "--wait", "9", twice=False)
        assert told["ids"] == {ids[0]: "done"}
        until(lambda: checker.world.run("queue", "count") == "3\n")
    listed = checker.check("queue list", "queue", "list")["messages"]
    searched = checker.check("queue search", "queue", "search", "to:*@full.test")["messages"]
    assert sorted(one["id"] for one in listed) == sorted(one["id"] for one in searched)
    assert sorted(one["id"] for one in listed) == sorted(ids)
    assert checker.check("queue summary", "queue", "summary")["messages"] == 3
    for verb in ("delete", "expire", "bounce", "flush"):
        checker.check(f"queue {verb}", "queue", verb, "--filter", "to:*@full.test", "--dry-run")


def check_server(checker: Checker) -> None:
    assert checker.check("reload", "reload")["changed"] == []
    drained = checker.check("drain", "drain", "--stay", twice=False)
    assert (drained["is_draining"], drained["is_stopped"]) == (True, False)
    assert not checker.check("drain", "drain", "--undo", twice=False)["is_draining"]
    words = ["healthcheck", "-c", str(checker.world.server.file)]
    until(lambda: CliRunner().invoke(main, words).exit_code == 0)
    told = checker.check("status", "status")
    assert (len(told["workers"]), told["reload"]["last"]["problems"]) == (2, [])


def check_destinations(checker: Checker, ids: list[str]) -> None:
    for subject in (ids[0], "a@full.test", "domain:[127.0.0.1]"):
        status = 1 if subject.startswith("domain") else 0
        checker.check("explain", "explain", subject, status=status)
    words = ("x.example", "--tenant", "acme", "--for", "1h")
    assert checker.check("dest pause", "dest", "pause", *words)["in_force"]
    site = ("site:mx.x.example", "--rate", "1/s", "--connections", "2")
    checker.check("dest limit", "dest", "limit", *site)
    listed = checker.check("dest list", "dest", "list")
    assert len(listed["overrides"]) == 2
    label = listed["sites"][0]["label"]
    checker.check("dest show", "dest", "show", "x.example", status=0)
    checker.check("dest show", "dest", "show", f"site:{label}")
    tenant = ("x.example", "--tenant", "acme", "--dry-run")
    assert checker.check("dest resume", "dest", "resume", *tenant)["names"]
    checker.check("dest unlimit", "dest", "unlimit", "site:mx.x.example", "--dry-run")


def test_the_page_fails_what_it_does_not_have() -> None:
    page = "### thing\n| `a` | integer | |\n| `b` | [string] or null, optional | |\n"
    schema = Schema(page)
    assert list(schema.problems({"a": 1, "b": ["x"]}, "thing")) == []
    assert list(schema.problems({"a": 1, "b": None}, "thing")) == []
    assert list(schema.problems([{"a": 1}], "[thing]")) == []
    for wrong in ({"a": "1"}, {"a": True}, {}, {"a": 1, "c": 2}, {"a": 1, "b": [1]}, [], None):
        assert list(schema.problems(wrong, "thing")), wrong


def test_top_shows_the_counts(world: World) -> None:
    counts = figures(world)
    small = Screen(command(world), 80, 24)
    text = small.until(lambda text: "total    in" in text and "DEST" in text)
    assert totals(text) == counts
    with Client(world.server.port) as client:
        for number in range(30):
            client.send(f"t{number}@dest.example")
    wanted = {**counts, "in": counts["in"] + 30, "out": counts["out"] + 30}
    text = small.until(lambda text: totals(text)["out"] == wanted["out"])
    assert {name: totals(text)[name] for name in ("in", "out")} == {
        name: wanted[name] for name in ("in", "out")
    }
    assert re.search(r"^out +\S+/s .*█", text, re.MULTILINE)
    assert len(text.split("\n")) == 24
    assert text.split("\n")[-1].startswith("q quit")
    small.resize(120, 30)
    text = small.until(lambda text: "q quit" in text.split("\n")[-1] and "DEST" in text)
    assert "UTC" in text.split("\n")[0]
    assert text.split("\n")[0].endswith("UTC")
    assert len(text.split("\n")[0]) == 120
    small.press("q")
    assert small.close() == 0


def test_top_pauses_and_resumes_what_is_chosen(world: World) -> None:
    label = json.loads(world.run("dest", "list", "-o", "json"))["sites"][0]["label"]
    screen = Screen(command(world), 100, 20)
    screen.until(lambda text: f">{label}" in text)
    screen.press("p")
    screen.until(lambda text: f"pause site:{label}? y/n" in text)
    screen.press("n\r")
    screen.until(lambda text: "nothing was changed" in text)
    screen.press("p")
    screen.until(lambda text: "y/n" in text)
    screen.press("y\r")
    screen.until(lambda text: re.search(rf"^>{re.escape(label)} .* paused ", text, re.MULTILINE))
    assert label in world.run("dest", "list")
    screen.press("r")
    screen.until(lambda text: f"resume site:{label}? y/n" in text)
    screen.press("y\r")
    screen.until(lambda text: re.search(rf"^>{re.escape(label)} .* open ", text, re.MULTILINE))
    screen.press("/none\r")
    screen.until(lambda text: label not in text and "[none]" in text)
    screen.press("\x1b")
    screen.until(lambda text: f">{label}" in text)
    screen.press("v")
    screen.until(lambda text: "NEXT HOP" in text)
    screen.press("\x03")
    assert screen.close() == 0


def command(world: World) -> list[str]:
    return [sys.executable, "-m", "fastmta", "top", "-c", str(world.server.file)]


def figures(world: World) -> dict[str, int]:
    """The totals as the plain form has them, when nothing moves any more."""
    before: dict[str, int] = {}
    while True:
        now = totals(world.run("top", "--once"))
        if now == before:
            return now
        before = now
        time.sleep(0.3)


def totals(text: str) -> dict[str, int]:
    line = next((one for one in text.split("\n") if one.startswith("total ")), "")
    return {name: int(count) for name, count in re.findall(r"(\w+) (\d+)(?!\d)", line)}
