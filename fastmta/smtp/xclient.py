"""XCLIENT and XFORWARD: what a trusted front end says of the client behind it (Postfix).

XCLIENT says who the client is for every purpose, XFORWARD for the log only. Both are lists of
NAME=value, the value in xtext. What is said becomes part of header fields and log lines, and
decides about rights: so everything is strict, and nothing of a command with a fault is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Any

import msgspec

from . import reply as replies
from .reply import Reply
from .xtext import decode_xtext

VALUE_OCTETS_MAX = 255  # as it is sent, and of a domain, RFC 5321 4.5.3.1.2

_XTEXT = re.compile(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")  # RFC 3461 4
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_HOST_NAME = re.compile(
    r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*"
    r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
)
_NUMERIC = re.compile(r"[0-9.]+")
_IPV4 = re.compile(r"[0-9.]{7,15}")
_IPV6 = re.compile(r"[Ii][Pp][Vv]6:([0-9A-Fa-f:.]{2,45})")
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_PORT_MAX = 65535
_PROTOCOL = re.compile(r"[A-Za-z0-9]{1,32}")
_UNAVAILABLE = "[UNAVAILABLE]"
_UNAVAILABLE_NOW = "[TEMPUNAVAIL]"  # of names: the DNS did not answer


class XClient(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What XCLIENT said. None: nothing; "" (ports: 0): that it is not known."""

    name: str | None = None  # verified; as the reverse name not looked up again
    address: str | None = None  # IPv4 or IPv6 text, v4-mapped addresses already normalised
    port: int | None = None
    protocol: str | None = None  # SMTP or ESMTP
    helo: bytes | None = None
    login: str | None = None  # "": the client is not logged in
    destination_address: str | None = None  # what the client connected to
    destination_port: int | None = None
    reverse_name: str | None = None  # not verified


class XForward(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What XFORWARD said. None: nothing; "" (the port: 0): that it is not known."""

    name: str | None = None
    address: str | None = None
    port: int | None = None
    protocol: str | None = None  # such as ESMTPSA
    helo: bytes | None = None
    ident: str | None = None  # the queue id before the front end
    source: str | None = None  # LOCAL or REMOTE


class FrontProblem(msgspec.Struct, frozen=True, gc=False):
    """Something is wrong with the command: what to answer. Nothing it said counts."""

    reply: Reply


class _BadValueError(ValueError):
    """The attribute cannot have this value."""


_Values = dict[str, Any]  # by field, each of the field's type
_Read = Callable[[str], str | bytes | int]


def parse_xclient(argument: bytes) -> XClient | FrontProblem:
    """The argument of XCLIENT."""
    values = _parse(argument, "XCLIENT", _XCLIENT)
    return values if isinstance(values, FrontProblem) else XClient(**values)


def parse_xforward(argument: bytes) -> XForward | FrontProblem:
    """The argument of XFORWARD."""
    values = _parse(argument, "XFORWARD", _XFORWARD)
    return values if isinstance(values, FrontProblem) else XForward(**values)


def _parse(
    argument: bytes, verb: str, attributes: dict[str, tuple[str, _Read]]
) -> _Values | FrontProblem:
    """Fields of the result and their values, or the first fault."""
    values: _Values = {}
    words = [word for word in argument.replace(b"\t", b" ").split(b" ") if word]
    if not words:
        is_xclient = verb == "XCLIENT"
        reply = replies.R501_XCLIENT_SYNTAX if is_xclient else replies.R501_XFORWARD_SYNTAX
        return FrontProblem(reply)
    for word in words:
        given, _, value = word.partition(b"=")
        if not given or not value:
            return FrontProblem(replies.R501_NEED_ATTRIBUTE)
        if len(value) > VALUE_OCTETS_MAX:
            return FrontProblem(replies.R501_ATTRIBUTE_TOO_LONG)
        name = given.decode("ascii", "replace").upper() if given.isascii() else ""
        if name not in attributes:
            return FrontProblem(replies.r501_unknown_attribute(verb, given))
        field, read = attributes[name]
        try:
            if field in values:
                raise _BadValueError
            values[field] = read(_text(value))
        except _BadValueError:
            return FrontProblem(replies.r501_bad_attribute(name, value))
    return values


def _text(value: bytes) -> str:
    """What the xtext stands for: text without control characters."""
    octets = decode_xtext(value) if _XTEXT.fullmatch(value) else None
    if octets is None:
        raise _BadValueError
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _BadValueError from error
    if _CONTROL.search(text):
        raise _BadValueError
    return text


# _Values of attributes; each raises _BadValueError.


def _any(text: str) -> str:
    return "" if text.upper() == _UNAVAILABLE else text


def _ident(text: str) -> str:
    if not text.isascii():
        raise _BadValueError
    return _any(text)


def _helo(text: str) -> bytes:
    return _ident(text).encode("ascii")


def _name(text: str) -> str:
    if text.upper() in (_UNAVAILABLE, _UNAVAILABLE_NOW):
        return ""
    if not _HOST_NAME.fullmatch(text) or _NUMERIC.fullmatch(text):
        raise _BadValueError
    return text


def _address(text: str) -> str:
    if text.upper() == _UNAVAILABLE:
        return ""
    try:
        if _IPV4.fullmatch(text):
            return str(IPv4Address(text))
        found = _IPV6.fullmatch(text)
        if found is None:
            raise _BadValueError
        address = IPv6Address(found[1])
        return str(address.ipv4_mapped or address)
    except AddressValueError as error:
        raise _BadValueError from error


def _port(text: str) -> int:
    if text.upper() == _UNAVAILABLE:
        return 0
    if not _PORT.fullmatch(text) or int(text) > _PORT_MAX:
        raise _BadValueError
    return int(text)


def _protocol(text: str) -> str:
    """Which of two: the rest of a keyword would say what happened between us and the client."""
    if text.upper() not in ("SMTP", "ESMTP"):
        raise _BadValueError
    return text.upper()


def _any_protocol(text: str) -> str:
    if text.upper() == _UNAVAILABLE:
        return ""
    if not _PROTOCOL.fullmatch(text):
        raise _BadValueError
    return text.upper()


def _source(text: str) -> str:
    if text.upper() == _UNAVAILABLE:
        return ""
    if text.upper() not in ("LOCAL", "REMOTE"):
        raise _BadValueError
    return text.upper()


# Attribute to field and reader, in Postfix's order of the EHLO keywords.
_XCLIENT: dict[str, tuple[str, _Read]] = {
    "NAME": ("name", _name),
    "ADDR": ("address", _address),
    "PROTO": ("protocol", _protocol),
    "HELO": ("helo", _helo),
    "REVERSE_NAME": ("reverse_name", _name),
    "PORT": ("port", _port),
    "LOGIN": ("login", _any),
    "DESTADDR": ("destination_address", _address),
    "DESTPORT": ("destination_port", _port),
}
_XFORWARD: dict[str, tuple[str, _Read]] = {
    "NAME": ("name", _name),
    "ADDR": ("address", _address),
    "PROTO": ("protocol", _any_protocol),
    "HELO": ("helo", _helo),
    "SOURCE": ("source", _source),
    "PORT": ("port", _port),
    "IDENT": ("ident", _ident),
}
XCLIENT_ATTRIBUTES = tuple(_XCLIENT)
XFORWARD_ATTRIBUTES = tuple(_XFORWARD)
