"""UTF-8 in the parameters of delivery reports (RFC 6533 3): unitext. Nothing here raises."""

import re
from typing import Final

_NO_QCHAR: Final = re.compile(r"[^!-*,-<>-\[\]-~]")
_NON_ASCII: Final = re.compile(r"[^\x00-\x7f]")


def encode_unitext(octets: bytes) -> bytes:
    r"""UTF-8 `octets` as utf-8-addr-xtext, in ASCII: `\x{FC}` for what may not stand for itself."""
    return _embed(_NO_QCHAR, octets)


def embed_unicode(octets: bytes) -> bytes:
    r"""`octets` with `\x{FC}` for each character outside ASCII, all else as it is."""
    return octets if octets.isascii() else _embed(_NON_ASCII, octets)


def _embed(pattern: re.Pattern[str], octets: bytes) -> bytes:
    text = octets.decode("utf-8", "replace")
    return pattern.sub(lambda found: f"\\x{{{ord(found[0]):02X}}}", text).encode("ascii")
