"""Tenants are found by index and remembered; a plain walk over the rules says the same."""

import ipaddress

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.message import ClientIdentity, Envelope
from fastmta.scheduler.tenant import OWN_NAME, Tenant, TenantRule, Tenants

LOGINS = ("", "acme", "one", "Two")
ADDRESSES = ("", "10.1.2.3", "10.1.9.9", "192.0.2.1", "2001:db8:1::9", "2001:db8:2::1")
NETWORKS = tuple(
    ipaddress.ip_network(one)
    for one in ("10.0.0.0/8", "10.1.2.0/24", "10.1.2.3/32", "0.0.0.0/0", "2001:db8::/32",
                "2001:db8:1::/48", "::/0")
)  # fmt: skip
PATHS = (b"", b"a@x.example", b"A@X.example", b"b@x.example", b"a@s.x.example", b"c@t.s.x.example",
         b"nobody", b'"a@x.example"@y.example')  # fmt: skip
SENDERS = ("a@x.example", "x.example", ".x.example", ".s.x.example", "s.x.example", ".example",
           "example", "nobody")  # fmt: skip


def few(choices: tuple[object, ...]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(st.sampled_from(choices), max_size=2).map(tuple)


RULES = st.lists(
    st.builds(
        TenantRule,
        st.sampled_from(("acme", "b", "c", OWN_NAME)).map(Tenant),
        few(NETWORKS),
        few(LOGINS[1:]),
        few(SENDERS),
    ),
    max_size=6,
)
MAILS = st.lists(
    st.tuples(st.sampled_from(PATHS), st.sampled_from(LOGINS), st.sampled_from(ADDRESSES)),
    max_size=30,
)


def matches(rule: TenantRule, path: bytes, login: str, address: str) -> bool:
    """What the docstring of `TenantRule` says, word by word."""
    lowered = path.decode().lower()
    domain = lowered.rpartition("@")[2]
    is_sender = any(
        domain.endswith(one) if one[0] == "." else one in (lowered, domain) for one in rule.senders
    )
    if not (rule.clients or rule.logins or rule.senders):
        return login == rule.tenant.name
    if not (rule.clients or rule.logins):
        return is_sender and path != b""
    is_client = login in rule.logins or any(
        ipaddress.ip_address(address) in network for network in rule.clients if address
    )
    return is_client and (is_sender or not rule.senders)


@settings(max_examples=300, deadline=None)
def place_of(address: str) -> str:
    return str(ipaddress.ip_network(address + "/64", strict=False)) if ":" in address else address


@given(RULES, MAILS)
def test_a_walk_over_the_rules_finds_the_same(
    rules: list[TenantRule], mails: list[tuple[bytes, str, str]]
) -> None:
    tenants = Tenants(*rules)
    for path, login, address in mails:
        found = (rule.tenant.name for rule in rules if matches(rule, path, login, address))
        expected = next(found, login or place_of(address) or OWN_NAME)
        envelope = Envelope(path, (b"r@d.example",), ClientIdentity(address, login=login))
        assert tenants.of(envelope).name == expected
