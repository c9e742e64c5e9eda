"""docs/scheduling.md: its commands and its charts are of scenarios that there are, and that run."""

import re
from pathlib import Path

import pytest

from fastmta.lab.simulate import World, build_report, parse_scenario, scenario_text
from fastmta.lab.simulate.shipped import CHARTED

DOCS = Path(__file__).parent.parent.parent.parent / "docs"
SMALLER = {"restart": ("backlog.yesterday.count=2000",)}
PAGE = (DOCS / "scheduling.md").read_text()


def test_the_page_shows_every_chart_below_its_command() -> None:
    shown = re.findall(r"!\[.+\]\(charts/([a-z-]+)\.svg\)", PAGE)
    commands = re.findall(r"^    fastmta simulate ([a-z-]+) --chart \1\.svg$", PAGE, re.MULTILINE)
    assert sorted(shown) == sorted(commands) == sorted(CHARTED)
    assert {path.stem for path in (DOCS / "charts").glob("*.svg")} == set(CHARTED)


@pytest.mark.parametrize("name", CHARTED)
def test_a_chart_is_of_its_scenario_which_still_runs(name: str) -> None:
    overrides = ("duration_s=3", "drain_s=0", "restarts=2", *SMALLER.get(name, ()))
    scenario = parse_scenario(scenario_text(name), f"{name}.toml", overrides)
    chart = (DOCS / "charts" / f"{name}.svg").read_text()
    assert scenario.title in chart
    for kind in scenario.receiver:
        assert f">{kind}</text>" in chart
    world = World(scenario)
    world.run()
    assert build_report(world)["delivered"] > 0
