"""The retry schedule."""

import pytest

from fastmta.message import ClientIdentity, Envelope, Message
from fastmta.scheduler import RetryPolicy

NS = 1_000_000_000


def test_doubles_from_300_to_4000_seconds() -> None:
    policy = RetryPolicy()
    delays = [policy.delay_s(attempt, 0.5) for attempt in range(1, 8)]
    assert delays == [300, 600, 1200, 2400, 4000, 4000, 4000]


@pytest.mark.parametrize("attempts", [1, 3, 10, 1_000, 10**9])
def test_jitter_is_at_most_a_tenth(attempts: int) -> None:
    policy = RetryPolicy()
    middle = policy.delay_s(attempts, 0.5)
    assert policy.delay_s(attempts, 0.0) == pytest.approx(0.9 * middle)
    assert middle < policy.delay_s(attempts, 0.999) < 1.1 * middle


@pytest.mark.parametrize(("first_s", "jitter"), [(0, 0.1), (-5, 0.1), (300, 1), (300, -0.1)])
def test_nonsense_is_refused(first_s: float, jitter: float) -> None:
    with pytest.raises(ValueError, match="retry"):
        RetryPolicy(first_s=first_s, jitter=jitter)


def test_bounces_have_a_lifetime_of_their_own() -> None:
    policy = RetryPolicy(lifetime_s=100, bounce_lifetime_s=7)
    for reverse_path, lifetime_s in ((b"a@b.example", 100), (b"", 7)):
        envelope = Envelope(reverse_path, (b"c@d.example",), ClientIdentity())
        assert policy.expires_at_ns(Message(b"1" * 16, envelope, b"", 50)) == 50 + lifetime_s * NS
