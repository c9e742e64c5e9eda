"""Service extensions (RFC 5321 2.2): what our server offers, what another one offered."""

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


NO_EXTENSIONS = Extensions()

_FLAGS = {
    "PIPELINING": "pipelining",
    "8BITMIME": "eightbit",
    "ENHANCEDSTATUSCODES": "enhanced",
    "CHUNKING": "chunking",
    "DSN": "dsn",
    "SMTPUTF8": "smtputf8",
    "STARTTLS": "starttls",
}
_SIZE_DIGITS_MAX = 20  # RFC 1870 4


@lru_cache(maxsize=16)
def r250_ehlo(
    hostname: str,
    size_max: int,
    *,
    has_starttls: bool = False,
    auth_mechanisms: tuple[str, ...] = (),
    is_chunking: bool = False,
) -> Reply:
    """Our answer to EHLO, keywords in Postfix's order. `size_max` 0 means no fixed limit."""
    lines = [hostname, "PIPELINING", f"SIZE {size_max}" if size_max else "SIZE", "VRFY"]
    if has_starttls:
        lines.append("STARTTLS")
    if auth_mechanisms:
        lines.append("AUTH " + " ".join(auth_mechanisms))
    lines += ["ENHANCEDSTATUSCODES", "8BITMIME"]
    if is_chunking:
        lines.append("CHUNKING")
    return Reply(250, "", tuple(lines))


def parse_extensions(reply: Reply) -> Extensions:
    """What a positive reply to EHLO offers. A line that makes no sense offers nothing."""
    return _parse_lines(reply.lines)


@lru_cache(maxsize=256)
def _parse_lines(lines: tuple[str, ...]) -> Extensions:
    values: dict[str, bool] = {}
    size: int | None = None
    auth: list[str] = []
    for line in lines[1:]:  # the first one greets
        keyword, *arguments = line.upper().replace("=", " ").split(" ")
        arguments = [argument for argument in arguments if argument]
        if keyword in _FLAGS:
            values[_FLAGS[keyword]] = True
        elif keyword == "SIZE":
            size = _parse_size(arguments)
        elif keyword == "AUTH":  # also "AUTH=LOGIN", which old servers say
            auth += [argument for argument in arguments if argument not in auth]
    return Extensions(size=size, auth=tuple(auth), **values)


def _parse_size(arguments: list[str]) -> int:
    if not arguments:
        return 0
    digits = arguments[0]
    if digits.isdecimal() and digits.isascii() and len(digits) <= _SIZE_DIGITS_MAX:
        return int(digits)
    return 0
