"""What a key may hold: each kind reads text (environment, flags) and checks values (TOML).

Both raise `ValueError` with half a sentence that says what is wrong.
"""

import re
from typing import Any

from .problem import suggest

_FIELD_NAME = re.compile(r"[!-9;-~]+")  # RFC 5322 2.2: printable ASCII but the colon
_SIZE = re.compile(r"([0-9]{1,15})(?: ?(KiB|MiB|GiB))?")
_UNITS = {None: 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class Kind:
    """One sort of value. `shape` is its name in the documentation."""

    shape = "text"

    def from_text(self, text: str) -> object:
        """Value of `text` as it stands in an environment variable; raises ValueError."""
        return self.check(text)

    def from_file(self, text: str) -> object:
        """Value of what stands in the file of a `..._FILE` variable; raises ValueError."""
        return self.from_text(text.rstrip("\r\n"))

    def check(self, value: object) -> object:
        """The canonical value; raises ValueError when `value` is not of this kind."""
        return plain_text(value)

    def render(self, value: object) -> str:
        """`value` as TOML."""
        text = str(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'


def plain_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text in quotes, not {value!r}")
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise ValueError("must not contain control characters")
    return value


class Word(Kind):
    """A name of letters, digits, and `/ . _ -`."""

    shape = "name"

    def check(self, value: object) -> str:
        word = plain_text(value)
        if not re.fullmatch(r"[A-Za-z0-9/._-]{1,64}", word):
            raise ValueError(f'"{word}" must be letters, digits, and / . _ -')
        return word


class LogName(Kind):
    """What stands between the names of the log's owner and of the program: one word, or nothing."""

    shape = 'word, `"auto"` or `""`'

    def check(self, value: object) -> str:
        word = plain_text(value)
        if not re.fullmatch(r"[A-Za-z0-9_-]{0,32}", word):
            raise ValueError(f'"{word}" must be letters, digits, _ and -, at most 32')
        return word


class FilePath(Kind):
    """An absolute path."""

    shape = "absolute path"

    def __init__(self, *, may_be_dash: bool = False, may_be_empty: bool = False) -> None:
        self.may_be_dash = may_be_dash
        self.may_be_empty = may_be_empty
        if may_be_dash:
            self.shape = 'absolute path or `"-"`'
        elif may_be_empty:
            self.shape = 'absolute path or `""`'

    def check(self, value: object) -> str:
        path = plain_text(value)
        if (self.may_be_dash and path == "-") or (self.may_be_empty and not path):
            return path
        if not path.startswith("/"):
            raise ValueError(f'"{path}" is not an absolute path')
        return path


class Mode(Kind):
    """Who may use a file: the owner, the group and others."""

    shape = "octal mode such as `0660`"

    def check(self, value: object) -> str:
        mode = plain_text(value)
        if not re.fullmatch(r"0?[0-7]{3}", mode):
            raise ValueError(f'"{mode}" is not a mode such as 0660')
        return f"0{mode[-3:]}"


class Choice(Kind):
    """One of a few words."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.shape = " or ".join(f"`{word}`" if word else '`""`' for word in words)

    def check(self, value: object) -> str:
        word = plain_text(value)
        if word not in self.words:
            known = ", ".join(filter(None, self.words))
            raise ValueError(f'"{word}" is not one of: {known}{suggest(word, self.words)}')
        return word


class Text(Kind):
    """Any text of one line."""


class Keyword(Kind):
    """The name of a service extension."""

    shape = "EHLO keyword"

    def check(self, value: object) -> str:
        word = plain_text(value).upper()
        if not re.fullmatch(r"[A-Z0-9][A-Z0-9-]{0,63}", word):
            raise ValueError(f'"{value}" is not an EHLO keyword such as CHUNKING')
        return word


class Flag(Kind):
    """Yes or no."""

    shape = "`true` or `false`"

    def from_text(self, text: str) -> bool:
        if text.lower() in ("true", "yes", "on", "1"):
            return True
        if text.lower() in ("false", "no", "off", "0"):
            return False
        raise ValueError(f'must be true or false, not "{text}"')

    def check(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, not {value!r}")
        return value

    def render(self, value: object) -> str:
        return "true" if value else "false"


class Integer(Kind):
    """A whole number within bounds."""

    shape = "number"

    def __init__(self, least: int, most: int) -> None:
        self.least = least
        self.most = most

    def from_text(self, text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise ValueError(f'must be a whole number, not "{text}"')
        return self.check(int(text))

    def check(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, not {value!r}")
        if not self.least <= value <= self.most:
            raise ValueError(f"must be {self.least} to {self.most}, not {value}")
        return value

    def render(self, value: object) -> str:
        return str(value)


class Octets(Integer):
    """A size: a whole number of octets, or text such as "25 MiB"."""

    shape = 'octets, or text such as `"25 MiB"`'

    def __init__(self, least: int, most: int, *, step: int = 1) -> None:
        super().__init__(least, most)
        self.step = step

    def from_text(self, text: str) -> int:
        return self.check(text)

    def check(self, value: object) -> int:
        if isinstance(value, str):
            match = _SIZE.fullmatch(value)
            if not match:
                raise ValueError(f'must be octets or text such as "25 MiB", not "{value}"')
            value = int(match[1]) * _UNITS[match[2]]
        octets = super().check(value)
        if octets % self.step:
            raise ValueError(f"must be a multiple of {self.step}, not {octets}")
        return octets

    def render(self, value: object) -> str:
        assert isinstance(value, int)
        for unit in ("GiB", "MiB", "KiB"):
            factor = _UNITS[unit]
            if value and value % factor == 0:
                return f'"{value // factor} {unit}"'
        return str(value)


class Number(Kind):
    """A number, fractions allowed, within bounds."""

    shape = "number"

    def __init__(self, least: float, most: float) -> None:
        self.least = least
        self.most = most

    def from_text(self, text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", text):
            raise ValueError(f'must be a number{self._hint(text)}, not "{text}"')
        return self.check(float(text))

    def check(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            hint = self._hint(value) if isinstance(value, str) else ""
            raise ValueError(f"must be a number{hint}, not {value!r}")
        if not self.least <= value <= self.most:
            raise ValueError(f"must be {self.least:g} to {self.most:g}, not {value:g}")
        return float(value)

    def _hint(self, text: str) -> str:
        return ""

    def render(self, value: object) -> str:
        return f"{value:.12g}"


class Watermarks(Kind):
    """Three values of one kind, for yellow, red and black: each worse than the one before."""

    def __init__(self, item: Kind, *, is_falling: bool = False) -> None:
        self.item = item
        self.is_falling = is_falling
        self.shape = f"three of: {item.shape}"

    def from_text(self, text: str) -> tuple[object, ...]:
        return self._checked([self.item.from_text(part.strip()) for part in text.split(",")])

    def check(self, value: object) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise ValueError(f"must be three values in brackets, not {value!r}")
        return self._checked([self.item.check(one) for one in value])

    def _checked(self, values: list[Any]) -> tuple[object, ...]:
        if len(values) != 3:
            raise ValueError(f"must be three values, for yellow, red and black, not {len(values)}")
        if values != sorted(values, reverse=self.is_falling):
            order = "fall" if self.is_falling else "rise"
            raise ValueError(f"must {order} from yellow over red to black")
        return tuple(values)

    def render(self, value: object) -> str:
        assert isinstance(value, tuple)
        return "[" + ", ".join(self.item.render(one) for one in value) + "]"


class Seconds(Number):
    """A duration in seconds."""

    shape = "seconds"

    def _hint(self, text: str) -> str:
        match = re.fullmatch(r"([0-9]{1,9}) ?(ms|s|m|min|h|d)", text)
        if not match:
            return " of seconds"
        factor = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}[match[2]]
        return f" of seconds ({int(match[1]) * factor:g})"


class FieldName(Kind):
    """The name of a header field."""

    shape = "header field name"

    def check(self, value: object) -> str:
        name = plain_text(value)
        if not _FIELD_NAME.fullmatch(name):
            raise ValueError(f'"{name}" is not a header field name (no colon, no space)')
        return name.lower()


class Listing(Kind):
    """Several values of one kind; a single one may stand without brackets."""

    def __init__(self, item: Kind, *, least: int = 0, most: int | None = None) -> None:
        self.item = item
        self.least = least
        self.most = most
        self.shape = f"list of: {item.shape}"

    def from_text(self, text: str) -> tuple[object, ...]:
        parts = [part.strip() for part in text.split(",")]
        return self._checked([self.item.from_text(part) for part in parts if part])

    def check(self, value: object) -> tuple[object, ...]:
        values = value if isinstance(value, list) else [] if value == "" else [value]
        return self._checked([self.item.check(one) for one in values])

    def _checked(self, values: list[object]) -> tuple[object, ...]:
        if len(values) < self.least:
            raise ValueError("must not be empty")
        if self.most is not None and len(values) > self.most:
            raise ValueError(f"must be at most {self.most} values, not {len(values)}")
        return tuple(dict.fromkeys(values))

    def render(self, value: object) -> str:
        assert isinstance(value, tuple)
        return "[" + ", ".join(self.item.render(one) for one in value) + "]"
