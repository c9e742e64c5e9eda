"""On which line each key of a TOML text stands; tomllib does not tell.

The scanner trusts that tomllib has accepted the text: it looks only for what moves it on.
"""

import re

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"[ \t]*")
_PLAIN = re.compile(r"[^\"'#\[\]{}\n]+")
_QUOTED = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)


def find_lines(text: str) -> dict[tuple[str, ...], int]:
    """Line (from 1) of each table and key, by its path. The first place of a path counts.

    Tables of an array are numbered from 1: `[[route]]` is ("route", "1"), then ("route", "2").
    """
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._pos = 0
        self._lines: dict[tuple[str, ...], int] = {}
        self._counts: dict[tuple[str, ...], int] = {}  # of tables in each array

    def scan(self) -> dict[tuple[str, ...], int]:
        table: tuple[str, ...] = ()
        text = self._text
        while self._pos < len(text):
            char = text[self._pos]
            if char in " \t\r\n":
                self._pos += 1
            elif char == "#":
                self._skip_line()
            elif char == "[":
                start = self._pos
                while text.startswith("[", self._pos):
                    self._pos += 1
                is_array = self._pos - start == 2
                table = self._path()
                if is_array:
                    self._counts[table] = self._counts.get(table, 0) + 1
                    table = (*table, str(self._counts[table]))
                self._note((), table, start)
                self._skip_line()
            else:
                start = self._pos
                self._note(table, self._path(), start)
                self._skip_value()
        return self._lines

    def _note(self, table: tuple[str, ...], path: tuple[str, ...], start: int) -> None:
        line = self._text.count("\n", 0, start) + 1
        for depth in range(1, len(path) + 1):
            self._lines.setdefault(table + path[:depth], line)

    def _path(self) -> tuple[str, ...]:
        """Read a dotted key; stay behind it."""
        parts: list[str] = []
        while True:
            self._skip_blank()
            match = _QUOTED.match(self._text, self._pos) or _BARE.match(self._text, self._pos)
            if match is None:
                break
            parts.append(match[0].strip("\"'"))
            self._pos = match.end()
            self._skip_blank()
            if not self._text.startswith(".", self._pos):
                break
            self._pos += 1
        return tuple(parts)

    def _skip_blank(self) -> None:
        match = _BLANK.match(self._text, self._pos)
        assert match is not None
        self._pos = match.end()

    def _skip_line(self) -> None:
        end = self._text.find("\n", self._pos)
        self._pos = len(self._text) if end < 0 else end + 1

    def _skip_value(self) -> None:
        """Skip to the end of the line on which the value ends."""
        depth = 0
        while self._pos < len(self._text):
            char = self._text[self._pos]
            match = _QUOTED.match(self._text, self._pos) or _PLAIN.match(self._text, self._pos)
            if match is not None:
                self._pos = match.end()
                continue
            if char == "#":
                self._skip_line()
                self._pos -= 1 if self._text[self._pos - 1] == "\n" else 0
                continue
            depth += (char in "[{") - (char in "]}")
            self._pos += 1
            if char == "\n" and depth == 0:
                return
