"""Overrides reach the schedulers: at the start, when told, and when the time of one is over."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastmta.config import Config
from fastmta.config import Spool as SpoolSection
from fastmta.control.override import Override, OverrideError, Overrides
from fastmta.control.overridefile import FILE_NAME, change_overrides
from fastmta.daemon.reshaping import LOOK_S, Reshaper, try_overrides
from fastmta.daemon.sockets import BadStart
from fastmta.event import Event, Notice
from tests.support.agenda import NS, Agenda


class World:
    """A worker with two shards, whose schedulers only note what they are given."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.agenda = Agenda()
        self.events: list[Event] = []
        self.given: list[list[str]] = []
        shard: Any = SimpleNamespace(scheduler=SimpleNamespace(shape=self.shape))
        self.reshaper = Reshaper(
            self.root, [shard, shard], self.agenda.wall_ns, self.agenda, self.events.append
        )

    def shape(self, shapes: list[Any]) -> None:
        self.given.append([shape.name for shape in shapes])

    def put(self, name: str, for_s: float | None = None) -> None:
        until_s = None if for_s is None else self.agenda.wall_ns() / NS + for_s
        override = Override(domain=("x",), is_paused=True, until_s=until_s)
        change_overrides(self.root, lambda old: old.put(name, override))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_every_shard_gets_them_once_until_they_change(world: World) -> None:
    world.reshaper.start()
    assert world.given == []  # there are none
    world.put("a")
    assert world.reshaper.reload() == 1
    assert world.given == [["a"], ["a"]]
    assert world.reshaper.reload() == 1
    assert len(world.given) == 2
    change_overrides(world.root, lambda _: Overrides())
    assert world.reshaper.reload() == 0
    assert world.given[2:] == [[], []]


@pytest.mark.parametrize("for_s", [30.0, 10 * LOOK_S + 1])
def test_one_ends_at_its_time_and_the_others_stay(world: World, for_s: float) -> None:
    world.put("for good")
    world.put("for now", for_s)
    world.reshaper.start()
    assert world.given[-1] == ["for good", "for now"]
    world.agenda.run(for_s - 0.5)
    assert len(world.given) == 2
    world.agenda.run(1.0)
    assert world.given[-1] == ["for good"]
    (notice,) = world.events
    assert isinstance(notice, Notice)
    assert notice.text == "for now: its time is over (paused)"
    assert world.agenda.run(10 * LOOK_S) == 0  # no timer is left


def test_what_has_ended_before_the_start_is_not_taken_up(world: World) -> None:
    world.put("over", 1.0)
    world.agenda.run(2.0)
    world.reshaper.start()
    assert world.given == []


def test_a_wall_clock_that_is_set_is_followed_within_a_minute(world: World) -> None:
    world.put("a", 3_600.0)
    world.reshaper.start()
    world.agenda.wall_offset_ns += 3_600 * NS
    world.agenda.run(LOOK_S + 1)
    assert world.given[-1] == []


def test_a_bad_file_stops_a_start_and_changes_nothing_later(world: World) -> None:
    world.put("a")
    world.reshaper.start()
    path = Path(world.root, FILE_NAME)
    path.write_bytes(b"{")
    with pytest.raises(OverrideError, match=FILE_NAME):
        world.reshaper.reload()
    assert world.given == [["a"], ["a"]]
    with pytest.raises(BadStart, match="move it away"):
        world.reshaper.start()
    config = Config(hostname="test.example", spool=SpoolSection(directory=world.root))
    with pytest.raises(BadStart, match=FILE_NAME):
        try_overrides(config)
    path.unlink()
    assert try_overrides(config) == []


def test_nothing_ends_after_the_worker_does(world: World) -> None:
    world.put("a", 5.0)
    world.reshaper.start()
    world.reshaper.close()
    world.agenda.run(10.0)
    assert world.given == [["a"], ["a"]]
