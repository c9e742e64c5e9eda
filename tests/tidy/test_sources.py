"""Sizes, banned constructs and citations, in every file; each check is shown to fail."""

import pytest

from tests.tidy import style
from tests.tidy.source import (
    PACKAGE,
    Source,
    assert_clean,
    extension_files,
    files,
    package_files,
    python_files,
)


def names(check: style.Check, path: str, text: str) -> list[str]:
    return [one.check for one in check(Source(path, text))]


def test_sources_keep_the_rules() -> None:
    native = files("bench/**/*.[ch]", "ext/**/*.h", "ext/**/*.c", "tests/**/*.c")
    sources = python_files() + extension_files() + native
    assert_clean(one for source in sources for one in style.findings(source))


def test_every_room_has_its_page() -> None:
    rooms = {path.parent for path in PACKAGE.glob("*/*.py")}
    assert [str(room) for room in sorted(rooms) if not (room / "__init__.py").exists()] == []
    assert len(package_files()) > 5


def test_long_file_is_found() -> None:
    assert names(style.check_sizes, "fastmta/smtp/a.py", "x = 1\n" * 500) == []
    assert names(style.check_sizes, "fastmta/smtp/a.py", "x = 1\n" * 501) == ["file length"]
    assert names(style.check_sizes, "setup.py", "x = 1\n" * 81) == ["file length"]


def test_long_line_is_found() -> None:
    text = "x = '" + "y" * 94 + "'"
    assert names(style.check_sizes, "fastmta/smtp/a.py", text) == []
    assert names(style.check_sizes, "fastmta/smtp/a.py", text + " ") == ["line length"]


@pytest.mark.parametrize(
    ("path", "head"),
    [
        ("fastmta/smtp/a.py", "def f():\n"),
        ("ext/smtp/a.pyx", "cdef int f(int x) noexcept nogil:\n"),
        ("ext/smtp/a.pyx", "def f(\n    x,\n):\n"),
    ],
)
def test_long_function_is_found(path: str, head: str) -> None:
    lines = 70 - head.count("\n")
    assert names(style.check_sizes, path, head + "    x = 1\n" * lines + "y = 1\n") == []
    found = names(style.check_sizes, path, head + "    x = 1\n" * (lines + 1) + "y = 1\n")
    assert found == ["function length"]


def test_many_parameters_are_found() -> None:
    text = "def f(a, b, c, d, e, f, g, h, i): pass"
    assert names(style.check_parameters, "fastmta/smtp/a.py", text) == ["parameters"]
    assert names(style.check_parameters, "fastmta/smtp/a.py", "def f(self, a): pass") == []


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        ("except:\n    raise", ["bare except"]),
        ("except Exception:\n    pass", ["swallowed error"]),
        ("except (OSError, BaseException):\n    ...", ["swallowed error"]),
        ("except Exception as error:\n    report(error)", []),
        ("except KeyError:\n    pass", []),
    ],
)
def test_swallowed_error_is_found(handler: str, expected: list[str]) -> None:
    text = f"try:\n    f()\n{handler}"
    assert names(style.check_handlers, "fastmta/smtp/a.py", text) == expected


@pytest.mark.parametrize(
    ("room", "call", "expected"),
    [
        ("spool", "print(1)", ["print"]),
        ("lab", "print(1)", []),
        ("spool", "time.time()", ["clock"]),
        ("daemon", "time.time()", []),
        ("spool", "time.monotonic()", []),
        ("spool", "random.random()", ["chance"]),
        ("smtp", "line.splitlines()", ["octets"]),
        ("session", "line.strip()", ["octets"]),
        ("delivery", "line.rstrip()", ["octets"]),
        ("delivery", "line.rstrip(b' ')", []),
        ("config", "line.strip()", []),
    ],
)
def test_banned_call_is_found(room: str, call: str, expected: list[str]) -> None:
    assert names(style.check_calls, f"fastmta/{room}/a.py", call) == expected


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX", "HACK"])
def test_unfinished_work_is_found(word: str) -> None:
    assert names(style.check_words, "fastmta/smtp/a.py", f"x = 1  # {word} x") == ["unfinished"]
    assert names(style.check_words, "bench/a.c", f"/* x\n * {word} */") == ["unfinished"]


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("# type: ignore", ["type: ignore"]),
        ("# type: ignore[attr-defined]", ["type: ignore"]),
        ("# type: ignore[attr-defined]  # lmdb has no stubs", []),
    ],
)
def test_unreasoned_type_ignore_is_found(comment: str, expected: list[str]) -> None:
    assert names(style.check_words, "fastmta/smtp/a.py", f"x = 1  {comment}") == expected


@pytest.mark.parametrize("stem", sorted(style.BAD_STEMS))
def test_empty_file_name_is_found(stem: str) -> None:
    assert names(style.check_words, f"fastmta/smtp/{stem}.py", "") == ["file name"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# RFC 5321 4.1.1.4", []),
        ("# RFC 5321 4.5.3.2: time limits", []),
        ("# RFC 5321", []),
        ("# message/rfc822", []),
        ("# RFC5321", ["citation"]),
        ("# RFC-5321 4.1", ["citation"]),
        ("# rfc 5321", ["citation"]),
        ("# RFC 5321 section 4.1", ["citation"]),
        ("# RFC 5321, Section 4.1", ["citation"]),
        ("# RFC 5321 §4.1", ["citation"]),
    ],
)
def test_odd_citation_is_found(text: str, expected: list[str]) -> None:
    assert names(style.check_citations, "fastmta/smtp/a.py", text) == expected


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("fastmta/session/a.py", "x = b'250 2.0.0 Ok'", ["reply literal"]),
        ("fastmta/session/a.py", "x = '451 Try later'", ["reply literal"]),
        ("fastmta/session/a.py", "x = f'250 {text}'\ny = f'250-{text}'", []),
        ("fastmta/session/a.py", "x = '554-5.7.1 No'", ["reply literal"]),
        ("fastmta/session/a.py", '"""250 Ok is said elsewhere."""', []),
        ("fastmta/session/a.py", "x = '250 messages'", []),
        ("fastmta/smtp/reply.py", "x = b'250 2.0.0 Ok'", []),
        ("fastmta/lab/sink.py", "x = b'250 2.0.0 Ok'", []),
    ],
)
def test_reply_literal_is_found(path: str, text: str, expected: list[str]) -> None:
    assert names(style.check_replies, path, text) == expected


PAGE = "\n".join(f"{heading:<10}x" for heading in style.HEADINGS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f'"""Room.\n\n{PAGE}\n"""', []),
        (f'"""Room.\n\n{PAGE.replace("Never", "Seldom")}\n"""', ["room page"]),
        ('"""Room."""', ["room page"]),
        (f'"""Room.\n\n{PAGE}\n"""\n__all__ = {[str(i) for i in range(13)]}', ["room face"]),
    ],
)
def test_room_without_page_is_found(text: str, expected: list[str]) -> None:
    assert names(style.check_room, "fastmta/smtp/__init__.py", text) == expected
    assert names(style.check_room, "fastmta/smtp/other.py", text) == []
