"""The queue commands of Postfix on a real server, and in the pipelines that operators have."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastmta.cli import main
from fastmta.control import Client as Connection
from fastmta.control import ClientError
from fastmta.lab import Server, free_port
from tests.support.client import Client, until
from tests.support.daemon import running
from tests.support.receiver import Act, Receiver

LATER = Act(b"450 4.2.0 later\r\n")
HANGING = Act(then="hang")
SLOW = {"retry__first_s": 3_000.0, "retry__site_backoff_min_s": 250.0, "retry__jitter": 0.0}
ENTRY = {"mailq": ("postqueue", "mailq")}
LISTED = re.compile(
    r"[0-9A-Za-z]{16}[*! ] +\d+ [A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+"
)


class Commands:
    """Runs them as a script would: by their names, in a directory of their own."""

    def __init__(self, server: Server, directory: Path) -> None:
        self.server = server
        self.directory = directory
        directory.mkdir(exist_ok=True)
        for name in ("mailq", "postqueue", "postsuper", "postcat", "qshape"):
            module, function = ENTRY.get(name, (name, "main"))
            script = directory / name
            code = f"from fastmta.postfix.{module} import {function}\n{function}()\n"
            script.write_text(f"#!{sys.executable}\n{code}")
            script.chmod(0o755)

    def run(self, *command: str, status: int = 0, stdin: str = "") -> tuple[str, str]:
        return self._run(command, status, stdin)

    def shell(self, script: str, status: int = 0) -> tuple[str, str]:
        return self._run(["sh", "-c", script], status, "")

    def _run(self, command: Sequence[str], status: int, stdin: str) -> tuple[str, str]:
        path = f"{self.directory}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "FASTMTA_CONFIG": str(self.server.file)}
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            input=stdin,
            check=False,
            timeout=60,
            env=environment,
        )
        assert done.returncode == status, (command, done.stdout, done.stderr)
        return done.stdout, done.stderr

    def listed(self) -> dict[str, dict[str, object]]:
        """The queue by id, as exporters read it."""
        lines = self.run("postqueue", "-j")[0].split("\n")
        return {one["queue_id"]: one for one in map(json.loads, filter(None, lines))}


def queue(server: Server, *arguments: str, status: int = 0) -> str:
    """`fastmta queue ...`, in this process."""
    verb, *rest = arguments
    done = CliRunner().invoke(main, ["queue", verb, "-c", str(server.file), *rest])
    assert done.exit_code == status, (arguments, done.output, done.exception)
    return done.stdout


def send(
    server: Server, sender: str, *recipients: str, content: str = "x: y\r\n\r\ntext\r\n"
) -> str:
    with Client(server.port) as client:
        reply = client.send(*recipients, reverse_path=sender, content=content)
    return reply.removeprefix("250 2.0.0 Ok: queued as ")


def state_of(commands: Commands, id: str) -> object:
    return commands.listed().get(id, {}).get("queue_name")


@pytest.fixture(scope="module")
def world() -> Iterator[Commands]:
    """A server whose receivers defer, hang, or are not there; where others can look, too."""
    root = Path(tempfile.mkdtemp(prefix="fastmta-commands-", dir="/var/tmp"))
    root.chmod(0o755)
    with Receiver({"RCPT": LATER}) as deferring, Receiver({"MAIL": HANGING}) as hanging:
        environment = {
            "FASTMTA_ROUTE__1__RECIPIENT": "slow.example",
            "FASTMTA_ROUTE__1__TO": f"[127.0.0.1]:{hanging.port}",
            "FASTMTA_ROUTE__2__RECIPIENT": "gone.example",
            "FASTMTA_ROUTE__2__TO": f"[127.0.0.1]:{free_port()}",
        }
        settings = {**SLOW, "control__directory": str(root)}
        relay = f"[127.0.0.1]:{deferring.port}"
        with running(
            root, relay_host=relay, workers=2, environment=environment, **settings
        ) as server:
            yield Commands(server, root / "bin")
            server.kill()  # nobody waits for what hangs
    shutil.rmtree(root, ignore_errors=True)


def test_every_state_is_listed_as_postfix_lists_it(world: Commands) -> None:
    server = world.server
    assert world.run("mailq") == ("Mail queue is empty\n", "")
    active = send(server, "a@source.example", "one@slow.example")
    deferred = send(server, "", "x@one.example", "y@one.example")
    unreached = send(server, "a@source.example", "one@gone.example")
    held = send(server, "h@source.example", "held@one.example")
    until(lambda: [state_of(world, id) for id in (deferred, held)] == ["deferred"] * 2)
    until(lambda: state_of(world, unreached) == "deferred")
    assert world.run("postsuper", "-h", held) == (
        "",
        f"postsuper: {held}: placed on hold\npostsuper: Placed on hold: 1 message\n",
    )
    found = world.listed()
    assert {id: one["queue_name"] for id, one in found.items()} == {
        active: "active",
        deferred: "deferred",
        unreached: "deferred",
        held: "hold",
    }
    assert found[deferred]["sender"] == "MAILER-DAEMON"
    reasons = [one["delay_reason"] for one in found[deferred]["recipients"]]
    assert all("said: 450 4.2.0 later (in reply to RCPT TO command)" in one for one in reasons)
    (one,) = found[unreached]["recipients"]
    assert one["delay_reason"].endswith(": Connection refused")
    assert found[active]["recipients"] == [{"address": "one@slow.example"}]
    text = world.run("postqueue", "-p")[0]
    blocks = text.rstrip("\n").split("\n\n")
    assert blocks[0].startswith("----Queue ID----- --Size-- ---Arrival Time---- --Sender/")
    firsts = [
        block.split("\n")[-len(block.split("\n")) + (at == 0)] for at, block in enumerate(blocks)
    ]
    assert all(LISTED.fullmatch(first) for first in firsts[:-1])
    marks = {first[:16]: first[16] for first in firsts[:-1]}
    assert marks == {active: "*", deferred: " ", unreached: " ", held: "!"}
    octets = sum(int(one["message_size"]) for one in found.values())
    assert blocks[-1] == f"-- {octets // 1024} Kbytes in 4 Requests."
    shape = world.run("qshape", "hold")[0].split("\n")
    assert [line.split()[:3] for line in shape[1:3]] == [
        ["TOTAL", "1", "1"],
        ["one.example", "1", "1"],
    ]
    assert world.run("qshape", "-s")[0].split("\n")[2].split()[:2] == ["source.example", "1"]


def test_pipelines_of_operators(world: Commands) -> None:
    """As they stand in wikis and crontabs."""
    server = world.server
    for number in range(3):
        send(server, "s@source.example", f"foo{number}@two.example")
    keep = send(server, "s@source.example", "keep@two.example")
    until(lambda: state_of(world, keep) == "deferred")
    script = "mailq | awk 'BEGIN{RS=\"\"} /foo[0-9]@/ {print $1}' | tr -d '*!' | postsuper -d -"
    _, said = world.shell(script)
    assert said.count(": removed\n") == 3
    assert said.endswith("postsuper: Deleted: 3 messages\n")
    script = (
        "mailq | tail -n +2 | grep -v '^ *(' |"
        ' awk \'BEGIN { RS = "" } { if ($7 == "s@source.example" && $9 == "") print $1 }\' |'
        " tr -d '*!' | postsuper -h -"
    )
    assert world.shell(script)[1] == (
        f"postsuper: {keep}: placed on hold\npostsuper: Placed on hold: 1 message\n"
    )
    count = world.shell("postqueue -p | grep -c '^[0-9A-Za-z]'")[0]
    assert int(count) == len(world.listed())
    count_them = "print(sum(len(json.loads(line)['recipients']) for line in sys.stdin))"
    script = f'postqueue -j | python3 -c "import json, sys; {count_them}"'
    assert int(world.shell(script)[0]) >= 1
    assert world.run("mailq")[0].split("\n")[-2].startswith("-- ")
    world.shell("mailq | head -1")
    world.shell("postqueue -j | head -c 10")
    world.run("postsuper", "-d", keep)


def test_postsuper_by_queue_by_id_and_all(world: Commands) -> None:
    server = world.server
    one, two, three = (send(server, "n@b.example", f"n{at}@three.example") for at in range(3))
    until(lambda: all(state_of(world, id) == "deferred" for id in (one, two, three)))
    assert world.run("postsuper", "-h", one, "-d", two, "deferred")[1].split("\n")[-3:-1] == [
        "postsuper: Deleted: 1 message",
        "postsuper: Placed on hold: 1 message",
    ]
    held_only = world.run("postsuper", "-d", three, "hold")[1]
    assert held_only == "postsuper: Deleted: 0 messages\n"
    said = world.run("postsuper", "-e", one)[1]
    assert f"postsuper: warning: {one}: is on hold: not done" in said
    assert state_of(world, one) == "hold"
    world.run("postsuper", "-r", one)  # Postfix's requeue takes mail off hold
    until(lambda: state_of(world, one) in ("deferred", "active"))
    stdin = f"{one}\n\n{three}\nno way\n"
    until(lambda: world.server.log_text().count("to=<n0@three.example>") >= 2)
    assert world.run("postsuper", "-H", "-", stdin=stdin)[1] == (
        "postsuper: warning: invalid mail queue id: \n"
        "postsuper: warning: invalid mail queue id: no way\n"
        "postsuper: Released from hold: 0 messages\n"
    )
    said = world.run("postsuper", "-f", three)[1]
    assert said.endswith("postsuper: Force-expired: 1 message\n")
    until(lambda: f"{three}: from=<n@b.example>, status=expired" in server.log_text())
    assert world.run("postsuper", "-d", "ALL", "hold", "maildrop")[1].startswith("postsuper: ")
    assert state_of(world, one) == "deferred"


def test_a_queue_that_is_named_has_what_lists_show_in_it(world: Commands) -> None:
    """Also mail that was never tried: its site has a pause, so `mailq` calls it deferred."""
    server = world.server
    active = send(server, "q@b.example", "q@slow.example")
    suspended = [send(server, "q@b.example", f"q{at}@gone.example") for at in range(6)]
    wanted = {active: "active", **dict.fromkeys(suspended, "deferred")}
    until(lambda: {id: state_of(world, id) for id in wanted} == wanted)
    before = world.listed()
    count = sum(one["queue_name"] == "deferred" for one in before.values())
    said = world.run("postsuper", "-h", "ALL", "deferred")[1]
    assert said == f"postsuper: Placed on hold: {count} messages\n"
    assert {state_of(world, id) for id in suspended} == {"hold"}
    assert state_of(world, active) == "active"
    stdin = "".join(f"{id}\n" for id in (active, "nope", *suspended))
    nothing = "postsuper: Released from hold: 0 messages\n"
    assert world.run("postsuper", "-H", "-", "deferred", stdin=stdin)[1] == nothing
    said = world.run("postsuper", "-d", "-", "hold", stdin=stdin)[1]
    assert said.endswith("postsuper: Deleted: 6 messages\n")
    assert state_of(world, active) == "active"
    world.run("postsuper", "-H", "ALL")


def test_flush_tries_again_whatever_the_due_time(world: Commands) -> None:
    server = world.server

    def attempts(address: str) -> int:
        return server.log_text().count(f"to=<{address}>")

    id = send(server, "f@b.example", "flushed@four.example")
    gone = send(server, "f@b.example", "flushed@gone.example")
    until(lambda: attempts("flushed@four.example") == 1)
    until(lambda: "Connection refused" in json.dumps(world.listed()[gone]))
    before = attempts("flushed@gone.example") + attempts("one@gone.example")
    assert world.run("postqueue", "-i", id) == ("", "")
    until(lambda: attempts("flushed@four.example") == 2)
    world.run("postqueue", "-i", "nope")
    world.run("postqueue", "-s", "four.example")
    until(lambda: attempts("flushed@four.example") == 3)
    world.run("postqueue", "-f")
    until(lambda: attempts("flushed@four.example") == 4)
    until(lambda: attempts("flushed@gone.example") + attempts("one@gone.example") > before)
    told = json.loads(queue(server, "flush", "--filter", "to:flushed@four.example", "-o", "json"))
    assert (told["matched"], told["done"]) == (1, 1)
    until(lambda: attempts("flushed@four.example") == 5)
    document = json.loads(queue(server, "list", "--filter", f"id:{id}", "-o", "json"))
    (recipient,) = document["messages"][0]["recipients"]
    relay = recipient["next_hop"].partition(":")[2]
    assert relay.startswith("[127.0.0.1]:")
    world.run("postqueue", "-s", relay)
    until(lambda: attempts("flushed@four.example") == 6)
    assert queue(server, "flush", "--filter", "to:nobody@*", status=1) == "Due now: 0 messages\n"


def test_postcat_shows_what_was_sent(world: Commands) -> None:
    long = "From: a@b.example\r\n\r\n" + "line of text\r\n" * 60_000  # a file of its own
    short = "From: a@b.example\r\nSubject: x\r\n y\r\n\r\n..dot\r\n\r\nend\r\n"
    for content, body in ((long, "\n" + "line of text\n" * 60_000), (short, "\n.dot\n\nend\n")):
        id = send(world.server, "c@b.example", "c@five.example", "d@five.example", content=content)
        until(lambda id=id: state_of(world, id) == "deferred")
        assert world.run("postcat", "-bq", id)[0] == body
        header = world.run("postcat", "-hq", id)[0]
        assert header.startswith("Received: from client.example ")
        assert "\nFrom: a@b.example\n" in header
        whole = world.run("postcat", "-q", id)[0]
        assert whole.startswith(f"*** ENVELOPE RECORDS deferred/{id} ***\nmessage_size: ")
        assert "\nsender: c@b.example\n" in whole
        assert "\nrecipient: c@five.example\n" in whole
        assert f"*** MESSAGE CONTENTS deferred/{id} ***\n{header}{body}*** HEADER" in whole
        world.run("postsuper", "-d", id)
        assert world.run("postcat", "-q", id, status=1) == (
            "",
            f"postcat: fatal: open queue file {id}: No such file or directory\n",
        )


def _listed_from_the_newest_on(server: Server, ids: list[str]) -> None:
    """Page by page, over both shards; mail that comes meanwhile moves nothing."""
    words = ["--filter", "domain:six.example", "--newest", "-o", "json"]
    whole = json.loads(queue(server, "list", *words))
    assert whole["next"] is None
    assert [one["id"] for one in whole["messages"]] == ids[::-1]
    pages: list[str] = []
    after: list[str] = []
    while True:
        page = json.loads(queue(server, "list", *words, "--limit", "2", *after))
        pages += [one["id"] for one in page["messages"]]
        if page["next"] is None:
            break
        after = ["--after", page["next"]]
        if len(pages) == 2:
            meanwhile = [send(server, "l@b.example", f"m{at}@six.example") for at in range(2)]
    assert pages == ids[::-1]
    assert queue(server, "list", "--after", after[1], status=2) == ""
    queue(server, "list", "--newest", "--after", "0/x", status=2)
    queue(server, "list", "--after", "0/x")
    queue(server, "delete", *meanwhile, "--yes", "--wait", "30")


def test_list_search_and_summary(world: Commands) -> None:
    server = world.server
    ids = [send(server, "l@b.example", f"n{number}@six.example") for number in range(5)]
    until(lambda: all(state_of(world, id) == "deferred" for id in ids))
    shown = [
        json.loads(line)
        for line in queue(server, "search", "to:@six.example", "-o", "jsonl").split("\n")
        if line
    ]
    assert sorted(one["id"] for one in shown) == sorted(ids)
    pages: list[str] = []
    after: list[str] = []
    while True:
        page = json.loads(
            queue(
                server,
                "list",
                "--filter",
                "domain:six.example code:4.2.*",
                "--limit",
                "2",
                *after,
                "-o",
                "json",
            )
        )
        pages += [one["id"] for one in page["messages"]]
        if page["next"] is None:
            break
        after = ["--after", page["next"]]
    assert sorted(pages) == sorted(ids)
    _listed_from_the_newest_on(server, ids)
    assert queue(server, "search", "to:@six.example code:5.*", status=1) == ""
    assert "said: 450 4.2.0 later" in queue(server, "list", "--limit", "0")
    summary = json.loads(queue(server, "summary", "-o", "json"))
    assert summary["messages"] == len(world.listed()) == sum(summary["queues"].values())
    assert sum(one["messages"] for one in summary["ages"]) == summary["messages"]
    assert summary["next_hops"]
    assert "oldest from" in queue(server, "summary")
    assert (
        json.loads(queue(server, "summary", "--filter", "to:@six.example", "-o", "json"))[
            "messages"
        ]
        == 5
    )
    assert queue(server, "list", "--filter", "colour:red", status=2) == ""
    assert queue(server, "list", "--after", "7/", status=2) == ""
    told = json.loads(queue(server, "bounce", "--filter", "to:@six.example", "--yes", "-o", "json"))
    assert told["done"] == 5
    until(
        lambda: (
            server.log_text().count("<n0@six.example>") and "status=expired" in server.log_text()
        )
    )


_AS_NOBODY = """
import os, pwd, sys, tomllib
import fastmta.config.glimpse, fastmta.drop
from fastmta.postfix.{module} import {function}
os.setgroups([]); os.setgid(65534); os.setuid(65534)
{function}()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_others_are_told_that_they_may_not(world: Commands) -> None:
    def said_to_nobody(name: str, *arguments: str, status: int) -> str:
        module, function = ENTRY.get(name, (name, "main"))
        code = _AS_NOBODY.format(module=module, function=function)
        return world.run(sys.executable, "-c", code, *arguments, status=status)[1]

    user = "postqueue: fatal: User nobody(65534) is not allowed to"
    assert said_to_nobody("mailq", status=77).startswith(f"{user} view the mail queue: ")
    assert said_to_nobody("postqueue", "-f", status=77).startswith(f"{user} flush the mail queue: ")
    assert said_to_nobody("postsuper", "-d", "ALL", status=1) == (
        "postsuper: fatal: use of this command is reserved for the superuser\n"
    )
    assert said_to_nobody("postcat", "-q", "0" * 16, status=1) == (
        "postcat: fatal: use of this command is reserved for the superuser\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_everybody_may_list_where_that_is_wanted() -> None:
    root = Path(tempfile.mkdtemp(prefix="fastmta-commands-", dir="/var/tmp"))
    root.chmod(0o755)
    settings = {**SLOW, "control__directory": str(root), "control__mailq_users": "all"}
    with (
        Receiver({"RCPT": LATER}) as receiver,
        running(root, relay_host=f"[127.0.0.1]:{receiver.port}", **settings) as server,
    ):
        commands = Commands(server, root / "bin")
        id = send(server, "a@source.example", "x@one.example")
        until(lambda: state_of(commands, id) == "deferred")
        code = _AS_NOBODY.format(module="postqueue", function="mailq")
        text, said = commands.run(sys.executable, "-c", code)
        assert (text.split("\n")[1][:16], said) == (id, "")
        code = _AS_NOBODY.format(module="qshape", function="main")
        assert "one.example" in commands.run(sys.executable, "-c", code, "deferred")[0]
        code = _AS_NOBODY.format(module="postqueue", function="main")
        commands.run(sys.executable, "-c", code, "-f", status=77)
        window = Connection(str(root / "mailq-0.sock"))
        for request in (
            {"verb": "delete", "all": True},
            {"verb": "content", "ids": [id]},
            {"verb": "find", "ids": [id]},
            {"verb": "list", "after": "0/", "filter": "to:x*"},
        ):
            window.send({"id": 1, **request})
            assert window.read(10)["error"]["code"] == "usage"
            window.close()
            window = Connection(str(root / "mailq-0.sock"))
        more = [Connection(str(root / "mailq-0.sock")) for _ in range(3)]
        with pytest.raises(ClientError, match="closed"):
            Connection(str(root / "mailq-0.sock"))
        for each in (window, *more):
            each.close()
        assert state_of(commands, id) == "deferred"
    assert not list(root.glob("*.sock"))
    shutil.rmtree(root, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_without_a_server(world: Commands) -> None:
    """Last, because it ends the server: its spool is opened by the commands."""
    server = world.server
    id = send(server, "o@b.example", "off@seven.example")
    until(lambda: state_of(world, id) == "deferred")
    before = sorted(world.listed())
    server.kill()
    down = "Mail system is down -- accessing queue directly"
    for _ in range(100):  # until the kernel has let go of the locks of the killed workers
        text, said = world.run("postqueue", "-j")
        if text:
            break
    assert sorted(json.loads(line)["queue_id"] for line in text.split("\n") if line) == before
    assert said.startswith(f"postqueue: warning: {down} (Connect to the fastmta control service: ")
    assert world.run("postqueue", "-f", status=69)[1] == (
        "postqueue: fatal: Cannot flush mail queue - mail system is down\n"
    )
    assert world.run("postsuper", "-h", id)[1].endswith("Placed on hold: 1 message\n")
    assert "\nrecipient: off@seven.example\n" in world.run("postcat", "-q", id)[0]
    assert json.loads(queue(server, "summary", "-o", "json"))["queues"]["hold"] == 1
    found = json.loads(queue(server, "list", "--filter", "status:held", "-o", "json"))
    assert [one["id"] for one in found["messages"]] == [id]
    count = len(before)
    assert world.run("postsuper", "-d", "ALL")[1] == f"postsuper: Deleted: {count} messages\n"
    assert queue(server, "count") == "0\n"
    code = _AS_NOBODY.format(module="postqueue", function="mailq")
    closed = f"FASTMTA_CONTROL__DIRECTORY={server.directory}/spool"

    def is_said_to_be_down(*words: str) -> None:
        assert world.run(*words, sys.executable, "-c", code, status=69)[1] == (
            "postqueue: fatal: Queue report unavailable - mail system is down\n"
        )

    sockets = list(world.directory.parent.glob("control-*.sock"))
    assert sockets, "a killed server leaves them, and nobody else may connect"
    is_said_to_be_down()
    is_said_to_be_down("env", closed)
    for path in sockets:  # as after a stop
        path.unlink()
    is_said_to_be_down()
