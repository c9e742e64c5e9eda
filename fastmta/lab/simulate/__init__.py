"""The scheduler in simulated time: scenarios in, figures and charts out.

The scheduler is the real one, with every rule and number of the server's; its ports lead to models:
a clock that jumps (`clock`), a spool in RAM (`spool`), DNS and connections (`network`), receivers
with habits (`receiver`), senders (`traffic`). A run depends on its scenario and seed only: the same
two give the same report, octet by octet. Nothing listens, nothing is sent, no file is touched but
the chart.
"""

from .chart import ChartError, check_chart, draw_chart
from .reading import describe_keys, parse_scenario, read_scenario
from .report import build_report, render_report
from .shipped import SHIPPED, scenario_text
from .world import World

__all__ = [
    "SHIPPED",
    "ChartError",
    "World",
    "build_report",
    "check_chart",
    "describe_keys",
    "draw_chart",
    "parse_scenario",
    "read_scenario",
    "render_report",
    "scenario_text",
]
