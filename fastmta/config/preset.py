"""Relays of providers, by a short name: `ses://eu-west-1` instead of a host and what it needs."""

import re
from collections.abc import Callable
from typing import NamedTuple

from .problem import suggest

PORT = 587  # of every one of them: STARTTLS, then AUTH
MARK = "://"
_BY_ADDRESS = "gmail://relay"  # knows its customers by their addresses, if they wish
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2}")


class Preset(NamedTuple):
    """What a preset stands for."""

    provider: str  # whose rules for replies hold
    host: str
    username: str = ""  # where it is the same for everybody
    is_username_password: bool = False  # one token is both
    needs_login: bool = True  # or else every message comes back


def is_preset(text: str) -> bool:
    """Whether `text` is meant as one."""
    return MARK in text


def expand(text: str) -> Preset:
    """The preset of `text`. Raises ValueError with half a sentence that says what is wrong."""
    name, _, rest = text.partition(MARK)
    make = _PRESETS.get(name)
    if make is None:
        known = [f"{one}{MARK}" for one in _PRESETS]
        hint = suggest(f"{name}{MARK}", known)
        raise ValueError(f'"{text}" is no relay we know: {", ".join(known)}{hint}')
    return make(rest.removesuffix("/"), text)


def _ses(region: str, text: str) -> Preset:
    if not _REGION.fullmatch(region):
        raise ValueError(f'"{text}" lacks a region; write it as ses://eu-west-1')
    return Preset("ses", f"email-smtp.{region}.amazonaws.com")


def _of(
    provider: str, hosts: dict[str, str], username: str = "", *, is_username_password: bool = False
) -> Callable[[str, str], Preset]:
    def make(rest: str, text: str) -> Preset:
        if rest not in hosts:
            known = " or ".join(f"{provider}{MARK}{one}" for one in hosts)
            raise ValueError(f'"{text}" must be {known}')
        is_login_needed = f"{provider}{MARK}{rest}" != _BY_ADDRESS
        return Preset(provider, hosts[rest], username, is_username_password, is_login_needed)

    return make


_PRESETS: dict[str, Callable[[str, str], Preset]] = {
    "ses": _ses,
    "sendgrid": _of(
        "sendgrid", {"": "smtp.sendgrid.net", "eu": "smtp.eu.sendgrid.net"}, username="apikey"
    ),
    "mailgun": _of("mailgun", {"": "smtp.mailgun.org", "eu": "smtp.eu.mailgun.org"}),
    "postmark": _of(
        "postmark",
        {"": "smtp.postmarkapp.com", "broadcast": "smtp-broadcasts.postmarkapp.com"},
        is_username_password=True,
    ),
    "gmail": _of("gmail", {"": "smtp.gmail.com", "relay": "smtp-relay.gmail.com"}),
    "m365": _of("m365", {"": "smtp.office365.com"}),
}
