"""Debian's Dovecot takes mail from us over LMTP, by TCP and by its unix socket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.client import Client
from tests.support.dovecot_lmtp import DovecotLmtp, running_lmtp
from tests.support.outbound import Exits, Outbound

pytestmark = pytest.mark.interop

CONTENT = "Subject: {}\r\n\r\n.first\r\n..second\r\nFrom here\r\n"


@dataclass
class World:
    outbound: Outbound
    dovecot: DovecotLmtp

    def send(self, subject: str, *forward_paths: str) -> None:
        with Client(self.outbound.server.port) as client:
            content = CONTENT.format(subject).replace("\r\n.", "\r\n..")
            assert client.send(*forward_paths, content=content).startswith("250")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running_lmtp("alice", "bob", full=("carol",)) as dovecot:
        exits = Exits()
        exits.route(f"lmtp:unix:{dovecot.lmtp_socket}", recipient="socket.test")
        exits.relay("network", f"[127.0.0.1]:{dovecot.lmtp_port}", transport="lmtp")
        with exits.running(tmp_path_factory.mktemp("server")) as outbound:
            yield World(outbound, dovecot)


@pytest.mark.parametrize("domain", ["socket.test", "network.test"])
def test_content_arrives_as_it_was(world: World, domain: str) -> None:
    world.send(f"whole {domain}", f"alice@{domain}")
    result = world.outbound.result(f"alice@{domain}")
    assert result.status == "sent", result
    assert "Saved" in result.reason
    (content,) = [
        one for one in world.dovecot.contents("alice") if f"whole {domain}".encode() in one
    ]
    assert content.startswith(b"Return-Path: <sender@source.example>\n")
    assert content.endswith(b"\n\n.first\n..second\nFrom here\n")


@pytest.mark.parametrize("domain", ["socket.test", "network.test"])
def test_each_recipient_has_a_fate_of_its_own(world: World, domain: str) -> None:
    names = ("bob", "carol", "nobody", "alice")
    before = world.outbound.count(f"alice@{domain}")
    world.send(f"four {domain}", *(f"{name}@{domain}" for name in names))
    world.outbound.results(f"alice@{domain}", before + 1)
    results = {name: world.outbound.result(f"{name}@{domain}") for name in names}
    assert {name: one.status for name, one in results.items()} == {
        "bob": "sent",
        "carol": "bounced",
        "nobody": "bounced",
        "alice": "sent",
    }
    assert results["carol"].dsn == "5.2.2"
    assert "in reply to end of DATA command" in results["carol"].reason
    assert results["nobody"].dsn == "5.1.1"
    for name in ("alice", "bob"):
        words = f"four {domain}".encode()
        assert len([one for one in world.dovecot.contents(name) if words in one]) == 1
    assert world.dovecot.contents("carol") == []


def test_many_over_few_sessions(world: World) -> None:
    count = 50
    before = world.outbound.count("bob@network.test")
    with Client(world.outbound.server.port) as client:
        for number in range(count):
            reply = client.send("bob@network.test", content=f"Subject: many {number}\r\n\r\nx\r\n")
            assert reply.startswith("250")
    results = world.outbound.results("bob@network.test", before + count, 30.0)
    assert {one.status for one in results} == {"sent"}
    many = [one for one in world.dovecot.contents("bob") if b"Subject: many " in one]
    assert len(many) == count


def test_server_that_is_away_delays_mail(world: World) -> None:
    world.dovecot.stop()
    try:
        for domain in ("socket.test", "network.test"):
            before = world.outbound.count(f"alice@{domain}")
            world.send("away", f"alice@{domain}")
            result = world.outbound.results(f"alice@{domain}", before + 1)[-1]
            assert (result.status, result.dsn) == ("deferred", "4.4.1"), result
    finally:
        world.dovecot.start()
