"""Eight workers, a site that takes one connection at a time, a broker that dies or stands still.

The receiver counts. It is never at two, mail of every worker gets through, and what happens to the
broker costs seconds.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import smtplib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from fastmta.lab import Server
from tests.support.daemon import running

WORKERS = 8
GRACE_S = 10.0
MESSAGE_S = 0.01


class OneAtATime:
    """A receiver that knows how many connections there are at any moment."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.most = 0
        self.connections = 0
        self.messages = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                one, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                # The end of an earlier one may have come, and only not been looked at.
                self._open -= {each for each in self._open if _is_over(each)}
                self._open.add(one)
                self.connections += 1
                self.most = max(self.most, len(self._open))
            threading.Thread(target=self._serve, args=(one,), daemon=True).start()

    def _serve(self, one: socket.socket) -> None:
        with contextlib.suppress(OSError), one, one.makefile("rb") as file:
            self._talk(one, file.readline, one.sendall)
        with self._lock:
            self._open.discard(one)

    def _talk(
        self, one: socket.socket, read: Callable[[], bytes], say: Callable[[bytes], object]
    ) -> None:
        say(b"220 one.example\r\n")
        while line := read():
            verb = line[:4].upper()
            if verb == b"DATA":
                say(b"354 go on\r\n")
                while (line := read()) not in (b".\r\n", b""):
                    continue
                time.sleep(MESSAGE_S)
                with self._lock:
                    self.messages += 1
                say(b"250 Ok\r\n")
            elif verb == b"QUIT":
                with self._lock:
                    self._open.discard(one)
                say(b"221 Bye\r\n")
                return
            else:
                say(b"250 Ok\r\n")


def _is_over(one: socket.socket) -> bool:
    try:
        return not one.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.fixture(scope="module")
def receiver() -> Iterator[OneAtATime]:
    one = OneAtATime()
    yield one
    one.close()


@pytest.fixture(scope="module")
def server(receiver: OneAtATime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(
        tmp_path_factory.mktemp("broker"),
        relay_host=f"[127.0.0.1]:{receiver.port}",
        workers=WORKERS,
        delivery__site_connections=1,
        delivery__window_start=1,
        spool__durability="os",
    ) as server:
        yield server


def submit(server: Server, count: int) -> None:
    """Over connections of their own, so that every worker gets some."""
    for _ in range(count):
        with smtplib.SMTP("127.0.0.1", server.port, timeout=30) as client:
            client.sendmail("a@example.com", ["b@example.org"], b"Subject: x\r\n\r\nx\r\n")


def until(condition: Callable[[], bool], timeout_s: float, why: str) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, why
        time.sleep(0.02)


def is_replaced(server: Server, pid: int) -> bool:
    return server.broker not in (0, pid)


def by_worker(server: Server, what: str) -> Counter[str]:
    """How many lines of the log say `what`, by the process that wrote them."""
    return Counter(re.findall(rf"\[(\d+)\]: .*{what}", server.log_text()))


def test_every_worker_has_its_turn_at_the_only_connection(
    server: Server, receiver: OneAtATime
) -> None:
    submit(server, 80)
    until(lambda: receiver.messages >= 80, 40.0, "mail does not get through")
    until(lambda: by_worker(server, "status=sent").total() == 80, 5.0, "not all was logged")
    accepted, sent = by_worker(server, "client="), by_worker(server, "status=sent")
    assert len(accepted) >= WORKERS / 2, "the kernel gave the mail to a few workers only"
    assert accepted == sent
    assert receiver.most == 1


def test_a_broker_that_is_killed_under_load_costs_seconds(
    server: Server, receiver: OneAtATime
) -> None:
    before = receiver.messages
    for _ in range(3):
        first = server.broker
        submit(server, 25)
        os.kill(first, signal.SIGKILL)
        submit(server, 5)
        until(partial(is_replaced, server, first), 5.0, "there is no other broker")
    until(lambda: receiver.messages - before >= 90, 30.0, "mail does not get through")
    assert receiver.most == 1
    assert server.said().count("broker of limits over workers") >= 3


def test_a_broker_that_stands_still_is_replaced(server: Server, receiver: OneAtATime) -> None:
    before, first = receiver.messages, server.broker
    submit(server, 60)
    os.kill(first, signal.SIGSTOP)
    submit(server, 20)
    until(lambda: receiver.messages - before >= 80, 40.0, "mail does not get through")
    until(partial(is_replaced, server, first), GRACE_S, "nobody noticed")
    assert receiver.most == 1
    assert "hangs: killed" in server.said()


def test_the_places_of_a_dead_worker_are_free_at_once(server: Server, receiver: OneAtATime) -> None:
    before = receiver.messages
    submit(server, 40)
    for pid in server.workers()[:3]:
        os.kill(pid, signal.SIGKILL)
    until(lambda: receiver.messages - before >= 40, 25.0, "mail does not get through")
    assert receiver.most == 1
