"""Who may import whom: the table of the design, and the checks that hold sources against it."""

import ast
import re
from collections.abc import Iterator

from tests.tidy.source import Finding, Source

RANKS = {
    "smtp": 0,
    "message": 1,
    "event": 1,
    "config": 1,
    "security": 1,
    "session": 2,
    "policy": 2,
    "route": 2,
    "budget": 2,
    "spool": 2,
    "dsn": 2,
    "journal": 2,
    "drop": 2,
    "listener": 3,
    "scheduler": 3,
    "delivery": 3,
    "hooks": 4,
    "control": 4,
    "front": 4,
    "daemon": 5,
    "lab": 5,
    "cli": 6,
    "postfix": 6,
    "__main__": 7,
}
BELOW_DAEMON = frozenset(room for room, rank in RANKS.items() if rank < RANKS["daemon"])
ALLOWED: dict[str, frozenset[str]] = {
    "smtp": frozenset(),
    "message": frozenset({"smtp"}),
    "event": frozenset({"smtp"}),
    "config": frozenset({"smtp"}),
    "security": frozenset({"smtp"}),
    "session": frozenset({"smtp", "message", "event"}),
    "policy": frozenset({"smtp", "message", "event"}),
    "route": frozenset({"smtp", "message"}),
    "budget": frozenset({"smtp"}),
    "spool": frozenset({"smtp", "message", "event"}),
    "dsn": frozenset({"smtp", "message"}),
    "journal": frozenset({"smtp", "message", "event"}),
    "drop": frozenset({"smtp", "message"}),
    "listener": frozenset({"smtp", "message", "event", "security", "session", "budget"}),
    "scheduler": frozenset({"smtp", "message", "event", "route", "budget"}),
    "delivery": frozenset({"smtp", "message", "event", "security", "route"}),
    "hooks": frozenset({"smtp", "message", "session", "policy"}),
    "control": frozenset({"smtp", "message", "event", "spool", "scheduler", "journal", "budget"}),
    "front": frozenset({"journal"}),
    "daemon": BELOW_DAEMON,
    "lab": BELOW_DAEMON | {"daemon"},
    "cli": frozenset({"config", "control", "daemon", "lab"}),
    "postfix": frozenset({"smtp", "message", "config", "drop", "control", "daemon"}),
    "__main__": frozenset({"cli"}),
    "__init__": frozenset(),
}
FACE_ONLY = {("lab", "daemon")}  # this room may use that one's face, not its modules
PURE_ROOMS = frozenset(
    {"smtp", "message", "event", "session", "route", "budget", "scheduler", "dsn"}
)
IMPURE_MODULES = frozenset({"socket", "ssl", "asyncio", "time", "random", "os", "logging"})


def imported_names(source: Source) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(line, dotted name) of everything a Python file imports, relative forms made absolute.

    `from a import b` gives `a.b`: whether b is a module or a name in one is the same to the table.
    """
    package = source.path.removesuffix(".py").split("/")
    package = package[:-1]
    for node in source.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, tuple(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            prefix = package[: len(package) - node.level + 1] if node.level else []
            prefix = prefix + (node.module.split(".") if node.module else [])
            for alias in node.names:
                yield node.lineno, (*prefix, alias.name)


def compiled_imports(source: Source) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The same for a `.pyx`, `import` and `cimport` alike, read line by line."""
    pattern = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import\s+\(?\s*([\w.]+)|c?import\s+([\w.]+))")
    for number, line in enumerate(source.lines, 1):
        match = pattern.match(line)
        if match:
            yield number, tuple(".".join(part for part in match.groups() if part).split("."))


def imports_of(source: Source) -> Iterator[tuple[int, tuple[str, ...]]]:
    return imported_names(source) if source.path.endswith(".py") else compiled_imports(source)


def check_table(source: Source) -> Iterator[Finding]:
    """A room imports only the rooms that the table names."""
    room = source.room
    if room not in ALLOWED:
        yield source.finding("unknown room", 1, f"{room} is not in the table of rooms")
        return
    for line, name in imports_of(source):
        if name[0] != "fastmta" or len(name) < 2 or name[1] == room:
            continue
        other = name[1]
        if other not in RANKS:
            continue  # a name of the package itself, `fastmta.__version__`
        if other not in ALLOWED[room]:
            yield source.finding("layer", line, f"{room} may not import {other}")
        elif (room, other) in FACE_ONLY and len(name) > 3:
            yield source.finding("layer", line, f"{room} may use only the face of {other}")


def check_pure(source: Source) -> Iterator[Finding]:
    """A pure room does no I/O and reads neither clock nor environment nor chance."""
    if source.room not in PURE_ROOMS:
        return
    for line, name in imports_of(source):
        if name[0] in IMPURE_MODULES:
            text = f"{source.room} is pure: {name[0]} is handed in through a port or argument"
            yield source.finding("pure room", line, text)


def check_private(source: Source) -> Iterator[Finding]:
    """What begins with an underscore stays in its room."""
    for line, name in imports_of(source):
        if name[0] != "fastmta" or len(name) < 2 or name[1] == source.room:
            continue
        private = [part for part in name[1:] if part.startswith("_") and part != "__main__"]
        if private and private != ["__version__"]:
            text = f"{'.'.join(name)} is private to {name[1]}"
            yield source.finding("private", line, text)


def check_dynamic(source: Source) -> Iterator[Finding]:
    """No import that the other checks cannot see."""
    for node in source.nodes:
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if name in ("import_module", "__import__", "exec", "eval"):
            text = f"{name}() hides what is imported: write an import statement"
            yield source.finding("dynamic import", node.lineno, text)


def unused_modules(sources: list[Source]) -> Iterator[Finding]:
    """A module of the package that no other module imports is dead."""
    used: set[str] = set()
    for source in sources:
        for _, name in imported_names(source):
            for end in range(2, len(name) + 1):
                used.add(".".join(name[:end]))
    for source in sources:
        dotted = source.path.removesuffix(".py").replace("/", ".")
        if dotted.endswith(("__init__", "__main__")) or dotted in used:
            continue
        yield source.finding("dead module", 1, "nobody imports it")
