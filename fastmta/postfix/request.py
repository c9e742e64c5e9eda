"""The command line of `sendmail`: which of its dozen commands is meant, and how."""

from __future__ import annotations

from .option import EX_USAGE, Fatal

TYPE_CHECKING = False  # as mypy knows it: importing `typing` takes as long as all of ours
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_KNOWN = "A:B:C:F:GIL:N:O:R:UV:X:b:cde:f:h:imno:p:q:r:tvx"
_ENVELOPE_ID_MAX = 100
_VERP, _VERP_USUAL = "-=+", "+="  # verp_delimiter_filter, default_verp_delimiters
_NOTIFY = ("SUCCESS", "FAILURE", "DELAY")
_BODIES = ("7BIT", "8BITMIME")

ENQUEUE, DAEMON, STDIO, FLUSH, MAILQ, NEWALIASES, IGNORE = (
    *("enqueue", "daemon", "stdio", "flush", "mailq", "newaliases", "ignore"),
)
_MODES = {
    "d": DAEMON,
    "l": DAEMON,
    "h": IGNORE,
    "H": IGNORE,
    "i": NEWALIASES,
    "m": ENQUEUE,
    "p": MAILQ,
    "s": STDIO,
    "v": ENQUEUE,
}


class Request:
    """What was asked for."""

    def __init__(self) -> None:
        self.mode = ENQUEUE
        self.sender: str | None = None  # None: whoever runs us
        self.full_name: str | None = None
        self.recipients: list[str] = []
        self.takes_fields = False  # -t: recipients of the header section, too
        self.ends_at_dot = True  # without -i
        self.body = ""
        self.notify = ""
        self.returned = ""
        self.envelope_id = ""
        self.is_verifying = False  # -bv
        self.verbosity = 0  # -v
        self.is_gateway = False
        self.is_utf8 = False
        self.verp = ""  # the delimiters of variable envelope return paths
        self.site = self.id = ""  # to flush
        self.interval = ""  # -q15m
        self.config: str | None = None
        self.aliases: str | None = None

    def check(self) -> None:
        """Raises Fatal for what contradicts itself."""
        if self.takes_fields and self.mode != ENQUEUE:
            raise Fatal("-t can be used only in delivery mode", EX_USAGE)
        if self.site and self.mode != ENQUEUE:
            raise Fatal("-qR can be used only in delivery mode", EX_USAGE)
        if self.id and self.mode != ENQUEUE:
            raise Fatal("-qI can be used only in delivery mode", EX_USAGE)
        if self.is_verifying:
            self._check_probe()

    def _check_probe(self) -> None:
        for option, is_given in (
            ("-t", self.takes_fields),
            ("-N", self.notify),
            ("-R", self.returned),
            ("-v", self.verbosity),
        ):
            if is_given:
                raise Fatal(f"{option} option cannot be used with -bv", EX_USAGE)


def read_request(arguments: Sequence[str], mode: str, complain: Callable[[str], None]) -> Request:
    """From a command line, as getopt(3) and Postfix read it. Raises Fatal."""
    request = Request()
    request.mode = mode
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        if word == "-q":
            if request.mode == DAEMON:
                complain("ignoring -q option in daemon mode")
            else:
                request.mode = FLUSH
            continue
        _read_word(word[1:], rest, request, complain)
    request.recipients = rest
    request.check()
    return request


def _read_word(
    letters: str, rest: list[str], request: Request, complain: Callable[[str], None]
) -> None:
    while letters:
        letter, letters = letters[0], letters[1:]
        at = _KNOWN.find(letter)
        if at < 0 or letter == ":":
            raise Fatal("usage: sendmail [options]", EX_USAGE)
        value = ""
        if _KNOWN[at + 1 : at + 2] == ":":
            if not letters and not rest:
                raise Fatal("usage: sendmail [options]", EX_USAGE)
            value, letters = letters or rest.pop(0), ""
        _apply(letter, value, request, complain)


def _apply(letter: str, value: str, request: Request, complain: Callable[[str], None]) -> None:
    if letter in "fr":
        request.sender = value
    elif letter == "F":
        request.full_name = value
    elif letter == "i":
        request.ends_at_dot = False
    elif letter == "t":
        request.takes_fields = True
    elif letter == "C":
        request.config = value
    elif letter == "v":
        request.verbosity += 1
    elif letter == "G":
        request.is_gateway = True
    elif letter == "I":
        request.mode = NEWALIASES
    elif letter == "n":
        raise Fatal("-n option not supported", EX_USAGE)
    elif letter in "bBqXo":
        _MORE[letter](request, value)
    elif letter in "NRVO":
        _apply_wish(letter, value, request, complain)
    # Whatever else is known is ignored, as Postfix does.


def _mode(request: Request, value: str) -> None:
    mode = _MODES.get(value[:1])
    if mode is None:
        raise Fatal(f"unsupported: -b{value[:1]}", EX_USAGE)
    request.mode = mode
    request.is_verifying = request.is_verifying or value[:1] == "v"


def _body(request: Request, value: str) -> None:
    if value.upper() not in _BODIES:
        raise Fatal("-B option needs 8BITMIME or 7BIT", EX_USAGE)
    request.body = value.upper()


def _queue(request: Request, value: str) -> None:
    if value[:1].isascii() and value[:1].isdigit():
        request.interval = value
    elif value[:1] == "R":
        request.site = value[1:]
    elif value[:1] == "I":
        request.id = value[1:]
    else:
        raise Fatal(f"-q{value[:1]} is not implemented", EX_USAGE)
    if value[:1] in "RI" and not value[1:]:
        raise Fatal(f"specify: -q{value[:1]}...", EX_USAGE)


def _extra(request: Request, value: str) -> None:
    if value[:1] != "V":
        raise Fatal(f"unsupported: -X{value[:1]}", EX_USAGE)
    if len(value) not in (1, 3) or not set(value[1:]) <= set(_VERP):
        raise Fatal(f"-V requires two characters from {_VERP}", EX_USAGE)
    request.verp = value[1:] or _VERP_USUAL


def _old(request: Request, value: str) -> None:
    if value[:1] == "A":
        if not value[1:]:
            raise Fatal("-oA requires pathname", EX_USAGE)
        request.aliases = value[1:]
    elif value[:1] == "i":
        request.ends_at_dot = False


_MORE: dict[str, Callable[[Request, str], None]] = {
    "b": _mode,
    "B": _body,
    "q": _queue,
    "X": _extra,
    "o": _old,
}


def _apply_wish(letter: str, value: str, request: Request, complain: Callable[[str], None]) -> None:
    if letter == "N":
        words = value.upper().replace(" ", "").split(",")
        if words != ["NEVER"] and not all(word in _NOTIFY for word in words):
            complain("bad -N option value -- ignored")
        else:
            request.notify = ",".join(dict.fromkeys(words))
    elif letter == "R":
        returned = {"FULL": "FULL", "HDRS": "HDRS"}.get(value.upper(), "")
        if not returned:
            complain("bad -R option value -- ignored")
        request.returned = returned or request.returned
    elif letter == "V":
        if len(value) > _ENVELOPE_ID_MAX:
            complain("too long -V option value -- ignored")
        elif not value.isascii() or not value.isprintable():
            complain("bad syntax in -V option value -- ignored")
        else:
            request.envelope_id = value
    elif value.replace(" ", "").lower() == "smtputf8=yes":
        request.is_utf8 = True
