"""Large contents are never whole in memory: many clients at once, and one worker's peak."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from fastmta.lab import Sink
from fastmta.lab.loopback import wait_until
from tests.support.daemon import Server, running
from tests.support.loading import expect
from tests.support.long import LongRun
from tests.support.memory import Peak, status_octets, watching

CLIENTS = 100
MIB = 1024 * 1024
BOUND_OCTETS = 150 * 1000 * 1000
TIMEOUT_S = 120.0
LINE = b"0123456789abcdef" * 4 + b"\r\n"


def send_one(port: int, content: bytes, start: threading.Barrier, failures: list[str]) -> None:
    """One session with one message; all of them begin their content together."""
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
            replies = connection.makefile("rb")
            expect(replies, b"220")
            connection.sendall(b"EHLO c.example\r\n")
            expect(replies, b"250")
            connection.sendall(b"MAIL FROM:<s@c.example>\r\nRCPT TO:<r@d.example>\r\nDATA\r\n")
            for code in (b"250", b"250", b"354"):
                expect(replies, code)
            start.wait(TIMEOUT_S)
            connection.sendall(content)
            connection.sendall(b".\r\n")
            expect(replies, b"250")
    except Exception as error:
        failures.append(repr(error))
        start.abort()


def flood(server: Server, octets: int) -> tuple[Peak, float]:
    """Everybody sends that much at once; the worker's peak, and the seconds it took."""
    content = b"Subject: flood\r\n\r\n" + LINE * (octets // len(LINE))
    failures: list[str] = []
    start = threading.Barrier(CLIENTS)
    threads = [
        threading.Thread(target=send_one, args=(server.port, content, start, failures))
        for _ in range(CLIENTS)
    ]
    (worker,) = server.workers()
    began_s = time.monotonic()
    with watching(worker) as peak:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert peak.samples > 10
    return peak, time.monotonic() - began_s


def check(directory: Path, octets: int, drain_s: float) -> dict[str, int | float]:
    """Flood a server that delivers at the same time; what it took."""
    with (
        Sink() as sink,
        running(
            directory,
            relay_host=f"[127.0.0.1]:{sink.port}",
            limits__connections_per_client=CLIENTS,
        ) as server,
    ):
        (worker,) = server.workers()
        before = status_octets(worker, "RssAnon")
        peak, seconds = flood(server, octets)
        big = next(directory.rglob("shard-00/big"))
        wait_until(lambda: not list(big.iterdir()), drain_s, "delivered contents")
        peak.look(worker)
    assert peak.resident_octets < BOUND_OCTETS
    return {
        "idle_rss_anon": before,
        "peak_rss_anon": peak.anonymous_octets,
        "peak_vm_hwm": peak.resident_octets,
        "seconds": round(seconds, 1),
    }


def test_many_clients_with_large_contents(tmp_path: Path) -> None:
    print(check(tmp_path, 2 * MIB, 60.0))


@pytest.mark.long
def test_a_hundred_clients_with_25_mb(tmp_path: Path, long_run: LongRun) -> None:
    for seed in long_run.seeds():
        directory = tmp_path / str(seed)
        directory.mkdir()
        long_run.record(seed, **check(directory, 25_000_000, 300.0))
