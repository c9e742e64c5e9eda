"""A large content sent in pieces: the same octets as in one, whatever the pieces."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.delivery.content import Feeder
from fastmta.smtp import stuff

LINES = st.lists(
    st.sampled_from((b"", b".", b"..", b".a", b"a.", b"x" * 64, b"y" * 300, b"\x80\xff", b" ."))
)
CUTS = st.lists(st.integers(0, 2000), max_size=8)


class Pieces:
    """Hands out the pieces of a content, then the end, at once."""

    def __init__(self, octets: bytes, cuts: list[int]) -> None:
        places = sorted({cut % (len(octets) + 1) for cut in cuts} | {0, len(octets)})
        pairs = itertools.pairwise(places)
        self._pieces = [octets[begin:end] for begin, end in pairs]

    def read(self, done: Callable[[bytes, Exception | None], None]) -> None:
        done(self._pieces.pop(0) if self._pieces else b"", None)


@settings(deadline=None)
@given(LINES, CUTS, st.booleans())
def test_pieces_make_the_stuffed_content(lines: list[bytes], cuts: list[int], ends: bool) -> None:
    content = b"".join(line + b"\r\n" for line in lines)
    content = content if ends else content.removesuffix(b"\r\n")
    written: list[bytes] = []
    ended: list[Exception | None] = []

    def write(octets: bytes) -> None:
        assert octets
        assert octets.endswith(b"\r\n"), "a piece ends with a line"
        written.append(octets)

    feeder = Feeder(Pieces(content, cuts), write, ended.append)
    while not ended:
        feeder.go_on()
    assert ended == [None]
    assert b"".join(written) == stuff(content)
    feeder.go_on()
    assert ended == [None], "told once"


@given(LINES, CUTS, st.sampled_from((b"\r", b"\n", b"\n\r", b"a\rb", b"\r\r\n")))
def test_a_lone_line_end_stops_it(lines: list[bytes], cuts: list[int], lone: bytes) -> None:
    content = b"x" + lone + b"y\r\n" + b"".join(line + b"\r\n" for line in lines)
    written: list[bytes] = []
    ended: list[Exception | None] = []
    feeder = Feeder(Pieces(content, cuts), written.append, ended.append)
    while not ended:
        feeder.go_on()
    assert isinstance(ended[0], ValueError)
    assert lone not in b"".join(written)


def test_what_comes_after_stop_is_dropped() -> None:
    waiting: list[Callable[[bytes, Exception | None], None]] = []

    class Late:
        def read(self, done: Callable[[bytes, Exception | None], None]) -> None:
            waiting.append(done)

    written: list[bytes] = []
    ended: list[Exception | None] = []
    feeder = Feeder(Late(), written.append, ended.append)
    feeder.go_on()
    feeder.go_on()
    assert len(waiting) == 1, "one piece at a time"
    feeder.stop()
    waiting[0](b"line\r\n", None)
    feeder.go_on()
    assert (written, ended, len(waiting)) == ([], [], 1)
