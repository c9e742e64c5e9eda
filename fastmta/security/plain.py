"""PLAIN (RFC 4616) and LOGIN: the client sends its password."""

from __future__ import annotations

from typing import Final

from fastmta.smtp.sasl import Done

from .password import PASSWORD_OCTETS_MAX
from .step import (
    Cancel,
    Checker,
    Client,
    Malformed,
    challenge,
    decode_name,
    decode_text,
    nothing_to_cancel,
    refused,
)

USERNAME: Final = b"Username:"
PASSWORD: Final = b"Password:"


class PlainExchange:
    """PLAIN: `[authzid] NUL authcid NUL password`, with or without an initial response."""

    def __init__(self, checker: Checker, client: Client) -> None:
        self._checker = checker
        self._client = client
        self._cancel: Cancel = nothing_to_cancel

    def step(self, response: bytes | None, done: Done) -> None:
        if response is None:
            done(challenge(b""))
            return
        fields = response.split(b"\0")
        if len(fields) != 3:
            done(refused("malformed PLAIN response"))
            return
        login = ""
        try:
            login = decode_name(fields[1])
            if fields[0] and decode_name(fields[0]) != login:
                raise Malformed("acting as another user is not allowed")
            password = decode_password(fields[2])
        except Malformed as problem:
            done(refused(str(problem), login))
            return
        self._cancel = self._checker.check_password(login, password, self._client, done)

    def cancel(self) -> None:
        self._cancel()


class LoginExchange:
    """LOGIN: a name, which may come as initial response, and a password. Nowhere specified."""

    def __init__(self, checker: Checker, client: Client) -> None:
        self._checker = checker
        self._client = client
        self._login = ""
        self._cancel: Cancel = nothing_to_cancel

    def step(self, response: bytes | None, done: Done) -> None:
        if response is None:
            done(challenge(USERNAME))
            return
        try:
            if not self._login:
                self._login = decode_name(response)
                done(challenge(PASSWORD))
                return
            password = decode_password(response)
        except Malformed as problem:
            done(refused(str(problem), self._login))
            return
        self._cancel = self._checker.check_password(self._login, password, self._client, done)

    def cancel(self) -> None:
        self._cancel()


def decode_password(octets: bytes) -> str:
    """A password as it was sent. Raises Malformed."""
    if not octets:
        raise Malformed("the password is empty")
    if len(octets) > PASSWORD_OCTETS_MAX:
        raise Malformed("the password is too long")
    return decode_text(octets, "password")
