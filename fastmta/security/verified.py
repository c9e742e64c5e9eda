"""Logins that were right a short while ago, so that a client that logs in often costs one hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

TTL_S: Final = 300.0
ENTRIES_MAX: Final = 10_000


class Verified:
    """A bounded set of digests of name and password, keyed by a secret of this process."""

    def __init__(self, secret: bytes, now_s: Callable[[], float]) -> None:
        """`now_s` is monotonic; `secret` has at most 64 octets."""
        self._secret = secret
        self._now_s = now_s
        self._until_s: dict[bytes, float] = {}  # oldest first
        self._generation = 0

    def __len__(self) -> int:
        return len(self._until_s)

    def has(self, login: str, password: str, generation: int) -> bool:
        """Whether that was verified against the users of `generation`, not too long ago."""
        self._drop(generation)
        key = self._key(login, password)
        until_s = self._until_s.get(key)
        if until_s is None:
            return False
        if until_s <= self._now_s():
            del self._until_s[key]
            return False
        return True

    def add(self, login: str, password: str, generation: int) -> None:
        """It has just been verified."""
        if generation < self._generation:
            return
        self._drop(generation)
        key = self._key(login, password)
        self._until_s.pop(key, None)
        if len(self._until_s) >= ENTRIES_MAX:
            del self._until_s[next(iter(self._until_s))]
        self._until_s[key] = self._now_s() + TTL_S

    def _drop(self, generation: int) -> None:
        """Users have changed: nothing is known any more."""
        if generation != self._generation:
            self._generation = generation
            self._until_s.clear()

    def _key(self, login: str, password: str) -> bytes:
        name = login.encode("utf-8")
        octets = b"%d:%s%s" % (len(name), name, password.encode("utf-8"))
        return hashlib.blake2b(octets, key=self._secret, digest_size=32).digest()
