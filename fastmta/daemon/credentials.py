"""Logins at relays: passwords and tokens by the name that delivery asks for.

`relay` and `relays.NAME` are the logins of the relays themselves, `relays.NAME/user@example.com`
that of a sender. Files are read again when they change; what cannot be read leaves what was known,
and the log says so once. Nothing here ever prints a secret.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from fastmta.config import Config
from fastmta.config.relay import AnyRelay
from fastmta.config.relaycheck import has_login, preset_of, relays_of

from .senderfile import Login, parse_senders, read_octets
from .sockets import BadStart

T = TypeVar("T")
C = TypeVar("C", covariant=True)

Warn = Callable[[str], None]
_SECRET_FILES = ("password_file", "credentials_file", "token_file", "client_secret_file",
                 "refresh_token_file")  # fmt: skip


class MakeCredential(Protocol[C]):
    """Makes what delivery hands to the mechanism."""

    def __call__(
        self, *, username: str, password: str, token: str, mechanisms: tuple[str, ...]
    ) -> C: ...


class TokenSource(Protocol):
    """Gives out access tokens, one at a time and still good for a while."""

    def get(self, done: Callable[[str, str], None]) -> None:
        """Call `done(token, "")` or `done("", what went wrong)` once, at once or later."""

    def refuse(self, token: str) -> None:
        """The relay did not take `token`."""


class Watched(Generic[T]):
    """What a file holds, read again when the file is another one. Raises only from `current`.

    It is read where it is asked for, on the loop: with as many logins as a file may have that takes
    tens of milliseconds, once for each change.
    """

    def __init__(self, path: str, read: Callable[[bytes], T], warn: Warn) -> None:
        self._path = path
        self._read = read
        self._warn = warn
        self._seen: tuple[int, ...] = ()
        self._value: T | None = None
        self._problem = ""

    def current(self) -> T:
        """What it holds now, or held before it was spoilt.

        Raises OSError or ValueError when it could never be read.
        """
        try:
            found = os.stat(self._path)
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen != self._seen:
                self._value = self._read(read_octets(self._path))
                self._seen, self._problem = seen, ""
        except (OSError, ValueError) as error:
            if self._value is None:
                raise
            text = f"{_tell(error)}: what it held before goes on to count"
            if text != self._problem:
                self._problem = text
                self._warn(text)
        assert self._value is not None
        return self._value


class _RelayLogins(Generic[C]):
    """The logins at one relay."""

    def __init__(
        self,
        relay: AnyRelay,
        make: MakeCredential[C],
        token: TokenSource | None,
        warn: Warn,
    ) -> None:
        self._relay = relay
        self._preset = preset_of(relay)
        self._make = make
        self._token = token
        self._password = _secret(relay.password, relay.password_file, warn)
        path = relay.credentials_file
        self._senders: Watched[dict[str, Login]] | None = None
        if path:
            self._senders = Watched(path, lambda octets: parse_senders(octets, path), warn)

    def get(self, login: str, done: Callable[[C | None, str], None]) -> None:
        try:
            found = self._login(login)
        except (OSError, ValueError) as error:
            done(None, _tell(error))
            return
        if found is not None:
            done(self._credential(found[0], found[1], ""), "")
        elif login:
            done(None, f"{self._relay.credentials_file}: {login} is not there any more")
        elif self._token is None:
            done(None, "there is no password")
        else:
            self._token.get(lambda token, problem: self._take_token(token, problem, done))

    def refuse(self, login: str, token: str) -> None:
        if self._token is not None and token and not login:
            self._token.refuse(token)

    def _login(self, login: str) -> tuple[str, str] | None:
        """Name and password; None: there is no password. Raises OSError, ValueError."""
        if login:
            return None if self._senders is None else self._senders.current().get(login)
        if self._password is None:
            return None
        password = self._password()
        username = self._relay.username
        if not username and self._preset is not None:
            username = password if self._preset.is_username_password else self._preset.username
        return username, password

    def _take_token(self, token: str, problem: str, done: Callable[[C | None, str], None]) -> None:
        if problem:
            done(None, problem)
        else:
            done(self._credential(self._relay.username, "", token), "")

    def _credential(self, username: str, password: str, token: str) -> C:
        return self._make(
            username=username,
            password=password,
            token=token,
            mechanisms=self._relay.mechanisms,
        )


class CredentialStore(Generic[C]):
    """Every login of a configuration. One per worker."""

    def __init__(
        self,
        config: Config,
        make: MakeCredential[C],
        warn: Warn,
        tokens: Mapping[str, TokenSource] | None = None,
    ) -> None:
        """`tokens` by section (`relay`, `relays.NAME`), for those that have tokens."""
        tokens = tokens or {}
        self._relays = {
            section: _RelayLogins(relay, make, tokens.get(section), _prefix(warn, section))
            for section, relay in relays_of(config)
            if has_login(relay)
        }

    def get(self, name: str, done: Callable[[C | None, str], None]) -> None:
        """Call `done(credential, "")`, or `done(None, what went wrong)`, once; at once, but for
        tokens that must be fetched.
        """
        section, _, login = name.partition("/")
        relay = self._relays.get(section)
        if relay is None:
            done(None, f"{section} has no login in the configuration")
        else:
            relay.get(login, done)

    def refuse(self, name: str, token: str) -> None:
        """The relay did not take `token`, one that `get` gave: another is fetched for the next."""
        section, _, login = name.partition("/")
        relay = self._relays.get(section)
        if relay is not None:
            relay.refuse(login, token)


def read_secret(text: str, path: str) -> str:
    """The secret that stands in `text` or in the file `path`. Raises OSError, ValueError."""
    return _parse_secret(read_octets(path), path) if path else text


def try_logins(config: Config) -> list[str]:
    """Whether the files of logins can be used: warnings.

    Raises BadStart, with a line for every file that cannot, which names its key.
    """
    said, wrong = [], []
    for section, relay in relays_of(config):
        for name in _SECRET_FILES:
            path = getattr(relay, name)
            if not path:
                continue
            try:
                octets = read_octets(path)
                if name == "credentials_file":
                    parse_senders(octets, path)
                else:
                    _parse_secret(octets, path)
                mode = os.stat(path).st_mode
            except (OSError, ValueError) as error:
                wrong.append(f"{section}.{name}: {_tell(error)}")
                continue
            if mode & stat.S_IROTH:
                text = f"{path} can be read by everybody on this machine: chmod o-r"
                said.append(f"{section}.{name}: {text}")
    if wrong:
        raise BadStart("\n".join(wrong))
    return said


def _secret(text: str, path: str, warn: Warn) -> Callable[[], str] | None:
    """What gives the secret that stands in `text` or in the file `path`; None: neither is set."""
    if path:
        return Watched(path, lambda octets: _parse_secret(octets, path), warn).current
    return (lambda: text) if text else None


def _parse_secret(octets: bytes, path: str) -> str:
    """The one line that the file holds. Raises ValueError, which does not quote it."""
    try:
        text = octets.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8") from None
    if not text:
        raise ValueError(f"{path}: is empty")
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ValueError(f"{path}: must be one line of text")
    return text


def _prefix(warn: Warn, section: str) -> Warn:
    return lambda text: warn(f"{section}: {text}")


def _tell(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)
