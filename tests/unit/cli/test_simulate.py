"""`fastmta simulate` as its users meet it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastmta.cli import main
from fastmta.lab.simulate import SHIPPED, World, scenario_text

SCENARIO = """\
duration_s = 5
[receiver.a]
[traffic.b]
to = "a"
rate_per_s = 10
"""


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "own.toml"
    path.write_text(SCENARIO)
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["simulate", *arguments])


def test_without_a_scenario_it_says_how_to_begin() -> None:
    result = run()
    assert result.exit_code == 0
    for name in SHIPPED:
        assert name in result.stdout


def test_a_report_for_people_and_for_programs(scenario: str) -> None:
    text = run(scenario)
    assert text.exit_code == 0
    assert "limits exceeded: none" in text.stdout
    report = json.loads(run(scenario, "-o", "json", "--seed", "3", "--set", "title=mine").stdout)
    assert (report["seed"], report["title"]) == (3, "mine")
    assert report["accepted"] == report["delivered"] > 20


def test_a_chart(scenario: str, tmp_path: Path) -> None:
    chart = tmp_path / "c.svg"
    assert run(scenario, "--chart", str(chart)).exit_code == 0
    assert chart.stat().st_size > 1_000
    result = run(scenario, "--chart", str(tmp_path / "c.jpeg"))
    assert result.exit_code == 1
    assert "an .svg or a .png" in result.stderr
    assert result.stdout == "", "it was said before the run"


def test_problems_have_their_places(scenario: str) -> None:
    result = run(scenario, "--set", "traffic.b.rate=2")
    assert result.exit_code == 78
    assert "--set: traffic.b.rate: is no key" in result.stderr
    assert "did you mean traffic.b.rate_per_s?" in result.stderr


def test_a_name_that_is_none_lists_the_names() -> None:
    result = run("slow-sit")
    assert result.exit_code == 78
    assert "scenarios that come with fastmta: slow-site, " in result.stderr


def test_scenarios_and_keys_are_shown() -> None:
    assert run("--show", "slow-site").stdout == scenario_text("slow-site")
    assert run("--show", "slow").exit_code == 2
    assert "[receiver.NAME]" in run("--keys").stdout


def test_a_shipped_scenario_by_its_name() -> None:
    result = run("slow-site", "--set", "duration_s=2")
    assert result.exit_code == 0
    assert "one slow site" in result.stdout


def test_an_exceeded_limit_is_a_failure(scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "run", lambda self, on_step: self.network.exceeded.update(["x"]))
    result = run(scenario)
    assert result.exit_code == 1
    assert "limits exceeded: x 1" in result.stdout
