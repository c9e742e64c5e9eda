"""Checks of single files: sizes, banned constructs (each with its replacement), citations."""

import ast
import re
from collections.abc import Callable, Iterator
from itertools import chain

from tests.tidy.source import Finding, Source, comments

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
LINE_CHARACTERS_MAX = 100
PARAMETERS_MAX = 8  # 5 is the aim
EXPORTS_MAX = 12
SETUP_LINES_MAX = 80

WIRE_ROOMS = frozenset({"smtp", "session", "listener", "delivery"})
SPEAKING_ROOMS = frozenset({"cli", "lab"})  # may print
CLOCK_ROOMS = frozenset({"daemon", "lab", "cli"})
BAD_STEMS = frozenset({"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"})
HEADINGS = ("Purpose", "In", "Out", "Holds", "Never", "Fails", "Why")

REPLY_LITERAL = re.compile(r"[2345][0-5]\d[ -](?:\d\.\d\.\d|[A-Z][a-z]|%|\{)")
GOOD_CITATION = re.compile(r"RFC \d{3,5}(?: [1-9A-Z]\d*(?:\.\d+)*)?(?![\w§])")
CITATION = re.compile(r"\b(?:RFC|rfc)[-_ #]?\d{4}\w*|\bRFC[-_#]\d+")
LONG_CITATION = re.compile(r"RFC \d+,? ?(?:\(?[Ss]ections?|[Ss]ec\.|§|chapter|[Pp]aragraph)")
IGNORE = re.compile(r"#\s*type:\s*ignore")
GOOD_IGNORE = re.compile(r"# type: ignore\[[\w, -]+\]  # \S+ \S+")


def check_sizes(source: Source) -> Iterator[Finding]:
    """Files, functions and lines stay readable."""
    lines = source.lines
    limit = SETUP_LINES_MAX if source.path == "setup.py" else FILE_LINES_MAX
    count = len(lines) - (lines[-1] == "")
    if count > limit:
        yield source.finding("file length", limit, f"{count} lines, at most {limit}: split it")
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_CHARACTERS_MAX:
            text = f"{len(line)} characters, at most {LINE_CHARACTERS_MAX}"
            yield source.finding("line length", number, text)
    for name, first, last in functions(source):
        if last - first + 1 > FUNCTION_LINES_MAX:
            text = f"{name} has {last - first + 1} lines, at most {FUNCTION_LINES_MAX}"
            yield source.finding("function length", first, text)


def functions(source: Source) -> Iterator[tuple[str, int, int]]:
    """(name, first line, last line) of every function, Python or Cython."""
    if source.path.endswith(".py"):
        for node in source.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name, node.lineno, node.end_lineno or node.lineno
        return
    lines = source.lines
    opening = re.compile(r"^( *)(?:async )?(?:cdef|cpdef|def)\b[^=]*?(\w+)\(")
    for number, line in enumerate(lines, 1):
        match = opening.match(line)
        if not match:
            continue
        last = number
        for after in range(number, len(lines)):
            text = lines[after]
            indent = len(text) - len(text.lstrip())
            if text.strip() and indent <= len(match[1]) and not text.lstrip().startswith(")"):
                break
            if text.strip():
                last = after + 1
        yield match[2], number, last


def check_parameters(source: Source) -> Iterator[Finding]:
    """A public function with many parameters wants a value of its own."""
    if not source.path.startswith("fastmta/"):
        return
    for node in source.nodes:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        names = [one.arg for one in node.args.posonlyargs + node.args.args + node.args.kwonlyargs]
        count = len([name for name in names if name not in ("self", "cls")])
        if count > PARAMETERS_MAX and not node.name.startswith("_"):
            text = f"{node.name} has {count} parameters, at most {PARAMETERS_MAX}: make a value"
            yield source.finding("parameters", node.lineno, text)


def check_handlers(source: Source) -> Iterator[Finding]:
    """Errors are turned into knowledge or values, never swallowed."""
    for node in source.nodes:
        if not isinstance(node, ast.ExceptHandler):
            continue
        if node.type is None:
            yield source.finding("bare except", node.lineno, "name what is caught")
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        is_broad = any(getattr(one, "id", "") in ("Exception", "BaseException") for one in caught)
        is_silent = all(
            isinstance(step, ast.Pass | ast.Continue)
            or (isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant))
            for step in node.body
        )
        if is_broad and is_silent:
            text = "catch what you expect, or turn it into a value or an event"
            yield source.finding("swallowed error", node.lineno, text)


def check_calls(source: Source) -> Iterator[Finding]:
    """Calls with a better replacement."""
    for node in source.nodes:
        if not isinstance(node, ast.Call):
            continue
        for check, text in banned_call(source.room, node):
            yield source.finding(check, node.lineno, text)


def banned_call(room: str, node: ast.Call) -> Iterator[tuple[str, str]]:
    called = node.func
    if isinstance(called, ast.Name) and called.id == "print" and room not in SPEAKING_ROOMS:
        yield "print", "emit an event; cli and lab speak to people"
    if not isinstance(called, ast.Attribute):
        return
    owner = getattr(called.value, "id", "")
    has_arguments = bool(node.args or node.keywords)
    if (owner, called.attr) == ("time", "time") and room not in CLOCK_ROOMS:
        yield "clock", "hand the time in as int ns (now_ns); time.time() loses digits"
    if owner == "random" and room not in CLOCK_ROOMS:
        yield "chance", "hand randomness in as an argument"
    if room in WIRE_ROOMS and called.attr == "splitlines":
        yield "octets", "splitlines() splits at a lone CR and more: find or split CR LF"
    if room in WIRE_ROOMS and called.attr in ("strip", "lstrip", "rstrip") and not has_arguments:
        yield "octets", f"{called.attr}() drops VT, FF, CR and LF too: name the octets"


def check_words(source: Source) -> Iterator[Finding]:
    """Markers of unfinished work, and file names that say nothing."""
    stem = source.path.rsplit("/", 1)[-1].split(".")[0]
    if stem in BAD_STEMS:
        yield source.finding("file name", 1, f"{stem} says nothing: name it for its main noun")
    for number, comment in comments(source):
        if re.search(r"\b(?:TODO|FIXME|XXX|HACK)\b", comment):
            yield source.finding("unfinished", number, "finish it, or file an issue and say why")
        if IGNORE.search(comment) and not GOOD_IGNORE.search(comment):
            text = "write `# type: ignore[code]  # the reason`"
            yield source.finding("type: ignore", number, text)


def check_citations(source: Source) -> Iterator[Finding]:
    """A rule is cited as `RFC 5321 4.1.1.4`, so that all of them can be found."""
    for number, line in enumerate(source.lines, 1):
        bad = [one[0] for one in LONG_CITATION.finditer(line)]
        bad += [one[0] for one in CITATION.finditer(line) if not GOOD_CITATION.match(one[0])]
        for text in bad:
            yield source.finding("citation", number, f"{text!r}: write `RFC 5321 4.1.1.4`")


def check_replies(source: Source) -> Iterator[Finding]:
    """What the server says is a constant of smtp/reply.py, so that texts are compared once."""
    if not source.path.startswith("fastmta/") or source.room == "lab":
        return
    if source.path == "fastmta/smtp/reply.py":
        return
    documentation = docstrings(source.tree)
    for node in source.nodes:
        if not isinstance(node, ast.Constant) or id(node) in documentation:
            continue
        value = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
        if isinstance(value, str) and REPLY_LITERAL.match(value):
            text = f"{value[:40]!r} belongs to smtp/reply.py"
            yield source.finding("reply literal", node.lineno, text)


def docstrings(tree: ast.Module) -> set[int]:
    """Identity of every constant that stands alone as a statement."""
    alone = (node for node in ast.walk(tree) if isinstance(node, ast.Expr))
    return {id(node.value) for node in alone if isinstance(node.value, ast.Constant)}


def check_room(source: Source) -> Iterator[Finding]:
    """A room's docstring is its page, and its face is small."""
    if not re.fullmatch(r"fastmta/\w+/__init__\.py", source.path):
        return
    text = ast.get_docstring(source.tree) or ""
    found = [line.split(" ", 1)[0] for line in text.split("\n") if re.match(r"[A-Z]\w+ +\S", line)]
    headings = [word for word in found if word in HEADINGS]
    if headings != list(HEADINGS):
        wanted = " ".join(HEADINGS)
        yield source.finding("room page", 1, f"docstring has {headings}, needs {wanted} in order")
    for node in source.tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.List):
            continue
        is_all = any(getattr(target, "id", "") == "__all__" for target in node.targets)
        if is_all and len(node.value.elts) > EXPORTS_MAX:
            text = f"{len(node.value.elts)} names exported, at most {EXPORTS_MAX}"
            yield source.finding("room face", node.lineno, text)


Check = Callable[[Source], Iterator[Finding]]
PYTHON_CHECKS: tuple[Check, ...] = (
    check_sizes,
    check_parameters,
    check_handlers,
    check_calls,
    check_words,
    check_citations,
    check_replies,
    check_room,
)
TEXT_CHECKS: tuple[Check, ...] = (check_sizes, check_words, check_citations)


def findings(source: Source) -> Iterator[Finding]:
    """Everything this module has to say about a file; tests may print, wait and name replies."""
    if source.path.startswith("tests/tidy/"):
        return check_sizes(source)
    checks: tuple[Check, ...] = TEXT_CHECKS
    if source.path.endswith(".py"):
        is_product = not source.path.startswith(("tests/", "bench/"))
        checks = PYTHON_CHECKS if is_product else (*TEXT_CHECKS, check_handlers)
    return chain.from_iterable(check(source) for check in checks)
