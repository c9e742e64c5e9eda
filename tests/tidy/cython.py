"""Checks of the compiled part: bands, exception contracts, what an extension may share."""

import re
from collections.abc import Iterator
from itertools import chain, takewhile
from pathlib import Path

from tests.tidy.source import EXTENSIONS, Finding, Source

CIMPORT_ROOTS = frozenset({"libc", "posix", "cpython", "cython"})
OBJECT_TYPES = frozenset(
    {"object", "bytes", "bytearray", "str", "tuple", "list", "dict", "set", "memoryview"}
)
HEADER_LINES_MIN = 4
CORE, HOLDER, DOOR = 1, 2, 3


def check_header(source: Source) -> Iterator[Finding]:
    """The header says who owns memory, which thread may call, and what never happens here."""
    lines = header_lines(source)
    text = " ".join(lines).lower()
    wanted = ["thread", "never"] if source.path.endswith(".pyx") else []
    missing = [word for word in wanted if word not in text]
    if len(lines) < (HEADER_LINES_MIN if wanted else 1):
        yield source.finding("header comment", 1, "say what it owns, for how long, and who calls")
    elif missing:
        yield source.finding("header comment", 1, f"does not say: {', '.join(missing)}")


def header_lines(source: Source) -> list[str]:
    """The comment or the docstring that a file begins with."""
    if source.text.startswith('"""'):
        return source.text[3:].split('"""')[0].split("\n")
    return list(takewhile(lambda line: line.startswith("#"), source.lines))


def check_forms(source: Source) -> Iterator[Finding]:
    """Old forms of Cython, each with its replacement."""
    forms = (
        (r'^\s*include\s+["\']', "include: cimport from ext/pxd"),
        (r"^\s*DEF\s", "DEF: a member of an anonymous cdef enum"),
        (r"^\s*(IF|ELIF|ELSE)\b[^#]*:\s*$", "IF: a C macro, or two modules"),
        (r"^\s*cdef\s+public\b", "public field: readonly"),
        (r"\bprint\(", "print: never in an extension"),
        (r"^\s*except\s*:", "bare except: name what is caught"),
    )
    for number, line in enumerate(source.lines, 1):
        for pattern, text in forms:
            if re.search(pattern, line):
                yield source.finding("cython form", number, text)


def signatures(source: Source) -> Iterator[tuple[int, str]]:
    """(line, joined text) of every cdef and cpdef function with a body, extern blocks left out."""
    lines = source.lines
    extern_indent: int | None = None
    for index, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if extern_indent is not None and line.strip() and indent <= extern_indent:
            extern_indent = None
        if re.match(r"\s*cdef extern\b", line):
            extern_indent = indent
        if extern_indent is not None or not re.match(r"\s*(cdef|cpdef)\b.*\(", line):
            continue
        text = line.strip()
        after = index
        while text.count("(") > text.count(")") and after + 1 < len(lines):
            after += 1
            text = f"{text} {lines[after].strip()}"
        text = re.sub(r"\s*#.*$", "", text)
        if text.endswith(":") and not re.match(r"(cdef|cpdef) (class|enum|struct|union)\b", text):
            yield index + 1, text


def check_contracts(source: Source) -> Iterator[Finding]:
    """Every cdef function says whether it can raise; void never does."""
    classes = set(re.findall(r"^cdef class (\w+)", source.text, re.MULTILINE))
    for line, text in signatures(source):
        head, _, rest = text.rpartition(")")
        before = re.sub(r"^(cdef|cpdef)\s+(inline\s+|api\s+|public\s+)*", "", head.split("(")[0])
        words = before.split()
        result = " ".join(words[:-1])
        name = words[-1] if words else ""
        has_contract = re.search(r"\b(noexcept|except)\b", rest) is not None
        if result == "void" and re.search(r"\bexcept\b", rest):
            text = f"{name}: void cannot carry an error: return int, except -1"
            yield source.finding("exception contract", line, text)
        elif not has_contract and result and result not in OBJECT_TYPES | classes:
            text = f"{name} returns {result}: noexcept, or except and a value"
            yield source.finding("exception contract", line, text)


def shared_declarations() -> frozenset[str]:
    """Names that `ext/pxd/` offers to every extension."""
    shared = EXTENSIONS / "pxd"
    return frozenset(
        path.relative_to(shared).parts[0].split(".")[0] for path in shared.rglob("*.pxd")
    )


def check_cimports(source: Source, shared: frozenset[str] | None = None) -> Iterator[Finding]:
    """Extensions are leaves: they share `ext/pxd/` and nothing else."""
    allowed = CIMPORT_ROOTS | (shared_declarations() if shared is None else shared)
    for number, line in enumerate(source.lines, 1):
        match = re.match(r"\s*(?:from\s+([\w.]+)\s+cimport|cimport\s+([\w.]+))", line)
        if match and (match[1] or match[2]).split(".")[0] not in allowed:
            text = f"cimports {match[1] or match[2]}: only libc, cpython and ext/pxd are shared"
            yield source.finding("cimport", number, text)


def check_holders(source: Source) -> Iterator[Finding]:
    """A cdef class is final: nobody derives from what owns memory."""
    lines = source.lines
    for index, line in enumerate(lines):
        if not line.startswith("cdef class ") or source.path.endswith(".pxd"):
            continue
        above = index - 1
        decorators = []
        while above >= 0 and lines[above].startswith("@"):
            decorators.append(lines[above])
            above -= 1
        if not any("final" in decorator for decorator in decorators):
            yield source.finding("final", index + 1, "put @cython.final before it")


def check_bands(source: Source) -> Iterator[Finding]:
    """Core functions, then holders, then doors: in this order."""
    if not source.path.endswith(".pyx"):
        return
    reached, reached_line = CORE, 0
    for number, line in enumerate(source.lines, 1):
        if re.match(r"cdef .*\bnogil:", line):
            band = CORE
        elif line.startswith("cdef class "):
            band = HOLDER
        elif line.startswith("def "):
            band = DOOR
        else:
            continue
        if band < reached:
            text = f"core, holder, door is the order; line {reached_line} came first"
            yield source.finding("bands", number, text)
        else:
            reached, reached_line = band, number


def findings(source: Source) -> Iterator[Finding]:
    checks = (
        check_header,
        check_forms,
        check_contracts,
        check_cimports,
        check_holders,
        check_bands,
    )
    return chain.from_iterable(check(source) for check in checks)


def module_of(source: Source) -> tuple[str, Path]:
    """Dotted name of the compiled module of a `.pyx`, and the path its stub must have."""
    path = Path(source.path)
    stub = Path("fastmta", path.parent.name, f"_{path.stem}.pyi")
    return f"fastmta.{path.parent.name}._{path.stem}", stub
