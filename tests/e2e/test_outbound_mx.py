"""To the hosts that DNS names: TLS by domain and host, forbidden addresses, REQUIRETLS, port 465.

Receivers listen on ports 25 and 465 of addresses in 127.0.0.0/8 that DNS is allowed to name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.support.certificates import Certificates
from tests.support.client import Client
from tests.support.nameserver import Behaviour
from tests.support.outbound import HOST, Exits, Outbound, Value, address_with_port
from tests.support.receiver import EHLO_REPLY, Act, Receiver
from tests.support.tls import client_context, issue
from tests.support.tls_receiver import TlsReceiver, TlsSide

HOST_NAME = "mx.hosts.test"  # of the certificates of MX hosts
SECRET = "Subject: x\r\n\r\nsecret for {}\r\n"

# Domain, level of its policy, and the receiver that is its MX host.
POLICIES = {
    "plain.test": ("", "host"),
    "encrypted.test": ("encrypt", "host"),
    "verified.test": ("verify", "host"),
    "secured.test": ("secure", "host"),  # the certificate is the host's, not the domain's
    "own.test": ("secure", "own"),  # this one is the domain's
    "none.test": ("none", "host"),
    "encrypted-stripped.test": ("encrypt", "stripped"),
    "plain-stripped.test": ("", "stripped"),
    "by-host.test": ("", "strict"),  # a policy by the name of the MX host
    "by-host-too.test": ("", "strict"),
}
TLS_VERSIONS = {"none.test": "", "plain-stripped.test": ""}
SENT = {"plain.test", "encrypted.test", "verified.test", "own.test", "none.test",
        "plain-stripped.test", "by-host.test", "by-host-too.test"}  # fmt: skip


@dataclass
class World:
    outbound: Outbound
    tls_port: int = 0
    receivers: dict[str, TlsReceiver] = field(default_factory=dict)
    forbidden: Receiver | None = None

    def transactions(self, address: str) -> list[tuple[TlsReceiver, int, bytes]]:
        """Receiver, index of the session and parameters of MAIL of what came for it."""
        return [
            (receiver, one.session_index, one.mail_parameters)
            for receiver in self.receivers.values()
            for one in list(receiver.transactions)
            if address.encode() in one.forward_paths
        ]

    def send(self, address: str, *, is_tls_required: bool = False) -> None:
        with Client(self.outbound.server.port) as client:
            assert client.start_tls(client_context()).startswith("250")
            parameter = " REQUIRETLS" if is_tls_required else ""
            for line in (
                f"MAIL FROM:<sender@source.example>{parameter}",
                f"RCPT TO:<{address}>",
            ):
                reply = client.say(line)
                assert reply.startswith("250"), reply
            assert client.say("DATA").startswith("354")
            assert client.say(SECRET.format(address) + ".").startswith("250")


def sides(shown: Certificates, own: Certificates) -> dict[str, tuple[TlsSide, dict[str, Act]]]:
    """What the receivers on port 25 are like."""
    side = TlsSide(certificate=shown.right)
    requiring = TlsSide(certificate=own.right, tls_keywords=("REQUIRETLS",))
    return {
        "host": (side, {}),
        "own": (requiring, {}),
        "stripped": (side, {"EHLO": Act(EHLO_REPLY)}),
        "strict": (TlsSide(certificate=shown.right), {}),
        "requiring": (requiring, {}),
        "untrusted": (TlsSide(certificate=shown.self_signed, tls_keywords=("REQUIRETLS",)), {}),
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("certificates")
    shown = Certificates(directory, HOST_NAME)
    own = Certificates(tmp_path_factory.mktemp("own"), "own.test", "requiring.test", HOST)
    exits = Exits(shown.trusted)
    addresses: dict[str, str] = {}
    with ExitStack() as stack:
        receivers = {}
        for name, (side, script) in sides(shown, own).items():
            address = addresses[name] = address_with_port(25)
            receivers[name] = stack.enter_context(TlsReceiver(side, script, address, 25))
        forbidden = stack.enter_context(Receiver(address=address_with_port(25), port=25))
        implicit = addresses["implicit"] = address_with_port(465)
        side = TlsSide(certificate=own.right, is_implicit=True)
        receivers["implicit"] = stack.enter_context(TlsReceiver(side, {}, implicit, 465))
        more: dict[str, Value] = {
            "delivery.allow_addresses": [f"{one}/32" for one in addresses.values()],
            "tls.certificate": issue(directory / "server.pem", "fastmta.test"),
        }
        exits.settings |= more
        exits.relay("implicit", f"[{implicit}]:465", tls="secure", tls_names=[HOST])
        exits.relay("implicit-may", f"[{implicit}]:465", tls="may")
        exits.relay(
            "requiring-relay", f"[{addresses['requiring']}]:25", tls_names=[HOST], tls="secure"
        )
        exits.relay(
            "lacking-relay", f"[{addresses['host']}]:25", tls="verify", tls_names=[HOST_NAME]
        )
        number = 0
        for domain, (level, _) in POLICIES.items():
            if level:
                number += 1
                prefix = f"FASTMTA_TLS_POLICY__{number}__"
                exits.environment |= {prefix + "DOMAIN": domain, prefix + "LEVEL": level}
        prefix = f"FASTMTA_TLS_POLICY__{number + 1}__"
        exits.environment |= {prefix + "MX": "mx.strict.test", prefix + "LEVEL": "verify"}
        exits.environment[prefix + "NAMES"] = HOST_NAME
        outbound = stack.enter_context(exits.running(tmp_path_factory.mktemp("server")))
        names = outbound.names
        names.add(HOST_NAME, "A", addresses["host"])
        for name in ("own", "stripped", "strict", "requiring", "untrusted"):
            names.add(f"mx.{name}.test", "A", addresses[name])
        for domain, (_, name) in POLICIES.items():
            host = HOST_NAME if name == "host" else f"mx.{name}.test"
            names.add(domain, "MX", f"10 {host}.")
        for name in ("requiring", "untrusted"):
            names.add(f"{name}.test", "MX", f"10 mx.{name}.test.")
        names.add("inside.test", "MX", "10 mx.inside.test.")
        names.add("mx.inside.test", "A", forbidden.address)
        for name, address in (("private", "10.1.2.3"), ("link", "169.254.169.254"),
                              ("multicast", "224.0.0.1"), ("zero", "0.0.0.0")):  # fmt: skip
            names.add(f"{name}.test", "A", address)
        names.add("six.test", "AAAA", "::ffff:127.0.0.1")
        yield World(outbound, outbound.server.port, receivers, forbidden)


@pytest.mark.parametrize("domain", list(POLICIES))
def test_policy(world: World, domain: str) -> None:
    address = f"one@{domain}"
    world.send(address)
    result = world.outbound.result(address)
    found = world.transactions(address)
    if domain not in SENT:
        assert result.status == "deferred", result
        assert result.dsn.startswith("4.7."), result
        assert found == []
        return
    assert result.status == "sent", result
    ((receiver, index, _),) = found
    session = receiver.tls_sessions[index]
    assert session.tls_version == TLS_VERSIONS.get(domain, "TLSv1.3")
    if session.tls_version:
        assert b"secret for" not in session.leaked()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("inside", "loopback"), ("private", "private"), ("link", "link-local"), ("six", "loopback")],
)
def test_where_dns_may_not_lead(world: World, name: str, kind: str) -> None:
    world.outbound.send(name)
    result = world.outbound.result(name)
    assert result.status == "deferred", result
    assert kind in result.reason
    assert world.forbidden is not None
    assert world.forbidden.sessions == []


@pytest.mark.parametrize("name", ["multicast", "zero"])
def test_addresses_of_nobody(world: World, name: str) -> None:
    """They are no addresses of a host at all."""
    world.outbound.send(name)
    result = world.outbound.result(name)
    assert result.relay == "none"
    assert result.status != "sent"


def test_domains_that_have_no_host(world: World) -> None:
    names = world.outbound.names
    names.add("null.test", "MX", "0 .")
    names.add("loop.test", "CNAME", "pool.test.")
    names.add("pool.test", "CNAME", "loop.test.")
    names.behave("sick.test", Behaviour.SERVFAIL)
    world.outbound.send("null", "loop", "sick", "unknown")
    results = {name: world.outbound.result(name) for name in ("null", "loop", "sick", "unknown")}
    found = {name: (one.status, one.dsn) for name, one in results.items()}
    assert found == {
        "null": ("bounced", "5.1.10"),
        "loop": ("bounced", "5.4.4"),
        "sick": ("deferred", "4.4.3"),
        "unknown": ("bounced", "5.4.4"),
    }


@pytest.mark.parametrize("name", ["implicit", "implicit-may"])
def test_port_465(world: World, name: str) -> None:
    world.outbound.send(name)
    assert world.outbound.result(name).status == "sent"
    assert world.receivers["implicit"].leaked() == b""


@pytest.mark.parametrize(
    ("name", "is_sent"),
    [("requiring", True), ("requiring-relay", True), ("plain", False), ("lacking-relay", False)],
)
def test_requiretls(world: World, name: str, is_sent: bool) -> None:
    address = f"required@{name}.test"
    world.send(address, is_tls_required=True)
    result = world.outbound.result(address)
    found = world.transactions(address)
    if is_sent:
        assert result.status == "sent", result
        ((receiver, index, parameters),) = found
        assert b"REQUIRETLS" in parameters.split(b" ")
        assert receiver.tls_sessions[index].tls_version
        return
    assert found == []
    assert result.dsn[2:] in ("7.30", "7.5", "7.4"), result


def test_requiretls_is_not_given_to_a_host_that_nobody_vouches_for(world: World) -> None:
    world.send("required@untrusted.test", is_tls_required=True)
    assert world.outbound.result("required@untrusted.test").status in ("deferred", "bounced")
    assert world.transactions("required@untrusted.test") == []
    world.send("other@untrusted.test")
    assert world.outbound.result("other@untrusted.test").status == "sent"


def test_mail_without_requiretls_does_not_ask_for_it(world: World) -> None:
    world.send("other@requiring.test")
    assert world.outbound.result("other@requiring.test").status == "sent"
    ((_, _, parameters),) = world.transactions("other@requiring.test")
    assert b"REQUIRETLS" not in parameters
