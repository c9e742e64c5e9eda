"""What the benches with options of their own share: options, a directory, settings, a JSON file."""

import argparse
import json
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..loopback import LabError
from . import machine

Setting = str | int | float | bool | Sequence[str]


def parser_of(name: str, description: str) -> argparse.ArgumentParser:
    """A parser that knows the options that all of them have."""
    parser = argparse.ArgumentParser(prog=f"fastmta bench {name}", description=description)
    add = parser.add_argument
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of fastmta")
    add("--directory", default="/var/tmp", help="where the spools go; not a tmpfs")
    add("--json", help=f"file of the figures (default: build/bench/{name}-<time>.json)")
    add("--keep", action="store_true", help="keep spools and logs")
    return parser


def settings_of(chosen: argparse.Namespace) -> dict[str, Setting]:
    """The settings of `--set`, values as TOML where they are that; LabError for what has no `=`."""
    found: dict[str, Setting] = {}
    for text in chosen.set:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise LabError(f"--set {text}: write section.key=value")
        try:
            found[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[name] = value
    return found


def work(name: str, chosen: argparse.Namespace, measure: Callable[[Path], int]) -> int:
    """Measure in a fresh directory; 1 with a sentence on standard error when it cannot be done."""
    try:
        parent = Path(chosen.directory)
        parent.mkdir(parents=True, exist_ok=True)
        machine.require_disk(parent)
        directory = Path(tempfile.mkdtemp(prefix=f"fastmta-{name}-", dir=parent)).resolve()
        try:
            return measure(directory)
        finally:
            if chosen.keep:
                print(f"kept {directory}")
            else:
                shutil.rmtree(directory, ignore_errors=True)
    except LabError as error:
        print(f"fastmta bench {name}: {error}", file=sys.stderr)
        return 1


def facts_of(directory: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """The machine, and what was asked for."""
    asked = {f"asked_{name}": value for name, value in vars(chosen).items() if name != "json"}
    return {
        **machine.describe(directory),
        "durability": "full",
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load_average_before": machine.load_average(),
        **asked,
    }


def render_facts(facts: Mapping[str, Any]) -> str:
    """Where and when, in two lines."""
    return (
        "fastmta {fastmta} ({commit}); durability {durability}\n"
        "{cpu_count} x {cpu}, Linux {kernel}, {file_system} on {device}, Python {python}, "
        "uvloop {uvloop}, lmdb {lmdb}; load average before {load_average_before:.2f}"
    ).format(**facts)


def write_figures(name: str, chosen: argparse.Namespace, values: Mapping[str, Any]) -> None:
    """The JSON file."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = Path(chosen.json or f"build/bench/{name}-{stamp}.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(values, indent=1) + "\n")
    print(f"figures: {target}")


def module(which: object) -> list[str]:
    """The command that runs a module of this package as a process."""
    name = getattr(which, "__name__", "")
    script = f"import sys; from {name} import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", script]  # -m would warn: this package is imported already


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)
