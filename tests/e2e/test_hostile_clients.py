"""Clients that mean harm, against the whole server: each has its reply, and nobody else waits."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.client import Client, until
from tests.support.daemon import Server, running
from tests.support.long import LongRun
from tests.support.memory import status_octets, watching
from tests.support.receiver import Receiver
from tests.support.sasl import user_line
from tests.support.tls import client_context, issue

MIB = 1024 * 1024
DEAF = "127.0.0.19"  # a stranger, too, who never reads
STRANGER = "127.0.0.9"
IDLE_S = 2.0
LAYERS = ("clear", "tls")
SYNCHRONIZATION = "554 5.5.0 Error: SMTP protocol synchronization"
GROWTH_MAX = 24 * MIB  # of the worker's anonymous memory, whatever one client does
CROWD = 500


@dataclass
class Site:
    server: Server
    receiver: Receiver

    @property
    def worker(self) -> int:
        (worker,) = self.server.workers()
        return worker

    def connect(self, layer: str = "clear", source: str = STRANGER) -> Client:
        client = Client(self.server.port, source=source)
        if layer == "tls":
            assert client.start_tls(client_context()).startswith("250")
        return client


@contextlib.contextmanager
def site_of(directory: Path, idle_s: float) -> Iterator[Site]:
    (directory / "users").write_text(user_line("anna", "secret") + "\n")
    (directory / "users").chmod(0o600)
    with (
        Receiver() as receiver,
        running(
            directory,
            relay_host=f"[127.0.0.1]:{receiver.port}",
            relay__trusted_networks=["127.0.0.1/32"],
            relay__domains=["ours.example"],
            tls__certificate=issue(directory / "server.pem", "fastmta.test"),
            auth__accounts_file=str(directory / "users"),
            listen__smtp__login="offered",
            limits__idle_s=idle_s,
            limits__message_octets=MIB,
            limits__recipients=100,
            limits__errors_soft=19,
            limits__errors_hard=20,
            limits__junk_commands=10,
            limits__connections_per_client=3 * CROWD,
        ) as server,
    ):
        yield Site(server, receiver)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_of(tmp_path_factory.mktemp("hostile"), 60.0) as site:
        yield site


@pytest.fixture(autouse=True)
def bounded(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test of this module makes the worker grow."""
    if "site" not in request.fixturenames:
        yield
        return
    site: Site = request.getfixturevalue("site")
    before = status_octets(site.worker, "RssAnon")
    with watching(site.worker) as peak:
        yield
    assert peak.anonymous_octets - before < GROWTH_MAX


# Words at the wrong time.


def test_who_speaks_before_the_greeting_is_not_greeted(site: Site) -> None:
    """The octets are there before the worker looks at the connection at all."""
    os.kill(site.worker, signal.SIGSTOP)
    try:
        stranger = Client(site.server.port, greets=False, source=STRANGER)
        stranger.raw(b"EHLO early.example\r\nMAIL FROM:<a@b.example>\r\n")
        friend = Client(site.server.port, greets=False)
        friend.raw(b"EHLO early.example\r\n")
    finally:
        os.kill(site.worker, signal.SIGCONT)
    with stranger, friend:
        assert stranger.reply() == SYNCHRONIZATION
        assert stranger.is_cut()
        assert friend.reply().startswith("220"), "one that we trust may be in a hurry"
        assert friend.reply().startswith("250")


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\n",
        b"HELO c.example\r\nMAIL FROM:<a@b.example>\r\n",
        b"EHLO c.example\r\nX",
        b"MAIL FROM:<a@b.example>\r\nRCPT TO:<x@ours.example>\r\nDATA\r\nSubject: x\r\n\r\n.\r\n",
        b"MAIL FROM:<a@b.example>\r\nRCPT TO:<x@ours.example>\r\nDATA\r\n.",
    ],
)
def test_what_may_not_be_pipelined_ends_the_session(site: Site, layer: str, octets: bytes) -> None:
    with site.connect(layer) as client:
        client.raw(octets)
        said = all_words(client)
    assert said[-1] == SYNCHRONIZATION
    assert set(said[:-1]) <= {"250 2.1.0 Ok", "250 2.1.5 Ok"}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    "octets",
    [b"NOOP\n", b"NOOP\r", b"NO\0OP\r\n", b"MAIL FROM:<a@b.example>\n\r\n", b"\n", b"NOOP\r\r\n"],
)
def test_a_line_that_is_none_ends_the_session(site: Site, layer: str, octets: bytes) -> None:
    with site.connect(layer) as client:
        client.raw(octets + b"RSET\r\n")
        assert client.reply() == "500 5.5.2 Error: bare <CR> or <LF> received"
        assert client.is_cut()


# Without an end.


def pour(client: Client, octets: bytes, most: int) -> int:
    """Send that over and over until nobody takes it; how much was taken."""
    sent = 0
    with contextlib.suppress(OSError):
        while sent < most:
            client.raw(octets)
            sent += len(octets)
    return sent


def all_words(client: Client) -> list[str]:
    """The replies until the end, which may be an abrupt one."""
    said = []
    with contextlib.suppress(OSError):
        while reply := client.reply():
            said.append(reply)
    return said


def last_words(client: Client) -> str:
    """The last of them."""
    return (all_words(client) or [""])[-1]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_command_line_without_end(site: Site, layer: str) -> None:
    with site.connect(layer) as client:
        assert pour(client, b"x" * 65536, 64 * MIB) < 16 * MIB
        assert last_words(client) in ("500 5.5.2 fastmta.test Error: command too long", "")


def test_a_response_without_end(site: Site) -> None:
    with site.connect("tls") as client:
        assert client.say("AUTH PLAIN").startswith("334")
        assert pour(client, b"A" * 65536, 64 * MIB) < 16 * MIB
        assert last_words(client) in ("500 5.5.2 fastmta.test Error: command too long", "")


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    "octets", [b"x" * 65536, b"x" * 998 + b"\r\n", b"\r\n" * 32768, b"\0" * 999]
)
def test_a_content_without_end(site: Site, layer: str, octets: bytes) -> None:
    """It is read to twice the limit, for the sake of the reply, and no further."""
    with site.connect(layer) as client:
        client.envelope("x@ours.example")
        assert pour(client, octets, 64 * MIB) < 16 * MIB
        assert last_words(client) in ("552 5.3.4 Error: message too large", "")


def test_a_header_section_without_end(site: Site) -> None:
    with site.connect() as client:
        client.envelope("x@ours.example")
        client.raw(b"X-Field: value\r\n" * 9000 + b"\r\n.\r\n")
        assert client.reply() == "554 5.6.0 Error: header section too long"
        assert client.say("NOOP").startswith("250")


@pytest.mark.parametrize("layer", LAYERS)
def test_recipients_without_end(site: Site, layer: str) -> None:
    with site.connect(layer) as client:
        assert client.say("MAIL FROM:<a@b.example>").startswith("250")
        pour(client, b"".join(b"RCPT TO:<r%d@ours.example>\r\n" % n for n in range(1130)), 1)
        codes = [client.reply()[:9] for _ in range(100 + 1000 + 19)]
        assert codes == ["250 2.1.5"] * 100 + ["452 4.5.3"] * 1019
        assert last_words(client) == "421 4.7.0 fastmta.test Error: too many errors"
    with site.connect(layer) as client:
        assert client.say("MAIL FROM:<a@b.example>").startswith("250")
        pour(client, b"RCPT TO:<x@elsewhere.example>\r\n" * 100, 1)
        assert [client.reply()[:3] for _ in range(21)] == ["554"] * 20 + ["421"]
        assert client.is_cut()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("command", [b"NOOP", b"RSET", b"VRFY x", b"HELP"])
def test_commands_that_do_nothing(site: Site, layer: str, command: bytes) -> None:
    with site.connect(layer) as client:  # its EHLOs count, too
        pour(client, (command + b"\r\n") * 1000, 1)
        said = all_words(client)
    assert said[-1] == "421 4.7.0 fastmta.test Error: too many errors"
    assert 20 <= len(said) <= 32


@pytest.mark.parametrize("layer", LAYERS)
def test_commands_that_are_none(site: Site, layer: str) -> None:
    """Errors beyond the soft limit take a second each; what was sent behind them waits."""
    with site.connect(layer) as client:
        begin_s = time.monotonic()
        pour(client, b"FOO\r\n" * 8000, 1)
        said = all_words(client)
        took_s = time.monotonic() - begin_s
    assert said == ["500 5.5.2 Error: command not recognized"] * 20 + [
        "421 4.7.0 fastmta.test Error: too many errors"
    ]
    assert took_s < 10.0


def test_a_penalty_and_much_behind_it(site: Site) -> None:
    """What TLS has decrypted already does not cut the penalty short, nor disturb what follows."""
    padding = (b"x" * 998 + b"\r\n") * 200
    with site.connect("tls", "127.0.0.1") as client:
        for _ in range(17):
            client.say("FOO")
        begin_s = time.monotonic()
        client.raw(
            b"FOO\r\nFOO\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@ours.example>\r\nBDAT %d LAST\r\n"
            % len(padding)
            + padding
            + b"NOOP\r\n" * 9
        )
        said = [client.reply() for _ in range(14)]
        assert time.monotonic() - begin_s < 10.0
    assert [each[:3] for each in said] == ["500", "500", *["250"] * 12]
    assert "Exception" not in site.server.said()


# Slowness, against a server that is impatient.


def drip(client: Client, octets: bytes, seconds: float) -> None:
    """An octet each tenth of a second, until the server says something."""
    until_s = time.monotonic() + seconds
    with contextlib.suppress(OSError):
        while time.monotonic() < until_s and not select.select([client.socket], [], [], 0.1)[0]:
            client.raw(octets)


def test_deadlines(tmp_path: Path) -> None:
    """All at the same time: silence anywhere, and content that drips."""
    timeout = "421 4.4.2 fastmta.test Error: timeout exceeded"
    with site_of(tmp_path, IDLE_S) as site:
        failures: list[str] = []

        def wait(name: str, client: Client, octets: bytes, most_s: float) -> None:
            begin_s = time.monotonic()
            if octets:
                drip(client, octets, IDLE_S + 3)
            said = last_words(client)
            took_s = time.monotonic() - begin_s
            if not IDLE_S * 0.9 < took_s < most_s or said not in (
                (timeout,) if not octets else (timeout, "")
            ):
                failures.append(f"{name}: {said!r} after {took_s:.1f} s")
            client.close()

        cases: list[tuple[str, Client, bytes, float]] = []
        for layer in LAYERS:
            for name, words in STATES.items():
                client = site.connect(layer)
                for word in words:
                    client.say(word)
                cases.append((f"{layer} {name}", client, b"", IDLE_S + 5))
            dripping = site.connect(layer)
            dripping.envelope("x@ours.example")
            cases.append((f"{layer} drip", dripping, b"x", IDLE_S + 6))
        threads = [threading.Thread(target=wait, args=case) for case in cases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        until(lambda: site.server.log_text().count("disconnect from") >= len(cases))


@pytest.mark.parametrize("layer", LAYERS)
def test_replies_that_nobody_fetches(site: Site, layer: str) -> None:
    """They are not made without end: the client is not read, and the kernel keeps what it sends."""
    deaf, taken = stuffed(site, layer)
    with deaf, site.connect(layer) as client:
        assert 0 < taken < 8 * MIB
        assert client.say("NOOP").startswith("250")
        told = site.server.log_text().split("\n")
        assert not [line for line in told if "too many errors" in line and DEAF in line]


@pytest.mark.long
@pytest.mark.parametrize("layer", LAYERS)
def test_who_fetches_no_replies_is_let_go(tmp_path: Path, layer: str, long_run: LongRun) -> None:
    for seed in long_run.seeds():
        directory = tmp_path / str(seed)
        directory.mkdir()
        with site_of(directory, IDLE_S) as site:
            begin_s = time.monotonic()
            deaf, taken = stuffed(site, layer)
            with deaf:
                until(lambda site=site: "timeout after" in site.server.log_text(), 30.0)
            took_s = time.monotonic() - begin_s
            assert took_s > IDLE_S
            long_run.record(seed, seconds=round(took_s, 1), octets=taken)


STATES = {
    "after EHLO": (),
    "after MAIL": ("MAIL FROM:<a@b.example>",),
    "after RCPT": ("MAIL FROM:<a@b.example>", "RCPT TO:<x@ours.example>"),
    "within DATA": ("MAIL FROM:<a@b.example>", "RCPT TO:<x@ours.example>", "DATA"),
}


def stuffed(site: Site, layer: str) -> tuple[Client, int]:
    """A client that sends until nothing is taken any more, and never reads; what was taken."""
    client = Client(site.server.port, source=DEAF, receive_octets=2048)
    if layer == "tls":
        assert client.start_tls(client_context()).startswith("250")
    client.socket.settimeout(0.5)
    recipients = b"".join(b"RCPT TO:<r%d@ours.example>\r\n" % n for n in range(1000))
    group = b"MAIL FROM:<a@b.example>\r\n" + recipients + b"BDAT 6 LAST\r\nx: y\r\n"
    return client, pour(client, group, 400 * len(group))


# A crowd beside one good client.


def idle(site: Site) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", site.server.port), 15, (STRANGER, 0))
    one.sendall(b"EHLO idle.example\r\n")
    return one


HOSTILE: tuple[Callable[[int], bytes], ...] = (
    lambda turn: b"FOO\r\n" * 10,
    lambda turn: b"x" * 4096,
    lambda turn: b"MAIL FROM:<a@b.example>\r\nRCPT TO:<x@elsewhere.example>\r\n",
    lambda turn: (
        b"MAIL FROM:<a@b.example>\r\nRCPT TO:<x@ours.example>\r\nDATA\r\n"
        if not turn
        else b"y" * 999
    ),
    lambda turn: b"STARTTLS\r\n" if not turn else b"\x16\x03\x01\x00\x05hello",
    lambda turn: b"BDAT 9999999999 LAST\r\n",
    lambda turn: b"AUTH PLAIN AAAA\r\n",
    lambda turn: os.urandom(512),
)


def test_a_good_client_beside_a_thousand_others(site: Site) -> None:
    """500 idle sessions, and 500 hostile ones that are replaced as they are thrown out."""
    with contextlib.ExitStack() as stack:
        for _ in range(CROWD):
            stack.enter_context(idle(site))
        is_over = threading.Event()
        begun = [0] * 4
        threads = [
            threading.Thread(target=attack, args=(site, is_over, begun, number))
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        try:
            until(lambda: sum(begun) >= CROWD, 30.0)
            times = good_client(site)
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
    assert sorted(times)[len(times) // 2] < 0.5, times
    assert max(times) < 3.0, times
    site.receiver.wait_for(
        lambda receiver: (
            sum(b"good@ours.example" in each.forward_paths for each in receiver.transactions)
            == len(times)
        ),
        20.0,
    )


def good_client(site: Site, count: int = 20) -> list[float]:
    """Seconds from its connection to its 250, of each message."""
    times = []
    for _ in range(count):
        begin_s = time.monotonic()
        with Client(site.server.port, source="127.0.0.8") as client:
            assert client.send("good@ours.example").startswith("250")
        times.append(time.monotonic() - begin_s)
    return times


def attack(site: Site, is_over: threading.Event, begun: list[int], number: int) -> None:
    """An eighth of a thousand connections that each do something bad now and then."""
    clients: list[tuple[socket.socket, Callable[[int], bytes]]] = []
    turn = 0
    try:
        while not is_over.is_set():
            while len(clients) < CROWD // 4:
                one = socket.create_connection(("127.0.0.1", site.server.port), 15, (STRANGER, 0))
                one.setblocking(False)
                clients.append((one, HOSTILE[begun[number] % len(HOSTILE)]))
                begun[number] += 1
                with contextlib.suppress(OSError):
                    one.send(b"EHLO c.example\r\n" if begun[number] % 3 else b"HELO c\r\nX")
            for index in range(len(clients) - 1, -1, -1):
                one, words = clients[index]
                try:
                    one.send(words(turn))
                except BlockingIOError:
                    continue
                except OSError:
                    one.close()
                    del clients[index]
            turn += 1
            is_over.wait(0.05)
    finally:
        for one, _ in clients:
            one.close()
