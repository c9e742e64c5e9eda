"""Kinds of values about logins, certificates and hooks. A secret is never quoted in a problem."""

import re

from .address import SMTP_PORT, NextHop, split_next_hop
from .kind import Kind, Listing, plain_text

_TARGET = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_FINGERPRINT = re.compile(r"(?:[0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}")


class Credential(Kind):
    """A user and a password."""

    shape = "`name:password`"

    def check(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError("must be text in quotes: name:password")
        name, colon, password = value.partition(":")
        if not (name and colon and password) or any(
            ord(char) < 32 or ord(char) == 127 for char in value
        ):
            raise ValueError("must be name:password, both not empty, without control characters")
        return value


class Credentials(Listing):
    """Users and passwords; in a file one a line, in a variable also separated by commas."""

    def __init__(self) -> None:
        super().__init__(Credential())

    def from_text(self, text: str) -> tuple[object, ...]:
        if "\n" in text:
            return self.from_file(text)
        try:
            return super().from_text(text)
        except ValueError as problem:
            if "," not in text:
                raise
            where = "FASTMTA_AUTH__USERS_FILE, or in brackets in the configuration file"
            raise ValueError(
                f"{problem}; a password with a comma in it stands in {where}"
            ) from None

    def from_file(self, text: str) -> tuple[object, ...]:
        lines = [line.rstrip("\r") for line in text.split("\n")]
        return self._checked([self.item.from_text(line) for line in lines if line])


class Fingerprint(Kind):
    """SHA-256 of a certificate."""

    shape = "SHA-256 fingerprint in hex, with or without colons"

    def check(self, value: object) -> str:
        text = plain_text(value)
        if not _FINGERPRINT.fullmatch(text):
            raise ValueError(f'"{text}" is not a SHA-256 fingerprint: 64 hex digits')
        return text.replace(":", "").lower()


class HookTarget(Kind):
    """A Python object that is imported."""

    shape = '`module:name`, or `""`'

    def check(self, value: object) -> str:
        text = plain_text(value)
        if text and not _TARGET.fullmatch(text):
            raise ValueError(f'"{text}" is not module:name such as mypackage.hooks:Handler')
        return text


class SocketPlace(Kind):
    """A unix socket or a TCP port."""

    shape = 'absolute path, `host:port`, or `""`'

    def check(self, value: object) -> str:
        text = plain_text(value)
        if not text or text.startswith("/"):
            return text
        try:
            checked = NextHop().check(text)
        except ValueError:
            raise ValueError(f'"{text}" is neither an absolute path nor host:port') from None
        if split_next_hop(checked)[1] == SMTP_PORT:
            raise ValueError(f'"{text}" lacks the port of an auth service')
        return checked.replace("[", "").replace("]", "") if checked.count(":") == 1 else checked
