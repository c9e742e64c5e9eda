"""Lines of reports: wrapped, none too long, none of white space alone, nothing lost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmta.dsn.text import CONTINUED, WORD_OCTETS_MAX, WRAP_COLUMNS, plain, wrap


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("short", ["short"]),
        ("x" * 76, ["x" * 76]),
        ("x" * 77, ["x" * 77]),
        ("a " + "x" * 76, ["a", "x" * 76]),
        (" ".join(["word"] * 20), [" ".join(["word"] * 15), " ".join(["word"] * 5)]),
        ("x" * 500 + "y" * 500 + "z", ["x" * 500, "y" * 500, "z"]),
        ("a" + " " * 200 + "b", ["a", "b"]),
        ("a" * 75 + "  b", ["a" * 75, "b"]),
        ("ü" * 300, ["ü" * 125, "ü" * 125, "ü" * 50]),
    ],
)
def test_wrap(text: str, lines: list[str]) -> None:
    assert wrap(text) == f"\r\n{CONTINUED}".join(lines) + "\r\n"


@given(
    st.text(alphabet=st.sampled_from("ab ü<>\u4e00"), max_size=400) | st.text("x ", min_size=400)
)
def test_wrapped_lines(text: str) -> None:
    first, *rest = wrap(text).removesuffix("\r\n").split("\r\n")
    for line in [first, *rest]:
        assert len(line.encode()) <= WORD_OCTETS_MAX + len(CONTINUED)
        assert len(line) <= WRAP_COLUMNS or " " not in line.removeprefix(CONTINUED)
    assert all(line.startswith(CONTINUED) and line.strip(" ") for line in rest)
    got = "".join(re.sub(" +", "", line) for line in [first, *rest])
    assert got == text.replace(" ", "")


@given(st.text(max_size=3_000))
def test_plain_text(text: str) -> None:
    shown = plain(text)
    assert re.fullmatch(r"[!-~]( ?[!-~])* ?|", shown)
    assert len(shown) <= 1_000
