"""What lists may take of a worker: all of it while it is idle, little while mail moves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastmta.control.pace import BURST_S, REST_MAX_S, SHARE, Pace
from fastmta.control.station import Station


class World:
    """A shard that counts, and a clock."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.statistics = SimpleNamespace(accepted=0, recorded=0)
        spool = SimpleNamespace(statistics=self.statistics)
        station = cast(Station, SimpleNamespace(spool=spool))
        self.pace = Pace([station], lambda: self.now_s)

    def look(self, spent_s: float, mail_per_s: float) -> float:
        """One step of a list that does not rest more than it must."""
        self.now_s += spent_s
        self.statistics.accepted += round(mail_per_s * spent_s) + 1
        rest_s = self.pace.rest_s(spent_s)
        self.now_s += rest_s
        self.statistics.recorded += round(mail_per_s * rest_s)
        return rest_s


def test_an_idle_worker_answers_at_once() -> None:
    world = World()
    assert sum(world.look(0.1, 0) for _ in range(100)) == 0


@pytest.mark.parametrize("spent_s", [0.01, 0.05])
def test_a_busy_worker_answers_at_once_for_a_while_then_gives_its_share(spent_s: float) -> None:
    world = World()
    steps = round(BURST_S / spent_s) - 1
    assert sum(world.look(spent_s, 5_000) for _ in range(steps)) == 0
    begin_s, spent = world.now_s, 0.0
    while world.now_s - begin_s < 60:
        assert world.look(spent_s, 5_000) <= REST_MAX_S
        spent += spent_s
    share = spent / (world.now_s - begin_s)
    assert SHARE / 2 < share < SHARE * 1.5 + spent_s / REST_MAX_S * 0.5


def test_when_the_mail_ends_so_does_the_wait() -> None:
    world = World()
    while not world.look(0.1, 5_000):
        pass
    world.now_s += 2
    world.look(0.1, 0)  # it sees what moved during its last rest
    assert [world.look(0.1, 0) for _ in range(20)] == [0] * 20


def test_it_is_told_of_by_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []

    async def sleep(seconds: float) -> None:
        rests.append(seconds)

    monkeypatch.setattr("fastmta.control.pace.asyncio.sleep", sleep)
    world = World()
    world.statistics.accepted = 10**6
    world.now_s += 1
    spend: Any = world.pace.spent(BURST_S + 0.01)
    with pytest.raises(StopIteration):
        spend.send(None)
    assert len(rests) == 1
