"""Limits over workers, divided."""

import pytest

from fastmta.budget import DividedBroker
from fastmta.budget.share import LeasedSites


@pytest.mark.parametrize(
    ("workers", "limit", "share"),
    [(1, 20, 20), (2, 20, 10), (3, 20, 7), (8, 20, 3), (8, 1, 1), (2, 1, 1), (4, 500, 125)],
)
def test_divided_rounded_up_and_at_least_one(workers: int, limit: int, share: int) -> None:
    assert DividedBroker(workers).share(b"any", limit) == share


def test_schedulers_of_one_worker_divide_its_part() -> None:
    broker = DividedBroker(2)
    broker.join()
    broker.join()
    assert broker.share(b"any", 20) == 4
    assert broker.share(b"any", 1) == 1


def test_no_workers_are_refused() -> None:
    with pytest.raises(ValueError, match="worker"):
        DividedBroker(0)


def test_what_is_enough_for_all_is_divided_and_never_exceeded() -> None:
    broker = LeasedSites(8)
    assert broker.share(b"site", 20) == 2
    assert broker.share(b"site", 16) == 2
    assert broker.share(b"site", 15) == 15  # to be leased
    assert broker.share(b"site", 1) == 1
    assert broker.share(b"", 20) == 3  # protects only us: rounded up
