"""The documentation and the code say the same."""

from pathlib import Path

from fastmta.front.document import BEGIN, END, table
from fastmta.front.postfix import render_postfix
from fastmta.journal import family as f

PAGE = Path(__file__).parents[3] / "docs/metrics.md"


def test_the_table_is_that_of_the_code() -> None:
    text = PAGE.read_text()
    assert f"{BEGIN}\n{table()}\n{END}" in text, "run: python -m fastmta.front"


def test_the_names_of_exporters_are_listed() -> None:
    text = PAGE.read_text()
    shown = {line.split()[2] for line in render_postfix({f.READY: {(): 1}}).split("\n")
             if line.startswith("# TYPE")}  # fmt: skip
    assert len(shown) == 10
    assert all(f"`{name}`" in text for name in shown)
