"""The scenarios that come with fastmta: to run, to read, to begin one's own from."""

from pathlib import Path

_DIRECTORY = Path(__file__).parent / "scenarios"

# In the order in which somebody new should meet them.
SHIPPED = (
    "slow-site",
    "dead-third",
    "provider-limits",
    "loud-tenant",
    "restart",
    "million",
)

CHARTED = SHIPPED[:-1]  # in docs/scheduling.md


def scenario_path(name: str) -> Path:
    """The file of a scenario that is named in SHIPPED."""
    return _DIRECTORY / f"{name}.toml"


def scenario_text(name: str) -> str:
    """What stands in it."""
    return scenario_path(name).read_text(encoding="utf-8")
