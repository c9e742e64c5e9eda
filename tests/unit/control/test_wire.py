"""Next hops as people see them."""

import pytest

from fastmta.control.wire import hop_text


@pytest.mark.parametrize(
    ("next_hop", "shown"),
    [
        ("smtp:example.com", "example.com"),
        ("smtp:[192.0.2.1]:25,[192.0.2.2]:25#-", "[192.0.2.1]:25,[192.0.2.2]:25"),
        ("smtp:[mail.example]:587 for acme", "[mail.example]:587, tenant acme"),
        ("lmtp:unix:/run/lmtp#-", "lmtp:unix:/run/lmtp"),
        ("smtp:mail.example:587#second/a%40b.example!requiretls for a%20for%20b",
         "mail.example:587, relay second, login a@b.example, REQUIRETLS, tenant a for b"),
        ("error:5.7.1 not for you", "error:5.7.1 not for you"),
        ("smtp:example.com for a%1B%5B31m", "example.com, tenant a%1B%5B31m"),
    ],
)  # fmt: skip
def test_a_next_hop_is_shown_without_its_syntax(next_hop: str, shown: str) -> None:
    assert hop_text(next_hop) == shown
