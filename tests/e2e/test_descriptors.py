"""Few descriptors and many clients: deliveries and the spool keep theirs, and nothing spins."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from fastmta.lab import Server
from tests.support.client import Client, until
from tests.support.daemon import running
from tests.support.receiver import Act, Receiver

LIMIT = 256
ROOM = 70  # for clients of one worker, with so many descriptors
FLOOD_S = 1.5
TURNED_AWAY_MIN = 20
COUNT = 20
SETTINGS = {
    "retry__first_s": 1.0,
    "retry__max_s": 1.0,
    "retry__jitter": 0.0,
    "pressure__calm_s": 1.0,
}


def limited(directory: Path, limit: int) -> dict[str, str]:
    """An environment in which Python begins with at most so many descriptors."""
    directory.mkdir()
    begin = f"import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))\n"
    (directory / "sitecustomize.py").write_text(begin)
    return {"PYTHONPATH": os.pathsep.join([str(directory), *filter(None, sys.path)])}


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def connect_many(port: int, count: int) -> list[socket.socket]:
    """Clients that connect and say nothing, all at once."""
    clients = []
    for _ in range(count):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
        clients.append(client)
    return clients


def first_words(clients: list[socket.socket]) -> list[bytes]:
    """What those were told that were told anything, so far."""
    words = []
    for client in clients:
        with contextlib.suppress(OSError):
            words.append(client.recv(100)[:3])
    return words


def squeeze_in(port: int, clients: list[socket.socket]) -> None:
    """More of them, until one is told that no more fit.

    Those who came all at once are not enough: the queue of the listening socket is short, and whom
    the kernel had to drop there tries again after 1, 3 and 7 s.
    """
    until_s = time.monotonic() + 20.0
    while time.monotonic() < until_s:
        client = socket.socket()
        clients.append(client)
        client.settimeout(0.2)
        with contextlib.suppress(OSError):
            client.connect(("127.0.0.1", port))
            if client.recv(100, socket.MSG_PEEK).startswith(b"421 4.3.2 "):
                return
    pytest.fail("there is room without end")


def hammer(port: int, end: threading.Event) -> None:
    """Connect, listen, leave, again and again."""
    while not end.is_set():
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), 0.2) as client,
        ):
            client.recv(100)


def turned_away(server: Server) -> int:
    return server.log_text().count(": 421 4.3.2 ")


@dataclass
class Flood:
    words: list[bytes]  # what those who stay were told
    turned_away: int
    lasted_s: float
    cpu_share: float  # of a core, while the door was shut


def flood(server: Server) -> Flood:
    """More clients than there are descriptors; some stay, some come again and again."""
    (worker,) = server.workers()
    begin_s = time.monotonic()
    clients = connect_many(server.port, 3 * LIMIT)
    end = threading.Event()
    threads = [threading.Thread(target=hammer, args=(server.port, end)) for _ in range(4)]
    try:
        squeeze_in(server.port, clients)
        shut_s, shut_cpu_s = time.monotonic(), cpu_s(worker)
        for thread in threads:
            thread.start()
        time.sleep(FLOOD_S)
        until(lambda: turned_away(server) >= TURNED_AWAY_MIN)
        end_s = time.monotonic()
        share = (cpu_s(worker) - shut_cpu_s) / (end_s - shut_s)
        return Flood(first_words(clients), turned_away(server), end_s - begin_s, share)
    finally:
        end.set()
        for client in clients:
            client.close()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


def test_a_flood_of_clients_takes_no_descriptor_from_deliveries(tmp_path: Path) -> None:
    script = {"RCPT": Act(b"450 4.2.0 later\r\n")}
    with (
        Receiver(script) as receiver,
        running(
            tmp_path / "server",
            relay_host=f"[127.0.0.1]:{receiver.port}",
            environment=limited(tmp_path / "site", LIMIT),
            **SETTINGS,
        ) as server,
    ):
        with Client(server.port) as client:
            for number in range(COUNT):
                assert client.send(f"n{number}@dest.example").startswith("250")
            until(lambda: server.log_text().count("status=deferred") >= COUNT)
            script["RCPT"] = Act()
            seen = flood(server)
            assert client.send("during@dest.example").startswith("250"), "its session goes on"
        assert set(seen.words) <= {b"220", b"421"}
        assert 0.9 * ROOM <= seen.words.count(b"220") < ROOM
        assert TURNED_AWAY_MIN <= seen.turned_away <= 50 * (seen.lasted_s + 1.0), "50 a second"
        assert seen.cpu_share < 0.25, "it does not spin"
        receiver.wait_for_transactions(COUNT + 1, 10.0)
        assert len(receiver.transactions) == COUNT + 1
        until(lambda: greeting(server.port).startswith("220"), 10.0)
        said = f"{LIMIT} descriptors leave room for {ROOM} clients of this worker"
        assert said in server.log_text()
        assert "Too many open files" not in server.log_text() + server.said()


def test_clients_that_only_keep_us_take_no_room_from_others(tmp_path: Path) -> None:
    """They were told their last reply and do not close; what they were told reaches them."""
    with (
        running(tmp_path / "server", environment=limited(tmp_path / "site", LIMIT)) as server,
        contextlib.ExitStack() as kept,
    ):
        clients = []
        for _ in range(ROOM + 20):
            client = kept.enter_context(Client(server.port, greets=False))
            assert client.reply().startswith("220 ")
            client.raw(b"EHLO c.example\r\nNOOP\r\n")
            clients.append(client)
        (worker,) = server.workers()
        until(lambda: len(os.listdir(f"/proc/{worker}/fd")) < LIMIT / 2)
        for client in clients:
            assert client.reply() == "554 5.5.0 Error: SMTP protocol synchronization"
        assert greeting(server.port).startswith("220 ")
        assert turned_away(server) == 0


def greeting(port: int) -> str:
    try:
        with Client(port, greets=False) as client:
            return client.reply()
    except OSError:
        return ""


def descriptors(pid: int) -> set[int]:
    """Numbers of those that a process has open."""
    return {int(name) for name in os.listdir(f"/proc/{pid}/fd")}


def test_without_a_single_descriptor_clients_are_told_421(tmp_path: Path) -> None:
    with (
        Receiver() as receiver,
        running(tmp_path, relay_host=f"[127.0.0.1]:{receiver.port}", **SETTINGS) as server,
    ):
        (worker,) = server.workers()
        before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        opened = descriptors(worker)
        fillers = connect_many(server.port, max(opened) + 1 - len(opened))
        until(lambda: len(descriptors(worker)) == max(descriptors(worker)) + 1)  # none between
        lowest_free = len(descriptors(worker))
        with Client(server.port) as client:
            resource.prlimit(worker, resource.RLIMIT_NOFILE, (lowest_free, before[1]))
            began_s, began_cpu_s = time.monotonic(), cpu_s(worker)
            until(lambda: greeting(server.port).startswith("421 4.3.2 "), 5.0)
            assert greeting(server.port).startswith("421 4.3.2 ")
            assert client.say("MAIL FROM:<a@source.example>").startswith("452 4.3.1 ")
            clients = connect_many(server.port, 100)
            time.sleep(0.5)
            share = (cpu_s(worker) - began_cpu_s) / (time.monotonic() - began_s)
            assert share < 0.5, "it does not spin"
            for each in (*clients, *fillers):
                each.close()
            resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
            until(lambda: client.say("NOOP").startswith("250"))
        until(lambda: greeting(server.port).startswith("220"), 10.0)
        with Client(server.port) as client:
            assert client.send("a@dest.example").startswith("250")
        receiver.wait_for_transactions(1, 10.0)
        said = "of the descriptors are open; new connections are answered 421"
        until(lambda: said in server.log_text())
