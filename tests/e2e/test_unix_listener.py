"""LMTP over a unix socket: trusted clients, two workers at one queue, stale and busy paths."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.lab import LabError, ServerOptions
from tests.support.client import Client, until
from tests.support.daemon import Server, running
from tests.support.postfix import running_postfix
from tests.support.receiver import Receiver, Transaction


class Site:
    """A server that trusts no network; whoever comes by `path` may send to anyone."""

    def __init__(self, server: Server, receiver: Receiver, path: str) -> None:
        self.server = server
        self.receiver = receiver
        self.path = path

    def connect(self) -> Client:
        return Client(0, self.path, hello="LHLO")

    def arrived(self, path: str) -> Transaction:
        """The message to this recipient, once it is there."""

        def found(receiver: Receiver) -> list[Transaction]:
            return [each for each in receiver.transactions if path.encode() in each.forward_paths]

        self.receiver.wait_for(lambda receiver: bool(found(receiver)), 15.0)
        return found(self.receiver)[0]


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    """A path short enough for a socket, where other users can come, too."""
    with tempfile.TemporaryDirectory(prefix="fastmta-", dir="/var/tmp") as directory:
        os.chmod(directory, 0o755)
        yield f"{directory}/lmtp"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, place: str) -> Iterator[Site]:
    with (
        Receiver() as receiver,
        running(
            tmp_path_factory.mktemp("unix"),
            relay_host=f"[127.0.0.1]:{receiver.port}",
            workers=2,
            relay__trusted_networks=["192.0.2.0/24"],
            limits__connections_per_client=2,
            client_limits__messages=2,
            client_limits__exceptions=[],
            limits__recipients=100,
            listen__local__bind=f"unix:{place}",
            listen__local__kind="lmtp",
            listen__local__socket_mode="0666",
        ) as server,
    ):
        yield Site(server, receiver, place)


def test_start_up_line_and_mode(site: Site) -> None:
    assert f"fastmta: listen.local on unix:{site.path}\n" in site.server.said()
    found = os.lstat(site.path)
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o666


def test_a_client_is_trusted_and_known_as_localhost(site: Site) -> None:
    with site.connect() as client:
        client.transaction("a@far.example", "b@far.example")
        assert client.say("DATA").startswith("354")
        client.raw(b"Subject: x\r\n\r\nbody\r\n.\r\n")
        first, second = client.reply(), client.reply()
        assert first == second
        queue_id = first.split()[-1]
        assert client.say("QUIT").startswith("221")
    content = site.arrived("a@far.example").content.replace(b"\r\n\t", b" ")
    assert b"(localhost [127.0.0.1]) by fastmta.test (fastmta) with LMTP id" in content
    for line in (
        r"connect from localhost\[127\.0\.0\.1\]",
        rf"{queue_id}: client=localhost\[127\.0\.0\.1\]",
        r"disconnect from localhost\[127\.0\.0\.1\] lhlo=1 mail=1 rcpt=2 data=1 quit=1 commands=6",
    ):
        until(lambda line=line: re.search(line, site.server.log_text()) is not None)
    with Client(site.server.port) as client:  # the address alone is no reason
        assert client.say("MAIL FROM:<a@b.example>").startswith("250")
        assert client.say("RCPT TO:<a@far.example>").startswith("554 5.7.1")


def test_nothing_of_it_is_counted(site: Site) -> None:
    clients = [site.connect() for _ in range(6)]
    try:
        for client in clients:
            for _ in range(2):
                assert client.say("MAIL FROM:<a@b.example>").startswith("250")
                assert client.say("RSET").startswith("250")
    finally:
        for client in clients:
            client.close()


def test_a_client_that_speaks_first_or_leaves_at_once(site: Site) -> None:
    for octets in (b"", b"LHLO c.example\r\n", b"\0" * 5000):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(site.path)
            client.sendall(octets)
    with Client(0, site.path, greets=False) as client:
        client.raw(b"LHLO c.example\r\n")  # a trusted one may, as over TCP
        assert client.reply() == "220 fastmta.test LMTP fastmta"
        assert client.reply().startswith("250-fastmta.test")


def test_pythons_lmtp_client(site: Site) -> None:
    with smtplib.LMTP(site.path) as client:
        content = b"Subject: x\r\n\r\nbody\r\n"
        assert client.sendmail("a@b.example", ["py@far.example"], content) == {}
    assert site.arrived("py@far.example").content.endswith(content)


def test_a_large_message(site: Site) -> None:
    content = "Subject: x\r\n\r\n" + ("y" * 998 + "\r\n") * 3000
    with site.connect() as client:
        assert client.send("large@far.example", content=content).startswith("250 2.0.0 Ok: queued")
    assert site.arrived("large@far.example").content.endswith(content.encode())


@pytest.mark.interop
def test_postfix_delivers_to_us(site: Site) -> None:
    names = [f"pf{n}@far.example" for n in range(2)]
    with running_postfix(default_transport=f"lmtp:unix:{site.path}") as postfix:
        with smtplib.SMTP("127.0.0.1", postfix.port) as client:
            assert client.sendmail("a@b.example", names, b"Subject: x\r\n\r\n.dot\r\n") == {}
        arrived = site.arrived(names[0])
        until(lambda: postfix.log_text().count("status=sent (250 2.0.0 Ok: queued as") == 2)
    assert arrived.forward_paths == [name.encode() for name in names]
    assert arrived.content.endswith(b"\r\n\r\n.dot\r\n")


def test_a_worker_that_dies_does_not_take_the_socket_along(site: Site) -> None:
    before = set(site.server.workers())
    os.kill(min(before), signal.SIGKILL)
    for _ in range(10):
        with site.connect() as client:
            assert client.say("NOOP").startswith("250")
    until(lambda: len(set(site.server.workers()) - before) == 1)
    until(lambda: len(site.server.workers()) == 2)
    with site.connect() as client:
        assert client.send("after@far.example").startswith("250")


# One server after the other at one path.


def serve(directory: Path, path: str, name: str) -> Server:
    settings = {"listen.local.bind": f"unix:{path}", "listen.local.kind": "lmtp"}
    return Server(ServerOptions(directory=directory / name, settings=settings))


def test_paths_in_use_stale_and_left(tmp_path: Path, place: str) -> None:
    path = f"{place}-2"
    first, second = serve(tmp_path, path, "first"), serve(tmp_path, path, "second")
    first.start()
    try:
        assert stat.S_IMODE(os.lstat(path).st_mode) == 0o660, "the default"
        with pytest.raises(LabError):
            second.start()
        problem = f"listen.local: cannot listen on unix:{path}: somebody listens there"
        assert re.search(rf"(?m)^fastmta: .*/fastmta\.toml:[0-9]+: {problem}$", second.said())
        Client(0, path, hello="LHLO").close()
    finally:
        first.kill()
    assert os.path.lexists(path), "a killed server leaves its socket"
    second.start()
    try:
        Client(0, path, hello="LHLO").close()
    finally:
        assert second.stop() == 0
    assert not os.path.lexists(path)
