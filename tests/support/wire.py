"""Drives a Framing over octets cut into pieces, and names the cuts every wire case is run with."""

import itertools
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmta.smtp import Verb
from fastmta.smtp.frame import COMMAND, NEED_MORE, REFUSING

VECTORS = Path(__file__).parents[1] / "vectors"
TAIL = b"NOOP tail\r\n"


def load_cases(name: str) -> list[Any]:
    """The cases of a vector file, as test parameters with their names as ids."""
    table = tomllib.loads((VECTORS / f"{name}.toml").read_text(encoding="utf-8"))
    return [pytest.param(case, id=case["name"]) for case in table["case"]]


def every_cut(octets: bytes) -> Iterator[tuple[str, list[int]]]:
    """Whole, octet by octet, and split at each position: (name, cut positions)."""
    yield "whole", []
    yield "octet by octet", list(range(1, len(octets)))
    for position in range(1, len(octets)):
        yield f"split at {position}", [position]


def pieces_of(octets: bytes, cuts: list[int]) -> list[bytes]:
    bounds = [0, *cuts, len(octets)]
    return [octets[begin:end] for begin, end in itertools.pairwise(bounds)]


def read_wire(
    framing: Any,
    pieces: list[bytes],
    *,
    is_normalizing: bool = False,
    size_max: int = 0,
    held_max: int = -1,
) -> list[Any]:
    """What the framing says, in order. DATA begins a content, as it does in a session.

    Commands are (verb, argument, line), contents (violations, size, content or None), everything
    else the plain answer. The buffer is shared and overwritten after each piece, as a listener's.
    `held_max` (negative: no limit): a content that holds more is taken out in pieces as it grows.
    """
    said: list[Any] = []
    is_content = False
    taken: list[bytes] = []
    scratch = bytearray(max((len(piece) for piece in pieces), default=0) + 8)
    for piece in pieces:
        scratch[: len(piece)] = piece
        framing.feed(memoryview(scratch), len(piece))
        while True:
            answer = framing.read_content() if is_content else framing.next_command()
            if answer == NEED_MORE:
                held = framing.content_size - sum(map(len, taken))
                if is_content and 0 <= held_max < held and not framing.violations & REFUSING:
                    taken.append(framing.take_piece())
                break
            if is_content:
                is_content = False
                is_refused = framing.violations & REFUSING
                content = None if is_refused else b"".join(taken) + framing.take_content()
                taken.clear()
                said.append((framing.violations, framing.content_size, content))
            elif answer == COMMAND:
                said.append((framing.verb, framing.argument, framing.line))
                if framing.verb == Verb.DATA:
                    framing.begin_content(b"", size_max, is_normalizing)
                    is_content = True
            else:
                said.append(answer)
        framing.keep_rest()
        scratch[:] = b"!" * len(scratch)
    if is_content:
        said.append(("in content", framing.violations, framing.content_size))
    elif framing.buffered():
        said.append(("buffered", framing.buffered()))
    return said
