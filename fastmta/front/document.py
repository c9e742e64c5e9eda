"""The table of all metrics, for docs/metrics.md, from the catalogue."""

from __future__ import annotations

from pathlib import Path

from fastmta.journal.family import DESK, FAMILIES, Family

BEGIN = "<!-- begin: python -m fastmta.front -->"
END = "<!-- end -->"


def table() -> str:
    """One line for each metric."""
    rows = ["| metric | kind | labels | what it says |", "|---|---|---|---|"]
    rows += [_row(family) for family in (*FAMILIES, *DESK)]
    return "\n".join(rows)


def write_document(path: str) -> None:
    """Write the table anew between its marks."""
    file = Path(path)
    head, _, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    file.write_text(f"{head}{BEGIN}\n{table()}\n{END}{tail}", encoding="utf-8")


def _row(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.shown_labels)
    return f"| `{family.full_name}` | {family.kind.value} | {labels} | {family.help} |"
