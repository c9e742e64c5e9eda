"""Reports and charts: figures that add up, and the same octets from the same run."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fastmta.lab.simulate import (
    ChartError,
    World,
    build_report,
    check_chart,
    draw_chart,
    parse_scenario,
    render_report,
)
from fastmta.lab.simulate.report import quantiles

SCENARIO = """\
title = "mixed"
duration_s = 30
drain_s = 60
[receiver.good]
sites = 4
[receiver.bad]
deferred = 0.2
failed = 0.2
lost = 0.05
[traffic.app]
to = ["good", "bad"]
rate_per_s = 20
[traffic.other]
to = ["bad"]
rate_per_s = 5
recipients = 2
"""
COMMAND = "from fastmta.cli import main; main(prog_name='fastmta')"


@pytest.fixture(scope="module")
def world() -> World:
    world = World(parse_scenario(SCENARIO, "x.toml"))
    world.run()
    return world


def test_sums_add_up(world: World) -> None:
    report = build_report(world)
    parts = (report, *report["receivers"].values(), *report["tenants"].values())
    for one in parts:
        ends = ("delivered", "failed", "expired", "queued")
        assert one["accepted"] == sum(one[key] for key in ends)
        assert one["attempts"] > 0
    for parts_of in (report["receivers"], report["tenants"]):
        for key in ("accepted", "delivered", "failed"):
            assert sum(one[key] for one in parts_of.values()) == report[key]
    assert set(report["receivers"]["bad"]["deferrals"]) == {"soft.connection", "soft.mailbox_full"}
    assert report["receivers"]["good"]["deferrals"] == {}
    assert report["limits_exceeded"] == {}
    assert json.loads(json.dumps(report)) == report


def test_the_text_names_everything(world: World) -> None:
    text = render_report(build_report(world))
    for word in ("mixed (seed 1", "good", "bad", "app", "other", "soft.mailbox_full"):
        assert word in text
    assert text.endswith("limits exceeded: none\n")


def test_the_same_seed_gives_the_same_octets_whatever_python_hashes_to(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(SCENARIO)
    arguments = [sys.executable, "-c", COMMAND, "simulate", str(path), "-o", "json", "--seed"]
    said = [
        subprocess.run(
            [*arguments, str(seed)],
            env={"PYTHONHASHSEED": str(number)},
            capture_output=True,
            check=True,
        ).stdout
        for number, seed in enumerate((1, 1, 2))
    ]
    assert said[0] == said[1] != said[2]


def test_the_same_run_gives_the_same_chart_with_everything_on_it(
    world: World, tmp_path: Path
) -> None:
    again = World(parse_scenario(SCENARIO, "x.toml"))
    again.run()
    draw_chart(world, str(tmp_path / "1.svg"))
    draw_chart(again, str(tmp_path / "2.svg"))
    text = (tmp_path / "1.svg").read_text()
    assert text == (tmp_path / "2.svg").read_text()
    for word in ("mixed", "delivered per second", "waiting", "good", "bad", "first attempt"):
        assert word in text
    assert len(text) < 100_000


def test_quantiles_are_by_nearest_rank() -> None:
    assert quantiles([]) == {}
    assert quantiles([3.0]) == {"p50": 3.0, "p90": 3.0, "p99": 3.0, "max": 3.0}
    values = [float(number) for number in range(100, 0, -1)]
    assert quantiles(values) == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}


def test_a_png(world: World, tmp_path: Path) -> None:
    path = tmp_path / "chart.PNG"
    draw_chart(world, str(path))
    assert path.read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_drawn_is_said_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ChartError, match=r"an \.svg or a \.png"):
        check_chart("chart.pdf")
    with pytest.raises(ChartError, match="there is no directory"):
        check_chart(str(tmp_path / "nowhere" / "chart.svg"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ChartError, match=r"pip install 'fastmta\[charts\]'"):
        check_chart(str(tmp_path / "chart.svg"))
