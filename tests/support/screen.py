"""A command on a terminal of a given size, and what it shows there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Callable, Sequence

_ESCAPE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")


class Screen:
    """Runs `command` on a terminal. As much of a terminal as `fastmta top` needs is understood."""

    def __init__(self, command: Sequence[str], columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.cells = [" " * columns for _ in range(rows)]
        self._row = self._column = 0
        self._rest = ""
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            os.execvp(command[0], list(command))
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, size)
        self.cells = [" " * columns for _ in range(rows)]

    def press(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def until(self, condition: Callable[[str], object], timeout_s: float = 20.0) -> str:
        """Read until what is shown satisfies `condition`; it."""
        end_s = time.monotonic() + timeout_s
        while not condition(self.text):
            assert time.monotonic() < end_s, f"not shown in time:\n{self.text}"
            self._read(0.1)
        return self.text

    def close(self) -> int:
        """Wait for its end; the exit status."""
        end_s = time.monotonic() + 10.0
        while time.monotonic() < end_s:
            self._read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self._descriptor)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        os.close(self._descriptor)
        raise AssertionError("it did not end")

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.cells)

    def _read(self, timeout_s: float) -> None:
        if not select.select([self._descriptor], [], [], timeout_s)[0]:
            return
        try:
            octets = os.read(self._descriptor, 65_536)
        except OSError:  # it has ended
            return
        text = self._rest + octets.decode("utf-8", "replace")
        cut = text.rfind("\x1b")
        whole = cut < 0 or any(one.isalpha() for one in text[cut:])
        self._rest = "" if whole else text[cut:]
        for match in _ESCAPE.finditer(text if whole else text[:cut]):
            self._obey(match)

    def _obey(self, match: re.Match[str]) -> None:
        if match[2] == "H":
            self._row = self._column = 0
        elif match[2] == "K":
            self._put(" " * (self.columns - self._column))
        elif match[2] == "J":
            for row in range(self._row + 1, self.rows):
                self.cells[row] = " " * self.columns
        elif match[0] == "\r":
            self._column = 0
        elif match[0] == "\n":
            self._row += 1
        elif not match[2]:
            self._put(match[0])
            self._column += len(match[0])

    def _put(self, text: str) -> None:
        """A real terminal would wrap or scroll: what is too much is an error here."""
        if self._row >= self.rows or self._column + len(text) > self.columns:
            return  # of a frame for another size, after a change of it
        line = self.cells[self._row]
        self.cells[self._row] = line[: self._column] + text + line[self._column + len(text) :]
