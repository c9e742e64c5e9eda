"""From sections of the configuration to limits, tenants and providers."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastmta.budget.rate import Rate
from fastmta.budget.shape import Shape
from fastmta.config import Config, load
from fastmta.daemon.descriptor import divide
from fastmta.daemon.settings import scheduler_options, spool_options
from fastmta.daemon.shaping import known_providers, shapes, tenants
from fastmta.message import ClientIdentity, Envelope
from fastmta.scheduler import RetryPolicy
from fastmta.scheduler.tenant import Tenant

TEXT = """
[retry]
first_s = 60
[shape.second]
tenant = "*"
domain = ".corp.example"
rate = "1,000/h, burst 50"
[shape.first]
site = "*"
connections = 7
[shape.stop]
provider = ["google", "corp"]
source = "default"
paused = true
[provider.corp]
mx = ["mx.corp.example"]
[tenant.news]
logins = "shop"
senders = "news.example"
priority = "bulk"
profile = "patient"
[tenant.shop]
clients = "10.0.0.0/8"
weight = 3
priority = "high"
[profile.patient]
max_s = 7200
lifetime_s = 86400
bounce_lifetime_s = 3600
jitter = 0.2
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "x.toml"
    path.write_text(TEXT)
    return load(str(path), {}, (), lambda: "mx.example.org")


def test_limits_keep_their_order(config: Config) -> None:
    expected = (
        Shape(name="second", tenant=("*",), domain=(".corp.example",), rate=Rate(1000, 3600.0, 50)),
        Shape(name="first", site=("*",), connections=7),
        Shape(name="stop", provider=("google", "corp"), source=("default",), is_paused=True),
    )
    assert shapes(config) == expected
    assert scheduler_options(config, 2, divide(20_000, 1, 1)).shapes == expected


def mail(sender: str, login: str = "", address: str = "192.0.2.1") -> Envelope:
    client = ClientIdentity(address, login=login)
    return Envelope(sender.encode(), (b"r@d.example",), client)


def test_tenants_have_their_class_share_and_profile(config: Config) -> None:
    found = tenants(config)
    news = found.of(mail("a@news.example", "shop"))
    assert (news.name, news.weight, news.priority) == ("news", 1, 2)
    assert news.retry is not None
    expected = RetryPolicy(
        first_s=60,
        max_s=7200,
        jitter=0.2,
        lifetime_s=86400,
        bounce_lifetime_s=3600,
        warn_s=0.0,
    )
    assert news.retry.delay_s(1, 0.5) == 60  # of [retry]
    assert news.retry == expected
    assert scheduler_options(config, 1, divide(20_000, 1, 1)).profiles == (expected,)
    shop = Tenant("shop", weight=3, priority=0)
    assert found.of(mail("a@shop.example", address="10.1.2.3")) == shop
    assert found.of(mail("a@shop.example", "shop")) == shop  # by its name
    assert found.of(mail("a@news.example", "other")) == Tenant("other")


def test_mail_lives_as_long_as_the_profile_of_its_tenant_says(config: Config) -> None:
    lifetime_of = spool_options(config, 0, b"").lifetime_of
    assert lifetime_of is not None
    assert lifetime_of(mail("a@news.example", "shop")) == 86400
    assert lifetime_of(mail("a@shop.example", "shop")) == 5 * 86400
    plain = load(None, {}, (), lambda: "mx.example.org")
    assert spool_options(plain, 0, b"").lifetime_of is None


def test_providers_of_the_configuration_and_those_we_know(config: Config) -> None:
    found = known_providers(config)
    assert found.of(["mx.corp.example"]) == "corp"
    assert found.of(["gmail-smtp-in.l.google.com"]) == "google"
