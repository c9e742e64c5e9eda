"""Every relay host that the configuration takes is one that the route table takes."""

from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from fastmta.config.address import NextHop
from fastmta.config.schema import RELAY_HOSTS_MAX
from fastmta.route import RouteTable
from fastmta.route.table import RELAY_HOSTS_MAX as ROUTE_HOSTS_MAX

PARTS = ["[", "]", ":", ".", "a", "-", "_", "IPv6:", "::1", "fe80::1%lo", "10.1.2.3", "25", "x.1"]


@given(st.lists(st.sampled_from(PARTS), max_size=6).map("".join))
@example("x.123")
@example("[fe80::1%lo]:25")
@example("[x.٣]")
def test_what_the_configuration_takes_can_be_routed(text: str) -> None:
    with suppress(ValueError):
        host = NextHop().check(text)
        assert route(host), text


def route(host: str) -> bytes:
    """The next hop; a ValueError of the table is a failure here."""
    try:
        return RouteTable([host]).next_hop(b"a@b.example")
    except ValueError as error:
        raise AssertionError(str(error)) from error


def test_both_take_as_many() -> None:
    assert RELAY_HOSTS_MAX == ROUTE_HOSTS_MAX
