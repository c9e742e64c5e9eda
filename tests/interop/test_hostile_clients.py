"""bench/hostile.c does what each of its kinds promises, and no more often than its pace."""

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from fastmta.lab.bench.hostile.field import KINDS
from fastmta.lab.loopback import wait_until
from tests.support.native import built

pytestmark = pytest.mark.interop

PACE_MS = 50


@dataclass
class Victim:
    """Says yes to every line, and keeps what came over each connection."""

    listener: socket.socket
    said: list[bytearray] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                client, peer = self.listener.accept()
            except OSError:
                return
            self.peers.add(peer[0])
            said = bytearray()
            self.said.append(said)
            threading.Thread(target=self._talk, args=(client, said), daemon=True).start()

    @staticmethod
    def _talk(client: socket.socket, said: bytearray) -> None:
        with client:
            client.sendall(b"220 victim.test\r\n")
            while True:
                try:
                    octets = client.recv(65536)
                    said += octets
                    if not octets:
                        return
                    code = b"334 \r\n" if octets.startswith(b"AUTH LOGIN") else b"250 Ok\r\n"
                    client.sendall(code if octets.endswith(b"\r\n") else b"")
                except OSError:
                    return


@contextmanager
def victim() -> Iterator[Victim]:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        found = Victim(listener)
        threading.Thread(target=found.serve, daemon=True).start()
        yield found
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def attacking(target: Victim, *options: str) -> Iterator[dict[str, Any]]:
    """The attack lasts as long as the context; what it says of itself is there afterwards."""
    command = [built("hostile"), "--pace-ms", str(PACE_MS), *options, target.place]
    told: dict[str, Any] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield told
        except BaseException:
            process.kill()
            raise
        said, _ = process.communicate()
    assert process.returncode == 0
    told.update(json.loads(said))


def one(kind: str, octets: int) -> tuple[bytes, dict[str, Any]]:
    """What one session of the kind said, at least so many octets, and its tally."""
    with victim() as target, attacking(target, "-s", "1", "--kind", kind) as told:
        wait_until(lambda: bool(target.said), 10, "a connection")
        wait_until(lambda: len(target.said[0]) >= octets, 20, f"{octets} octets")
        said = bytes(target.said[0])
    tally = told["kinds"][kind]
    assert tally["sessions"] == 1
    assert tally["sent"] >= len(said)
    assert tally["steps"] <= told["seconds"] * 1000 / PACE_MS + 1
    return said, tally


def test_drip_is_one_octet_a_step() -> None:
    said, tally = one("drip", 20)
    assert said.startswith(b"EHLO drip.test\r\nMAIL")
    assert tally["sent"] <= tally["steps"]


def test_line_never_ends() -> None:
    said, tally = one("line", 4000)
    assert set(said) == {ord("x")}
    assert tally["positive"] == 1  # the greeting


def test_chunks_are_of_one_octet_and_none_is_the_last() -> None:
    said, _ = one("bdat", 200)
    chunks = said.partition(b"BDAT")[1:]
    assert b"".join(chunks).startswith(b"BDAT 1\r\nxBDAT 1\r\nx")
    assert b"RCPT TO:<recipient@sink.test>\r\n" in said
    assert b"LAST" not in said


def test_noops_come_in_flights() -> None:
    said, _ = one("noop", 600)
    assert said.startswith(b"EHLO hostile.test\r\n" + b"NOOP\r\n" * 30)


def test_deaf_sends_on_and_reads_nothing() -> None:
    said, tally = one("deaf", 1000)
    assert said.count(b"RCPT TO:<recipient@sink.test>\r\n") > 5
    assert (tally["received"], tally["positive"]) == (0, 0)


def test_login_is_garbage() -> None:
    said, tally = one("auth", 300)
    for line in (b"AUTH PLAIN ====\r\n", b"AUTH LOGIN\r\n!!! not base64 !!!\r\n"):
        assert line in said
    assert tally["positive"] > 3


def test_mute_says_nothing() -> None:
    with (
        victim() as target,
        attacking(target, "-s", "3", "--kind", "mute", "--from", "127.9.0.1", "--addresses", "3"),
    ):
        wait_until(lambda: len(target.peers) == 3, 10, "three connections")
        wait_until(lambda: len(target.said) == 3, 10, "three connections")
    assert target.peers == {"127.9.0.1", "127.9.0.2", "127.9.0.3"}
    assert all(not said for said in target.said)


def test_handshake_stays_half_finished_and_begins_again() -> None:
    """Of sixteen sessions eight send half a ClientHello and eight a whole one."""
    begin = b"EHLO hostile.test\r\nSTARTTLS\r\n"
    with victim() as target, attacking(target, "-s", "16", "--kind", "handshake"):
        wait_until(lambda: len(target.said) > 16, 20, "a second round")
    hellos = [bytes(said).removeprefix(begin) for said in target.said[:16]]
    sizes = sorted({len(hello) for hello in hellos})
    assert len(sizes) == 2
    assert sizes[0] == sizes[1] // 2
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    incoming = ssl.MemoryBIO()
    server = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    incoming.write(max(hellos, key=len))
    with pytest.raises(ssl.SSLError, match=r"NO_SHARED_CIPHER|NO_SUITABLE"):  # it was whole
        server.do_handshake()


def test_without_a_kind_there_are_all() -> None:
    with victim() as target, attacking(target, "-s", str(2 * len(KINDS))) as told:
        wait_until(lambda: len(target.said) >= 2 * len(KINDS), 10, "all connections")
    assert {kind: tally["sessions"] for kind, tally in told["kinds"].items()} == dict.fromkeys(
        KINDS, 2
    )


def test_who_is_thrown_out_comes_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = Victim(listener)
        with attacking(target, "-s", "1", "--kind", "noop") as told:
            for _ in range(3):
                client, _ = listener.accept()
                client.sendall(b"421 Go away\r\n")
                client.close()
            listener.accept()[0].close()
    tally = told["kinds"]["noop"]
    assert tally["connections"] >= 4
    assert tally["closed"] >= 3
    assert tally["negative"] >= 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("192.0.2.1:25",),
        ("--kind", "polite", "127.0.0.1:25"),
        ("-s", "20001", "127.0.0.1:25"),
        ("--pace-ms", "1", "127.0.0.1:25"),
        ("--from", "8.8.8.8", "127.0.0.1:25"),
        ("-t", "a>\r\nQUIT", "127.0.0.1:25"),
        (),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [built("hostile"), *arguments], input=b"", capture_output=True, timeout=20, check=False
    )
    assert done.returncode == 2
    assert done.stderr
