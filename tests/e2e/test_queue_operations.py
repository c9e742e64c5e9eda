"""Operations through the whole server: command, socket, worker, log; and what kill -9 leaves."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastmta.cli import main
from fastmta.control import Client as Connection
from fastmta.control import Request, Verb
from fastmta.lab import Server, free_port
from tests.support.client import Client, until
from tests.support.daemon import running
from tests.support.receiver import Act, Receiver

LATER = Act(b"450 4.2.0 later\r\n")
SLOW = {"retry__first_s": 3_000.0, "retry__site_backoff_min_s": 0.2}


def relay(receiver: Receiver) -> str:
    return f"[127.0.0.1]:{receiver.port}"


def queue(server: Server, *arguments: str, status: int = 0, stdin: str = "") -> str:
    """`fastmta queue ...`, in this process (a new one takes a second); its standard output."""
    verb, *rest = arguments
    done = CliRunner().invoke(main, ["queue", verb, "-c", str(server.file), *rest], input=stdin)
    assert done.exit_code == status, (arguments, done.output, done.exception)
    return done.stdout


def fill(server: Server, count: int, domain: str = "dest.example") -> list[str]:
    """Send; the ids."""
    with Client(server.port) as client:
        replies = [client.send(f"n{number}@{domain}") for number in range(count)]
    return [reply.removeprefix("250 2.0.0 Ok: queued as ") for reply in replies]


def queue_process(server: Server, *arguments: str) -> str:
    """The same as a process of its own."""
    command = [sys.executable, "-m", "fastmta", "queue", *arguments, "-c", str(server.file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize("workers", [1, 2])
def test_held_by_filter_survives_kill_9_and_is_delivered_after_release(
    tmp_path: Path, workers: int
) -> None:
    count = 300
    with (
        Receiver({"RCPT": LATER}) as receiver,
        running(tmp_path, relay_host=relay(receiver), workers=workers, **SLOW) as server,
    ):
        for _ in range(3):
            fill(server, count // 3)
        until(lambda: server.log_text().count("status=deferred") >= count)
        said = queue_process(server, "hold", "--filter", "to:@dest.example", "-o", "json")
        server.kill()  # right after the answer
        told = json.loads(said)
        assert (told["matched"], told["done"], told["failed"]) == (count, count, 0)
        assert server.log_text().count(": placed on hold") <= count
    with Receiver() as receiver:
        options = dict(SLOW)
        with running(tmp_path, relay_host=relay(receiver), workers=workers, **options) as server:
            assert queue(server, "count", "--filter", "status:held") == f"{count}\n"
            assert queue(server, "count", "--by", "domain", "-o", "json")
            time.sleep(0.5)
            assert receiver.transactions == []
            said = queue(server, "release", "--filter", "status:held dest:*")
            assert said == f"Released from hold: {count} messages\n"
            receiver.wait_for_transactions(count, 30.0)
            until(lambda: server.log_text().count("postfix/qmgr") and gone(server))
            assert queue(server, "count") == "0\n"
    paths = [path for each in receiver.transactions for path in each.forward_paths]
    assert len(paths) == count


def gone(server: Server) -> bool:
    return queue(server, "count") == "0\n"


def test_a_step_that_was_counted_survives_kill_9(tmp_path: Path) -> None:
    """Killed in the middle of an operation: what progress told is so, the rest is as it was."""
    closed = f"[127.0.0.1]:{free_port()}"
    with running(tmp_path, relay_host=closed, **SLOW) as server:
        fill(server, 700)
        (path,) = (tmp_path / "spool").glob("control-*.sock")
        client = Connection(str(path))
        client.send(Request(id=7, verb=Verb.HOLD, all=True))
        progress = client.read(30.0)
        server.kill()
        client.close()
        count = ["queue", "count", "-c", str(server.file)]
        end_s = time.monotonic() + 10.0  # until the kernel has let go of the killed worker's lock
        while CliRunner().invoke(main, count).exit_code and time.monotonic() < end_s:
            time.sleep(0.05)
        assert progress["id"] == 7
        done = progress["progress"]["done"]
        assert 0 < done <= 500
        held = int(queue(server, "count", "--filter", "status:held"))
        assert done <= held <= 700
        assert queue(server, "count") == "700\n"


def test_delete_while_an_attempt_is_under_way(tmp_path: Path) -> None:
    """The answer comes when the attempt has ended; nothing is tried after it."""
    with (
        Receiver({"RCPT": Act(b"450 4.2.0 later\r\n", delay_s=2.0)}) as receiver,
        running(
            tmp_path, relay_host=relay(receiver), retry__first_s=1.0, retry__jitter=0.0
        ) as server,
    ):
        (id,) = fill(server, 1)
        receiver.wait_for(lambda _: bool(receiver.sessions), 15.0)
        assert queue(server, "delete", "--wait", "0", id, status=75) == "Deleted: 0 messages\n"
        begin_s = time.monotonic()
        queue(server, "delete", id, status=1)  # it is gone by then, or unknown
        assert time.monotonic() - begin_s < 10.0
        until(lambda: f"{id}: removed" in server.log_text())
        attempts = server.log_text().count("status=deferred")
        assert attempts == 1
        time.sleep(2.5)
        assert server.log_text().count("status=deferred") == 1
        assert "sender non-delivery" not in server.log_text()
    assert receiver.transactions == []


def test_expire_requeue_show_and_what_is_asked_first(tmp_path: Path) -> None:
    with (
        Receiver({"RCPT": LATER}) as receiver,
        running(tmp_path, relay_host=relay(receiver), **SLOW) as server,
    ):
        ids = fill(server, 3)
        until(lambda: server.log_text().count("status=deferred") == 3)
        shown = json.loads(queue(server, "show", ids[0], "-o", "json"))
        assert shown[0]["id"] == ids[0]
        assert shown[0]["recipients"][0]["status"] == "deferred"
        assert "450 4.2.0 later" in queue(server, "show", ids[0])
        queue(server, "show", "0" * 16, "nonsense", "", status=1)
        asked = [ids[0], "0" * 16]
        done = CliRunner().invoke(main, ["queue", "show", "-c", str(server.file), *asked])
        assert (done.exit_code, done.stderr) == (1, f"{'0' * 16}: no such message\n")
        assert done.stdout.startswith(f"{ids[0]}  shard ")
        queue(server, "show", "-", stdin=f"{ids[0]}\n")
        queue(server, "show", "-", stdin=f"{'0' * 16}\n", status=1)
        queue(server, "delete", "--all", status=2)  # nobody is there to be asked
        assert queue(server, "delete", "--all", "--dry-run") == "3 messages match\n"
        queue(server, "hold", "--filter", "colour:red", status=2)
    with (
        Receiver() as willing,
        running(tmp_path, relay_host=relay(willing), **SLOW) as server,
    ):
        assert queue(server, "expire", ids[0]) == "Expired: 1 message\n"
        queue(server, "requeue", "-", stdin=f"{ids[1]}*  1234 Mon\n\n{ids[2]}\n")
        until(lambda: server.log_text().count(": removed") >= 4)  # with the notification
        queue(server, "hold", "--all", status=1)  # nothing matches
    log = server.log_text()
    assert f"{ids[0]}: from=<sender@source.example>, status=expired, returned to sender" in log
    assert f": {ids[0]}: sender non-delivery notification: " in log
    assert f": {ids[1]}: requeued" in log
    assert len(willing.transactions) == 3


def test_offline_the_same_is_done_by_the_command_itself(tmp_path: Path) -> None:
    with (
        Receiver({"RCPT": LATER}) as receiver,
        running(tmp_path, relay_host=relay(receiver), workers=2, **SLOW) as server,
    ):
        for _ in range(4):
            fill(server, 10)
        until(lambda: server.log_text().count("status=deferred") >= 40)
        server.kill()
        assert queue(server, "count", "--filter", "status:deferred") == "40\n"
        assert queue(server, "hold", "--filter", "to:n1@*") == "Placed on hold: 4 messages\n"
        assert queue(server, "delete", "--filter", "to:n2@*", "--yes") == "Deleted: 4 messages\n"
        assert queue(server, "expire", "--filter", "to:n3@*", "--yes") == "Expired: 4 messages\n"
        assert queue(server, "requeue", "--filter", "to:n4@*") == "Requeued: 4 messages\n"
        hops = json.loads(queue(server, "count", "--by", "domain", "-o", "json"))
        assert hops["messages"] == 36  # 4 are deleted, 4 are notifications now
        assert [hop["recipients"] for hop in hops["next_hops"]] == [32]  # held ones do not wait
        assert server.log_text().count("placed on hold") == 4
    with Receiver() as receiver, running(tmp_path, relay_host=relay(receiver), **SLOW) as server:
        receiver.wait_for_transactions(8, 15.0)
        until(lambda: queue(server, "count") == "28\n")
        assert queue(server, "count", "--filter", "status:held") == "4\n"
    got = sorted(path for each in receiver.transactions for path in each.forward_paths)
    assert got == [b"n4@dest.example"] * 4 + [b"sender@source.example"] * 4


def test_a_shard_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    with Receiver() as receiver, running(tmp_path, relay_host=relay(receiver)) as server:
        (path,) = (tmp_path / "spool").glob("control-*.sock")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.unlink()
        queue(server, "hold", "--all", status=75)
        assert fill(server, 1)
        receiver.wait_for_transactions(1)


def test_clients_that_keep_to_no_rule_stall_nothing(tmp_path: Path) -> None:
    with Receiver() as receiver, running(tmp_path, relay_host=relay(receiver)) as server:
        (path,) = (tmp_path / "spool").glob("control-*.sock")
        pid = os.open(str(path.parent), os.O_PATH)
        short = f"/proc/self/fd/{pid}/{path.name}"

        def connect() -> socket.socket:
            client = socket.socket(socket.AF_UNIX)
            client.connect(short)
            client.settimeout(10)
            return client

        for line in (b"x" * 100_000, b"\xff\n", b"{}\n", b'{"id":1,"verb":"fly"}\n', b"[" * 60_000):
            with connect() as client:
                client.sendall(line)
                client.shutdown(socket.SHUT_WR)
                lines = client.makefile("rb").read().splitlines()
                assert json.loads(lines[0])["protocol"] == 1
                assert line[:1] == b"[" or json.loads(lines[1])["error"]["code"] == "usage"
        silent = [connect() for _ in range(40)]  # beyond the limit: closed at once
        flood = threading.Thread(target=_flood, args=(silent[0],))
        flood.start()
        assert fill(server, 5)
        receiver.wait_for_transactions(5)
        for client in silent:
            client.close()
        flood.join(20)
        assert not flood.is_alive()
        os.close(pid)
        until(lambda: _answers(server))


def _flood(client: socket.socket) -> None:
    """Ask for ever, read never."""
    try:
        for number in range(200_000):
            client.sendall(b'{"id":%d,"verb":"summary"}\n' % (number + 1))
    except OSError:
        return


def _answers(server: Server) -> bool:
    try:
        return queue(server, "count") == "0\n"
    except AssertionError:
        return False


NEITHER = "neither in control.users nor in control.readers"
_AS_NOBODY = """
import os, socket, sys
os.fchdir(int(sys.argv[1]))
os.setuid(65534)
client = socket.socket(socket.AF_UNIX)
client.settimeout(10)
try:
    client.connect(sys.argv[2])
except PermissionError:
    sys.exit("not permitted")
said = b""
while octets := client.recv(1000):
    said += octets
sys.exit(said.decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_nobody_else_gets_an_answer(tmp_path: Path) -> None:
    with Receiver() as receiver, running(tmp_path, relay_host=relay(receiver)) as server:
        (path,) = (tmp_path / "spool").glob("control-*.sock")
        told = {"code": "denied", "text": f"uid 65534 is {NEITHER}"}
        refusal = json.dumps({"id": 0, "error": told}) + "\n\n"
        for mode, wanted in ((0o600, "not permitted\n"), (0o666, refusal)):
            path.chmod(mode)  # the mode is one fence, the peer's credentials are the other
            path.parent.chmod(0o755)
            fd = os.open(path.parent, os.O_RDONLY)
            command = [sys.executable, "-c", _AS_NOBODY, str(fd), path.name]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=30, check=False, pass_fds=[fd]
            )
            os.close(fd)
            assert done.stderr == wanted
        assert queue(server, "count") == "0\n"


def test_a_stop_does_not_wait_for_clients(tmp_path: Path) -> None:
    with Receiver() as receiver, running(tmp_path, relay_host=relay(receiver)) as server:
        (path,) = (tmp_path / "spool").glob("control-*.sock")
        fd = os.open(str(path.parent), os.O_PATH)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"/proc/self/fd/{fd}/{path.name}")
            os.close(fd)
            os.kill(server.pid, signal.SIGTERM)
            until(lambda: not server.is_running)
        assert not path.exists()
