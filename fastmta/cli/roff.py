"""Text in the language of manual pages: man(7)."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator

_WIDTH = 90
_SPECIAL = {"\\": r"\e", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
_CODE = re.compile(r"`([^`]+)`")
_BEGINNING_DASH = re.compile(r"(?<![A-Za-z0-9])-(?=\S)")
_AS_IT_STANDS = "\b"  # click's mark of a paragraph that is not filled


def literal(text: str) -> str:
    """Text to be typed: what stands for a typed sign is that sign."""
    return "".join(_SPECIAL.get(one, one) for one in text).replace("-", r"\-")


def running(text: str) -> str:
    """A sentence: `code` is bold, and an option's dashes are those of the keyboard."""
    parts = _CODE.split(text)
    for at, part in enumerate(parts):
        if at % 2:
            parts[at] = rf"\fB{literal(part)}\fR"
        else:
            words = "".join(_SPECIAL.get(one, one) if one != "'" else one for one in part)
            parts[at] = _BEGINNING_DASH.sub(r"\\-", words)
    return "".join(parts)


def filled(text: str) -> Iterator[str]:
    """The lines of one paragraph."""
    flat = running(" ".join(text.split()))
    lines = textwrap.wrap(flat, _WIDTH, break_long_words=False, break_on_hyphens=False)
    yield from map(_guard, lines)


def paragraphs(text: str) -> Iterator[str]:
    """A help text as click has it: paragraphs between blank lines, some of them as they stand."""
    for number, paragraph in enumerate(part for part in text.split("\n\n") if part.strip()):
        if number:
            yield ".PP"
        if paragraph.lstrip("\n").startswith(_AS_IT_STANDS):
            lines = textwrap.dedent(paragraph.lstrip("\n").removeprefix(_AS_IT_STANDS)).strip("\n")
            yield from block(lines.split("\n"))
        else:
            yield from filled(paragraph)


def block(lines: Iterable[str]) -> Iterator[str]:
    """Lines as they stand."""
    yield ".nf"
    yield from (_guard(literal(line)) or r"\&" for line in lines)
    yield ".fi"


def entry(term: str, text: str) -> Iterator[str]:
    """One of a list: what it is about, already in roff, and what is said of it."""
    yield ".TP"
    yield _guard(term)
    yield from filled(text) if text else (r"\&",)


def title(name: str, section: int) -> list[str]:
    """The beginning of a page."""
    about = "Configuration" if section == 5 else "Commands"
    return [
        '.\\" Made by `fastmta manual`; do not edit.',
        f'.TH {literal(name.upper())} {section} "" fastmta "fastmta: {about}"',
    ]


def heading(text: str) -> str:
    """Of a section."""
    return f".SH {text.upper()}"


def subheading(text: str) -> str:
    """Of a part of a section."""
    return f'.SS "{literal(text)}"'


def see_also(pages: Iterable[tuple[str, int]]) -> list[str]:
    """The section that names other pages."""
    named = [rf"\fB{literal(name)}\fR({section})" for name, section in pages]
    return [heading("see also"), *(f"{one}," for one in named[:-1]), named[-1]]


def _guard(line: str) -> str:
    """A line that does not begin like an order to the formatter."""
    return rf"\&{line}" if line.startswith((".", "'")) else line
