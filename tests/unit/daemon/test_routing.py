"""From the configuration to routes and ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastmta.config import Config, load
from fastmta.daemon.routing import address_filter, route_table, ways
from fastmta.daemon.sockets import BadStart
from fastmta.message import ClientIdentity, Envelope
from fastmta.route import OwnHosts
from fastmta.route.hop import owner_of, plain_hop, read_next_hop
from fastmta.route.way import DEFAULT_WAY, TlsLevel, Way

ENVELOPE = Envelope(b"s@sender.example", (b"a@b.c",), ClientIdentity())


def config_of(tmp_path: Path, text: str = "") -> Config:
    path = tmp_path / "x.toml"
    path.write_text(text)
    return load(str(path), {}, (), lambda: "mx.example.org")


def way_of(config: Config, recipient: str, sender: bytes = b"s@sender.example") -> Way:
    envelope = Envelope(sender, (b"a@b.c",), ClientIdentity())
    hop = read_next_hop(route_table(config).next_hop(recipient.encode(), envelope))
    assert hop is not None
    way = ways(config).way_of(hop)
    assert way is not None
    return way


def test_nothing_configured_is_the_default(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    found = ways(config)
    assert (found.mx, found.relay, found.plain) == (DEFAULT_WAY,) * 3
    assert found.fallbacks == {}
    assert route_table(config).fingerprint == b""
    relayed = config_of(tmp_path, '[relay]\nhost = "[a.example]:587"')
    assert route_table(relayed).fingerprint == b"[a.example]:587"
    assert ways(relayed).relay == DEFAULT_WAY


def test_delivery_settings_hold_for_every_way_that_says_nothing_else(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        """
[delivery]
tls = "encrypt"
ca_file = "/etc/ca.pem"
tls_minimum = "1.3"
family = "ipv6"
[relays.a]
host = "[a.example]"
[relays.b]
host = "[b.example]"
tls = "verify"
ca_file = "/etc/b.pem"
family = "ipv4-only"
[[route]]
recipient = "a.x"
to = "a"
[[route]]
recipient = "b.x"
to = "b"
[[route]]
recipient = "c.x"
to = "[c.example]"
""",
    )
    for domain, level, ca_file, family in (
        ("a.x", TlsLevel.ENCRYPT, "/etc/ca.pem", "6"),
        ("b.x", TlsLevel.VERIFY, "/etc/b.pem", "4only"),
        ("c.x", TlsLevel.ENCRYPT, "/etc/ca.pem", "6"),
        ("d.x", TlsLevel.ENCRYPT, "/etc/ca.pem", "6"),
    ):
        way = way_of(config, f"u@{domain}")
        assert (way.tls.level, way.tls.ca_file, way.family) == (level, ca_file, family)
        assert way.tls.version_min == "1.3"


def test_a_preset_is_a_whole_relay(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        '[relay]\nhost = "ses://eu-west-1"\nusername = "AKIA"\npassword = "p"\n'
        'bounce_from = "b@example.com"',
    )
    table = route_table(config)
    expected = b"smtp:[email-smtp.eu-west-1.amazonaws.com]:587"
    assert table.next_hop(b"a@b.c", ENVELOPE) == expected
    way = way_of(config, "a@b.c")
    assert (way.provider, way.credentials, way.bounce_from) == ("ses", "relay", b"b@example.com")
    assert way.tls.level is TlsLevel.SECURE
    assert not way.is_auth_forced


@pytest.mark.parametrize(
    ("text", "login", "owner"),
    [
        ("", "ann", ""),
        ("[tenant.shop]\nlogins = 'ann'", "ann", "shop"),
        ("[tenant.shop]\nlogins = 'ann'", "bob", ""),
        ("[shape.x]\ntenant = '*'\nrate = '1/s'", "bob", "bob"),
        ("[shape.x]\ntenant = 'ann'\nrate = '1/s'", "ann", "ann"),
        ("[tenant.shop]\n[shape.x]\ntenant = 'shop'\nrate = '1/s'", "shop", "shop"),
        ("[tenant.shop]\n[shape.x]\ntenant = 'shop'\nrate = '1/s'", "bob", ""),
        ("[shape.x]\nsite = '*'\nrate = '1/s'", "bob", ""),
    ],
)
def test_mail_of_who_may_have_to_wait_waits_by_itself(
    tmp_path: Path, text: str, login: str, owner: str
) -> None:
    table = route_table(config_of(tmp_path, text))
    envelope = Envelope(b"s@a.example", (b"a@b.c",), ClientIdentity("192.0.2.1", login=login))
    next_hop = table.next_hop(b"a@b.c", envelope)
    assert (plain_hop(next_hop), owner_of(next_hop)) == (b"smtp:b.c", owner)


def test_routes_are_others_when_mail_may_be_somebody_elses(tmp_path: Path) -> None:
    texts = (
        "",
        "[tenant.a]",
        "[tenant.b]",
        "[tenant.a]\n[tenant.b]",
        "[tenant.b]\n[tenant.a]",
        "[tenant.a]\nlogins = 'x'",
        "[tenant.a]\nsenders = 'x'",
        "[tenant.a]\nclients = '10.0.0.0/8'",
        "[tenant.a]\nprofile = 'p'\n[profile.p]",
        "[tenant.a]\nprofile = 'p'\n[profile.p]\nlifetime_s = 60",
        "[tenant.a]\n[shape.x]\ntenant = '*'\nrate = '1/s'",
    )
    found = {route_table(config_of(tmp_path, text)).fingerprint for text in texts}
    assert len(found) == len(texts)
    same = "[tenant.a]\nweight = 3\npriority = 'high'\n[shape.x]\ntenant = 'a'\nrate = '1/s'"
    assert route_table(config_of(tmp_path, same)).fingerprint in found


def test_logins_by_sender(tmp_path: Path) -> None:
    senders = tmp_path / "senders"
    senders.write_text("# comment\n\nMe@x.y  me:p:w\n@z.w\tz:w\n")
    config = config_of(
        tmp_path,
        f"""
[relays.a]
host = "[a.example]:587"
credentials_file = "{senders}"
[relays.b]
host = "[b.example]:587"
username = "u"
password = "p"
credentials_file = "{senders}"
[[route]]
recipient = "a.x"
to = "a"
[[route]]
to = "b"
""",
    )
    assert way_of(config, "u@a.x", b"me@x.y").credentials == "relays.a/me@x.y"
    assert way_of(config, "u@a.x", b"other@x.y").credentials == ""
    assert way_of(config, "u@a.x", b"").credentials == ""
    assert way_of(config, "u@b.x", b"any@z.w").credentials == "relays.b/@z.w"
    assert way_of(config, "u@b.x", b"other@x.y").credentials == "relays.b"
    before = route_table(config).fingerprint
    senders.write_text("me@x.y me:another\n@z.w z:w\n")
    assert route_table(config).fingerprint == before  # a password changes no route
    senders.write_text("me@x.y me:another\n")
    assert route_table(config).fingerprint != before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("me@x.y\n", "1: after me@x.y name:password must come"),
        ("me@x.y s3cret\n", "1: after me@x.y name:password must come"),
        ("\ns3cret me:x\n", "2: must begin with user@example.com"),
        ("me@x.y me:a\nME@x.y me:b", "2: me@x.y is there twice"),
        ("me@x.y me:\xff", "1: not UTF-8"),
    ],
)
def test_bad_file_of_logins_stops_the_start_and_shows_no_secret(
    tmp_path: Path, content: str, said: str
) -> None:
    senders = tmp_path / "senders"
    senders.write_bytes(content.encode("latin-1"))
    config = config_of(tmp_path, f'[relay]\nhost = "[a.b]"\ncredentials_file = "{senders}"')
    with pytest.raises(BadStart) as caught:
        route_table(config)
    assert str(caught.value).startswith(f"relay.credentials_file: {senders}:{said}")
    assert "s3cret" not in str(caught.value)


def test_missing_file_of_logins(tmp_path: Path) -> None:
    config = config_of(tmp_path, '[relay]\nhost = "[a.b]"\ncredentials_file = "/nowhere/x"')
    with pytest.raises(BadStart, match=r"relay.credentials_file: /nowhere/x: No such file"):
        route_table(config)


def test_fallbacks(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        """
[relay]
fallback = ["grid", "[f.example]"]
[relays.grid]
host = "sendgrid://"
password = "p"
fallback = "[g.example]:26"
[relays.bulk]
""",
    )
    found = ways(config).fallbacks
    assert set(found) == {"", "grid"}
    first, second = found[""]
    assert [one.text for one in first.destinations] == ["[smtp.sendgrid.net]:587"]
    assert (first.way.credentials, first.way.provider) == ("relays.grid", "sendgrid")
    assert [one.text for one in second.destinations] == ["[f.example]:25"]
    assert second.way.credentials == ""
    assert all(one.way.is_unfiltered for one in (first, second, *found["grid"]))


def test_local_routes_and_tls_policies(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        """
[[route]]
recipient = "error.x"
to = "error:5.1.1 no such user"
[[route]]
recipient = "file.x"
to = "file:/var/out"
[[route]]
recipient = "box.x"
to = "lmtp:unix:/run/lmtp"
[[tls_policy]]
domain = "p.example"
mx = ".mx.example"
level = "secure"
names = "mx.example"
""",
    )
    assert way_of(config, "u@error.x").argument == "5.1.1 no such user"
    assert way_of(config, "u@file.x").transport == "file"
    assert way_of(config, "u@box.x").tls.level is TlsLevel.NONE
    (rule,) = ways(config).tls_rules
    assert (rule.domains, rule.hosts) == (("p.example",), (".mx.example",))
    assert (rule.policy.level, rule.policy.names) == (TlsLevel.SECURE, ("mx.example",))


def test_filter_knows_our_own_addresses(tmp_path: Path) -> None:
    config = config_of(tmp_path, '[delivery]\nallow_addresses = "10.1.0.0/16"')
    own = OwnHosts.of(["mx.example.org"], [("198.51.100.1", 25), ("0.0.0.0", 26)], ["203.0.113.9"])
    found = address_filter(config, own)
    assert found.why_not("198.51.100.1") == found.why_not("203.0.113.9") == "own"
    assert found.why_not("10.1.2.3") == ""
    assert found.why_not("10.2.2.3") == "private"
    assert found.why_not("198.51.100.2") == ""
