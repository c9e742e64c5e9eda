"""Green, yellow, red, black: entered at once, left after ten calm seconds, named by their cause."""

from __future__ import annotations

from typing import Any

import pytest

from fastmta.daemon.pressure import Change, Limits, Pressure, Readings, State

CALM_S = Limits().calm_s

# reading, value in yellow, red, black, and one that is fine again (a fifth beyond the mark)
GAUGES = [
    ("volume_free", 0.149, 0.069, 0.029, 0.181),
    ("inodes_free", 0.149, 0.069, 0.029, 0.181),
    ("memory_used", 0.71, 0.86, 0.94, 0.55),
    ("descriptors_used", 0.71, 0.86, 0.94, 0.55),
    ("loop_lag_s", 0.51, 2.1, 10.1, 0.39),
    ("flush_s", 1.1, 5.1, 10.1, 0.79),
    ("unindexed_octets", 129 << 20, 257 << 20, 1025 << 20, 100 << 20),
]


class World:
    """A pressure on a virtual clock."""

    def __init__(self) -> None:
        self.pressure = Pressure(Limits())
        self.now_s = 1000.0

    def see(self, after_s: float = 0.5, **readings: Any) -> Change | None:
        self.now_s += after_s
        return self.pressure.note(Readings(**readings), self.now_s)


@pytest.mark.parametrize(("reading", "yellow", "red", "black", "fine"), GAUGES)
def test_each_gauge_enters_at_once_and_names_itself(
    reading: str, yellow: float, red: float, black: float, fine: float
) -> None:
    world = World()
    steps = ((yellow, State.YELLOW), (red, State.RED), (black, State.BLACK))
    for value, state in steps:
        change = world.see(**{reading: value})
        assert change is not None
        assert (change.state, change.reading) == (state, reading)
        assert state.name.lower() in change.text
        assert getattr(world.pressure.readings, reading) == value
        fresh = World()
        jumped = fresh.see(**{reading: value})
        assert jumped is not None
        assert jumped.state is state, "from green at once"
    assert world.see(**{reading: fine}) is None
    change = world.see(CALM_S, **{reading: fine})
    assert change is not None
    assert (change.state, change.reading) == (State.GREEN, reading)


@pytest.mark.parametrize(("reading", "yellow", "red", "black", "fine"), GAUGES)
def test_a_little_better_than_the_mark_is_not_better(
    reading: str, yellow: float, red: float, black: float, fine: float
) -> None:
    world = World()
    world.see(**{reading: yellow})
    marks = next(gauge.marks for gauge in Limits().gauges() if gauge.reading == reading)
    for _ in range(100):
        assert world.see(**{reading: marks[0]}) is None
    assert world.pressure.state is State.YELLOW


def test_calm_must_last() -> None:
    world = World()
    world.see(volume_free=0.02)
    for _ in range(20):
        assert world.see(CALM_S - 0.5, volume_free=0.5) is None
        assert world.see(0.4, volume_free=0.031) is None, "not yet a fifth better: begin again"
    assert world.pressure.state is State.BLACK
    world.see(volume_free=0.5)
    change = world.see(CALM_S, volume_free=0.5)
    assert change is not None
    assert change.state is State.GREEN


def test_it_falls_to_the_worst_that_was_seen_while_calm() -> None:
    world = World()
    world.see(volume_free=0.02)
    world.see(volume_free=0.5)
    world.see(5.0, volume_free=0.08)  # red is not left below 8.4 %
    change = world.see(5.0, volume_free=0.5)
    assert change is not None
    assert change.state is State.RED
    world.see(0.5, volume_free=0.5)
    change = world.see(CALM_S, volume_free=0.5)
    assert change is not None
    assert change.state is State.GREEN


def test_the_worst_gauge_decides_and_each_has_its_own_calm() -> None:
    world = World()
    assert world.see(memory_used=0.75) is not None
    change = world.see(memory_used=0.75, volume_free=0.05)
    assert change is not None
    assert (change.state, change.reading) == (State.RED, "volume_free")
    world.see(memory_used=0.75)
    change = world.see(CALM_S, memory_used=0.75)
    assert change is not None
    assert (change.state, change.reading) == (State.YELLOW, "volume_free"), "what got better"
    world.see()
    change = world.see(CALM_S)
    assert change is not None
    assert (change.state, change.reading) == (State.GREEN, "memory_used")


def test_a_spool_that_is_healthy_again_needs_no_calm() -> None:
    world = World()
    change = world.see(is_spool_healthy=False)
    assert change is not None
    assert change.state is State.BLACK
    change = world.see(is_spool_healthy=True)
    assert change is not None
    assert change.state is State.GREEN


def test_marks_that_are_switched_off() -> None:
    pressure = Pressure(Limits(volume_free=(0.0, 0.0, 0.0)))
    assert pressure.note(Readings(volume_free=0.0), 1.0) is None
