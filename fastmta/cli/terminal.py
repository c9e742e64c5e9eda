"""A terminal as a screen: frames out, keys in; as it was when we leave it."""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[2J"  # another screen, without a cursor
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_KEYS: Final = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    b"\x1b": "escape",
    b"\r": "enter",
    b"\n": "enter",
    b"\x7f": "backspace",
    b"\x08": "backspace",
}


class Terminal:
    """Standard input and output, while they are ours."""

    def __init__(self) -> None:
        self._input = sys.stdin.fileno()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows, now."""
        found = shutil.get_terminal_size((80, 24))
        with suppress(OSError):
            found = os.get_terminal_size(sys.stdout.fileno())
        return max(20, found.columns), max(4, found.lines)

    def show(self, lines: Sequence[str]) -> None:
        """A frame."""
        body = "\r\n".join(f"{line}\x1b[K" for line in lines)
        sys.stdout.write(f"\x1b[H{body}\x1b[J")
        sys.stdout.flush()

    def key(self, timeout_s: float) -> str:
        """The next key, by name or character; "" when there is none in time."""
        if not select.select([self._input], [], [], max(0.0, timeout_s))[0]:
            return ""
        octets = os.read(self._input, 1)
        if not octets:
            return "q"  # the terminal is gone
        while octets[0] == 0x1B and select.select([self._input], [], [], 0.02)[0]:
            octets += os.read(self._input, 1)
            if len(octets) > 2 and (octets[-1:].isalpha() or octets[-1:] == b"~"):
                break
        return _KEYS.get(octets, octets.decode("ascii", "replace") if len(octets) == 1 else "")


@contextmanager
def opened() -> Iterator[Terminal]:
    """The terminal, in a mode where keys come at once and are not shown."""
    descriptor = sys.stdin.fileno()
    before: list[Any] = termios.tcgetattr(descriptor)  # Any: as termios has them
    sys.stdout.write(_ENTER)
    try:
        tty.setcbreak(descriptor)
        yield Terminal()
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
