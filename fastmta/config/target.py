"""Kinds of values of routing: relays, where a route leads, patterns of addresses, secrets."""

import ipaddress
import re
import warnings

from .address import Domain, NextHop, is_domain
from .kind import Kind, plain_text
from .preset import MARK, expand, is_preset
from .problem import suggest

RELAY_NAME = re.compile(r"[a-z][a-z0-9-]*(?:_[a-z0-9-]+)*")  # as a listener's
PEER_TRANSPORTS = ("smtp", "lmtp")
LOCAL_TRANSPORTS = ("discard", "error", "hold", "file")
LMTP_PORT = 24
SOCKET_OCTETS_MAX = 107  # sun_path of unix(7), without its final NUL
_SOCKET = re.compile(r"unix:(/[!-\"$-+\--~]+)")  # neither space nor "#" nor ","
_ERROR = re.compile(r"[45]\.[0-9]{1,3}\.[0-9]{1,3} [ -\"$-~]*[!-\"$-~]")
_PATH = re.compile(r"/[ -\"$-~]*")
_URL = re.compile(r"https://[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?(?:/[!-~]*)?")


class RelayHost(NextHop):
    """A relay: a host, a preset, or, over LMTP, a unix socket."""

    shape = "`[host]:port`, `domain:port` (MX look-up) or a preset such as `ses://eu-west-1`"

    def __init__(self, *, may_be_socket: bool = False) -> None:
        self.may_be_socket = may_be_socket
        if may_be_socket:
            self.shape += ", `unix:/path` over LMTP"

    def check(self, value: object) -> str:
        text = plain_text(value)
        if is_preset(text):
            expand(text)
            return text
        if self.may_be_socket and text.startswith("unix:"):
            return check_socket(text)
        return super().check(text)


def check_socket(text: str) -> str:
    """`unix:` and a path that a next hop can hold."""
    match = _SOCKET.fullmatch(text)
    if match is None or len(match[1]) > SOCKET_OCTETS_MAX:
        raise ValueError(
            f'"{text}" is not unix:/path, at most {SOCKET_OCTETS_MAX} octets, without space, '
            "comma and #"
        )
    return text


class FallbackHost(NextHop):
    """A relay, by its host or by its name in `[relays.NAME]`."""

    shape = "name in `[relays.<name>]`, or `[host]:port`"

    def check(self, value: object) -> str:
        text = plain_text(value)
        if is_preset(text):
            name = text.partition(MARK)[0]
            raise ValueError(f'"{text}" needs a login: make it [relays.{name}], and write "{name}"')
        return text if RELAY_NAME.fullmatch(text) else super().check(text)


class RouteTarget(Kind):
    """Where a rule sends mail."""

    shape = (
        '`"relay"`, `"mx"`, a name in `[relays.<name>]`, `[host]:port`, `lmtp:[host]:port`, '
        "`lmtp:unix:/path`, `discard:`, `hold:`, `error:5.1.1 text` or `file:/directory`"
    )

    def check(self, value: object) -> str:
        text = plain_text(value)
        if not text or RELAY_NAME.fullmatch(text):
            return text
        transport, colon, rest = text.partition(":")
        if is_preset(text):
            raise ValueError(f'"{text}" needs a login: make it a relay, [relays.NAME], and name it')
        if transport in PEER_TRANSPORTS and colon:
            if rest.startswith("unix:"):
                if transport == "smtp":
                    raise ValueError(f'"{text}" must be lmtp:{rest}')
                return f"{transport}:{check_socket(rest)}"
            return f"{transport}:{with_port(NextHop().check(rest), transport)}"
        if transport in LOCAL_TRANSPORTS and colon:
            return _check_local(text, transport, rest)
        if "." not in text and "[" not in text:
            hint = suggest(transport, (*PEER_TRANSPORTS, *LOCAL_TRANSPORTS))
            raise ValueError(f'"{text}" is no {self.shape.replace("`", "")}{hint}')
        return f"smtp:{with_port(NextHop().check(text), 'smtp')}"


def _check_local(text: str, transport: str, rest: str) -> str:
    if transport == "error":
        if not _ERROR.fullmatch(rest):
            raise ValueError(
                f'"{text}" must be like "error:5.1.1 no such user": a status code, then ASCII '
                "text without #"
            )
    elif transport == "file":
        if not _PATH.fullmatch(rest):
            raise ValueError(f'"{text}" must be like "file:/var/mail/out": an absolute path')
    elif rest:
        raise ValueError(f'nothing may follow "{transport}:"')
    return text


def with_port(host: str, transport: str) -> str:
    """`host`, as `NextHop` or `check_socket` has checked it, with the port of its transport."""
    if host.startswith("unix:") or host.rpartition("]")[2].count(":") == 1:
        return host
    return f"{host}:{LMTP_PORT if transport == 'lmtp' else 25}"


class AddressPattern(Kind):
    """A mail address, a domain, or a regular expression."""

    shape = "`example.com`, `.example.com` (subdomains), `user@example.com` or `/pattern/`"

    def __init__(self, *, may_be_null: bool = False) -> None:
        self.may_be_null = may_be_null
        if may_be_null:
            self.shape += ", or `<>`"

    def check(self, value: object) -> str:
        text = plain_text(value)
        if self.may_be_null and text == "<>":
            return text
        if text.startswith("/"):
            return _check_expression(text)
        local_part, at, domain = text.rpartition("@")
        if not at:
            return Domain(may_cover_subdomains=True).check(text)
        if not local_part or " " in local_part or not _is_mail_domain(domain):
            hint = f"; did you mean {domain}?" if not local_part and is_domain(domain) else ""
            raise ValueError(f'"{text}" is not a mail address such as user@example.com{hint}')
        return text.lower()

    def from_text(self, text: str) -> object:
        return self.check(text)


def _is_mail_domain(domain: str) -> bool:
    if domain.startswith("[") and domain.endswith("]"):
        try:
            ipaddress.ip_address(domain[1:-1].removeprefix("IPv6:"))
        except ValueError:
            return False
        return True
    return is_domain(domain)


def _check_expression(text: str) -> str:
    if len(text) < 3 or not text.endswith("/"):
        raise ValueError(f'"{text}" begins as a pattern, and has no "/" at its end')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # "[[" will mean something else one day
            re.compile(text[1:-1].encode())  # of octets, as addresses are matched
    except (re.error, FutureWarning) as error:
        raise ValueError(f'"{text}" is no regular expression: {error}') from None
    return text


class Secret(Kind):
    """A password or token; never quoted in a problem."""

    shape = "text, better in the environment or a file"

    def check(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError("must be text in quotes")
        if any(ord(char) < 32 or ord(char) == 127 for char in value):
            raise ValueError("must not contain control characters")
        return value


class Url(Kind):
    """Where tokens are given out."""

    shape = 'https URL, or `""`'

    def check(self, value: object) -> str:
        text = plain_text(value)
        if text and not _URL.fullmatch(text):
            raise ValueError(f'"{text}" is not a URL such as https://login.example/token')
        return text
