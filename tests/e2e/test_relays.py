"""Routes, relays, fallbacks, transports without a peer, a provider that throttles."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fastmta.lab import free_port
from tests.support.certificates import Certificates
from tests.support.client import Client, until
from tests.support.lmtp_receiver import LmtpReceiver
from tests.support.outbound import HOST, Exits, Outbound, address_with_port
from tests.support.provider import Allowance, Provider, provider_side
from tests.support.receiver import Act, Receiver, Script

SES = "email-smtp.eu-west-1.amazonaws.com"
USERS = {"AKIA": "secret"}
SCRIPTS: dict[str, Script] = {
    "first": {},
    "second": {},
    "third": {},
    "closed": {"CONNECT": Act(b"421 4.3.2 not now\r\n", then="close")},
    "greylisting": {"RCPT": Act(b"451 4.7.1 later\r\n")},
    "refusing": {"RCPT": Act(b"550 5.1.1 no such user\r\n")},
}


@dataclass
class World:
    outbound: Outbound
    directory: Path
    receivers: dict[str, Receiver] = field(default_factory=dict)

    def takers(self, address: str) -> list[str]:
        """Names of the receivers that took mail for it."""
        return [
            name
            for name, receiver in self.receivers.items()
            for one in list(receiver.transactions)
            if one.is_accepted and address.encode() in one.forward_paths
        ]

    def send(self, address: str, reverse_path: str = "sender@source.example") -> None:
        with Client(self.outbound.server.port) as client:
            assert client.send(address, reverse_path=reverse_path).startswith("250")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    exits = Exits()
    directory = tmp_path_factory.mktemp("files")
    with ExitStack() as stack:
        receivers = {
            name: stack.enter_context(Receiver(script)) for name, script in SCRIPTS.items()
        }
        host = {name: f"[127.0.0.1]:{one.port}" for name, one in receivers.items()}
        receivers["lmtp"] = stack.enter_context(LmtpReceiver((), str(directory / "lmtp.socket")))
        dead = f"[127.0.0.1]:{free_port()}"
        # The order counts: a pattern, an address, a sender, then domains.
        exits.route(host["third"], recipient=r"/^list-[0-9]+@many\.test$/")
        exits.route(host["second"], recipient="special@many.test")
        exits.route(host["third"], sender="vip@source.example")
        exits.route(host["third"], sender="vip.example", recipient="many.test")
        exits.route(host["second"], recipient="nulls.test", sender="<>")
        exits.route(host["first"], recipient="many.test")
        exits.route(host["second"], recipient=".many.test")
        exits.route(host["first"], recipient="nulls.test")
        exits.route("discard:", recipient="discard.test")
        exits.route("hold:", recipient="hold.test")
        exits.route("error:5.1.6 moved away", recipient="gone.test")
        exits.route("error:4.3.2 not before Monday", recipient="later.test")
        (directory / "box").mkdir()
        exits.route(f"file:{directory / 'box'}", recipient="file.test")
        exits.route(f"lmtp:unix:{directory / 'lmtp.socket'}", recipient="socket.test")
        exits.relay("named", host["second"])
        exits.relay("dead", dead, fallback=[dead, "named"])
        exits.relay("busy", host["closed"], fallback=[host["first"]])
        exits.relay("grey", host["greylisting"], fallback=[host["first"]])
        exits.relay("final", host["refusing"], fallback=[host["first"]])
        exits.relay("listed", host["first"])
        exits.settings["relays.listed.host"] = [dead, host["second"]]
        exits.relay(
            "dressed",
            host["first"],
            hostname="other.name.example",
            source=["127.0.0.5"],
            bounce_from="bounces@ours.example",
        )
        outbound = stack.enter_context(exits.running(tmp_path_factory.mktemp("server")))
        yield World(outbound, directory, receivers)


@pytest.mark.parametrize(
    ("address", "sender", "expected"),
    [
        ("one@many.test", "sender@source.example", "first"),
        ("two@MANY.test", "sender@source.example", "first"),
        ("special@many.test", "sender@source.example", "second"),
        ("list-17@many.test", "sender@source.example", "third"),
        ("list-x@many.test", "sender@source.example", "first"),
        ("one@sub.many.test", "sender@source.example", "second"),
        ("three@many.test", "someone@vip.example", "third"),
        ("four@elsewhere.test", "vip@source.example", "third"),
        ("five@nulls.test", "", "second"),
        ("six@nulls.test", "sender@source.example", "first"),
    ],
)
def test_route(world: World, address: str, sender: str, expected: str) -> None:
    world.send(address, sender)
    assert world.outbound.result(address.lower()).status == "sent"
    assert world.takers(address.lower()) == [expected]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("dead", "second"), ("busy", "first"), ("grey", "first"), ("listed", "second")],
)
def test_fallback(world: World, name: str, expected: str) -> None:
    world.outbound.send(name)
    assert world.outbound.result(name).status == "sent"
    assert world.takers(f"one@{name}.test") == [expected]


def test_final_refusal_is_no_reason_for_a_fallback(world: World) -> None:
    world.outbound.send("final")
    result = world.outbound.result("final")
    assert (result.status, result.dsn) == ("bounced", "5.1.1")
    assert world.takers("one@final.test") == []


def test_discard(world: World) -> None:
    world.outbound.send("discard")
    assert world.outbound.result("discard").status == "sent"


def test_error(world: World) -> None:
    world.outbound.send("gone", "later")
    gone, later = world.outbound.result("gone"), world.outbound.result("later")
    assert (gone.status, gone.dsn, gone.reason) == ("bounced", "5.1.6", "moved away")
    assert (later.status, later.dsn, later.reason) == ("deferred", "4.3.2", "not before Monday")


def test_hold(world: World) -> None:
    world.outbound.send("hold")
    server = world.outbound.server
    held = re.compile(r": (\w+): hold: <one@hold\.test>: held by the configuration")
    until(lambda: held.search(server.log_text()) is not None)
    match = held.search(server.log_text())
    assert match is not None
    time.sleep(0.2)
    assert f"{match[1]}: removed" not in server.log_text()


def test_file(world: World) -> None:
    world.outbound.send("file")
    assert world.outbound.result("file").status == "sent"
    files = [one for one in (world.directory / "box").rglob("*") if one.is_file()]
    contents = [one.read_bytes() for one in files]
    assert len([one for one in contents if b"secret for file" in one]) == 1


def test_unix_socket(world: World) -> None:
    world.outbound.send("socket")
    assert world.outbound.result("socket").status == "sent"
    assert world.takers("one@socket.test") == ["lmtp"]
    assert world.receivers["lmtp"].sessions[0].commands[0].startswith(b"LHLO ")


def test_a_relay_has_its_own_name_and_address(world: World) -> None:
    world.outbound.send("dressed", reverse_path="")
    assert world.outbound.result("dressed").status == "sent"
    receiver = world.receivers["first"]
    (transaction,) = [
        one for one in receiver.transactions if b"one@dressed.test" in one.forward_paths
    ]
    session = receiver.sessions[transaction.session_index]
    assert session.commands[0] == b"EHLO other.name.example"
    assert session.peer == "127.0.0.5"
    assert transaction.reverse_path == b"bounces@ours.example"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"), SES, HOST)


@pytest.mark.parametrize("is_late", [False, True], ids=["at-mail", "behind-the-content"])
def test_provider_that_throttles(shown: Certificates, tmp_path: Path, is_late: bool) -> None:
    address = address_with_port(587)
    side = provider_side(shown.right, USERS)
    allowance = Allowance(rate=8, senders=("source.example",), is_late=is_late)
    exits = Exits(shown.trusted)
    exits.relay("ses", "ses://eu-west-1", username="AKIA", password="secret")
    with Provider(side, allowance, address=address, port=587) as provider:
        with exits.running(tmp_path) as outbound:
            outbound.names.add(SES, "A", address)
            outbound.send(*["ses"] * 20)
            results = outbound.results("ses", 20, 30.0)
            until(lambda: len(provider.accepted_at) == 20, 30.0)
            assert all(result.status != "bounced" for result in results)
            outbound.send("ses", reverse_path="someone@unverified.example")
            until(lambda: "554 Message rejected" in outbound.server.log_text(), 20.0)
            last = outbound.results("ses", 21)[-1]
            assert last.status == "bounced", last
        accepted = [one for one in provider.transactions if one.is_accepted]
        assert len(accepted) == 20
        assert provider.over_rate_count < 20, "it was asked again and again"
        lines = {line.split(b" ")[0] for line in provider.leaked().split(b"\r\n")}
        assert lines <= {b"EHLO", b"STARTTLS", b"QUIT", b""}


def test_provider_whose_quota_is_used_up(shown: Certificates, tmp_path: Path) -> None:
    address = address_with_port(587)
    exits = Exits(shown.trusted)
    exits.relay("ses", "ses://eu-west-1", username="AKIA", password="secret")
    side = provider_side(shown.right, USERS)
    with (
        Provider(side, Allowance(quota=3), address=address, port=587) as provider,
        exits.running(tmp_path) as outbound,
    ):
        outbound.names.add(SES, "A", address)
        outbound.send(*["ses"] * 3)
        outbound.results("ses", 3)
        outbound.send(*["ses"] * 10)
        until(lambda: provider.over_quota_count > 0)
        time.sleep(0.5)
        log = outbound.server.log_text()
        assert "status=bounced" not in log
        assert "quota exceeded" in log
        assert provider.over_quota_count <= 10
