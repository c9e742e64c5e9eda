"""Whose mail hosts those of a site are: of rules, of look-ups, and of the ones that are shipped."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from fastmta.config.provider import KNOWN_PROVIDERS, providers
from fastmta.route import Answer, AnswerKind, RecordType, Resolver, RouteProblem, Site
from fastmta.route.answer import Done
from fastmta.route.hop import parse_destination
from fastmta.route.provider import Providers
from fastmta.route.site import site_key
from fastmta.route.way import Way
from fastmta.route.ways import Fallback, Ways

NOW_S = 1_000.0
RULES = Providers({"big": (".big.example", "mx.old.example"), "small": (".mx.big.example",)})

# Hosts as MX records name them, and names that only look like them.
SHIPPED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "google": (
        ("gmail-smtp-in.l.google.com", "alt1.aspmx.l.google.com", "smtp.google.com",
         "aspmx2.googlemail.com"),
        ("google.com", "mx.notgoogle.com", "aspmx.l.google.com.example", "google.com.example"),
    ),
    "microsoft": (
        ("hotmail-com.olc.protection.outlook.com", "contoso-com.mail.protection.outlook.com",
         "contoso-com.o-v1.mx.microsoft"),
        ("outlook.com", "mail.protection.outlook.com", "mail.protection.outlook.com.example",
         "xmail.protection.outlook.com.example", "smtp.office365.com", "notmx.microsoft"),
    ),
    "yahoo": (("mta5.am0.yahoodns.net",), ("mx.notyahoodns.net", "mta5.am0.yahoodns.net.example")),
    "yahoo-japan": (("mx3.mail.yahoo.co.jp",), ("mail.yahoo.co.jp", "mx.yahoo.co.jp.example")),
    "icloud": (("mx01.mail.icloud.com",), ("icloud.com", "mx.noticloud.com")),
    "gmx": (("mx00.emig.gmx.net", "mx-ha02.web.de"), ("gmx.net", "mx.gmx.net.example")),
    "mail-com": (("mx00.mail.com",), ("mail.com", "mx00.hotmail.com", "mx00.mail.com.example")),
    "t-online": (("mx00.t-online.de",), ("t-online.de", "mx.not-t-online.de")),
    "comcast": (("mx1.comcast.net",), ("comcast.net", "mx1.notcomcast.net")),
    "orange": (("smtp-in.orange.fr",), ("orange.fr", "smtp-in.notorange.fr")),
    "mail-ru": (("mxs.mail.ru",), ("mail.ru", "mxs.hotmail.ru")),
    "yandex": (("mx.yandex.ru", "mx.yandex.net"), ("yandex.ru", "mx.notyandex.net")),
    "qq": (("mx3.qq.com", "mxbiz1.qq.com"), ("qq.com", "mx3.notqq.com")),
    "netease": (("163mx01.mxmail.netease.com",), ("mxmail.netease.com", "mx.netease.com")),
    "proton": (("mailsec.protonmail.ch",), ("protonmail.ch", "mail.notprotonmail.ch")),
    "fastmail": (("in1-smtp.messagingengine.com",), ("messagingengine.com", "x.fastmail.com")),
    "zoho": (("mx2.zoho.com", "mx.zoho.eu"), ("zoho.com", "mx.notzoho.eu")),
    "mimecast": (
        ("us-smtp-inbound-1.mimecast.com", "za-smtp-inbound-1.mimecast.co.za",
         "je-smtp-inbound-1.mimecast-offshore.com"),
        ("mimecast.com", "x.notmimecast.com", "mimecast.co.za"),
    ),
    "proofpoint": (
        ("mx0a-00112233.pphosted.com", "mx1-us1.ppe-hosted.com"),
        ("pphosted.com", "mx0a.notpphosted.com"),
    ),
    "barracuda": (
        ("d12345a.ess.barracudanetworks.com", "d12345a.ess.de.barracudanetworks.com"),
        ("barracudanetworks.com", "d1.ess.barracudanetworks.com.example"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("hosts", "name"),
    [
        (["mx1.big.example"], "big"),
        (["mx1.big.example", "mx2.big.example", "mx.old.example"], "big"),
        (["mx1.big.example", "mx.elsewhere.example"], ""),  # of all hosts, not of some
        (["big.example"], ""),
        (["notbig.example"], ""),
        (["mx1.big.example.evil.example"], ""),
        (["a.mx.old.example"], ""),
        (["a.mx.big.example"], "big"),  # the first one that fits
        ([], ""),
    ],
)
def test_every_host_must_be_the_providers(hosts: list[str], name: str) -> None:
    assert RULES.of(hosts) == name


def test_without_rules_there_is_no_provider() -> None:
    assert Providers().of(["mx1.big.example"]) == ""


def test_each_shipped_provider_has_its_hosts_and_no_others() -> None:
    assert SHIPPED.keys() == KNOWN_PROVIDERS.keys()
    shipped = Providers(providers({}))
    for name, (hosts, others) in SHIPPED.items():
        assert shipped.of(hosts) == name
        for suffix in KNOWN_PROVIDERS[name]:  # none that matches nothing
            assert any(host.endswith(suffix) for host in hosts), suffix
            assert re.fullmatch(r"(\.[a-z0-9-]+)+", suffix)
        for other in others:
            assert shipped.of([other]) == "", other


def test_no_shipped_provider_hides_another() -> None:
    for name, (hosts, _) in SHIPPED.items():
        for host in hosts:
            fitting = [
                one for one, mx in KNOWN_PROVIDERS.items() if Providers({one: mx}).of([host])
            ]
            assert fitting == [name]


def test_the_configuration_comes_before_what_is_shipped() -> None:
    found = providers({"hotmail": [".olc.protection.outlook.com"], "google": [".mine.example"]})
    both = Providers(found)
    assert both.of(["hotmail-com.olc.protection.outlook.com"]) == "hotmail"
    assert both.of(["contoso-com.mail.protection.outlook.com"]) == "microsoft"
    assert both.of(["mx.mine.example"]) == "google"
    assert both.of(["smtp.google.com"]) == ""  # it says what google is


class Zone:
    """MX records; every host has an address."""

    def __init__(self, exchanges: Mapping[str, tuple[str, ...]]) -> None:
        self._exchanges = exchanges

    def query(self, name: str, rdtype: RecordType, done: Done) -> None:
        if rdtype is RecordType.MX:
            pairs = tuple((10, host) for host in self._exchanges.get(name, ()))
            kind = AnswerKind.FOUND if pairs else AnswerKind.NO_DATA
            done(Answer(kind, NOW_S + 600, exchanges=pairs))
        elif rdtype is RecordType.A and "absent" not in name:
            done(Answer(AnswerKind.FOUND, NOW_S + 600, values=("192.0.2.1",)))
        else:
            done(Answer(AnswerKind.NO_DATA, NOW_S + 600))


def resolve(next_hop: bytes, ways: Ways | None = None) -> Site:
    zone = Zone(
        {
            "a.example": ("mx1.big.example", "mx2.big.example"),
            "b.example": ("mx2.big.example", "mx1.big.example"),
            "mixed.example": ("mx1.big.example", "mx.other.example"),
            "half.example": ("mx1.big.example", "absent.other.example"),
            "small.example": ("mx1.mx.big.example",),
        }
    )
    found: list[Site | RouteProblem] = []
    resolver = Resolver(zone, lambda: NOW_S, lambda _: None, ways=ways, providers=RULES)
    resolver.resolve(next_hop, lambda _, site: found.append(site))
    (site,) = found
    assert isinstance(site, Site), site
    return site


@pytest.mark.parametrize(
    ("next_hop", "name"),
    [
        (b"smtp:a.example", "big"),
        (b"smtp:mixed.example", ""),
        (b"smtp:half.example", ""),  # a host without an address counts as well
        (b"smtp:mx9.big.example", "big"),  # the implicit MX
        (b"smtp:plain.example", ""),
        (b"smtp:[mx1.big.example]:587", "big"),  # a relay counts as its MX
        (b"smtp:[mx1.big.example]:25,[other.example]:25", ""),
        (b"smtp:[192.0.2.1]:25", ""),
        (b"lmtp:unix:/run/lmtp", ""),
    ],
)
def test_sites_have_a_provider(next_hop: bytes, name: str) -> None:
    assert resolve(next_hop).provider == name


def test_a_provider_is_no_part_of_the_key() -> None:
    site = resolve(b"smtp:a.example")
    hosts = [("mx1.big.example", 25), ("mx2.big.example", 25)]
    assert site.key == resolve(b"smtp:b.example").key == site_key(hosts)


def test_fallbacks_do_not_count() -> None:
    elsewhere = Fallback((parse_destination("[relay.other.example]:25", "smtp"),), Way())
    ways = Ways(fallbacks={"": (elsewhere,)})
    site = resolve(b"smtp:a.example", ways)
    assert [target.host for target in site.targets][-1] == "relay.other.example"
    assert site.provider == "big"
