"""Files of credentials by sender: lines `user@example.com name:password`, `@example.com ...`."""

from __future__ import annotations

import re

FILE_OCTETS_MAX = 1024 * 1024
SENDERS_MAX = 10_000
_SENDER = re.compile(r"[^\s@:]*@[A-Za-z0-9._-]{1,253}")


class Login(tuple[str, str]):
    """Name and password; what is printed of it is neither."""

    def __repr__(self) -> str:
        return "<login>"


def read_senders(path: str) -> dict[str, Login]:
    """Name and password by sender (in lower case).

    Raises OSError, or ValueError, which names file and line and no password.
    """
    return parse_senders(read_octets(path), path)


def read_octets(path: str) -> bytes:
    """What the file holds, if it is no longer than a file of secrets can be. Raises OSError."""
    with open(path, "rb") as file:
        octets = file.read(FILE_OCTETS_MAX + 1)
    if len(octets) > FILE_OCTETS_MAX:
        raise OSError(f"longer than {FILE_OCTETS_MAX} octets")
    return octets


def parse_senders(octets: bytes, path: str) -> dict[str, Login]:
    """As `read_senders`, of what the file holds."""
    logins: dict[str, Login] = {}
    for number, line in enumerate(octets.split(b"\n"), 1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise ValueError(f"{path}:{number}: not UTF-8") from None
        if not text or text.startswith("#"):
            continue
        sender, login = _parse_line(text, f"{path}:{number}")
        if sender in logins:
            raise ValueError(f"{path}:{number}: {sender} is there twice")
        if len(logins) >= SENDERS_MAX:
            raise ValueError(f"{path}:{number}: more than {SENDERS_MAX} senders")
        logins[sender] = login
    return logins


def _parse_line(text: str, place: str) -> tuple[str, Login]:
    parts = text.split(None, 1)
    sender = parts[0].lower()
    if not _SENDER.fullmatch(sender):
        # It may be a password: not quoted.
        raise ValueError(f"{place}: must begin with user@example.com or @example.com")
    name, colon, password = (parts[1] if len(parts) > 1 else "").partition(":")
    if not (name and colon and password):
        raise ValueError(f"{place}: after {sender} name:password must come")
    return sender, Login((name, password))
