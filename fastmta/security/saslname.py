"""Names in GS2 headers and SCRAM messages (RFC 5801 4, RFC 5802 5.1)."""

import re

from .step import Malformed, decode_name

_SASLNAME = re.compile(rb"(?:[^=,\0]|=2C|=3D)+")
GS2_HEADER = re.compile(rb"(?:([ny])|p=[A-Za-z0-9.-]+),(?:a=([^,\x01]*))?,")


def decode_saslname(octets: bytes) -> str:
    """A name in which `,` and `=` are written `=2C` and `=3D`. Raises Malformed."""
    if _SASLNAME.fullmatch(octets) is None:
        raise Malformed("malformed name")
    return decode_name(octets.replace(b"=2C", b",").replace(b"=3D", b"="))
