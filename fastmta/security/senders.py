"""Which senders belong to which logins.

    # sender login[,login...]
    boss@example.com   alice@example.com,bob
    @example.org       carol

Everything under a domain, or one address, which then wins over its domain. Addresses are read as
those of clients are (a domain may be written in its own script), and then compared without regard
to case: who may not be `boss@` may not be `Boss@` either.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from fastmta.smtp import Problem, parse_rcpt

from .password import BadPassword, prepare_name
from .users import Warn, looks, read_file

LOOK_EVERY_S: Final = 1.0
LINE_OCTETS_MAX: Final = 4096


class BadSender(ValueError):
    """A line that cannot be used; the text says why."""


def parse_senders(octets: bytes, path: str, warn: Warn) -> dict[bytes, frozenset[str]]:
    """Logins by sender, folded. Each bad line goes to `warn` with its number.

    A sender whose logins are wrong belongs to nobody: a slip does not open it.
    """
    senders: dict[bytes, frozenset[str]] = {}
    for number, line in enumerate(octets.split(b"\n"), 1):
        try:
            if len(line) > LINE_OCTETS_MAX:
                raise BadSender("the line is too long")
            text = line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError:
            warn(f"{path}:{number}: not UTF-8")
            continue
        except BadSender as problem:
            warn(f"{path}:{number}: {problem}")
            continue
        sender, *rest = text.split(maxsplit=1) or [""]
        if not sender or sender.startswith("#"):
            continue
        try:
            key = _sender(sender)
            logins: frozenset[str] = frozenset()
            try:
                logins = _logins(rest[0] if rest else "")
            finally:
                senders[key] = logins | senders.get(key, frozenset())
        except BadSender as problem:
            warn(f"{path}:{number}: {problem}")
    return senders


def _sender(text: str) -> bytes:
    """Raises BadSender."""
    is_domain = text.startswith("@")
    path = canonical(f"x{text}" if is_domain else text)
    if not path or "*" in text:
        raise BadSender(f"{text!a} is no sender: it must be user@domain or @domain")
    return path[1:] if is_domain else path


def _logins(text: str) -> frozenset[str]:
    """Raises BadSender."""
    try:
        logins = frozenset(prepare_name(each.strip()) for each in text.split(",") if each.strip())
    except BadPassword as problem:
        raise BadSender(str(problem)) from None
    if not logins:
        raise BadSender("no login behind the sender, which belongs to nobody now")
    return logins


def fold(path: bytes) -> bytes:
    """A sender as it is compared."""
    try:
        return path.decode("utf-8").casefold().encode("utf-8")
    except UnicodeDecodeError:
        return path.lower()


def canonical(address: str) -> bytes:
    """An address with its domain as reverse-paths have it, folded; b"" when it is none."""
    problem, path, parameters = parse_rcpt(f"TO:<{address}>".encode("utf-8", "replace"), True)
    if problem != Problem.NONE or parameters or path.endswith(b"@"):
        return b""
    return fold(path)


class Senders:
    """The rules of one server."""

    def __init__(self, rules: Mapping[bytes, frozenset[str]], *, is_strict: bool) -> None:
        self._rules = rules
        self._is_strict = is_strict

    def may(self, login: str, reverse_path: bytes) -> bool:
        """Whether `login` ("": nobody) may use a canonical reverse-path; the null one always."""
        if not reverse_path:
            return True
        path = fold(reverse_path)
        owners = self._rules.get(path)
        if owners is None:
            owners = self._rules.get(path[path.rfind(b"@") :])
        if owners is not None:
            return login in owners
        if not self._is_strict or not login:
            return True
        return canonical(login) == path


class SenderSource:
    """The current rules; the file is looked at once a second at most, and read when it changed."""

    def __init__(self, path: str, warn: Warn, *, is_strict: bool) -> None:
        """`path` may be empty. Raises OSError: without the rules there is no start."""
        self._path = path
        self._warn = warn
        self._is_strict = is_strict
        self._looked_s = 0.0
        self._seen: tuple[int, ...] | str = ""
        self._rules = Senders({}, is_strict=is_strict)
        if path:
            self._look()

    def current(self, now_s: float) -> Senders:
        """The rules as of now; those from before when the file cannot be read any more."""
        if self._path and now_s - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now_s
            try:
                self._look()
            except OSError as error:
                text = error.strerror or str(error)
                if self._seen != text:
                    self._seen = text
                    self._warn(f"{self._path}: {text}: the senders stay as they were")
        return self._rules

    def _look(self) -> None:
        seen = looks(os.stat(self._path))
        if seen == self._seen:
            return
        rules = parse_senders(read_file(self._path), self._path, self._warn)
        self._seen = seen
        self._rules = Senders(rules, is_strict=self._is_strict)
