"""`fastmta simulate`: a scenario through the real scheduler, in simulated time."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from .option import EXIT_CONFIG

if TYPE_CHECKING:
    from fastmta.lab.simulate import World

EXIT_FAILED = 1  # no chart, or a limit was exceeded
_TICK_S = 0.5  # between two words about how far it is

_QUICK_START = """\
fastmta simulate NAME or FILE: the server's scheduler with simulated receivers, in simulated time.

  fastmta simulate slow-site                       a scenario that comes with fastmta: {names}
  fastmta simulate slow-site --set receiver.slow.reply_s=5 --chart slow.svg
  fastmta simulate --show slow-site > mine.toml    begin your own from one of them
  fastmta simulate --keys                          everything that a scenario may say
  fastmta simulate mine.toml

The same scenario and seed give the same report; nothing is sent anywhere."""


@click.command()
@click.argument("scenario", required=False)
@click.option("--seed", type=click.IntRange(0, 2**53), help="Chance; it wins over the scenario's.")
@click.option("--chart", metavar="FILE", help="Draw the run into FILE, an .svg or a .png.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Form of the report.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Change one key of the scenario. Lists by comma. Repeatable.",
)
@click.option("--show", metavar="NAME", help="Print a scenario that comes with fastmta, and end.")
@click.option("--keys", is_flag=True, help="Print every key of a scenario, and end.")
def simulate(
    scenario: str | None,
    seed: int | None,
    chart: str | None,
    output: str,
    overrides: Sequence[str],
    show: str | None,
    keys: bool,
) -> None:
    """Run the scheduler against simulated receivers, in simulated time.

    SCENARIO is a file, or the name of one that comes with fastmta. Without it: a quick start.

    Exit status: 0 done; 1 the chart cannot be drawn, or a limit was exceeded (a defect: please
    report it with the scenario); 2 wrong usage; 78 the scenario is wrong.
    """
    from fastmta.lab.simulate import SHIPPED, describe_keys, scenario_text

    if keys:
        click.echo(describe_keys(), nl=False)
    elif show is not None:
        if show not in SHIPPED:
            raise click.UsageError(f"there is no scenario {show}; there are {', '.join(SHIPPED)}")
        click.echo(scenario_text(show), nl=False)
    elif scenario is None:
        click.echo(_QUICK_START.format(names=", ".join(SHIPPED[1:])))
    else:
        if seed is not None:
            overrides = (*overrides, f"seed={seed}")
        sys.exit(_simulate(scenario, overrides, chart, output))


def _simulate(scenario: str, overrides: Sequence[str], chart: str | None, output: str) -> int:
    from fastmta.lab.simulate import (
        ChartError,
        build_report,
        check_chart,
        draw_chart,
        render_report,
    )

    try:
        if chart is not None:
            check_chart(chart)
        world = _world(scenario, overrides)
        begin = time.monotonic()
        world.run(_progress(world))
        _say_speed(world, time.monotonic() - begin)
        report = build_report(world)
        if output == "json":
            click.echo(json.dumps(report, indent=1))
        else:
            click.echo(render_report(report), nl=False)
        if chart is not None:
            draw_chart(world, chart)
            click.echo(f"chart: {chart}", err=True)
    except ChartError as error:
        click.echo(f"fastmta simulate: {error}", err=True)
        return EXIT_FAILED
    return EXIT_FAILED if report["limits_exceeded"] else 0


def _world(scenario: str, overrides: Sequence[str]) -> World:
    """The world of a file or of a shipped scenario; ends with every problem of it."""
    from fastmta.config import ConfigError
    from fastmta.lab.simulate import SHIPPED, World, parse_scenario, read_scenario, scenario_text

    try:
        if scenario in SHIPPED:
            text = scenario_text(scenario)
            return World(parse_scenario(text, f"{scenario}.toml", overrides))
        return World(read_scenario(scenario, overrides))
    except ConfigError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        if not scenario.endswith(".toml"):
            click.echo(f"scenarios that come with fastmta: {', '.join(SHIPPED)}", err=True)
        sys.exit(EXIT_CONFIG)


def _progress(world: World) -> Callable[[float], None] | None:
    """Whoever waits at a terminal is told how far it is."""
    if not sys.stderr.isatty():
        return None
    next_s = time.monotonic() + _TICK_S

    def tell(passed_s: float) -> None:
        nonlocal next_s
        if time.monotonic() >= next_s:
            next_s = time.monotonic() + _TICK_S
            click.echo(
                f"\r{passed_s:,.0f} s, {world.network.attempts:,} attempts ", nl=False, err=True
            )

    return tell


def _say_speed(world: World, taken_s: float) -> None:
    """Beside the report, which has nothing in it that differs from run to run."""
    if sys.stderr.isatty():
        each_us = taken_s / max(1, world.network.attempts) * 1e6
        attempts = f"{world.network.attempts:,} attempts in {taken_s:.1f} s"
        click.echo(f"\r{attempts} of real time, {each_us:.0f} us each", err=True)
