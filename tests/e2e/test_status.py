"""status, healthcheck and drain, of one server through its life."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from click.testing import CliRunner, Result

from fastmta.cli import asking, main
from fastmta.lab import Server, free_port
from tests.support.client import Client, until
from tests.support.daemon import running
from tests.support.receiver import Act, Receiver

HELD_UP = {"RCPT": Act(b"450 4.2.0 later\r\n", then="close")}


def command(server: Server, *words: str, status: int = 0) -> Result:
    verbs = 2 if words[0] == "queue" else 1
    line = [*words[:verbs], "-c", str(server.file), *words[verbs:]]
    done = CliRunner().invoke(main, line)
    assert done.exit_code == status, (words, done.output, done.exception)
    return done


def status(server: Server, status: int = 0) -> dict[str, Any]:
    told = json.loads(command(server, "status", "-o", "json", status=status).stdout)
    assert isinstance(told, dict)
    return told


def test_how_a_server_is_told_and_how_it_is_drained(tmp_path: Path) -> None:
    with Receiver() as receiver:
        host = f"[127.0.0.1]:{receiver.port}"
        with running(tmp_path, relay_host=host, workers=2) as server:
            command(server, "healthcheck")
            assert "connect from" not in server.log_text(), "it leaves nothing in the log"
            command(server, "healthcheck", "--smtp")
            command(server, "healthcheck", "--live")
            pause = ["dest", "pause", "domain:none.example", "-c", str(server.file)]
            assert CliRunner().invoke(main, pause).exit_code == 0
            with Client(server.port) as client:
                assert client.send("one@dest.example").startswith("250")
                receiver.wait_for_transactions(1)
                told = status(server)
                assert sum(worker["connections"] for worker in told["workers"]) == 1
            assert (told["pid"], told["hostname"]) == (server.pid, "fastmta.test")
            assert [one["pid"] for one in told["workers"]] == sorted(server.workers())
            assert all(one["is_accepting"] and one["is_ready"] for one in told["workers"])
            assert told["listeners"] == [
                {"name": "smtp", "address": f"127.0.0.1:{server.port}"}
            ]  # fmt: skip
            assert told["durability"] == "full"
            shown = command(server, "status").stdout
            assert "accepting   yes" in shown
            assert "override    pause domain:none.example" in shown
            _is_undone(server)
            _a_worker_that_hangs_is_noticed(server)
            _drained(server, receiver)
        assert not server.is_running
        for words in (("status",), ("reload",), ("drain",)):
            assert "no server runs" in command(server, *words, status=3).stderr
        assert command(server, "healthcheck", status=1).stderr.startswith("fastmta: no server")


def _is_undone(server: Server) -> None:
    with Client(server.port) as idle:
        told = json.loads(command(server, "drain", "--stay", "-o", "json").stdout)
        assert (told["is_draining"], told["is_stopped"], told["messages"]) == (True, False, 0)
        assert idle.reply().startswith("421 4.3.2")
    with Client(server.port, greets=False) as refused:
        assert "Service shutting down" in refused.reply()
    assert "the server drains" in command(server, "healthcheck", status=1).stderr
    command(server, "healthcheck", "--live")
    assert "accepting   no: the server drains" in command(server, "status", status=1).stdout
    victim = server.workers()[0]
    os.kill(victim, signal.SIGKILL)  # who starts now drains, too
    until(lambda: len(server.workers()) == 2 and victim not in server.workers())
    until(lambda: len(status(server, 1)["workers"]) == 2)
    assert not any(one["is_accepting"] for one in status(server, 1)["workers"])
    command(server, "drain", "--undo")
    until(lambda: _is_well(server))
    with Client(server.port) as client:
        assert client.send("two@dest.example").startswith("250")


def _is_well(server: Server) -> bool:
    return CliRunner().invoke(main, ["healthcheck", "-c", str(server.file)]).exit_code == 0


def _a_worker_that_hangs_is_noticed(server: Server) -> None:
    victim = server.workers()[0]
    os.kill(victim, signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        said = command(server, "healthcheck", "--timeout", "0.3", status=1).stderr
        assert time.monotonic() - began_s < 3.0
        assert said.count("\n") == 1
        with patch.object(asking, "ANSWER_S", 0.3):
            shown = command(server, "status", status=1).stdout
        assert f"pid {victim}, does not answer" in shown
        assert shown.count("\nworker ") == 2
        assert "; not those of who does not answer" in shown
    finally:
        os.kill(victim, signal.SIGCONT)
    until(lambda: _is_well(server))


def _drained(server: Server, receiver: Receiver) -> None:
    """What is due is delivered first; then the server ends by itself, well."""
    with Client(server.port) as client:
        for number in range(50):
            client.send(f"n{number}@dest.example")
        command_line = [sys.executable, "-m", "fastmta", "drain", "-c", str(server.file)]
        drain = subprocess.Popen(command_line, stdout=subprocess.PIPE, text=True)
        assert client.reply().startswith("421 4.3.2")
    said, _ = drain.communicate(timeout=30)
    assert (said, drain.returncode) == ("the queue is empty\n", 0)
    receiver.wait_for_transactions(52)
    until(lambda: not server.is_running)
    assert server.said().endswith("fastmta: stopped\n")


def test_what_cannot_be_delivered_stays_and_time_is_kept(tmp_path: Path) -> None:
    slow = {"DATA": Act(delay_s=30.0)}
    with (
        Receiver([HELD_UP, slow]) as receiver,
        running(
            tmp_path, relay_host=f"[127.0.0.1]:{receiver.port}", workers__stop_deadline_s=0.5
        ) as server,
    ):
        with Client(server.port) as client:
            client.send("later@dest.example")
            until(lambda: "status=deferred" in server.log_text())
        told = json.loads(command(server, "drain", "--stay", "-o", "json").stdout)
        assert (told["messages"], told["due"]) == (1, False), "it waits for its next attempt"
        command(server, "drain", "--undo")
        until(lambda: _is_well(server))
        with Client(server.port) as client:
            client.send("slow@dest.example")
        began_s = time.monotonic()
        said = command(server, "drain", "--timeout", "0.5", status=1).stdout
        assert said.startswith("2 messages stay in the queue, next try ")
        assert 0.5 <= time.monotonic() - began_s < 10.0
        until(lambda: not server.is_running)


def test_a_site_in_trouble_is_named_once_and_not_waited_for(tmp_path: Path) -> None:
    host = f"[127.0.0.1]:{free_port()}"  # nobody listens there
    settings = {"retry__site_backoff_min_s": 250.0, "retry__jitter": 0.0}
    with running(tmp_path, relay_host=host, workers=2, **settings) as server:
        for number in range(12):  # both workers have some
            with Client(server.port) as client:
                client.send(f"n{number}@dest.example")
        until(lambda: any(one["state"] == "backing off" for one in status(server)["troubles"]))
        lines = command(server, "status").stdout.split("\n")
        (line,) = [line for line in lines if line.startswith("trouble ")]
        assert line.startswith(f"trouble     {host}: ")
        assert line.endswith(": Connection refused")
        until(lambda: status(server)["queue"]["queues"]["deferred"] == 12)
        lines = command(server, "status").stdout.split("\n")
        (line,) = [line for line in lines if line.startswith("queue ")]
        assert re.fullmatch("queue +12 messages, 0 under way, next try in [1-4] min .*", line)
        assert "active 0, incoming 0, deferred 12 (oldest " in lines[lines.index(line) + 1]
        _every_view_says_deferred(server, 12)
        began_s = time.monotonic()
        said = command(server, "drain", "--timeout", "60").stdout
        assert time.monotonic() - began_s < 20.0, "nothing can be tried within a minute"
        assert re.fullmatch(r"12 messages stay in the queue, next try in [1-4] min .*\n", said)
        until(lambda: not server.is_running)
        _every_view_says_deferred(server, 12)  # the commands open the spool themselves


def _every_view_says_deferred(server: Server, count: int) -> None:
    summary = json.loads(command(server, "queue", "summary", "-o", "json").stdout)
    assert summary["queues"] == {"active": 0, "incoming": 0, "deferred": count, "hold": 0}
    assert summary["recipients"] == {"queued": 0, "deferred": count, "held": 0}
    listed = json.loads(command(server, "queue", "list", "-o", "json").stdout)["messages"]
    assert [one["queue"] for one in listed] == ["deferred"] * count
    for message in listed:
        (one,) = message["recipients"]
        assert one["status"] == "deferred"
        assert one["text"].startswith("delivery temporarily suspended: connect to ")
    for filter in ("status:deferred", "queue:deferred", "code:4.4.1", "status:deferred code:4.*"):
        counted = command(server, "queue", "count", "--filter", filter).stdout
        assert int(counted) == count, filter
        found = json.loads(command(server, "queue", "search", filter, "-o", "json").stdout)
        assert len(found["messages"]) == count
    for filter in ("status:queued", "queue:active,incoming,hold"):
        assert command(server, "queue", "count", "--filter", filter).stdout == "0\n"
    told = json.loads(command(server, "queue", "show", listed[0]["id"], "-o", "json").stdout)
    assert (told[0]["queue"], told[0]["recipients"][0]["status"]) == ("deferred", "deferred")
    for message in listed:  # some in memory, some in the spool only
        why = command(server, "trace", message["id"]).stdout
        assert "\n    waits for   " in why
        assert ("the next start" if not server.is_running else "the end of a pause") in why


def test_online_commands_start_quickly(tmp_path: Path) -> None:
    """Counted in what they import: a loaded machine is no measure."""
    code = (
        "import sys; from click.testing import CliRunner; from fastmta.cli import main; "
        "CliRunner().invoke(main, sys.argv[1:]); print(' '.join(sys.modules))"
    )
    heavy = {"asyncio", "uvloop", "lmdb", "dns", "ssl", "cryptography", "fastmta.config.schema"}
    with running(tmp_path, relay_host="[127.0.0.1]:1") as server:
        for words in (
            ["queue", "count"],
            ["status"],
            ["healthcheck"],
            ["reload"],
            ["dest", "list"],
        ):
            line = [sys.executable, "-c", code, *words, "-c", str(server.file)]
            done = subprocess.run(line, check=True, capture_output=True, text=True, timeout=60)
            if words[0] != "dest":
                assert not heavy & set(done.stdout.split()), words
