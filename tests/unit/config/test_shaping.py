"""Limits, providers, tenants, profiles: what is taken, what is wrong, and where it says so."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmta.budget.rate import read_rate
from fastmta.config import Config, ConfigError, load
from fastmta.config.kind import Kind
from fastmta.config.rate import DomainSelector, RateText, Selector, SenderPattern, SiteSelector


def load_text(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    path = tmp_path / "x.toml"
    path.write_text(text)
    return load(str(path), environ or {}, (), lambda: "relay.example")


def problems_of(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text, environ)
    return [str(one).removeprefix(f"{tmp_path}/x.toml:") for one in caught.value.problems]


def test_everything_at_once(tmp_path: Path) -> None:
    config = load_text(
        tmp_path,
        """
[retry]
first_s = 60
[notify]
delay_s = 7200
[provider.corp]
mx = [".Corp.example", "mx.corp.test"]
[shape.corp]
provider = "corp"
source = "*"
tenant = ["shop", "u@x.example", "*"]
rate = "1,000/H, burst 50"
connections = 3
[shape.small_sites]
site = "MX.(A|B).example"
domain = [".small.example", "[Mail.example]:587", "*"]
paused = true
[tenant.z]
clients = ["10.0.0.0/8", "2001:db8::/32"]
[tenant.shop]
logins = ["shop", "u@x.example"]
senders = ["News.example", ".x.example", "A@b.example"]
weight = 4
priority = "bulk"
profile = "patient"
[profile.patient]
max_s = 9000
lifetime_s = 864000
""",
    )
    assert config.warnings == ()
    assert config.provider["corp"].mx == (".corp.example", "mx.corp.test")
    corp, small = config.shape["corp"], config.shape["small_sites"]
    assert (corp.provider, corp.source) == (("corp",), ("*",))
    assert corp.tenant == ("shop", "u@x.example", "*")
    assert (corp.rate, corp.connections, corp.paused) == ("1,000/h, burst 50", 3, False)
    assert (small.site, small.paused) == (("mx.(a|b).example",), True)
    assert small.domain == (".small.example", "[Mail.example]:587", "*")
    assert list(config.tenant) == ["z", "shop"]  # the order counts
    shop = config.tenant["shop"]
    assert shop.senders == ("news.example", ".x.example", "a@b.example")
    assert (shop.weight, shop.priority, shop.profile) == (4, "bulk", "patient")
    assert config.tenant["z"].clients[1] == ipaddress.ip_network("2001:db8::/32")
    patient = config.profile["patient"]
    assert (patient.first_s, patient.max_s, patient.lifetime_s) == (60, 9000, 864000)
    assert (patient.jitter, patient.delay_s) == (0.1, 7200)


def test_a_profile_keeps_what_it_says_though_it_is_the_default(tmp_path: Path) -> None:
    config = load_text(
        tmp_path,
        "[retry]\nfirst_s = 60\n[tenant.a]\nprofile = 'p'\n[profile.p]\nfirst_s = 300\n",
        {"FASTMTA_RETRY__JITTER": "0.25", "FASTMTA_PROFILE__P__DELAY_S": "60"},
    )
    profile = config.profile["p"]
    assert (profile.first_s, profile.jitter, profile.delay_s) == (300, 0.25, 60)


def test_environment_and_order(tmp_path: Path) -> None:
    """Whatever is new there comes behind the file."""
    environ = {
        "FASTMTA_TENANT__A__LOGINS": "one,two",
        "FASTMTA_TENANT__B__WEIGHT": "3",
        "FASTMTA_SHAPE__ALL__RATE": "100/min, burst 10",
        "FASTMTA_SHAPE__ALL__SITE": "*",
        "FASTMTA_PROVIDER__CORP__MX": ".a.example, .b.example",
    }
    config = load_text(tmp_path, "[tenant.c]\n[tenant.b]\n", environ)
    assert list(config.tenant) == ["c", "b", "a"]
    assert config.tenant["b"].weight == 3
    assert config.tenant["a"].logins == ("one", "two")
    assert config.shape["all"].rate == "100/min, burst 10"
    assert config.provider["corp"].mx == (".a.example", ".b.example")
    problems = problems_of(tmp_path, "", {"FASTMTA_SHAPE__ALL__RAT": "1/s"})
    assert problems == ["environment: FASTMTA_SHAPE__ALL__RAT: is not a setting; did you mean "
                        "FASTMTA_SHAPE__ALL__RATE?"]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[shape.x]\nrate = '1/s'", "1: shape.x: says nothing of whom it is about: set site, "
         "domain, provider, source or tenant"),
        ("[shape.x]\nsite = '*'\npaused = false", "1: shape.x: limits nothing: set rate, "
         "connections or paused"),
        ("[shape.x]\nprovider = 'gogle'\nrate = '1/s'",
         "2: shape.x.provider: there is no [provider.gogle]; did you mean google?"),
        ("[provider.acme]\nmx='a.example'\n[shape.x]\nprovider = 'acne'\nrate = '1/s'",
         "4: shape.x.provider: there is no [provider.acne]; did you mean acme?"),
        ("[shape.x]\nsource = '192.0.2.1'\nrate = '1/s'",
         '2: shape.x.source: "192.0.2.1" is not one of: default, *'),
        ("[shape.x]\nsite = '*.google.com'\nrate = '1/s'",
         '2: shape.x.site: "*.google.com": * stands alone; did you mean .google.com?'),
        ("[shape.x]\ndomain = 'a@b.example'\nrate = '1/s'",
         '2: shape.x.domain: "a@b.example" is an address, not a domain; did you mean b.example?'),
        ("[shape.x]\nsite = '*'\nconnections = -1",
         "3: shape.x.connections: must be 0 to 100000, not -1"),
        ("[shape.X]\nsite = '*'\nconnections = 1",
         '1: shape.X: "X" cannot name a shape: a-z, 0-9, single _ and -'),
        ("[shape.x]\nsite = '*'\nconections = 1\nrate = '1/s'",
         "3: shape.x.conections: is not a setting; did you mean shape.x.connections?"),
        ("[tenant.x]\nprofile = 'patent'\n[tenant.y]\nprofile='patient'\n[profile.patient]",
         "2: tenant.x.profile: there is no [profile.patent]; did you mean patient?"),
        ("[tenant.x]\nsenders = '@a.example'", '2: tenant.x.senders: "@a.example" is neither a '
         "domain nor user@example.com; did you mean a.example?"),
        ("[tenant.x]\nclients = '10.0.0.1/8'", '2: tenant.x.clients: "10.0.0.1/8" has bits set '
         "behind the mask; did you mean 10.0.0.0/8?"),
        ("[tenant.x]\npriority = 'hihg'",
         '2: tenant.x.priority: "hihg" is not one of: high, normal, bulk; did you mean high?'),
        ("[tenant.x]\nweight = 0", "2: tenant.x.weight: must be 1 to 1000, not 0"),
        ("[tenant.x]\nlogins = ['']", "2: tenant.x.logins: must not be empty"),
        ("[provider.x]", "1: provider.x.mx: is missing: it says which hosts are the provider's"),
        ("[provider.x]\nmx = '*.corp.example'", '2: provider.x.mx: "*.corp.example" is not a '
         "domain name; did you mean .corp.example?"),
        ("[tenant.a]\nprofile='p'\n[profile.p]\nfirst_s = 5000", "4: profile.p.first_s: "
         "profile.p.first_s (5000) is more than profile.p.max_s (4000)"),
        ("[retry]\nmax_s = 400\n[tenant.a]\nprofile='p'\n[profile.p]\nfirst_s = 500",
         "6: profile.p.first_s: profile.p.first_s (500) is more than profile.p.max_s (400)"),
        ("[tenant]\nx = 3", "2: tenant.x: is a section; write [tenant.x]"),
        ("[[shape]]\nsite = '*'", "1: shape: is a section; write [shape]"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    assert problems_of(tmp_path, text) == [said]


def test_a_bad_value_is_said_once(tmp_path: Path) -> None:
    text = (
        "[shape.x]\nsite = ['a b']\nrate = 'fast'\n[provider.p]\nmx = 3\n[profile.q]\nmax_s = 'x'"
    )
    assert [one.partition(":")[0] for one in problems_of(tmp_path, text)] == ["2", "3", "5", "7"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[shape.x]\nsite = '*'\nconnections = 600",
         "3: shape.x.connections: there are never as many: delivery.connections is 500"),
        ("[profile.p]", "1: profile.p: no tenant has this profile"),
        ("[tenant.a]\nprofile = 'p'\n[profile.p]\ndelay_s = 500\nlifetime_s = 400",
         "4: profile.p.delay_s: nobody hears of it: mail goes back after 400 s (lifetime_s)"),
        ("[tenant.bulk]\nlogins = 'a'",
         '1: tenant.bulk: a tenant is somebody; its class is set by priority = "bulk"'),
        ("[tenant.b]\nlogins = ['x', 'y']\n[tenant.a]\nlogins = 'y'",
         "3: tenant.a: its mail is that of tenant.b, which stands before"),
        ("[tenant.b]\nlogins = 'a'\n[tenant.a]",
         "3: tenant.a: its mail is that of tenant.b, which stands before"),
        ("[tenant.b]\nsenders = ['x.example', 'y.example']\n[tenant.c]\nlogins = 'c'\n[tenant.a]\n"
         "senders = 'y.example'", "5: tenant.a: its mail is that of tenant.b, which stands before"),
    ],
)  # fmt: skip
def test_what_can_hardly_be_meant(tmp_path: Path, text: str, said: str) -> None:
    config = load_text(tmp_path, text)
    assert [str(one).removeprefix(f"{tmp_path}/x.toml:") for one in config.warnings] == [said]


@pytest.mark.parametrize(
    "text",
    [
        # Senders narrow the first: what is left is the second's.
        "[tenant.news]\nlogins = 'shop'\nsenders = 'news.example'\n[tenant.shop]\nlogins = 'shop'",
        "[tenant.a]\nlogins = 'x'\n[tenant.b]\nlogins = ['x', 'y']",
        "[tenant.a]\nlogins = 'x'\n[tenant.b]\nclients = '10.0.0.0/8'\nsenders = 'x.example'",
        "[tenant.a]\n[tenant.b]\n",
    ],
)
def test_tenants_that_have_mail_are_not_doubted(tmp_path: Path, text: str) -> None:
    assert load_text(tmp_path, text).warnings == ()


REFUSED: list[tuple[Kind, object, str]] = [
    (RateText(), 100, "must be text in quotes, not 100"),
    (RateText(), "100", '"100" is no rate such as "100/min" or "100/min, burst 10"'),
    (RateText(), "1.5/s", '"1.5/s" is no rate such as "100/min" or "100/min, burst 10"'),
    (RateText(), "10/min burst 3", '"10/min burst 3" is no rate such as'),
    (RateText(), "10/hours", '"10/hours": the period is one of s, min, h, d; did you mean hour?'),
    (RateText(), "10/week", '"10/week": the period is one of s, min, h, d'),
    (RateText(), "0/s", '"0/s" lets nothing through: set paused = true to stop mail'),
    (RateText(), "1/s, burst 0", '"1/s, burst 0": burst is at least 1'),
    (RateText(), "-1/s", '"-1/s" is no rate'),
    (RateText(), "1\n/s", "must not contain control characters"),
    (Selector(), "", '"" must be printable ASCII without spaces, not empty'),
    (Selector(), "a b", '"a b" must be printable ASCII without spaces, not empty'),
    (Selector(), ".", '"." must be printable ASCII without spaces, not empty'),
    (Selector(), "x" * 256, "must be printable ASCII"),
    (Selector(), "\u212a", "must be printable ASCII"),
    (Selector(), "a*", '"a*": * stands alone'),
    (DomainSelector(), "a..b", '"a..b" is not a domain name'),
    (SenderPattern(), "*.a.example", '"*.a.example" is neither a domain nor user@example.com; '
     "did you mean .a.example?"),
    (SenderPattern(), "a@.b.example", '"a@.b.example" is neither a domain nor user@example.com'),
    (SenderPattern(), "", '"" is neither a domain nor user@example.com'),
    (SenderPattern(), "<>", '"<>" is neither a domain nor user@example.com'),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value", "said"), REFUSED)
def test_kinds_refuse(kind: Kind, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        kind.check(value)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (RateText(), "", ""),
        (RateText(), " 100/Min ", "100/min"),
        (RateText(), "1,000,000 / day , burst  5", "1,000,000 / day , burst  5"),
        (SiteSelector(), "(ALT1|alt2).x", "(alt1|alt2).x"),
        (Selector(), "Shop", "Shop"),
        (DomainSelector(), "Example.COM", "example.com"),
        (DomainSelector(), "unix:/run/LMTP", "unix:/run/LMTP"),
        (SenderPattern(), "Ann@B.example", "ann@b.example"),
    ],
)
def test_kinds_take(kind: Kind, value: object, expected: object) -> None:
    assert kind.check(value) == expected


COUNT = st.sampled_from(
    ["0", "00", "1", "10", "100", "1,000", "1000", "1,0", "10,000,000", "1,000,000,000,000",
     "999999999999", "1000000000000", "", "-1", "1.5", "\u0661"]
)  # fmt: skip
UNIT = st.sampled_from(
    ["s", "sec", "second", "m", "min", "minute", "h", "hr", "hour", "d", "day", "hours",
     "w", "", "MIN"]
)  # fmt: skip
BURST = st.sampled_from(
    [", burst ", ",burst ", " burst ", ", burst", " , burst  ", ", Burst ", ";"]
)
SPACE = st.sampled_from(["", " "])
RATE = st.tuples(SPACE, COUNT, SPACE, st.just("/"), SPACE, UNIT, SPACE)
TEXT = st.one_of(RATE, st.tuples(*[RATE.map("".join), BURST, COUNT, SPACE])).map("".join)


@given(TEXT)
def test_a_rate_that_is_taken_is_one_that_limits_can_read(text: str) -> None:
    """And the other way round: orders of the operator know no other rates."""
    try:
        checked = RateText().check(text)
    except ValueError:
        with pytest.raises(ValueError, match=r"rate|period|burst"):
            read_rate(text)
    else:
        assert read_rate(checked) == read_rate(text)
