"""Kinds of values that name places: domains, mailboxes, networks, endpoints, relays."""

import ipaddress
import os
import re
from typing import NamedTuple

from .kind import Kind, plain_text

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
UNIX = "unix:"
_PATH_OCTETS_MAX = 107  # of a unix socket's address on Linux, without the final NUL
TRUSTED = "trusted"  # stands for the networks of relay.trusted_networks
SMTP_PORT = 25  # RFC 5321 2.3.5
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}")


class Endpoint(NamedTuple):
    """An IP address and a port; or the path of a unix socket, and 0."""

    address: str
    port: int

    @property
    def is_local(self) -> bool:
        """Whether it is a path."""
        return self.address.startswith("/")

    def __str__(self) -> str:
        if self.is_local:
            return f"{UNIX}{self.address}"
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


class Domain(Kind):
    """A domain name; `may_be_empty` when leaving it out has a meaning."""

    shape = "domain name"

    def __init__(self, *, may_be_empty: bool = False, may_cover_subdomains: bool = False) -> None:
        self.may_be_empty = may_be_empty
        self.may_cover_subdomains = may_cover_subdomains
        if may_cover_subdomains:
            self.shape = "domain name, or `.name` for its subdomains"

    def check(self, value: object) -> str:
        name = plain_text(value).lower()
        if not name and self.may_be_empty:
            return name
        bare = name[1:] if self.may_cover_subdomains and name.startswith(".") else name
        if not is_domain(bare):
            hint = _suggest_suffix(name) if self.may_cover_subdomains else ""
            raise ValueError(f'"{value}" is not a domain name{hint}')
        return name


def _suggest_suffix(name: str) -> str:
    """A hint for who writes `*.example.com`."""
    return f"; did you mean {name[1:]}?" if name.startswith("*.") else ""


def is_domain(name: str) -> bool:
    """Whether `name` is a domain name of RFC 1035 2.3.4 sizes, ASCII, without final dot."""
    return len(name) <= 253 and _DOMAIN.fullmatch(name) is not None


class Mailbox(Kind):
    """A mail address."""

    shape = "mail address"

    def check(self, value: object) -> str:
        text = plain_text(value)
        local_part, at, domain = text.rpartition("@")
        if text and not (at and _LOCAL_PART.fullmatch(local_part) and is_domain(domain)):
            raise ValueError(f'"{text}" is not a mail address such as postmaster@example.com')
        return f"{local_part}{at}{domain.lower()}"


class TrustedNetwork(Kind):
    """An IP network or address."""

    shape = "network such as `10.0.0.0/8`"

    def check(self, value: object) -> Network:
        text = plain_text(value)
        try:
            return ipaddress.ip_network(text)
        except ValueError:
            pass
        try:
            wider = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f'"{text}" is not a network such as 10.0.0.0/8') from None
        raise ValueError(f'"{text}" has bits set behind the mask; did you mean {wider}?')


class ExemptNetwork(TrustedNetwork):
    """An IP network or address, or the word for those that are trusted."""

    shape = 'network such as `10.0.0.0/8`, or `"trusted"`'

    def check(self, value: object) -> Network | str:  # type: ignore[override]  # one value more
        return TRUSTED if value == TRUSTED else super().check(value)


class IPAddress(Kind):
    """An IP address."""

    shape = "IP address"

    def check(self, value: object) -> str:
        return _address(plain_text(value).strip("[]"), plain_text(value))


def _address(text: str, whole: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f'"{whole}" is not an IP address') from None


def _port(text: str, least: int) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not least <= int(text) <= 65535:
        raise ValueError(f'port "{text}" must be {least} to 65535')
    return int(text)


class Socket(Kind):
    """IP address and port. `port` is taken where none is written; None: it must be written."""

    shape = "`address:port`, IPv6 as `[::1]:25`"

    def __init__(self, *, port: int | None = None, port_least: int = 0) -> None:
        self.port = port
        self.port_least = port_least

    def check(self, value: object) -> Endpoint:
        text = plain_text(value)
        if text.startswith(("*:", ":")) and not text.startswith("::"):
            digits = text.rpartition(":")[2]
            raise ValueError(f'"{text}" names no address; did you mean 0.0.0.0:{digits}?')
        host, port = _split_port(text)
        if port is None and self.port is None:
            raise ValueError(f'"{text}" lacks a port; write it as {text or "127.0.0.1"}:25')
        address = _address(host, text)
        number = self.port if port is None else _port(port, self.port_least)
        assert number is not None
        return Endpoint(address, number)


class BindPlace(Socket):
    """Where a listener listens: IP address and port, or a unix socket."""

    shape = "`address:port`, IPv6 as `[::1]:25`, or `unix:/path`"

    def check(self, value: object) -> Endpoint:
        text = plain_text(value)
        if not text.startswith(UNIX):
            return super().check(text)
        path = text.removeprefix(UNIX)
        if not path.startswith("/") or path.endswith("/"):
            raise ValueError(f'"{path}" is not the absolute path of a socket')
        path = "/" + os.path.normpath(path).lstrip("/")
        if len(os.fsencode(path)) > _PATH_OCTETS_MAX:
            raise ValueError(
                f'"{path}" is too long: a socket\'s path has {_PATH_OCTETS_MAX} octets'
            )
        return Endpoint(path, 0)


def _split_port(text: str) -> tuple[str, str | None]:
    """Host and port of `host`, `host:port`, `[host]`, `[host]:port` or a bare IPv6 address."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f'"{text}" has a bracket that does not match')
        return host, rest[1:] if rest else None
    if text.count(":") > 1:
        return text, None
    host, colon, port = text.partition(":")
    return host, port if colon else None


class NextHop(Kind):
    """A relay: `name` is looked up in MX records, `[name]` or an address is taken as it stands."""

    shape = "`[host]:port` or `domain:port` (MX look-up)"

    def check(self, value: object) -> str:
        text = plain_text(value)
        if "@" in text:  # perhaps a password: not quoted
            raise ValueError("must be a host alone: a login goes into username and password")
        host, port = _split_port(text)
        suffix = "" if port is None else f":{_port(port, 1)}"
        bare = host[5:] if host.lower().startswith("ipv6:") else host
        try:
            address = str(ipaddress.ip_address(bare))
        except ValueError:
            address = ""
        if "%" in address:
            raise ValueError(f'"{text}" has a zone, which cannot be relayed to')
        if address:
            return f"[{address}]{suffix}"
        # RFC 1123 2.1: what ends with a number is an address, or nothing.
        if not is_domain(host) or host.rpartition(".")[2].isdecimal():
            raise ValueError(f'"{text}" is not a host such as [mail.example]:587')
        return f"[{host.lower()}]{suffix}" if text.startswith("[") else f"{host.lower()}{suffix}"


def split_next_hop(text: str) -> tuple[str, int]:
    """Host and port of what `NextHop` has checked."""
    host, port = _split_port(text)
    return host, SMTP_PORT if port is None else int(port)
