"""`-o text|json|jsonl`, as every command has it that prints data; docs/json.md is the schema."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import click

FORMS = ("text", "json", "jsonl")
JSON_VERSION = 1  # of the schema: raised when a field goes away or changes its meaning
with_output = click.option(
    "-o",
    "--output",
    "output",
    type=click.Choice(FORMS),
    default="text",
    help="Form of the output: json is one document, jsonl a line for each item.",
)


def put(
    output: str,
    document: Any,  # Any: what JSON knows
    items: Iterable[Any] | None = None,  # likewise
) -> bool:
    """Print `document`, or a line for each of `items` (by default the one that `document` is);
    False, and nothing is printed, when text is wanted."""
    if output == "jsonl" and items is not None:
        for item in items:
            click.echo(line_of(item))
    elif output != "text":
        click.echo(line_of(document))
    return output != "text"


def of_kind(name: str, item: dict[str, Any]) -> dict[str, Any]:  # Any: what JSON knows
    """An item of a list of several kinds, which says of which it is."""
    return {"kind": name, **item}


def line_of(value: Any) -> str:  # Any: what JSON knows
    """One line of JSON, of ASCII."""
    return json.dumps(value)
