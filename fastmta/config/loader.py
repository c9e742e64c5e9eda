"""From file, environment and flags to one checked `Config`. Flag > environment > file > default."""

import dataclasses
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .catalogue import LISTED, NAMED, SECTIONS
from .layer import Layer, read_environment, read_file, read_overrides
from .problem import ConfigError
from .schema import Config
from .shaping import INHERITED
from .whole import check_whole


def load(
    path: str | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Iterable[str] = (),
    find_hostname: Callable[[], str] | None = None,
) -> Config:
    """The configuration of `path` (None: no file), `environ` and `overrides` (`section.key=value`).

    Reads the clock of nothing and starts nothing; asks the system for its name only when none is
    configured. Raises `ConfigError` that names every problem of every layer.
    """
    layers = [
        read_overrides(overrides),
        read_environment(environ or {}),
        Layer() if path is None else read_file(path),
    ]
    problems = [problem for layer in reversed(layers) for problem in layer.problems]
    values: dict[str, object] = {}
    places: dict[str, str] = {}
    for layer in reversed(layers):
        values |= layer.values
        places |= layer.places
    config = _complete(_build(values, places), find_hostname or system_hostname)
    wrong, doubtful = check_whole(config, places, {problem.key for problem in problems})
    problems += wrong
    if problems:
        raise ConfigError(problems)
    return dataclasses.replace(config, warnings=tuple(doubtful), places=places)


def system_hostname() -> str:
    """The system's name, fully qualified if the system knows how. May ask DNS."""
    name = socket.gethostname()
    if "." in name:
        return name.lower()
    try:
        found = socket.getaddrinfo(name, None, flags=socket.AI_CANONNAME)
    except OSError:
        return name.lower()  # a bare name is warned of, like any name without a dot
    return (found[0][3] or name).lower()


def _build(values: Mapping[str, object], places: Mapping[str, str]) -> Config:
    arguments: dict[str, Any] = {}  # Any: keyword arguments of dataclasses of different shapes
    for first in (*NAMED, *LISTED):
        dotted_names = (dotted for dotted in places if dotted.startswith(f"{first}."))
        names = dict.fromkeys(dotted.split(".")[1] for dotted in dotted_names)  # as in the file
        if not names:
            continue
        schema = SECTIONS[f"{first}.*"].schema
        common = _inherited(values) if first == "profile" else {}
        made = {name: schema(**common | _own(values, f"{first}.{name}")) for name in names}
        numbers = sorted(names, key=int) if first in LISTED else []
        arguments[first] = tuple(made[number] for number in numbers) if numbers else made
    for dotted in sorted(SECTIONS, key=lambda name: -name.count(".")):
        if dotted and not dotted.endswith(".*"):
            arguments[dotted] = SECTIONS[dotted].schema(
                **_own(values, dotted), **_inner(arguments, dotted)
            )
    return Config(**_own(values, ""), **_inner(arguments, ""))


def _inherited(values: Mapping[str, object]) -> dict[str, Any]:
    """What profiles have of other sections, where that was set."""
    return {name: values[dotted] for name, dotted in INHERITED.items() if dotted in values}


def _own(values: Mapping[str, object], section: str) -> dict[str, Any]:
    """The values that stand right in `section`, by their last name."""
    found = ((dotted.rpartition("."), value) for dotted, value in values.items())
    return {name: value for (prefix, _, name), value in found if prefix == section}


def _inner(arguments: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The sections built so far that stand right in `section`, by their last name."""
    found = ((dotted.rpartition("."), value) for dotted, value in arguments.items())
    return {name: value for (prefix, _, name), value in found if prefix == section}


def _complete(config: Config, find_hostname: Callable[[], str]) -> Config:
    """Fill in what follows from other keys: hostname, origin, postmaster."""
    hostname = config.hostname or find_hostname()
    origin = config.rewrite.origin or hostname
    postmaster = config.notify.postmaster or f"postmaster@{origin}"
    return dataclasses.replace(
        config,
        hostname=hostname,
        rewrite=dataclasses.replace(config.rewrite, origin=origin),
        notify=dataclasses.replace(config.notify, postmaster=postmaster),
    )
