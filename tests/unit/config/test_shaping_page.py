"""docs/shaping.md: each example passes `fastmta check` without a word, and does what it says."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastmta.budget.shape import Shape
from fastmta.cli import main
from fastmta.config import load
from fastmta.config.provider import KNOWN_PROVIDERS
from fastmta.daemon.shaping import known_providers, shapes, tenants
from fastmta.message import ClientIdentity, Envelope
from fastmta.scheduler.tenant import Tenant

PAGE = (Path(__file__).parents[3] / "docs" / "shaping.md").read_text()
_FOUND = re.findall(r"^## ([^\n]*)\n|^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def _examples() -> list[tuple[str, str]]:
    """(title, text) of each block."""
    title, examples = "", []
    for heading, block in _FOUND:
        title = heading or title
        if block:
            examples.append((title, block))
    return examples


EXAMPLES = _examples()


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    for name in [name for name in os.environ if name.startswith("FASTMTA_")]:
        monkeypatch.delenv(name)
    return CliRunner()


@pytest.mark.parametrize(
    "text",
    [text for _, text in EXAMPLES],
    ids=[f"{n}:{title}" for n, (title, _) in enumerate(EXAMPLES)],
)
def test_check_has_nothing_to_say(runner: CliRunner, tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text('hostname = "relay.example"\n' + text)
    result = runner.invoke(main, ["check", "-c", str(path)])
    assert (result.exit_code, result.output) == (0, "")


def test_check_reads_the_examples_in_the_environment(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTMTA_HOSTNAME", "relay.example")
    found = re.findall(r"^    (FASTMTA_\w+)='?([^'\n]*)'?$", PAGE, re.MULTILINE)
    assert len(found) == 2
    for name, value in found:
        monkeypatch.setenv(name, value)
    result = runner.invoke(main, ["check", "-c", os.devnull])
    assert (result.exit_code, result.output) == (0, "")


def test_the_table_of_providers_is_the_one_that_is_shipped() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (`\.[^|]*) \|$", PAGE, re.MULTILINE)
    assert {name: tuple(re.findall("`([^`]+)`", mx)) for name, mx in rows} == KNOWN_PROVIDERS


class Example:
    """What one of them comes to."""

    def __init__(self, tmp_path: Path, title: str, number: int = 0) -> None:
        path = tmp_path / "x.toml"
        path.write_text([text for one, text in EXAMPLES if one == title][number])
        self._config = load(str(path), {}, (), lambda: "relay.example")

    def counters(self, **subject: str) -> dict[str, Shape]:
        """Those that mail of this kind counts at, by name."""
        found = {shape.values(subject): shape for shape in shapes(self._config)}
        return {name: shape for name, shape in found.items() if name is not None}

    def provider_of(self, *hosts: str) -> str:
        return known_providers(self._config).of(hosts)

    def tenant_of(
        self, login: str = "", sender: str = "a@b.example", address: str = "203.0.113.9"
    ) -> Tenant:
        client = ClientIdentity(address, login=login)
        return tenants(self._config).of(Envelope(sender.encode(), (b"r@d.example",), client))


def test_a_hundred_a_minute_to_one_provider(tmp_path: Path) -> None:
    example = Example(tmp_path, "100 a minute to one provider")
    ((name, shape),) = example.counters(provider="google", site="x", tenant="t").items()
    assert name == "google(provider=google)"
    assert shape.rate is not None
    assert (shape.rate.count, shape.rate.period_s, shape.rate.burst) == (100, 60, 10)
    assert shape.connections == 5
    assert not example.counters(provider="", site="x", tenant="t")
    assert example.provider_of("gmail-smtp-in.l.google.com", "alt1.gmail-smtp-in.l.google.com")

    finer = Example(tmp_path, "100 a minute to one provider", 1)
    assert finer.provider_of("outlook-com.olc.protection.outlook.com") == "hotmail"
    assert finer.provider_of("contoso-com.mail.protection.outlook.com") == "microsoft"
    assert finer.provider_of("mx.corp.example", "a.mail.corp.example") == "corp"


def test_what_a_limit_is_about(tmp_path: Path) -> None:
    example = Example(tmp_path, "What a limit is about")
    relay = {"site": "smtp.provider.example:587", "domain": "[smtp.provider.example]:587"}
    assert set(example.counters(**relay)) == {
        "gentle(site=smtp.provider.example:587)",
        "relay(site=smtp.provider.example:587)",
    }
    assert set(example.counters(site="mx.uni.example", domain="cs.uni.example")) == {
        "gentle(site=mx.uni.example)",
        "university(domain=cs.uni.example)",
    }
    assert example.counters(site="m", domain="down.example")[
        "broken(domain=down.example)"
    ].is_paused


def test_a_tenant_with_its_own_profile(tmp_path: Path) -> None:
    example = Example(tmp_path, "A tenant with its own profile")
    alerts = example.tenant_of("monitoring")
    assert (alerts.name, alerts.priority) == ("alerts", 0)
    assert alerts.retry is not None
    assert (alerts.retry.first_s, alerts.retry.lifetime_s) == (30, 7200)
    partner = example.tenant_of(address="2001:db8:7:1::25")
    assert partner.retry is not None
    assert (partner.name, partner.retry.first_s) == ("partner", 300)
    assert partner.retry.lifetime_s == 14 * 86400
    assert example.tenant_of().name == "203.0.113.9"


def test_bulk_beside_transactional_mail(tmp_path: Path) -> None:
    title = "Bulk beside transactional mail"
    example = Example(tmp_path, title)
    news = example.tenant_of("shop", "x@news.shop.example")
    assert (news.name, news.priority) == ("shop-news", 2)
    assert example.tenant_of("shop", "x@mail.news.shop.example").name == news.name
    orders = example.tenant_of("shop", "x@shop.example")
    assert (orders.name, orders.priority, orders.weight) == ("shop", 0, 3)
    assert example.tenant_of("thief", "x@news.shop.example").name == "thief"

    limits = Example(tmp_path, title, 1)
    name = limits.tenant_of("shop", "x@news.shop.example").name
    assert set(limits.counters(provider="google", tenant=name)) == {
        "google(provider=google)",
        "news-at-google(provider=google, tenant=shop-news)",
    }
    assert set(limits.counters(provider="google", tenant="shop")) == {"google(provider=google)"}


def test_one_customers_limit_per_provider(tmp_path: Path) -> None:
    example = Example(tmp_path, "One customer's limit per provider")
    for customer, provider in (("a", "google"), ("b", "google"), ("a", "yahoo")):
        found = example.counters(provider=provider, tenant=customer)
        own = f"customer-per-provider(provider={provider}, tenant={customer})"
        shared = {"google(provider=google)"} if provider == "google" else set()
        assert set(found) == {own} | shared
    assert not example.counters(provider="", tenant="a")
    trial = example.tenant_of("customer-17").name
    assert trial == example.tenant_of("customer-23").name
    assert set(example.counters(provider="", tenant=trial)) == {"trial(tenant=trial)"}
