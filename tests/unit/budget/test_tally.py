"""Counts of several workers in one table: limits, windows, connections, and when it is full."""

import struct
from typing import Any

import pytest

from fastmta.budget import Tally, table_octets
from fastmta.budget.tally import COUNTED, ENTRIES, REFUSED, UNCOUNTED
from fastmta.smtp.use import Use

S = 1_000_000_000
WINDOW = 60 * S
KEY, OTHER = 0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210


def table(tally_class: Any, workers: int, entries: int = 64) -> list[Any]:
    buffer = bytearray(table_octets(workers, entries))
    return [tally_class(buffer, workers, index) for index in range(workers)]


def spend(tally: Any, amount: int, limit: int, now_s: float, key: int = KEY) -> bool:
    granted = tally.spend(key, Use.MESSAGE, amount, limit, WINDOW, int(now_s * S))
    assert isinstance(granted, bool)
    return granted


def same_bucket(count: int) -> list[int]:
    """Different keys, all in the only bucket of a table of 8."""
    return [number << 42 | number << 10 for number in range(1, count + 1)]


def test_the_chosen_tally_is_one_of_the_two() -> None:
    assert Tally.__module__ in ("fastmta.budget._tally", "fastmta.budget.tally_py")


def test_size_of_the_table_is_what_the_documentation_says() -> None:
    assert ENTRIES == 4096
    assert table_octets(1) == 240 * 1024
    assert table_octets(3, 9) == 3 * 16 * 48
    for workers, entries in ((0, 8), (1, 0)):
        with pytest.raises(ValueError, match="at least one"):
            table_octets(workers, entries)


def test_limit_holds_over_workers(tally_class: Any) -> None:
    first, second = table(tally_class, 2)
    assert [spend(first, 1, 3, 0), spend(second, 1, 3, 1), spend(first, 1, 3, 2)] == [True] * 3
    assert not spend(first, 1, 3, 3)
    assert not spend(second, 1, 3, 3)
    assert first.count(KEY, Use.MESSAGE, 3 * S) == second.count(KEY, Use.MESSAGE, 3 * S) == 3


def test_nothing_is_counted_beyond_the_limit(tally_class: Any) -> None:
    first, second = table(tally_class, 2)
    assert spend(first, 7, 10, 0)
    assert not spend(second, 4, 10, 0)
    assert not spend(first, 11, 10, 0)
    assert spend(second, 3, 10, 0)
    assert first.count(KEY, Use.MESSAGE, 0) == 10


def test_uses_and_keys_are_counted_apart(tally_class: Any) -> None:
    tally = table(tally_class, 1)[0]
    for use in Use:
        assert tally.spend(KEY, use, 1 + use, 100, WINDOW, 0)
    assert spend(tally, 50, 100, 0, OTHER)
    assert [tally.count(KEY, use, 0) for use in Use] == [1, 2, 3, 4, 5, 6]
    assert [tally.count(OTHER, use, 0) for use in Use] == [0, 50, 0, 0, 0, 0]


def test_window_begins_with_the_first_event_of_any_worker(tally_class: Any) -> None:
    first, second = table(tally_class, 2)
    assert spend(first, 1, 2, 100)
    assert spend(second, 1, 2, 159)
    assert not spend(second, 1, 2, 159.999)
    assert spend(second, 2, 2, 160)  # all at once: the window of both is over
    assert not spend(first, 1, 2, 161)
    assert not spend(first, 1, 2, 219.9)
    assert spend(first, 1, 2, 220)


def test_worker_that_is_late_counts_in_the_window_of_the_others(tally_class: Any) -> None:
    late, other = table(tally_class, 2)
    assert spend(late, 1, 5, 0)
    assert spend(other, 4, 5, 0)
    assert spend(other, 4, 5, 60)
    assert spend(late, 1, 5, 59.9)  # it read the clock before that
    assert late.count(KEY, Use.MESSAGE, 60 * S) == 5
    assert not spend(late, 1, 5, 59.9)
    assert not spend(other, 1, 5, 60)
    assert not spend(late, 1, 5, 119)
    assert spend(late, 5, 5, 120)


def test_late_worker_without_an_entry_does_so_too(tally_class: Any) -> None:
    late, second, third = table(tally_class, 3)
    assert spend(second, 2, 5, 0)
    assert spend(third, 3, 5, 60)
    assert not spend(late, 3, 5, 59.9)
    assert spend(late, 2, 5, 60)
    assert late.count(KEY, Use.MESSAGE, 60 * S) == 5


def test_windows_that_began_at_the_same_moment_end_together(tally_class: Any) -> None:
    """Regions of two tables stand in for workers that did not see each other begin."""
    alone = [bytearray(table_octets(2, 8)) for _ in range(2)]
    assert spend(tally_class(alone[0], 2, 0), 1, 5, 0)
    assert spend(tally_class(alone[1], 2, 1), 1, 5, 0.001)
    both = alone[0][:384] + alone[1][384:]
    first, second = (tally_class(both, 2, at) for at in range(2))
    assert spend(second, 1, 5, 1)
    assert spend(first, 1, 5, 1)
    assert first.count(KEY, Use.MESSAGE, 2 * S) == 4
    assert first.count(KEY, Use.MESSAGE, 60 * S) == 0
    assert [spend(one, 1, 5, 60) for one in (first, second)] == [True, True]


def test_what_is_given_back_can_be_spent_again(tally_class: Any) -> None:
    first, second = table(tally_class, 2)
    assert spend(first, 3, 3, 0)
    first.give_back(KEY, Use.MESSAGE, 1, S)
    assert spend(second, 1, 3, 1)
    assert not spend(second, 1, 3, 1)
    second.give_back(KEY, Use.MESSAGE, 9, S)  # only what this worker counted
    assert first.count(KEY, Use.MESSAGE, S) == 2
    first.give_back(KEY, Use.MESSAGE, 1, 60 * S)  # of a window that is over
    first.give_back(OTHER, Use.MESSAGE, 1, 0)
    assert first.count(KEY, Use.MESSAGE, S) == 2
    assert first.count(OTHER, Use.MESSAGE, S) == 0


def test_connections_have_no_window(tally_class: Any) -> None:
    first, second = table(tally_class, 2)
    assert first.enter(KEY, 2, WINDOW, 0) == COUNTED
    assert second.enter(KEY, 2, WINDOW, 500 * S) == COUNTED
    assert first.enter(KEY, 2, WINDOW, 1000 * S) == REFUSED
    assert second.live(KEY) == 2
    first.leave(KEY)
    assert second.enter(KEY, 2, WINDOW, 1000 * S) == COUNTED
    second.leave(KEY)
    second.leave(KEY)
    second.leave(KEY)  # one too many changes nothing
    first.leave(OTHER)
    assert first.live(KEY) == 0


def test_new_window_keeps_connections(tally_class: Any) -> None:
    tally = table(tally_class, 1)[0]
    assert tally.enter(KEY, 1, WINDOW, 0) == COUNTED
    assert spend(tally, 5, 5, 0)
    assert spend(tally, 5, 5, 61)
    assert tally.enter(KEY, 1, WINDOW, 61 * S) == REFUSED


def test_successor_of_a_worker_forgets_its_connections_and_keeps_its_rates(
    tally_class: Any,
) -> None:
    buffer = bytearray(table_octets(2, 64))
    dead, living = (tally_class(buffer, 2, index) for index in range(2))
    assert dead.enter(KEY, 2, WINDOW, 0) == living.enter(KEY, 2, WINDOW, 0) == COUNTED
    assert spend(dead, 3, 4, 1)
    del dead
    assert living.live(KEY) == 2
    successor = tally_class(buffer, 2, 0)
    assert successor.live(KEY) == 1
    assert successor.enter(KEY, 2, WINDOW, 2 * S) == COUNTED
    assert successor.enter(KEY, 2, WINDOW, 2 * S) == REFUSED
    assert not spend(successor, 2, 4, 3)
    assert spend(successor, 1, 4, 3)


def test_full_bucket_grants_counts_what_it_could_not_count_and_drops_nothing(
    tally_class: Any,
) -> None:
    tally, neighbour = table(tally_class, 2, entries=8)
    keys = same_bucket(9)
    for key in keys[:4]:
        assert spend(tally, 1, 1, 0, key)
    for key in keys[4:8]:
        assert tally.enter(key, 1, WINDOW, 0) == COUNTED
    assert spend(tally, 1, 1, 0, keys[8])
    assert spend(tally, 1, 1, 0, keys[8])  # no limit for whom there is no place
    assert tally.enter(keys[8], 1, WINDOW, 0) == UNCOUNTED
    assert tally.overflow == 3
    assert [spend(tally, 1, 1, 0, key) for key in keys[:4]] == [False] * 4
    assert [tally.enter(key, 1, WINDOW, 0) for key in keys[4:8]] == [REFUSED] * 4
    # What another worker counted binds without a place, too.
    assert spend(neighbour, 1, 1, 0, keys[8])
    assert neighbour.enter(keys[8], 1, WINDOW, 0) == COUNTED
    assert not spend(tally, 1, 1, 0, keys[8])
    assert tally.enter(keys[8], 1, WINDOW, 0) == REFUSED
    assert tally.overflow == 3


def test_only_what_is_over_makes_room(tally_class: Any) -> None:
    tally = table(tally_class, 1, entries=8)[0]
    keys = same_bucket(12)
    for key in keys[:6]:
        assert spend(tally, 1, 1, 0, key)
    assert tally.enter(keys[6], 1, WINDOW, 0) == COUNTED
    assert spend(tally, 1, 1, 30, keys[7])
    for key in keys[8:]:
        assert spend(tally, 1, 1, 60, key)
    assert tally.overflow == 0
    assert not spend(tally, 1, 1, 61, keys[7])
    assert tally.enter(keys[6], 1, WINDOW, 61 * S) == REFUSED
    assert [tally.count(key, Use.MESSAGE, 61 * S) for key in keys[8:]] == [1] * 4
    # A place that was another's begins with nothing.
    assert tally.count(keys[8], Use.RECIPIENT, 61 * S) == tally.live(keys[8]) == 0


def test_table_of_usual_size_takes_three_quarters_of_its_places(tally_class: Any) -> None:
    tally = table(tally_class, 1, entries=512)[0]
    keys = [1]
    for _ in range(384):
        keys.append(keys[-1] * 6364136223846793005 + 1442695040888963407 & 2**64 - 1)
        assert spend(tally, 1, 1, 0, keys[-1])
    assert tally.overflow <= 4
    assert sum(tally.count(key, Use.MESSAGE, 0) for key in keys) >= 380


def test_keys_of_shared_places_always_have_one(tally_class: Any) -> None:
    first, second = table(tally_class, 2, entries=512)
    assert first.shared == second.shared == 128
    key = 1
    for _ in range(4000):
        key = key * 6364136223846793005 + 1442695040888963407 & 2**64 - 1
        assert spend(first, 1, 1, 0, key)
    overflow = first.overflow
    assert overflow > 3000
    for key in range(1, first.shared + 1):
        assert spend(first, 2, 3, 0, key)
        assert spend(second, 1, 3, 0, key)
        assert not spend(first, 1, 3, 0, key)
    assert first.overflow == overflow
    assert spend(first, 1, 3, 0, first.shared + 1)
    assert first.overflow == overflow + 1
    assert [one.shared for one in table(tally_class, 1, entries=24)] == [0]


def test_what_is_given_back_is_told(tally_class: Any) -> None:
    first, second = table(tally_class, 2)
    assert spend(first, 3, 9, 0)
    assert spend(second, 1, 9, 0)
    assert [first.give_back(KEY, Use.MESSAGE, amount, 0) for amount in (2, 2, 2)] == [2, 1, 0]
    assert second.give_back(KEY, Use.MESSAGE, 1, WINDOW) == 0
    assert second.give_back(OTHER, Use.MESSAGE, 1, 0) == 0
    assert first.count(KEY, Use.MESSAGE, 0) == 1


@pytest.mark.parametrize(
    ("octets", "workers", "index"),
    [(384, 0, 0), (384, -1, 0), (384, 2, 0), (383, 1, 0), (0, 1, 0), (48, 1, 0), (392, 1, 0)],
)
def test_table_that_cannot_be_divided_is_refused(
    tally_class: Any, octets: int, workers: int, index: int
) -> None:
    with pytest.raises(ValueError, match="table"):
        tally_class(bytearray(octets), workers, index)


@pytest.mark.parametrize("index", [-1, 2])
def test_region_that_is_not_there_is_refused(tally_class: Any, index: int) -> None:
    with pytest.raises(ValueError, match="region"):
        tally_class(bytearray(768), 2, index)


def test_buffer_that_cannot_be_written_is_refused(tally_class: Any) -> None:
    with pytest.raises((BufferError, TypeError)):
        tally_class(bytes(384), 1, 0).spend(1, 0, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("key", "use", "amount"), [(0, 0, 1), (KEY, 6, 1), (KEY, -1, 1), (KEY, 0, -1), (KEY, 0, 2**40)]
)
def test_broken_use_changes_nothing(tally_class: Any, key: int, use: int, amount: int) -> None:
    buffer = bytearray(384)
    tally = tally_class(buffer, 1, 0)
    with pytest.raises(ValueError, match="out of bounds"):
        tally.spend(key, use, amount, 10, WINDOW, 0)
    with pytest.raises(ValueError, match="out of bounds"):
        tally.give_back(key, use, amount, 0)
    assert not any(buffer)


def test_counts_do_not_run_over(tally_class: Any) -> None:
    first, second = table(tally_class, 2)
    assert spend(first, 2**31, 2**40, 0)
    assert not spend(first, 1, 2**40, 0)  # as much as one worker can count
    assert spend(second, 2**31, 2**40, 0)
    assert first.count(KEY, Use.MESSAGE, 0) == 2**32


def test_layout_octet_by_octet(tally_class: Any) -> None:
    """Both implementations, in different workers, read one table."""
    buffer = bytearray(table_octets(2, 8))
    tally = tally_class(buffer, 2, 1)
    assert spend(tally, 7, 10, 5)
    assert tally.enter(KEY, 10, WINDOW, 5 * S) == COUNTED
    keys = struct.pack("=8Q", KEY, *[0] * 7)
    entry = struct.pack("=Q8I", 65 * S, 0, 7, 0, 0, 0, 0, 1, 0)
    assert bytes(buffer) == bytes(384) + keys + entry + bytes(7 * 40)
