"""`fastmta dest` and `explain` on a running server: pauses and limits bite, are named, and last."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fastmta.cli import main
from fastmta.control.overridefile import FILE_NAME
from tests.support.client import Client, until
from tests.support.outbound import Exits, Outbound, address_with_port
from tests.support.receiver import Act, Receiver

LATER = Act(b"450 4.2.0 come back later\r\n")


@dataclass
class World:
    outbound: Outbound
    receivers: dict[str, Receiver]
    directory: Path

    def run(self, *words: str, status: int = 0) -> str:
        """A command, in this process; standard output."""
        arguments = [*words, "-c", str(self.outbound.server.file)]
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == status, (words, done.output, done.exception)
        return done.stdout

    def json(self, *words: str, status: int = 0) -> Any:
        return json.loads(self.run(*words, "-o", "json", status=status))

    def why(self, *words: str) -> Any:
        """The only answer of `explain`."""
        (one,) = self.json("explain", *words)["explanations"]
        return one

    def wait_for(self, subject: str, waits_on: str) -> Any:
        """The only answer, as soon as it is that: a look-up comes first."""
        until(lambda: self.why(subject)["waits_on"] == waits_on)
        return self.why(subject)

    def send(self, domain: str, count: int = 1) -> list[str]:
        """The ids."""
        with Client(self.outbound.server.port) as client:
            replies = [client.send(f"one@{domain}") for _ in range(count)]
        return [reply.rpartition(" ")[2] for reply in replies]

    def arrived(self, domain: str) -> int:
        wanted = f"one@{domain}".encode()
        receiver = self.receivers[domain.partition(".")[0]]
        return sum(wanted in one.forward_paths for one in list(receiver.transactions))

    @property
    def names(self) -> list[str]:
        """Of the overrides in the file."""
        return list(json.loads((self.directory / "spool" / FILE_NAME).read_bytes())["shapes"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("server")
    exits = Exits()
    exits.settings["workers.count"] = 2
    with ExitStack() as stack:
        receivers = {}
        for name in ("quick", "slow", "later"):
            script = {"RCPT": LATER} if name == "later" else {}
            address = address_with_port(25)
            receivers[name] = stack.enter_context(Receiver(script, address=address, port=25))
        addresses = [f"{one.address}/32" for one in receivers.values()]
        exits.settings["delivery.allow_addresses"] = addresses
        outbound = stack.enter_context(exits.running(directory))
        for name, receiver in receivers.items():
            outbound.names.add(f"mx.{name}.test", "A", receiver.address)
            outbound.names.add(f"{name}.test", "MX", f"10 mx.{name}.test.")
        yield World(outbound, receivers, directory)


def test_a_paused_domain_waits_explain_says_why_and_resume_lets_it_go(world: World) -> None:
    said = world.run("dest", "pause", "quick.test")
    assert said.startswith("pause domain:quick.test, set by root at "), said
    assert world.names == ["pause domain:quick.test"]
    (id,) = world.send("quick.test")
    why = world.wait_for(id, "paused")
    assert (why["about"], why["name"]) == ("message", id)
    assert why["next_attempt"] is None
    assert why["next_attempt_text"] == "when it is resumed"
    (recipient,) = why["children"]
    assert recipient["name"] == "one@quick.test"
    assert recipient["detail"].startswith("pause domain:quick.test, set by root at ")
    for subject in ("quick.test", "domain:quick.test", "mx.quick.test", "ONE@quick.test"):
        assert world.why(subject)["waits_on"] == "paused", subject
    text = world.run("explain", id)
    assert "waits for   an operator to resume it (pause domain:quick.test, set by root" in text
    assert "next try    when it is resumed" in text
    (site,) = world.json("dest", "list")["sites"]
    assert (site["label"], site["waits_on"], site["waiting"]) == ("mx.quick.test", "paused", 1)
    assert "mx.quick.test  paused" in world.run("dest", "list")
    assert "pause domain:quick.test, set by root" in world.run("dest", "show", "quick.test")
    assert world.arrived("quick.test") == 0
    assert world.run("dest", "resume", "quick.test") == "ended: pause domain:quick.test\n"
    until(lambda: world.arrived("quick.test") == 1)
    assert world.names == []
    until(lambda: world.run("queue", "count") == "0\n")
    world.run("explain", id, status=1)


def test_a_pause_of_a_pair_ends_by_itself(world: World) -> None:
    pair = ("quick.test", "--tenant", "127.0.0.1")
    told = world.json("dest", "pause", *pair, "--for", "2s")
    assert told["name"] == "pause domain:quick.test tenant:127.0.0.1"
    assert told["in_force"]
    (id,) = world.send("quick.test")
    why = world.wait_for(id, "paused")
    assert 0 < why["next_attempt"] - time.time() <= 2.0
    assert world.why("tenant:127.0.0.1")["waits_on"] == "paused"
    world.run("dest", "resume", "quick.test", status=1)  # not the pair
    until(lambda: world.arrived("quick.test") == 2)
    over = "tenant:127.0.0.1: its time is over (paused)"
    until(lambda: over in world.outbound.server.log_text())
    world.run("dest", "resume", *pair, status=1)


def test_what_is_for_many_is_counted_and_asked_for(world: World) -> None:
    before = world.names
    world.run("dest", "pause", "*", status=2)
    world.run("dest", "pause", "tenant:acme", status=2)
    told = world.json("dest", "pause", "*.test", "--dry-run")
    assert told["dry_run"]
    assert not told["in_force"]
    assert (told["sites"], told["next_hops"]) == (1, 1)
    assert world.names == before
    world.run("dest", "limit", "quick.test", status=2)
    world.run("dest", "limit", "quick.test", "--rate", "often", status=2)
    world.run("dest", "pause", "quick.test", "--for", "ever", status=2)


def test_deferred_mail_has_its_time_and_its_last_reply(world: World) -> None:
    (id,) = world.send("later.test")
    until(lambda: world.outbound.count("later") == 1)
    why = world.wait_for(id, "due")
    assert 2_500 < why["next_attempt"] - time.time() < 3_600
    (recipient,) = why["children"]
    assert (recipient["facts"]["status"], recipient["facts"]["attempts"]) == ("deferred", 1)
    assert "come back later" in recipient["last_reply"]["text"]
    assert world.why("one@later.test")["name"] == id
    world.run("queue", "hold", id)
    assert world.why(id)["waits_on"] == "hold"
    assert world.why("one@later.test")["waits_on"] == "hold"


def test_a_file_that_cannot_be_understood_is_named(world: World) -> None:
    path = world.directory / "spool" / FILE_NAME
    good = path.read_bytes()
    path.write_text('{"shapes": {"x": {"domain": ["x"], "pause": true}}}')
    world.run("dest", "pause", "quick.test", status=75)
    world.run("check", status=1)
    path.write_bytes(good)
    world.run("check")


def test_a_rate_takes_effect_at_once_and_survives_a_restart(world: World) -> None:
    before = world.arrived("quick.test")
    world.run("dest", "limit", "slow.test", "--rate", "1/h")
    ids = world.send("slow.test", 4)
    until(lambda: world.arrived("slow.test") == 1)
    for id in ids[1:]:
        world.wait_for(id, "rate")
    assert 3_000 < world.why(ids[-1])["next_attempt"] - time.time() < 4 * 3_600
    assert "limit domain:slow.test" in world.run("explain", "slow.test")
    world.outbound.server.kill()
    text = world.run("explain", ids[-1])
    assert "waits for   the next start: the scheduler was stopped" in text
    said = world.run("dest", "pause", "quick.test")  # nobody is there to be told
    assert said.startswith("pause domain:quick.test")
    world.outbound.server.start()
    until(lambda: world.arrived("slow.test") == 2)  # a new process has a burst again
    (id,) = world.send("quick.test")
    world.wait_for(id, "paused")
    assert world.why(ids[-1])["waits_on"] in ("rate", "backlog")
    assert world.arrived("slow.test") == 2
    world.run("dest", "unlimit", "domain:slow.test")
    world.run("dest", "resume", "quick.test")
    until(lambda: world.arrived("slow.test") == 4 and world.arrived("quick.test") == before + 1)
