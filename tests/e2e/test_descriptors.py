"""Few descriptors and many clients: deliveries and the spool keep theirs, and nothing spins."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sys
import threading
import time
from pathlib import Path

from fastmta.lab import Server
from tests.support.client import Client, until
from tests.support.daemon import running
from tests.support.receiver import Act, Receiver

LIMIT = 256
FLOOD_S = 1.5
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


def hammer(port: int, until_s: float) -> None:
    """Connect, listen, leave, again and again."""
    while time.monotonic() < until_s:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), 0.2) as client,
        ):
            client.recv(100)


def flood(server: Server) -> tuple[list[bytes], float]:
    """More clients than there are descriptors; what they were told, and the CPU that it took."""
    (worker,) = server.workers()
    began_s = cpu_s(worker)
    clients = connect_many(server.port, 3 * LIMIT)
    until_s = time.monotonic() + FLOOD_S
    threads = [threading.Thread(target=hammer, args=(server.port, until_s)) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
        return first_words(clients), cpu_s(worker) - began_s
    finally:
        for client in clients:
            client.close()


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
            words, took_s = flood(server)
            assert client.send("during@dest.example").startswith("250"), "its session goes on"
        assert set(words) <= {b"220", b"421"}
        assert 20 <= words.count(b"220") < LIMIT / 2
        # On a busy machine it may be the flush, not the count of clients, that shuts the door.
        until(lambda: server.log_text().count(": 421 4.3.2 ") >= 5)
        turned_away = server.log_text().count(": 421 4.3.2 ")
        assert 5 <= turned_away <= 50 * (FLOOD_S + 1.0), "50 a second"
        assert took_s < 0.5 * FLOOD_S, "it does not spin"
        receiver.wait_for_transactions(COUNT + 1, 10.0)
        assert len(receiver.transactions) == COUNT + 1
        until(lambda: greeting(server.port).startswith("220"), 10.0)
        assert "256 descriptors leave room for 70 clients of this worker" in server.log_text()
        assert "Too many open files" not in server.log_text() + server.said()


def greeting(port: int) -> str:
    try:
        with Client(port, greets=False) as client:
            return client.reply()
    except OSError:
        return ""


def test_without_a_single_descriptor_clients_are_told_421(tmp_path: Path) -> None:
    with (
        Receiver() as receiver,
        running(tmp_path, relay_host=f"[127.0.0.1]:{receiver.port}", **SETTINGS) as server,
    ):
        (worker,) = server.workers()
        before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        opened = {int(name) for name in os.listdir(f"/proc/{worker}/fd")}
        lowest_free = min(set(range(max(opened) + 2)) - opened)
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
            for each in clients:
                each.close()
            resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
            until(lambda: client.say("NOOP").startswith("250"))
        until(lambda: greeting(server.port).startswith("220"), 10.0)
        with Client(server.port) as client:
            assert client.send("a@dest.example").startswith("250")
        receiver.wait_for_transactions(1, 10.0)
        said = "of the descriptors are open; new connections are answered 421"
        until(lambda: said in server.log_text())
