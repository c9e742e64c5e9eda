"""One source of settings each: file, environment, flags. Every value is checked where it stands."""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .catalogue import ENTRIES, LISTED, NAMED, SECTIONS, Entry, entry_of, is_name
from .position import find_lines
from .problem import Problem, suggest

_PREFIX = "FASTMTA_"
_FILE_SUFFIX = "_FILE"
_SECRET_CHARACTERS_MAX = 64 * 1024
_NAMES = {"listen": "listener", "relays": "relay"}  # what the name is of, where it is not that
_EXAMPLES = {
    "listen": "smtp",
    "relays": "ses",
    "route": "1",
    "tls_policy": "1",
    "profile": "patient",
    "tenant": "shop",
    "provider": "corp",
    "shape": "google",
}


@dataclass(slots=True)
class Layer:
    """Checked values by dotted key, where each key was set, and what is wrong.

    A key whose value is wrong has a place and no value. A listener, relay or route has a place
    (`listen.smtp`, `route.1`) once it or one of its keys is mentioned.
    """

    values: dict[str, object] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def take(self, entry: Entry, dotted: str, place: str, value: object) -> None:
        """Check `value` as TOML gives it."""
        self._take(dotted, place, entry.key.kind.check, value)

    def take_text(self, entry: Entry, dotted: str, place: str, text: str) -> None:
        """Check `text` of the environment or a flag."""
        self._take(dotted, place, entry.key.kind.from_text, text)

    def take_content(self, entry: Entry, dotted: str, place: str, text: str) -> None:
        """Check `text` of a file that a variable names."""
        self._take(dotted, place, entry.key.kind.from_file, text)

    def _take(self, dotted: str, place: str, read: Callable[[Any], object], value: object) -> None:
        self.places[dotted] = place
        if dotted.partition(".")[0] in (*NAMED, *LISTED):
            self.places.setdefault(dotted.rpartition(".")[0], place)
        try:
            self.values[dotted] = read(value)
        except ValueError as error:
            self.problems.append(Problem(place, dotted, str(error)))


def read_file(path: str) -> Layer:
    """The layer of a TOML file. A file that cannot be read or parsed is one problem."""
    layer = Layer()
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        layer.problems.append(Problem(path, "", f"cannot be read: {reason}"))
        return layer
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(r" \(at (?:line ([0-9]+), column [0-9]+|end of document)\)", str(error))
        line = match[1] if match and match[1] else text.count("\n") + 1
        reason = str(error)[: match.start()] if match else str(error)
        layer.problems.append(Problem(f"{path}:{line}", "", f"not valid TOML: {reason}"))
        return layer
    _FileReader(path, find_lines(text.replace("\r\n", "\n")), layer).read((), table)
    return layer


class _FileReader:
    def __init__(self, path: str, lines: Mapping[tuple[str, ...], int], layer: Layer) -> None:
        self._path = path
        self._lines = lines
        self._layer = layer

    def _place(self, path: tuple[str, ...]) -> str:
        while path and path not in self._lines:
            path = path[:-1]
        return f"{self._path}:{self._lines.get(path, 1)}"

    def _wrong(self, path: tuple[str, ...], text: str) -> None:
        self._layer.problems.append(Problem(self._place(path), ".".join(path), text))

    def read(self, path: tuple[str, ...], table: Mapping[str, object]) -> None:
        """Take what stands in `table`, the table at `path`."""
        for name, value in table.items():
            here = (*path, name)
            dotted = ".".join(here)
            entry = entry_of(dotted)
            if entry is not None:
                self._layer.take(entry, dotted, self._place(here), value)
            elif len(here) == 2 and here[0] in NAMED and not is_name(here[0], name):
                what = _NAMES.get(here[0], here[0])
                self._wrong(here, f'"{name}" cannot name a {what}: a-z, 0-9, single _ and -')
            elif len(here) == 1 and name in LISTED:
                self._read_list(here, value)
            elif _is_section(here):
                self._read_section(here, value)
            else:
                self._wrong(here, f"is not a setting{suggest_key(dotted)}")

    def _read_section(self, path: tuple[str, ...], value: object) -> None:
        if not isinstance(value, dict):
            self._wrong(path, f"is a section; write [{'.'.join(path)}]")
            return
        if len(path) == 2 and path[0] in (*NAMED, *LISTED):
            self._layer.places[".".join(path)] = self._place(path)
        self.read(path, value)

    def _read_list(self, path: tuple[str, ...], value: object) -> None:
        if not isinstance(value, list):
            self._wrong(path, f"there may be several; write [[{'.'.join(path)}]]")
            return
        for number, one in enumerate(value, 1):
            self._read_section((*path, str(number)), one)


def _is_section(path: tuple[str, ...]) -> bool:
    if path[0] in NAMED:
        return len(path) <= 2
    return ".".join(path) in SECTIONS


# Keys of earlier versions, and where to look instead.
_RETIRED = {"spool.free_space_min": "pressure.volume_free"}


def suggest_key(dotted: str) -> str:
    """A hint at the key or section that `dotted` may have meant."""
    if dotted in _RETIRED:
        return f"; did you mean {_RETIRED[dotted]}?"
    parts = dotted.split(".")
    keys = []
    for key in ENTRIES:
        first = key.partition(".")[0]
        name = parts[1] if parts[0] == first and len(parts) > 1 else _EXAMPLES.get(first, "")
        keys.append(key.replace("*", name))
    sections = {key.rpartition(".")[0] for key in keys} | {key.split(".")[0] for key in keys}
    same_name = [key for key in keys if key.rpartition(".")[2] == parts[-1]]
    if len(same_name) == 1:
        return f"; did you mean {same_name[0]}?"
    siblings = [key for key in keys if key.rpartition(".")[0] == dotted.rpartition(".")[0]]
    return suggest(dotted, siblings) or suggest(dotted, [*keys, *sorted(sections - {""})])


def read_environment(environ: Mapping[str, str]) -> Layer:
    """The layer of `FASTMTA_HOSTNAME` and `FASTMTA_A__B[__C]`; other names are not ours."""
    layer = Layer()
    for variable in sorted(environ):
        bare = variable.removeprefix(_PREFIX)
        is_hostname = bare in ("HOSTNAME", "HOSTNAME" + _FILE_SUFFIX)
        if bare == variable or not ("__" in bare or is_hostname):
            continue
        _read_variable(layer, environ, variable)
    return layer


def _read_variable(layer: Layer, environ: Mapping[str, str], variable: str) -> None:
    place = f"environment: {variable}"
    dotted = _dotted(variable)
    entry = entry_of(dotted)
    if entry is not None:
        layer.take_text(entry, dotted, place, environ[variable])
        return
    plain = variable.removesuffix(_FILE_SUFFIX)
    dotted = _dotted(plain)
    entry = entry_of(dotted) if plain != variable else None
    if entry is None:
        layer.problems.append(
            Problem("environment", variable, f"is not a setting{_suggest_variable(variable)}")
        )
    elif plain in environ:
        text = f"{plain} is set as well; leave one of them out"
        layer.problems.append(Problem("environment", variable, text))
    else:
        try:
            with open(environ[variable], encoding="utf-8") as file:
                text = file.read(_SECRET_CHARACTERS_MAX + 1)
            if len(text) > _SECRET_CHARACTERS_MAX:
                raise OSError(f"longer than {_SECRET_CHARACTERS_MAX} characters")
        except (OSError, UnicodeDecodeError) as error:
            problem = Problem("environment", variable, f"{environ[variable]}: {error}")
            layer.problems.append(problem)
        else:
            layer.take_content(entry, dotted, place, text)


def _dotted(variable: str) -> str:
    return variable.removeprefix(_PREFIX).lower().replace("__", ".")


def _suggest_variable(variable: str) -> str:
    hint = suggest_key(_dotted(variable))
    if not hint:
        return ""
    dotted = hint.removeprefix("; did you mean ").removesuffix("?")
    return f"; did you mean {_PREFIX}{dotted.upper().replace('.', '__')}?"


def read_overrides(overrides: Iterable[str]) -> Layer:
    """The layer of `section.key=value` flags; a later one wins over an earlier one."""
    layer = Layer()
    for override in overrides:
        dotted, equals, text = override.partition("=")
        dotted = dotted.strip()
        entry = entry_of(dotted)
        if not equals:
            layer.problems.append(Problem("--set", override, "must be section.key=value"))
        elif entry is None:
            text = f"is not a setting{suggest_key(dotted)}"
            layer.problems.append(Problem("--set", dotted, text))
        else:
            layer.take_text(entry, dotted, "--set", text)
    return layer
