"""`python -m fastmta.lab.simulate DIRECTORY` redraws the charts of docs/scheduling.md."""

import sys
from pathlib import Path

from .chart import draw_chart
from .reading import parse_scenario
from .shipped import CHARTED, scenario_text
from .world import World


def draw_all(directory: Path) -> None:
    """One .svg for each scenario in CHARTED, by its name."""
    for name in CHARTED:
        world = World(parse_scenario(scenario_text(name), f"{name}.toml"))
        world.run()
        draw_chart(world, str(directory / f"{name}.svg"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m fastmta.lab.simulate DIRECTORY")
    draw_all(Path(sys.argv[1]))
