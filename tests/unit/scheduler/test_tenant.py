"""For whom mail is counted."""

import ipaddress

import pytest

from fastmta.message import ClientIdentity, Envelope
from fastmta.scheduler import RetryPolicy, tenant
from fastmta.scheduler.tenant import OWN_NAME, Tenant, TenantRule, Tenants

SLOW = RetryPolicy(first_s=900)
FLEET = Tenant("fleet", weight=3)
SHOP = Tenant("shop", priority=0, retry=SLOW)
NEWS = Tenant("news", priority=2)
RULES = Tenants(
    TenantRule(NEWS, logins=("shop", "shop-2"), senders=("news.shop.example",)),
    TenantRule(SHOP, logins=("shop", "shop-2"), clients=(ipaddress.ip_network("192.0.2.7"),)),
    TenantRule(
        FLEET,
        clients=(ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32")),
    ),
    TenantRule(Tenant("partner"), senders=("billing@Corp.example", ".partner.example")),
)


def mail(
    sender: str = "a@b.example", login: str = "", address: str = "203.0.113.9", tenant: str = ""
) -> Envelope:
    client = ClientIdentity(address, login=login)
    return Envelope(sender.encode(), (b"c@d.example",), client, tenant=tenant)


@pytest.mark.parametrize(
    ("envelope", "name"),
    [
        (mail(login="shop"), "shop"),
        (mail(login="shop-2"), "shop"),
        (mail(address="192.0.2.7"), "shop"),  # either is enough
        (mail(login="Shop"), "Shop"),  # logins are compared as they are
        # The first rule in the file decides, and its senders narrow it.
        (mail("x@news.shop.example", login="shop"), "news"),
        (mail("x@NEWS.Shop.example", login="shop-2"), "news"),
        (mail("x@sub.news.shop.example", login="shop"), "shop"),
        (mail("x@news.shop.example", address="192.0.2.7"), "shop"),
        (mail("x@news.shop.example"), "203.0.113.9"),  # whoever says it is not believed
        (mail(address="10.255.0.1"), "fleet"),
        (mail(address="11.0.0.1"), "11.0.0.1"),
        (mail(address="2001:db8:ffff::1"), "fleet"),
        (mail(address="2001:db9::1"), "2001:db9::/64"),
        (mail(address="2001:db9::ffff:1"), "2001:db9::/64"),
        (mail(address="2001:db9:0:1::1"), "2001:db9:0:1::/64"),
        (mail(address="::1"), "::1"),
        (mail(address="::ffff:192.0.2.1"), "::ffff:192.0.2.1"),
        (mail(address="2001:db8::1%eth0"), "fleet"),
        (mail("Billing@CORP.example"), "partner"),
        (mail("other@corp.example"), "203.0.113.9"),
        (mail("x@a.b.partner.example"), "partner"),
        (mail("x@partner.example"), "203.0.113.9"),
        (mail("x@notpartner.example"), "203.0.113.9"),
        (mail("billing@corp.example", address="10.0.0.1"), "fleet"),  # its rule comes first
        # Without a rule: the login, else the address.
        (mail(login="somebody", address="203.0.113.9"), "somebody"),
        (mail(""), "203.0.113.9"),  # a bounce that a client hands over is the client's
        (mail("", login="shop"), "shop"),
        (mail("", address=""), OWN_NAME),
        (mail("postmaster@b.example", address=""), OWN_NAME),
        # What the envelope says itself stands for the login.
        (mail(login="shop", tenant="else"), "else"),
        (mail(address="203.0.113.9", tenant="shop-2"), "shop"),
    ],
)
def test_the_first_rule_in_the_file_decides(envelope: Envelope, name: str) -> None:
    assert RULES.of(envelope).name == name
    assert RULES.of(envelope).name == name  # as remembered


def test_everything_said_of_a_tenant_holds() -> None:
    assert RULES.of(mail(login="shop")) is SHOP
    assert RULES.of(mail("x@news.shop.example", login="shop")) is NEWS
    assert RULES.of(mail(login="unheard-of")) == Tenant("unheard-of", 1, 1, None)


def test_a_tenant_without_conditions_is_the_login_of_its_name() -> None:
    tenants = Tenants(TenantRule(FLEET))
    assert tenants.of(mail(login="fleet")) is FLEET
    assert tenants.of(mail()).name == "203.0.113.9"


def test_there_is_one_tenant_of_a_name() -> None:
    """Even where its rule does not ask for that login: nobody has two weights."""
    tenants = Tenants(TenantRule(FLEET, clients=(ipaddress.ip_network("10.0.0.0/8"),)))
    assert tenants.of(mail(login="fleet")) is FLEET
    assert tenants.named("fleet") is FLEET
    assert tenants.named("other") == Tenant("other")


def test_our_own_mail_has_what_is_said_of_its_tenant() -> None:
    own = Tenant(OWN_NAME, weight=7)
    assert Tenants(TenantRule(own)).of(mail("", address="")) is own


def test_without_rules_the_login_or_the_client_is_the_tenant() -> None:
    tenants = Tenants()
    assert tenants.of(mail(login="a")).name == "a"
    assert tenants.of(mail()).name == "203.0.113.9"
    assert tenants.of(mail(login="a")) is tenants.of(mail("q@other.example", login="a"))


def test_an_address_of_a_rule_is_not_taken_for_its_domain() -> None:
    """Whatever order they come in, an answer for one sender is none for another."""
    rules = (TenantRule(NEWS, senders=("a@b.example",)), TenantRule(SHOP, senders=("b.example",)))
    for senders in (("a", "z", "A", "q"), ("z", "A", "a", "q")):
        tenants = Tenants(*rules)
        for _ in range(2):
            found = {one: tenants.of(mail(f"{one}@b.example")).name for one in senders}
            assert found == {"a": "news", "A": "news", "z": "shop", "q": "shop"}


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenant, "KNOWN_MAX", 50)
    for tenants in (RULES, Tenants()):
        for number in range(200):
            sender, login = f"u{number}@d{number}.example", f"login{number}"
            assert tenants.of(mail(sender, login=login)).name == login
            assert len(tenants._known) <= 50
        before = len(tenants._known)
        for number in range(60):  # one domain of many senders, such as VERP makes
            tenants.of(mail(f"bounce-{number}@verp.example"))
        assert len(tenants._known) == before % 50 + 1


@pytest.mark.parametrize(
    ("name", "weight", "priority"), [("", 1, 1), ("a", 0, 1), ("a", 1, 3), ("a", 1, -1)]
)
def test_nonsense_is_refused(name: str, weight: int, priority: int) -> None:
    with pytest.raises(ValueError, match="a tenant has"):
        Tenant(name, weight, priority)
