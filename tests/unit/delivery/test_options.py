"""What follows from the options of a courier."""

import pytest

from fastmta.delivery import DeliveryOptions, TimeLimits

LIMITS = TimeLimits()


def test_time_limits_are_those_of_the_protocol() -> None:
    """RFC 5321 4.5.3.2; connecting as Postfix does."""
    minutes = (LIMITS.greeting_s, LIMITS.mail_s, LIMITS.rcpt_s, LIMITS.data_s, LIMITS.block_s)
    assert minutes == (300.0, 300.0, 300.0, 120.0, 180.0)
    assert LIMITS.end_of_data_s == 600.0
    assert LIMITS.connect_s == 30.0


@pytest.mark.parametrize(
    ("idle_s", "connect_s", "expected"),
    [(5.0, 30.0, 1.0), (1.0, 30.0, 0.25), (5.0, 0.4, 0.1), (0.0, 30.0, 0.01)],
)
def test_clock_is_finer_than_every_limit(idle_s: float, connect_s: float, expected: float) -> None:
    limits = TimeLimits(connect_s=connect_s)
    assert DeliveryOptions("a.example", idle_s=idle_s, time_limits=limits).tick_s == expected


def test_source_address_is_of_the_target_s_family() -> None:
    options = DeliveryOptions("a.example", source_addresses=("192.0.2.1", "2001:db8::1"))
    assert options.source_for("198.51.100.7") == "192.0.2.1"
    assert options.source_for("2001:db8::7") == "2001:db8::1"
    assert DeliveryOptions("a.example", source_addresses=("192.0.2.1",)).source_for("::1") is None
    assert DeliveryOptions("a.example").source_for("192.0.2.1") is None
