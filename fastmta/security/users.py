"""The users whose passwords we know: a file of hashes, and a list of names with passwords.

    # one user per line
    alice@example.com:$scrypt$ln=14,r=8,p=1$...$...
    bob:$scrypt$...:SCRAM-SHA-256$100000:...$...:...

The file is read again when it has changed. A line that is wrong is told about, and the others
count. Reading is done on the loop: 10,000 lines take about 0.1 s, once per change.
"""

from __future__ import annotations

import hmac
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from .password import (
    COST,
    HASH_OCTETS,
    SALT_OCTETS,
    SCRAM_ITERATIONS,
    BadPassword,
    Cost,
    ScramVerifier,
    ScryptHash,
    dummy_hash,
    make_verifier,
    parse_hash,
    parse_verifier,
    prepare_name,
    prepare_password,
    verify_password,
)

FILE_OCTETS_MAX: Final = 16 * 1024 * 1024
LINE_OCTETS_MAX: Final = 1024
PROBLEMS_TOLD_MAX: Final = 10  # of one file, to the log: it may be the wrong file altogether
_MODE_MAX: Final = 0o640  # what the group and others may at most

Warn = Callable[[str], None]


class User(msgspec.Struct, frozen=True):
    """One user: a hash or the digest of a password, and perhaps a SCRAM verifier."""

    name: str
    stored: ScryptHash | None = None
    digest: bytes = b""  # of a listed user's password, under the secret of this process
    verifier: ScramVerifier | None = None


class BadLine(ValueError):
    """A line of a users file or list that cannot be used; the text says why, never what it is."""


def parse_line(line: str) -> User:
    """`name:hash` or `name:hash:verifier`. Raises BadLine."""
    name, colon, rest = line.partition(":")
    hashed, second, verifier = rest.partition(":")
    if not colon:
        raise BadLine("not name:hash")
    try:
        if prepare_name(name) != name:
            raise BadLine("the name is not in its prepared form (NFKC)")
        return User(name, parse_hash(hashed), verifier=parse_verifier(verifier) if second else None)
    except BadPassword as problem:
        raise BadLine(str(problem)) from None


def is_user_line(line: str) -> bool:
    """Whether there is anything but a comment."""
    bare = line.strip()
    return bool(bare) and not bare.startswith("#")


class Users(msgspec.Struct, frozen=True):
    """Every user that is known at one time. `check` may be called from any thread."""

    by_name: Mapping[str, User]
    secret: bytes
    unknown: ScryptHash | None  # checked for a name that has no hash; None: nobody has one
    scram_iterations: int
    has_scram: bool

    @classmethod
    def build(cls, users: Iterable[User], secret: bytes) -> Users:
        """`secret` keys what is made up for names that nobody has."""
        by_name = {user.name: user for user in users}
        costs = Counter(user.stored.cost for user in by_name.values() if user.stored)
        rounds = Counter(
            user.verifier.iterations for user in by_name.values() if user.verifier is not None
        )
        cost: Cost = costs.most_common(1)[0][0] if costs else COST
        return cls(
            by_name=by_name,
            secret=secret,
            unknown=dummy_hash(cost) if costs else None,
            scram_iterations=rounds.most_common(1)[0][0] if rounds else SCRAM_ITERATIONS,
            has_scram=bool(rounds),
        )

    def __contains__(self, name: str) -> bool:
        return name in self.by_name

    def check(self, name: str, password: str) -> bool:
        """Whether that is the password of `name`. As much work for a name that nobody has."""
        try:
            octets = prepare_password(password)
        except BadPassword:
            octets = b"\0"  # no password is that
        user = self.by_name.get(name)
        digest = password_digest(octets, self.secret)
        expected = user.digest if user is not None and user.digest else self.secret
        if hmac.compare_digest(digest, expected):
            return True
        stored = user.stored if user is not None and user.stored is not None else self.unknown
        return stored is not None and verify_password(stored, octets)

    def verifier(self, name: str) -> ScramVerifier:
        """Of `name`, or one that no password fits: with the same salt whenever it is asked for."""
        user = self.by_name.get(name)
        if user is not None and user.verifier is not None:
            return user.verifier
        return ScramVerifier(
            self.scram_iterations,
            made_up_salt(name, self.secret),
            _keyed(b"stored", name, self.secret, HASH_OCTETS),
            _keyed(b"server", name, self.secret, HASH_OCTETS),
        )


def made_up_salt(name: str, secret: bytes) -> bytes:
    """A salt that belongs to `name`, whether it exists or not."""
    return _keyed(b"salt", name, secret, SALT_OCTETS)


def password_digest(password: bytes, secret: bytes) -> bytes:
    """What is compared of a listed user's password, as long as `secret` is."""
    return hmac.digest(secret, b"password\0" + password, "sha256")


def _keyed(what: bytes, name: str, secret: bytes, size_octets: int) -> bytes:
    octets = what + b"\0" + name.encode("utf-8")
    return hmac.digest(secret, octets, "sha256")[:size_octets]


def parse_list(entries: Iterable[str], secret: bytes, scram_iterations: int = 0) -> list[User]:
    """Users of `user:password` entries. Raises BadLine, which does not tell a password.

    `scram_iterations` 0: without verifiers. It should be what the file's verifiers have, or the
    number would tell who is in the list.
    """
    users: dict[str, User] = {}
    for number, entry in enumerate(entries, 1):
        name, colon, password = entry.partition(":")
        if not colon:
            raise BadLine(f"entry {number}: not user:password")
        try:
            name, octets = prepare_name(name), prepare_password(password)
        except BadPassword as problem:
            raise BadLine(f"entry {number}: {problem}") from None
        if name in users:
            raise BadLine(f"entry {number}: {name} is there twice")
        salt = made_up_salt(name, secret)
        verifier = make_verifier(octets, scram_iterations, salt) if scram_iterations else None
        users[name] = User(name, None, password_digest(octets, secret), verifier)
    return list(users.values())


def parse_file(octets: bytes, path: str, warn: Warn) -> list[User]:
    """The users of a file's content; each bad line goes to `warn` with its number."""
    users: dict[str, User] = {}
    for number, line in enumerate(octets.split(b"\n"), 1):
        problem = ""
        try:
            if len(line) > LINE_OCTETS_MAX:
                raise BadLine("the line is too long")
            text = line.removesuffix(b"\r").decode("utf-8")
            if not is_user_line(text):
                continue
            user = parse_line(text)
            if user.name in users:
                problem = f"{user.name} is there twice; the first line counts"
            else:
                users[user.name] = user
        except UnicodeDecodeError:
            problem = "not UTF-8"
        except BadLine as bad:
            problem = str(bad)
        if problem:
            warn(f"{path}:{number}: {problem}")
    return list(users.values())


class _Few:
    """Hands the first problems on and counts the others."""

    def __init__(self, warn: Warn, most: int) -> None:
        self._warn = warn
        self._left_count = most
        self.more_count = 0

    def warn(self, text: str) -> None:
        if self._left_count:
            self._left_count -= 1
            self._warn(text)
        else:
            self.more_count += 1


class UserSource:
    """The current `Users`. `current()` looks at the file each time; it raises nothing."""

    def __init__(self, path: str, secret: bytes, warn: Warn) -> None:
        """`path` may be empty: only the listed ones, then."""
        self._path = path
        self._secret = secret
        self._warn = warn
        self._seen: tuple[int, ...] | str = ""  # what the file looked like, or the error
        self._in_file: list[User] = []
        self._listed: list[User] = []
        self._users = Users.build((), secret)
        self.generation = 0  # counts how often the users may have changed
        self.is_readable = True  # False: nothing can be said about names that are not listed

    def add_listed(self, users: Iterable[User]) -> None:
        """These are known beside the file's, and win over them."""
        self._listed += users
        self._merge()

    def current(self) -> Users:
        """The users as of now."""
        if not self._path:
            return self._users
        try:
            found = os.stat(self._path)
            seen: tuple[int, ...] | str = looks(found)
            if seen == self._seen:
                return self._users
            octets = read_file(self._path)
        except OSError as error:
            self._lose(error.strerror or str(error))
            return self._users
        self._seen = seen
        if found.st_mode & 0o077 & ~_MODE_MAX:
            mode = stat.S_IMODE(found.st_mode)
            self._warn(f"{self._path}: mode {mode:04o} lets others in; 0640 is enough")
        few = _Few(self._warn, PROBLEMS_TOLD_MAX)
        self._in_file = parse_file(octets, self._path, few.warn)
        if few.more_count:
            self._warn(f"{self._path}: ... and {few.more_count} more, see fastmta user list")
        self.is_readable = True
        self._merge()
        return self._users

    def _lose(self, text: str) -> None:
        """The file cannot be read: said once, until that changes."""
        if self._seen == text:
            return
        self._seen = text
        self._warn(f"{self._path}: {text}: its users cannot log in")
        self._in_file = []
        self.is_readable = False
        self._merge()

    def _merge(self) -> None:
        users = {user.name: user for user in self._in_file}
        for user in self._listed:
            if user.name in users:
                self._warn(f"{self._path}: {user.name} is also in the list, which counts")
            users[user.name] = user
        self._users = Users.build(users.values(), self._secret)
        self.generation += 1


def looks(found: os.stat_result) -> tuple[int, ...]:
    return (
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mode,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


def read_file(path: str) -> bytes:
    """The whole regular file. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError("not a regular file")
        octets = file.read(FILE_OCTETS_MAX + 1)
    if len(octets) > FILE_OCTETS_MAX:
        raise OSError(f"larger than {FILE_OCTETS_MAX} octets")
    return octets
