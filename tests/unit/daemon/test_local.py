"""What a client of a unix socket may do, and what a front end there says of others."""

from __future__ import annotations

from collections.abc import Callable

from fastmta.budget import ClientLimitOptions, ClientLimits, Tally, table_octets
from fastmta.daemon.local import LocalNames, LocalPolicy, LocalQuota
from fastmta.daemon.names import TrustedNames
from fastmta.delivery.dns import ClientNames
from fastmta.policy import RelayPolicy
from fastmta.smtp.use import Use

LOCAL, OTHER = "127.0.0.1", "198.51.100.7"
POLICY = RelayPolicy.build(["192.0.2.0/24"], [], "origin.example", "root@origin.example", ["ab"])


class Dns(ClientNames):
    """Knows every name at once."""

    def __init__(self) -> None: ...

    def client_name(self, address: str, done: Callable[[str], None]) -> None:
        done(f"name-of-{address}")


def test_it_is_trusted_and_nobody_else_by_the_way() -> None:
    policy = LocalPolicy(POLICY)
    assert policy.admit(LOCAL).is_trusted
    assert policy.admit(LOCAL, fingerprint="unlisted").is_trusted
    assert not policy.admit(LOCAL).is_known, "a login is still a login"
    assert policy.admit(LOCAL, "anna").is_known
    assert policy.admit(LOCAL).forward_path(b"a@far.example") == b"a@far.example"
    assert policy.admit(LOCAL).reverse_path(b"a@") == b"a@origin.example"
    for address in (OTHER, "127.0.0.2", "::1"):  # as a front end says
        assert not policy.admit(address).is_trusted
    assert policy.admit("192.0.2.1").is_trusted
    assert policy.admit(OTHER, fingerprint="ab").is_trusted
    assert not POLICY.admit(LOCAL).is_trusted, "which holds for this socket only"


def test_its_name_needs_no_look_up() -> None:
    names, said = LocalNames(TrustedNames(POLICY, Dns())), list[str]()
    for address in (LOCAL, OTHER, "192.0.2.1"):
        names.client_name(address, said.append)
    assert said == ["localhost", f"name-of-{OTHER}", "unknown"]


def test_only_its_logins_are_counted() -> None:
    options = ClientLimitOptions(messages=1, auth_failures=1, login_messages=2, account_failures=2)
    tables = [Tally(memoryview(bytearray(table_octets(1))), 1, 0) for _ in range(2)]
    quota = LocalQuota(ClientLimits(options, *tables, lambda: 10**18, b"s" * 32))
    assert quota.is_exempt(LOCAL)
    assert not quota.is_exempt(OTHER)
    assert all(quota.spend(Use.MESSAGE, LOCAL) for _ in range(9))
    assert [quota.spend(Use.MESSAGE, OTHER) for _ in range(2)] == [True, False]
    assert [quota.spend(Use.AUTH_FAILURE, LOCAL) for _ in range(2)] == [True, False]
    assert not quota.is_locked("anna", LOCAL)
    quota.spend(Use.AUTH_FAILURE, LOCAL, "anna")
    assert quota.is_locked("anna", LOCAL), "one network has half of an account's failures"
