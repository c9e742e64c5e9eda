"""Processes that hammer one table: no limit is exceeded, no count is lost, a killed one harms none.

What a process was granted it notes in a number that it alone writes and the parent reads.
"""

import mmap
import os
import signal
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from fastmta.budget import _tally, table_octets, tally_py
from fastmta.budget.tally import COUNTED
from fastmta.smtp.use import Use

PROCESSES = 4
KEY, OTHER = 0xA5A5_0000_1234_5678, 0x5A5A_0000_8765_4321
WINDOW = 3600 * 10**9
DEADLINE_S = 60.0
CLASSES = pytest.mark.parametrize(
    ("tally_class", "rounds"),
    [(_tally.Tally, 60_000), (tally_py.Tally, 2_000)],
    ids=["compiled", "twin"],
)


class Field:
    """Numbers of 8 octets that processes share; each is written by one of them."""

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, count * 8)
        self.numbers = memoryview(self._memory).cast("Q")


def run(count: int, work: Callable[[int], None]) -> list[int]:
    """`work(index)` in `count` processes that begin together; their ids."""
    gate = Field(1)
    pids = []
    for index in range(count):
        pid = os.fork()
        if pid:
            pids.append(pid)
            continue
        code = 1
        try:
            until_s = time.monotonic() + DEADLINE_S
            while not gate.numbers[0] and time.monotonic() < until_s:
                pass
            work(index)
            code = 0
        finally:
            os._exit(code)
    gate.numbers[0] = 1
    return pids


def wait(pids: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def table(entries: int = 4096) -> mmap.mmap:
    return mmap.mmap(-1, table_octets(PROCESSES, entries))


@CLASSES
def test_limit_is_reached_and_never_exceeded(tally_class: Any, rounds: int) -> None:
    buffer = table()
    granted = Field(PROCESSES)
    limit = rounds * PROCESSES // 2

    def work(index: int) -> None:
        tally = tally_class(buffer, PROCESSES, index)
        mine = 0
        for turn in range(rounds):
            amount = 1 + (turn & 1)
            if tally.spend(KEY, Use.MESSAGE, amount, limit, WINDOW, 1):
                mine += amount
            tally.spend(OTHER, Use.MESSAGE, 1, 2**40, WINDOW, 1)
        granted.numbers[index] = mine

    assert wait(run(PROCESSES, work)) == [0] * PROCESSES
    reader = tally_class(buffer, PROCESSES, 0)
    assert sum(granted.numbers) == reader.count(KEY, Use.MESSAGE, 1)
    assert limit - 1 <= reader.count(KEY, Use.MESSAGE, 1) <= limit
    assert reader.count(OTHER, Use.MESSAGE, 1) == rounds * PROCESSES


@CLASSES
def test_limit_of_one_connection_is_mutual_exclusion(tally_class: Any, rounds: int) -> None:
    buffer = table()
    inside, entered, met = Field(PROCESSES), Field(PROCESSES), Field(PROCESSES)

    def work(index: int) -> None:
        tally = tally_class(buffer, PROCESSES, index)
        enter, leave, here = tally.enter, tally.leave, inside.numbers
        for _ in range(rounds * 4):
            if enter(KEY, 1, WINDOW, 1) == COUNTED:
                here[index] = 1
                entered.numbers[index] += 1
                met.numbers[index] += sum(here) - 1
                here[index] = 0
                leave(KEY)

    assert wait(run(PROCESSES, work)) == [0] * PROCESSES
    assert sum(met.numbers) == 0
    assert sum(entered.numbers) > 0
    assert tally_class(buffer, PROCESSES, 0).live(KEY) == 0


@CLASSES
def test_windows_of_many_keys_turn_over_while_all_count(tally_class: Any, rounds: int) -> None:
    """A table that is too small, and windows of a few milliseconds: whenever a key was counted, it
    was within the limit of one window."""
    buffer = table(entries=16)
    limit, window_ns = 5, 2_000_000
    begin_ns = time.monotonic_ns()
    counted = [Field(PROCESSES) for _ in range(3)]

    def work(index: int) -> None:
        tally = tally_class(buffer, PROCESSES, index)
        for turn in range(rounds):
            which = turn % 3
            key = (which + 1) * 0x9E37_79B9_7F4A_7C15 & 2**64 - 1
            overflow = tally.overflow
            is_granted = tally.spend(key, Use.AUTH, 1, limit, window_ns, time.monotonic_ns())
            if is_granted and tally.overflow == overflow:
                counted[which].numbers[index] += 1
            junk = (index * rounds + turn + 7) * 0x2545_F491_4F6C_DD1D & 2**64 - 1
            tally.spend(junk, Use.AUTH, 1, limit, window_ns, time.monotonic_ns())

    assert wait(run(PROCESSES, work)) == [0] * PROCESSES
    windows = (time.monotonic_ns() - begin_ns) // window_ns + 1
    for field in counted:
        assert 0 < sum(field.numbers) <= limit * windows


@CLASSES
def test_killed_worker_harms_nobody_and_its_successor_takes_over(
    tally_class: Any, rounds: int
) -> None:
    buffer = table()
    granted, held = Field(PROCESSES), Field(PROCESSES)
    limit = 2**40

    def work(index: int) -> None:
        tally = tally_class(buffer, PROCESSES, index)
        for turn in range(rounds * 1000 if index == 0 else rounds):
            if tally.spend(KEY, Use.MESSAGE, 1, limit, WINDOW, 1):
                granted.numbers[index] += 1
            if tally.enter(KEY, limit, WINDOW, 1) == COUNTED:
                held.numbers[index] += 1
            if turn % 3 == 0:
                tally.leave(KEY)
                held.numbers[index] -= 1

    pids = run(PROCESSES, work)
    assert wait(pids[1:]) == [0] * (PROCESSES - 1)
    os.kill(pids[0], signal.SIGKILL)
    assert wait(pids[:1]) == [-signal.SIGKILL]
    reader = tally_class(buffer, PROCESSES, 1)  # forgets what worker 1 held, too
    assert sum(granted.numbers) <= reader.count(KEY, Use.MESSAGE, 1) <= sum(granted.numbers) + 1
    successor = tally_class(buffer, PROCESSES, 0)
    assert successor.live(KEY) == held.numbers[2] + held.numbers[3]
    before = successor.count(KEY, Use.MESSAGE, 1)
    assert successor.spend(KEY, Use.MESSAGE, 1, before + 1, WINDOW, 1)
    assert not successor.spend(KEY, Use.MESSAGE, 1, before + 1, WINDOW, 1)


@CLASSES
def test_killed_at_any_moment_leaves_a_table_that_can_be_read(
    tally_class: Any, rounds: int
) -> None:
    """Keys come and go in a table that is too small, and the writer is killed: again and again."""
    buffer = table(entries=8)
    for life in range(10):

        def work(index: int) -> None:
            tally = tally_class(buffer, PROCESSES, 0)
            for turn in range(rounds * 1000):
                key = (turn % 24 + 1) * 0x9E37_79B9_7F4A_7C15 & 2**64 - 1
                now_ns = time.monotonic_ns()
                tally.spend(key, Use.AUTH, 1, 1, 1000, now_ns)
                if tally.enter(key, 1, 1000, now_ns) == COUNTED and turn % 5:
                    tally.leave(key)

        pids = run(1, work)
        time.sleep(0.002 * (life + 1))
        os.kill(pids[0], signal.SIGKILL)
        wait(pids)
        reader = tally_class(buffer, PROCESSES, 1)
        region = struct.unpack_from("=8Q", buffer, 0)
        assert len({key for key in region if key}) == sum(key != 0 for key in region)
        for turn in range(24):
            key = (turn + 1) * 0x9E37_79B9_7F4A_7C15 & 2**64 - 1
            assert reader.live(key) <= 1
            assert reader.count(key, Use.AUTH, 0) <= 1
    successor = tally_class(buffer, PROCESSES, 0)
    keys = [(turn + 1) * 0x9E37_79B9_7F4A_7C15 & 2**64 - 1 for turn in range(24)]
    assert [successor.live(key) for key in keys] == [0] * 24  # connections end with their worker
