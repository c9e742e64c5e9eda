"""`fastmta trace` and `log tail` on a running server."""

from __future__ import annotations

import gzip
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import until
from tests.support.tracing import World, world_at


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_at(tmp_path_factory.mktemp("trace")) as made:
        yield made


def test_delivered_mail_is_told_whole(world: World) -> None:
    id = world.send("one@dest.example", content="Message-ID: <Whole.1@x>\r\n\r\nbody\r\n")
    world.wait_for(f"{id}: removed")
    (message,) = world.trace(id)["messages"]
    events = {event["event"]: event for event in message["events"]}
    assert list(events) == ["received", "queued", "attempt", "removed"]
    assert events["received"]["client"] == "unknown[127.0.0.1]"
    assert events["received"]["message_id"] == "<Whole.1@x>"
    assert events["queued"]["recipients"] == 1
    assert events["attempt"]["outcome"] == "sent"
    assert events["attempt"]["reply"].startswith("250 2.0.0 Ok")
    assert len(events["attempt"]["delays_s"]) == 4
    assert abs(events["removed"]["time"] - time.time()) < 60
    assert (message["state"], message["sender"]) == ("removed", "sender@source.example")
    (recipient,) = message["recipients"]
    assert (recipient["outcome"], recipient["attempts"]) == ("sent", 1)
    text = world.run("trace", id)
    assert f"message {id}: done" in text
    assert "sent       <one@dest.example> at 127.0.0.1[127.0.0.1]:" in text
    for subject in ("<whole.1@x>", "message-id:Whole.1@x"):
        assert [one["id"] for one in world.trace(subject)["messages"]] == [id]


def test_mail_that_waits_says_until_when_and_who_changed_it(world: World) -> None:
    id = world.send("two@full.test", "TWO@dest.example")
    world.wait_for(f"{id}: to=<two@full.test>")
    world.wait_for(f"{id}: to=<TWO@dest.example>")
    world.run("queue", "hold", id)
    world.run("queue", "release", id)
    until(lambda: world.server.log_text().count(f"{id}: to=<two@full.test>") == 2)
    (message,) = world.trace("Two@full.test")["messages"]
    assert message["id"] == id
    assert message["state"] == "waiting"
    outcomes = {one["recipient"]: one for one in message["recipients"]}
    assert outcomes["TWO@dest.example"]["outcome"] == "sent"
    assert outcomes["two@full.test"]["outcome"] == "deferred"
    assert outcomes["two@full.test"]["attempts"] == 2
    assert 2_000 < outcomes["two@full.test"]["next_attempt"] - time.time() < 8_000
    told = [event.get("operation", event["event"]) for event in message["events"]]
    assert [one for one in told if one not in ("attempt", "queued", "received")] == [
        "placed on hold",
        "released from hold",
    ]
    last = [one for one in message["events"] if one["event"] == "attempt"][-1]
    assert last["next_attempt"] == outcomes["two@full.test"]["next_attempt"]
    assert ", next try 20" in world.run("trace", id)
    assert world.trace("address:nobody@full.test", status=1)["messages"] == []


def test_a_bounce_is_told_from_both_ends(world: World) -> None:
    id = world.send("three@gone.test")
    world.wait_for(f"{id}: removed")
    (message,) = world.trace(id)["messages"]
    (bounce,) = [event for event in message["events"] if event["event"] == "bounce"]
    assert bounce["kind"] == "sender non-delivery notification"
    (recipient,) = message["recipients"]
    assert (recipient["outcome"], recipient["status"]) == ("bounced", "5.1.1")
    world.wait_for(f"{bounce['bounce_id']}: removed")
    (about,) = world.trace(bounce["bounce_id"])["messages"]
    assert (about["bounce_of"], about["sender"]) == (id, "")
    assert f"it tells of {id}" in world.run("trace", bounce["bounce_id"])


def test_a_story_in_rotated_files(world: World) -> None:
    log = Path(world.server.log)
    first = world.send("four@full.test")
    world.wait_for(f"{first}: to=<four@full.test>")
    eldest, elder = Path(f"{log}.2.gz"), Path(f"{log}-20261125")
    eldest.write_bytes(gzip.compress(log.read_bytes()))
    os.truncate(log, 0)
    second = world.send("four@full.test")
    world.wait_for(f"{second}: to=<four@full.test>")
    log.rename(elder)
    os.utime(eldest, ns=(0, elder.stat().st_mtime_ns - 10**9))
    os.kill(world.server.pid, signal.SIGUSR1)
    until(log.exists)
    world.run("queue", "delete", first, second, "--yes")
    for id in (first, second):  # of different workers, perhaps
        world.wait_for(f"{id}: removed")
    for subject in (first, second):
        (message,) = world.trace(subject)["messages"]
        names = [event["event"] for event in message["events"]]
        assert names[0] == "received"
        assert "operation" in names
        assert message["recipients"][0]["outcome"] == "deleted"
    found = world.trace("four@full.test")
    assert [one["id"] for one in found["messages"]] == [first, second]
    assert found["sources"][0]["files"] == [str(log), str(elder), str(eldest)]
    only = world.trace(first, "--log", str(eldest))["messages"][0]
    assert [event["event"] for event in only["events"]] == ["received", "queued", "attempt"]
    assert only["state"] == "unknown"
    assert world.trace("four@full.test", "--limit", "1")["messages"][0]["id"] == second


def test_following_ends_with_the_mail(world: World) -> None:
    id = world.send("five@full.test")
    world.wait_for(f"{id}: to=<five@full.test>")
    with world.started("trace", id, "--follow", "-o", "jsonl") as command:
        assert command.process.stdout is not None
        seen = [json.loads(command.process.stdout.readline()) for _ in range(3)]
        world.run("queue", "delete", id)
        output, complaints, status = command.ended()
    events = [*seen, *(json.loads(line) for line in output.split("\n")[:-1])]
    assert (status, complaints) == (0, "")
    names = [event["event"] for event in events]
    assert names[:4] == ["received", "queued", "attempt", "operation"]
    assert {event["source"] for event in events} == {"log", "live"}


def test_tail_shows_what_matches_and_ends_with_ctrl_c(world: World) -> None:
    first = world.send("six@dest.example")
    world.wait_for(f"{first}: removed")
    words = ("-n", "1000", "--filter", "to:six@* status:sent,deferred")
    with world.started("log", "tail", *words) as command:
        assert command.process.stdout is not None
        lines = [command.process.stdout.readline()]  # and now it listens
        ids = [first, *(world.send(f"six@{domain}") for domain in ("dest.example", "full.test"))]
        world.send("seven@dest.example")
        lines += [command.process.stdout.readline() for _ in range(2)]
        rest = command.interrupt()
    assert rest == ("", "", 0)
    assert all(id in line for id, line in zip(sorted(ids), sorted(lines, key=_id), strict=True))
    assert all("to=<six@" in line for line in lines)


def test_a_configuration_that_is_broken_is_not_in_the_way(world: World) -> None:
    id = world.send("eleven@dest.example")
    world.wait_for(f"{id}: removed")
    text = world.server.file.read_text()
    try:
        for trouble in ('\n[relay]\nhost = "\n', '\n[nonsense]\nkey = "x"\n'):
            world.server.file.write_text(text + trouble)
            found = world.trace(id)
            assert found["messages"][0]["state"] == "removed"
            (note,) = found["notes"]
            assert note.startswith("the configuration cannot be used: ")
            assert world.run("log", "tail", "-n", "1000", "--count", "1")
    finally:
        world.server.file.write_text(text)


def _id(line: str) -> str:
    return line.split(": ")[1]


def test_tail_begins_with_old_lines_and_ends_after_enough(world: World) -> None:
    id = world.send("eight@dest.example")
    world.wait_for(f"{id}: removed")
    said = world.run("log", "tail", "-n", "50", "--filter", f"id:{id}", "--count", "3", "--json")
    lines = [json.loads(line) for line in said.split("\n")[:-1]]
    assert [line["event"] for line in lines][:3] == ["received", "message-id", "queued"]
    assert lines[0]["text"].endswith("client=unknown[127.0.0.1]")
    world.run("log", "tail", "--filter", "colour:blue", status=2)


def test_without_a_server(tmp_path: Path) -> None:
    with world_at(tmp_path, workers=1, journal__file="-", journal__history_octets=1 << 20) as world:
        id = world.send("ten@dest.example")
        until(lambda: f"{id}: removed" in world.server.said())
        until(lambda: world.trace(id)["messages"][0]["state"] == "removed")
        found = world.trace(id)
        assert found["sources"][0]["source"] == "history"
        assert (tmp_path / "spool" / "history" / "worker-0.log").exists()
        waiting = world.send("ten@full.test")
        until(lambda: f"{waiting}: to=" in world.server.said())
        world.server.stop()
        found = world.trace("ten@full.test")
        assert found["notes"] == []
        (message,) = found["messages"]
        assert (message["id"], message["state"]) == (waiting, "waiting")
        empty = tmp_path / "empty.log"
        empty.touch()
        for address in ("TEN@full.test", "sender@source.example"):  # of which no line tells
            found = json.loads(world.run("trace", address, "--log", str(empty), "-o", "json"))
            assert [one["id"] for one in found["messages"]] == [waiting]
        assert world.run("top", "--once", status=3) == ""
        assert world.run("log", "tail", status=3) == ""
