"""Service extensions (RFC 5321 2.2): what our server offers, what another one offered."""

import re
from functools import lru_cache

import msgspec

from .reply import Reply


class Extensions(msgspec.Struct, frozen=True, gc=False):
    """What a server offered in its reply to EHLO; all off after HELO."""

    pipelining: bool = False  # RFC 2920
    size: int | None = None  # RFC 1870; octets, 0: no fixed limit, None: not offered
    eightbit: bool = False  # RFC 6152
    enhanced: bool = False  # RFC 2034
    chunking: bool = False  # RFC 3030
    dsn: bool = False  # RFC 3461
    smtputf8: bool = False  # RFC 6531
    starttls: bool = False  # RFC 3207
    auth: tuple[str, ...] = ()  # RFC 4954; mechanisms in upper case
    rcpt_max: int = 0  # RFC 9422 4.2: recipients per message, 0: not said
    mail_max: int = 0  # RFC 9422 4.1: messages per session, 0: not said
    requiretls: bool = False  # RFC 8689


NO_EXTENSIONS = Extensions()

_FLAGS = {
    "PIPELINING": "pipelining",
    "8BITMIME": "eightbit",
    "ENHANCEDSTATUSCODES": "enhanced",
    "CHUNKING": "chunking",
    "DSN": "dsn",
    "SMTPUTF8": "smtputf8",
    "STARTTLS": "starttls",
    "REQUIRETLS": "requiretls",
}
_SIZE_DIGITS_MAX = 20  # RFC 1870 4


_LIMIT_MAX = 999_999  # RFC 9422 4: six digits
_LIMIT = re.compile(r"[1-9][0-9]{0,5}")


class Offer(msgspec.Struct, frozen=True, gc=False):
    """What our server offers one client in its reply to EHLO (or LHLO)."""

    hostname: str
    size_max: int = 0  # RFC 1870; 0: no fixed limit
    has_starttls: bool = False  # RFC 3207
    auth_mechanisms: tuple[str, ...] = ()  # RFC 4954
    xclient: tuple[str, ...] = ()  # attributes, Postfix XCLIENT_README
    xforward: tuple[str, ...] = ()  # attributes, Postfix XFORWARD_README
    is_dsn: bool = False  # RFC 3461
    is_utf8: bool = False  # RFC 6531
    is_chunking: bool = False  # RFC 3030
    is_tls_requirable: bool = False  # RFC 8689 2: inside TLS only
    mail_max: int = 0  # RFC 9422 4.1: messages per session, 0: not said
    rcpt_max: int = 0  # RFC 9422 4.2: recipients per message, 0: not said
    discarded: frozenset[str] = frozenset()  # keywords in upper case that are not shown


@lru_cache(maxsize=64)
def r250_ehlo(offer: Offer) -> Reply:
    """Our answer to EHLO, keywords in Postfix's order."""
    lines = ["PIPELINING", f"SIZE {offer.size_max}" if offer.size_max else "SIZE", "VRFY"]
    if offer.has_starttls:
        lines.append("STARTTLS")
    for keyword, words in (
        ("AUTH", offer.auth_mechanisms),
        ("XCLIENT", offer.xclient),
        ("XFORWARD", offer.xforward),
    ):
        if words:
            lines.append(" ".join((keyword, *words)))
    lines += ["ENHANCEDSTATUSCODES", "8BITMIME"]
    if offer.is_dsn:
        lines.append("DSN")
    if offer.is_utf8:
        lines.append("SMTPUTF8")
    if offer.is_chunking:
        lines.append("CHUNKING")
    if offer.is_tls_requirable:
        lines.append("REQUIRETLS")
    limits = [
        f"{name}={limit}"
        for name, limit in (("MAILMAX", offer.mail_max), ("RCPTMAX", offer.rcpt_max))
        if 0 < limit <= _LIMIT_MAX
    ]
    if limits:
        lines.append(" ".join(("LIMITS", *limits)))
    shown = [line for line in lines if line.split(" ")[0] not in offer.discarded]
    return Reply(250, "", (offer.hostname, *shown))


def parse_extensions(reply: Reply) -> Extensions:
    """What a positive reply to EHLO offers. A line that makes no sense offers nothing."""
    return _parse_lines(reply.lines)


@lru_cache(maxsize=256)
def _parse_lines(lines: tuple[str, ...]) -> Extensions:
    values: dict[str, bool] = {}
    size: int | None = None
    auth: list[str] = []
    rcpt_max = mail_max = 0
    for line in lines[1:]:  # the first one greets
        keyword, *arguments = line.upper().replace("=", " ").split(" ")
        arguments = [argument for argument in arguments if argument]
        if keyword in _FLAGS:
            values[_FLAGS[keyword]] = True
        elif keyword == "SIZE":
            size = _parse_size(arguments)
        elif keyword == "AUTH":  # also "AUTH=LOGIN", which old servers say
            auth += [argument for argument in arguments if argument not in auth]
        elif keyword == "LIMITS":
            words = line.upper().split(" ")
            rcpt_max, mail_max = _parse_limit(words, "RCPTMAX="), _parse_limit(words, "MAILMAX=")
    return Extensions(size=size, auth=tuple(auth), rcpt_max=rcpt_max, mail_max=mail_max, **values)


def _parse_limit(words: list[str], name: str) -> int:
    """The value of one limit; 0 when it is not there once, or malformed."""
    values = [word.removeprefix(name) for word in words if word.startswith(name)]
    if len(values) != 1 or _LIMIT.fullmatch(values[0]) is None:
        return 0
    return int(values[0])


def _parse_size(arguments: list[str]) -> int:
    if not arguments:
        return 0
    digits = arguments[0]
    if digits.isdecimal() and digits.isascii() and len(digits) <= _SIZE_DIGITS_MAX:
        return int(digits)
    return 0
