"""Files of the project as the checks see them, and the findings they report."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from tests.tidy.exceptions import EXCEPTIONS

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "fastmta"
EXTENSIONS = ROOT / "ext"


@dataclass(frozen=True, slots=True)
class Finding:
    """One place that breaks a rule; `check` is the key of the exception list."""

    check: str
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.check}: {self.text}"


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its path below the project's root, and its text."""

    path: str
    text: str = field(repr=False)

    @property
    def room(self) -> str:
        """Room of `fastmta/<room>/..` and `ext/<room>/..`; the stem for `fastmta/x.py`."""
        parts = Path(self.path).with_suffix("").parts
        return parts[1] if len(parts) > 1 and parts[0] in ("fastmta", "ext") else ""

    @property
    def tree(self) -> ast.Module:
        return parsed(self.text)

    @property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the tree; many checks look at all of them."""
        return walked(self.text)

    @property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    def finding(self, check: str, line: int, text: str) -> Finding:
        return Finding(check, self.path, line, text)


@cache
def parsed(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def walked(text: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(parsed(text)))


def read(path: Path) -> Source:
    return Source(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))


def files(*patterns: str) -> list[Source]:
    """Every file below the root that matches one of the patterns, generated ones left out."""
    found = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    return [read(path) for path in sorted(found) if "__pycache__" not in path.parts]


def python_files() -> list[Source]:
    return files("fastmta/**/*.py", "bench/**/*.py", "tests/**/*.py", "setup.py")


def package_files() -> list[Source]:
    return files("fastmta/**/*.py")


def extension_files() -> list[Source]:
    return files("ext/**/*.pyx", "ext/**/*.pxd")


def assert_clean(findings: Iterable[Finding]) -> None:
    """Fail with every finding that no named exception covers."""
    left = [str(one) for one in findings if (one.check, one.path) not in EXCEPTIONS]
    if left:
        pytest.fail("\n".join([f"{len(left)} findings", *left]), pytrace=False)


def comments(source: Source) -> Iterator[tuple[int, str]]:
    """(line, text) of every line that has a comment; of C, where they span lines, every line."""
    has_hashes = not source.path.endswith((".c", ".h"))
    for number, line in enumerate(source.lines, 1):
        match = re.search(r"#.*" if has_hashes else r".+", line)
        if match:
            yield number, match[0]
