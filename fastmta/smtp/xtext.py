"""The encoding of parameter values that may hold any octets (RFC 3461 4): xtext.

Used by ENVID and ORCPT, by AUTH of MAIL (RFC 4954 5), and by XCLIENT and XFORWARD.
"""

import re

_XTEXT = re.compile(rb"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})*+")
_HEXCHAR = re.compile(rb"\+([0-9A-F]{2})")
_NOT_XCHAR = re.compile(rb"[^\x21-\x2a\x2c-\x3c\x3e-\x7e]")


def encode_xtext(octets: bytes) -> bytes:
    """Any octets as xtext, the shortest form."""
    return _NOT_XCHAR.sub(lambda found: b"+%02X" % found.group()[0], octets)


def decode_xtext(octets: bytes) -> bytes | None:
    """The octets that this stands for, which may be any; None when it is not xtext."""
    if _XTEXT.fullmatch(octets) is None:
        return None
    return _HEXCHAR.sub(lambda found: bytes.fromhex(found.group(1).decode("ascii")), octets)
