"""The rules of the compiled part, in every `.pyx` and `.pxd`; each check shown to fail."""

import pytest

from tests.tidy import cython
from tests.tidy.source import Source, assert_clean, extension_files

HEADER = (
    "# Owns nothing.\n# Views live as long as the call.\n# Any thread; never logs.\n# Status 0.\n"
)


def names(check: object, text: str, path: str = "ext/smtp/a.pyx") -> list[str]:
    assert callable(check)
    return [one.check for one in check(Source(path, text))]


def test_extensions_keep_the_rules() -> None:
    assert_clean(one for source in extension_files() for one in cython.findings(source))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEADER, []),
        ("cdef int x\n", ["header comment"]),
        ("# short\n", ["header comment"]),
        (HEADER.replace("thread", "caller"), ["header comment"]),
    ],
)
def test_missing_header_is_found(text: str, expected: list[str]) -> None:
    assert names(cython.check_header, text) == expected
    assert names(cython.check_header, "from libc cimport x", "ext/pxd/a.pxd") == ["header comment"]


@pytest.mark.parametrize(
    "line",
    [
        'include "limits.pxi"',
        "DEF SIZE = 4",
        "IF UNAME:",
        "    cdef public int size",
        "    print(1)",
        "    except:",
    ],
)
def test_old_form_is_found(line: str) -> None:
    assert names(cython.check_forms, line) == ["cython form"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cdef int f(int x) noexcept nogil:", []),
        ("cdef int f(int x) except -1:", []),
        ("cdef bytes f(int x):", []),
        ("cdef object f(int x):", []),
        ("cdef f(int x):", []),
        ("cdef class Framing:\n    pass\ncdef Framing new():", []),
        ("cdef extern from 'x.h':\n    int f(int x)\n    int g(int y):", []),
        ("cdef int value = f(x)", []),
        ("cdef int f(int x):", ["exception contract"]),
        ("cdef int f(int x) nogil:", ["exception contract"]),
        ("cdef inline Py_ssize_t f(\n    int x,\n    int y,\n) nogil:", ["exception contract"]),
        ("    cdef void close(self):", ["exception contract"]),
        ("cdef void f() except *:", ["exception contract"]),
        ("cdef unsigned char *f(int x) nogil:", ["exception contract"]),
    ],
)
def test_missing_contract_is_found(text: str, expected: list[str]) -> None:
    assert names(cython.check_contracts, text) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("from libc.string cimport memchr", []),
        ("cimport cython", []),
        ("from limits cimport LINE_OCTETS_MAX", []),
        ("from fastmta.smtp._framing cimport Framing", ["cimport"]),
        ("cimport numpy", ["cimport"]),
    ],
)
def test_shared_class_is_found(line: str, expected: list[str]) -> None:
    found = list(cython.check_cimports(Source("ext/smtp/a.pyx", line), frozenset({"limits"})))
    assert [one.check for one in found] == expected


def test_open_class_is_found() -> None:
    assert names(cython.check_holders, "cdef class A:\n    pass") == ["final"]
    text = "@cython.freelist(8)\n@cython.final\ncdef class A:\n    pass"
    assert names(cython.check_holders, text) == []


def test_mixed_bands_are_found() -> None:
    core = "cdef int f() noexcept nogil:\n    pass\n"
    holder = "cdef class A:\n    pass\n"
    door = "def g():\n    pass\n"
    assert names(cython.check_bands, core + holder + door) == []
    assert names(cython.check_bands, holder + core) == ["bands"]
    assert names(cython.check_bands, core + door + holder) == ["bands"]
