"""What couriers are given: TLS by policies of routing, logins, tokens, the filter."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fastmta.config import Config, load
from fastmta.daemon.outbound import courier_ports, has_tls_options, tls_options, try_tls
from fastmta.daemon.sockets import BadStart
from fastmta.delivery.ports import CourierPorts
from fastmta.event import Event
from fastmta.route import OwnHosts
from fastmta.route.way import TlsLevel, TlsPolicy

HEX = "0123456789abcdef" * 4


def config_of(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "x.toml"
    path.write_text(text)
    return load(str(path), {}, (), lambda: "mx.example.org")


def ports_of(config: Config, said: list[Event] | None = None) -> CourierPorts:
    loop = asyncio.new_event_loop()
    try:
        emit = [].append if said is None else said.append
        return courier_ports(config, OwnHosts.of([], [("198.51.100.1", 25)]), emit, loop)
    finally:
        loop.close()


def test_every_level_and_option_reaches_the_room_of_security() -> None:
    for level in TlsLevel:
        policy = TlsPolicy(level, True, ("a",), (HEX,), "/ca", "sni", "1.3", "AES")
        found = tls_options(policy)
        assert found.level == level.name.lower()
        assert (found.names, found.fingerprints, found.ca_file) == (("a",), (HEX,), "/ca")
        assert (found.server_name, found.version_min, found.ciphers) == ("sni", "1.3", "AES")


@pytest.mark.parametrize(
    ("text", "section"),
    [
        ('[delivery]\nca_file = "/nowhere/ca.pem"', "delivery.ca_file"),
        ('[delivery]\ntls_ciphers = "NO-SUCH"', "delivery.tls_ciphers"),
        ('[relay]\nhost = "[a.b]"\ntls = "verify"\nca_file = "/nowhere/ca.pem"', "relay.ca_file"),
        ('[relays.x]\nhost = "[a.b]"\nca_file = "/nowhere/ca.pem"', "relays.x.ca_file"),
        (
            '[[tls_policy]]\nmx = "a.b"\nlevel = "verify"\nca_file = "/nowhere/x"',
            "tls_policy.1.ca_file",
        ),
    ],
)
def test_what_cannot_be_used_is_found_before_the_start(
    tmp_path: Path, text: str, section: str
) -> None:
    config = config_of(tmp_path, text)
    assert has_tls_options(config)
    with pytest.raises(BadStart, match=rf"^{section}: "):
        try_tls(config)


def test_nothing_is_tried_where_nothing_is_set_or_used(tmp_path: Path) -> None:
    config = config_of(tmp_path, '[relays.x]\nhost = "[a.b]"\ntls = "none"\nca_file = "/nowhere"')
    assert not has_tls_options(config)
    try_tls(config)


def test_ports_without_logins(tmp_path: Path) -> None:
    ports = ports_of(config_of(tmp_path, ""))
    assert ports.credentials is None
    assert ports.choose is None
    assert ports.contexts is not None
    assert ports.why_not is not None
    assert ports.why_not("127.0.0.1") == "loopback"
    assert ports.why_not("198.51.100.1") == "own"


def test_logins_and_tokens_reach_the_mechanisms(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("abc.def\n")
    config = config_of(
        tmp_path,
        f"""
[relay]
host = "sendgrid://"
password = "s3cret"
[relays.file]
host = "m365://"
username = "u@x.y"
token_file = "{token}"
[relays.url]
host = "m365://"
username = "u@x.y"
token_url = "https://127.0.0.1:1/token"
client_id = "id"
client_secret = "s3cret"
""",
    )
    ports = ports_of(config)
    assert ports.credentials is not None
    assert ports.choose is not None
    found: list[tuple[Any, str]] = []
    for name in ("relay", "relays.file"):
        ports.credentials.get(name, lambda one, problem: found.append((one, problem)))
    (first, _), (second, problem) = found
    assert problem == ""
    assert (first.username, first.password) == ("apikey", "s3cret")
    assert (second.username, second.token) == ("u@x.y", "abc.def")
    assert "s3cret" not in repr(found)
    offered = ["PLAIN", "XOAUTH2"]
    for credential, mechanism in ((first, "PLAIN"), (second, "XOAUTH2")):
        exchange = ports.choose(offered, credential, is_confidential=True)
        assert exchange is not None
        assert exchange.name == mechanism
        assert ports.choose(offered, credential, is_confidential=False) is None


def test_a_secret_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        '[relay]\nhost = "m365://"\nusername = "u@x.y"\ntoken_url = "https://x.y/t"\n'
        'client_id = "id"\nclient_secret_file = "/nowhere/x"',
    )
    with pytest.raises(BadStart, match=r"relay.token_url: .*/nowhere/x"):
        ports_of(config)
