"""A scenario from its TOML file and `--set`, or every problem with its place."""

import dataclasses
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from fastmta.config import ConfigError, Problem
from fastmta.config.key import Key
from fastmta.config.position import find_lines
from fastmta.config.problem import suggest

from .scenario import Backlog, Profile, Receiver, Scenario, Scheduling, Sender, Shaping, Traffic

# Tables by a name of the scenario's own, and the one table that there is once.
NAMED: dict[str, type[Any]] = {
    "receiver": Receiver,
    "traffic": Traffic,
    "backlog": Backlog,
    "tenant": Sender,
    "shape": Shaping,
    "profile": Profile,
}
SECTIONS: dict[str, type[Any]] = {"": Scenario, "scheduler": Scheduling, **NAMED}
DOMAINS_MAX = 1_000_000
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")


def keys_of(schema: type[Any]) -> dict[str, tuple[Key, object]]:
    """The keys of one section: how each is described, and its default."""
    return {
        one.name: (key, one.default)
        for one in dataclasses.fields(schema)
        for key in get_args(one.type)[1:]
        if isinstance(key, Key)
    }


def read_scenario(path: str, overrides: Iterable[str] = ()) -> Scenario:
    """The scenario of a file, changed by `section.key=value`. Raises `ConfigError`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise ConfigError([Problem(path, "", f"cannot be read: {reason}")]) from None
    return parse_scenario(text, path, overrides)


def parse_scenario(text: str, path: str, overrides: Iterable[str] = ()) -> Scenario:
    """The same of a text that stands in `path`."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"line ([0-9]+)", str(error))
        line = match[1] if match else str(text.count("\n") + 1)
        problem = Problem(f"{path}:{line}", "", f"not valid TOML: {error}")
        raise ConfigError([problem]) from None
    reader = _Reader(path, find_lines(text.replace("\r\n", "\n")))
    reader.read_table(table)
    for override in overrides:
        reader.read_override(override)
    scenario = reader.build()
    if scenario is None:
        raise ConfigError(reader.problems)
    return scenario


class _Reader:
    def __init__(self, path: str, lines: Mapping[tuple[str, ...], int]) -> None:
        self._path = path
        self._lines = lines
        self._values: dict[tuple[str, str], dict[str, Any]] = {}  # by section and name
        self._places: dict[str, str] = {}
        self.problems: list[Problem] = []

    def _place(self, *path: str) -> str:
        while path and path not in self._lines:
            path = path[:-1]
        return f"{self._path}:{self._lines.get(path, 1)}"

    def _wrong(self, path: tuple[str, ...], text: str) -> None:
        self.problems.append(Problem(self._place(*path), ".".join(path), text))

    # The file

    def read_table(self, table: Mapping[str, Any]) -> None:
        """Take everything that stands in the file."""
        top = keys_of(Scenario)
        for name, value in table.items():
            if name in top:
                self._take((name,), top[name][0], value)
            elif name in NAMED and isinstance(value, dict):
                for own, inner in value.items():
                    self._read_named(name, own, inner)
            elif name == "scheduler" and isinstance(value, dict):
                self._read_section((name,), Scheduling, value)
            elif name in SECTIONS:
                self._wrong((name,), f"is a section; write [{_title(name)}]")
            else:
                known = [*top, *(one for one in SECTIONS if one)]
                self._wrong((name,), f"is no key of a scenario{suggest(name, known)}")

    def _read_named(self, section: str, name: str, value: object) -> None:
        path = (section, name)
        if not isinstance(value, dict):
            hint = f"; write [{section}.NAME] above it" if name in keys_of(NAMED[section]) else ""
            self._wrong(path, f"is not in a section with a name{hint}")
        elif not _NAME.fullmatch(name):
            self._wrong(path, f'"{name}" cannot be a name: a-z, 0-9, _ and -, at most 31')
        else:
            self._values.setdefault(path, {})
            self._read_section(path, NAMED[section], value)

    def _read_section(
        self, path: tuple[str, ...], schema: type[Any], table: Mapping[str, object]
    ) -> None:
        known = keys_of(schema)
        for name, value in table.items():
            if name in known:
                self._take((*path, name), known[name][0], value)
            else:
                text = f"is no key of [{'.'.join(path)}]{suggest(name, known)}"
                self._wrong((*path, name), text)

    def _take(self, path: tuple[str, ...], key: Key, value: object) -> None:
        self._places[".".join(path)] = self._place(*path)
        try:
            self._put(path, key.kind.check(value))
        except ValueError as error:
            self._wrong(path, str(error))

    def _put(self, path: tuple[str, ...], value: object) -> None:
        section, name = (*path[:-1], "", "")[:2]
        self._values.setdefault((section, name), {})[path[-1]] = value

    # Flags

    def read_override(self, override: str) -> None:
        """Take one `section.key=value`; it wins over the file."""
        dotted, equals, text = override.partition("=")
        path = tuple(dotted.strip().split("."))
        if not equals:
            self.problems.append(Problem("--set", override, "must be section.key=value"))
            return
        schema: type[Any] | None = None
        if path[0] in NAMED and len(path) == 3 and path[:2] in self._values:
            schema = NAMED[path[0]]
        elif len(path) == 1 or (path[0] == "scheduler" and len(path) == 2):
            schema = Scheduling if len(path) == 2 else Scenario
        keys = {} if schema is None else keys_of(schema)
        if path[-1] not in keys:
            near = [f"{'.'.join(path[:-1])}.{key}" for key in keys] if len(path) > 1 else []
            hint = suggest(dotted, [*near, *[one for one in self._known() if one not in near]])
            beginning = [one for one in near if one.startswith(dotted)]
            if beginning:
                hint = f"; did you mean {beginning[0]}?"
            text = f"is no key of this scenario{hint}"
            self.problems.append(Problem("--set", dotted, text))
            return
        self._places[dotted] = "--set"
        try:
            self._put(path, keys[path[-1]][0].kind.from_text(text))
        except ValueError as error:
            self.problems.append(Problem("--set", dotted, str(error)))

    def _known(self) -> list[str]:
        known = [*keys_of(Scenario), *(f"scheduler.{key}" for key in keys_of(Scheduling))]
        for section, name in self._values:
            if section in NAMED:
                known += [f"{section}.{name}.{key}" for key in keys_of(NAMED[section])]
        return known

    # All of it

    def build(self) -> Scenario | None:
        """The scenario; None when there are problems, then with those that only show now."""
        tables: dict[str, dict[str, Any]] = {section: {} for section in NAMED}
        for (section, name), values in self._values.items():
            if section in NAMED:
                tables[section][name] = NAMED[section](**values)
        scheduling = Scheduling(**self._values.get(("scheduler", ""), {}))
        top = self._values.get(("", ""), {}) | tables
        scenario = Scenario(**top, scheduler=scheduling)
        self._check(scenario)
        return None if self.problems else scenario

    def _doubt(self, dotted: str, text: str) -> None:
        path = tuple(dotted.split("."))
        place = self._places.get(dotted) or self._place(*path)
        self.problems.append(Problem(place, dotted, text))

    def _check(self, scenario: Scenario) -> None:
        if not scenario.receiver:
            self._doubt("receiver", "there is none; write [receiver.NAME]")
        elif not scenario.traffic and not scenario.backlog:
            self._doubt("traffic", "nobody sends: write [traffic.NAME] or [backlog.NAME]")
        domains = sum(one.sites * one.domains for one in scenario.receiver.values())
        if domains > DOMAINS_MAX:
            self._doubt("receiver", f"{domains} domains in all, at most {DOMAINS_MAX}")
        sources: dict[str, Traffic | Backlog] = {
            **{f"traffic.{name}": one for name, one in scenario.traffic.items()},
            **{f"backlog.{name}": one for name, one in scenario.backlog.items()},
        }
        for name, source in sources.items():
            self._check_source(name, source, scenario)
        for name, receiver in scenario.receiver.items():
            if receiver.deferred + receiver.failed > 1:
                self._doubt(f"receiver.{name}.deferred", "with `failed` it is more than 1")
        for name, shape in scenario.shape.items():
            self._check_shape(f"shape.{name}", shape)
        senders = {one.tenant or name.partition(".")[2] for name, one in sources.items()}
        for name, tenant in scenario.tenant.items():
            if tenant.profile and tenant.profile not in scenario.profile:
                hint = suggest(tenant.profile, scenario.profile)
                text = f"there is no [profile.{tenant.profile}]{hint}"
                self._doubt(f"tenant.{name}.profile", text)
            if name not in senders:
                hint = suggest(name, senders)
                self._doubt(f"tenant.{name}", f"nobody sends for this tenant{hint}")

    def _check_shape(self, name: str, shape: Shaping) -> None:
        if not any((shape.site, shape.domain, shape.provider, shape.source, shape.tenant)):
            self._doubt(name, "selects nothing: site, domain, provider, source or tenant")
        named = (f"{name}.{key}" in self._places for key in ("rate", "connections", "paused"))
        if not any(named):
            self._doubt(name, "limits nothing: rate, connections or paused")
        if shape.until_s and shape.until_s <= shape.from_s:
            self._doubt(f"{name}.until_s", f"it begins at {shape.from_s:g} s, after it ends")

    def _check_source(self, name: str, source: Traffic | Backlog, scenario: Scenario) -> None:
        if not source.to and f"{name}.to" not in self._places:
            self._doubt(f"{name}.to", "must name a receiver")
        for one in source.to:
            if one not in scenario.receiver:
                hint = suggest(one, scenario.receiver)
                self._doubt(f"{name}.to", f"there is no [receiver.{one}]{hint}")
        if source.weights and len(source.weights) != len(source.to):
            text = f"{len(source.weights)} weights for {len(source.to)} receivers"
            self._doubt(f"{name}.weights", text)
        elif source.weights and not any(source.weights):
            self._doubt(f"{name}.weights", "one of them must be above 0")
        if isinstance(source, Traffic):
            end_s = source.until_s or scenario.duration_s
            if source.from_s >= end_s:
                self._doubt(f"{name}.from_s", f"it ends at {end_s:g} s, before it begins")


def _title(section: str) -> str:
    return f"{section}.NAME" if section in NAMED else section


def describe_keys() -> str:
    """Every key of a scenario with its default and meaning, as a scenario in comments."""
    lines: list[str] = []
    for section, schema in SECTIONS.items():
        if section:
            lines += ["", f"[{_title(section)}]"]
        for name, (key, default) in keys_of(schema).items():
            lines.append(f"{name} = {key.kind.render(default)}".ljust(34) + f" # {key.doc}")
    return "\n".join(lines) + "\n"
