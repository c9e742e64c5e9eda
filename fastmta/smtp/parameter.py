"""Values of parameters of MAIL and RCPT: those of delivery reports (RFC 3461 4), AUTH (RFC 4954 5).

Each function gives the value as an envelope stores it, or None when it is malformed: also when what
is encoded in it could break a line or a terminal wherever it is shown later.
"""

import re

from .limit import ENVID_OCTETS_MAX, ORCPT_OCTETS_MAX
from .utf8 import is_text
from .xtext import decode_xtext

_PRINTABLE = re.compile(rb"[\x20-\x7e]+")
_RETURNED = {b"FULL": "FULL", b"HDRS": "HDRS"}
_NOTIFY = frozenset((b"SUCCESS", b"FAILURE", b"DELAY"))
_NOTIFY_WORDS_MAX = 16  # a word may be said again
_TYPED = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*);(.*)", re.DOTALL)
# RFC 6533 3: what must not stand for itself does as \x{20}, and so may what is beyond ASCII.
_UNITEXT = re.compile(
    rb"(?:[\x21-\x2a\x2c-\x3c\x3e-\x5b\x5d-\x7e\x80-\xff]|\\x\{[1-9A-Fa-f][0-9A-Fa-f]{1,5}\})++"
)
_EMBEDDED = re.compile(rb"\\x\{([0-9A-Fa-f]+)\}")
_EMBEDDED_ASCII = frozenset(b" +=\\")
_UNICODE_MAX = 0x10FFFF


def parse_ret(value: bytes) -> str | None:
    """RET (RFC 3461 4.3) in upper case."""
    return _RETURNED.get(value.upper())


def parse_envid(value: bytes) -> bytes | None:
    """ENVID (RFC 3461 4.4) as given."""
    if len(value) > ENVID_OCTETS_MAX or not _is_printable(decode_xtext(value)):
        return None
    return value


def parse_notify(value: bytes) -> str | None:
    """NOTIFY (RFC 3461 4.1) in upper case, each word once: NEVER, or any of the others."""
    words = dict.fromkeys(value.upper().split(b",", _NOTIFY_WORDS_MAX))
    if list(words) != [b"NEVER"] and not _NOTIFY.issuperset(words):
        return None
    return b",".join(words).decode("ascii")


def parse_orcpt(value: bytes, is_utf8: bool = False) -> bytes | None:
    """ORCPT (RFC 3461 4.2) as given: a type of address, ";", and the address; b"" without one.

    An address of type utf-8 has the forms of RFC 6533 3; the one beyond ASCII needs `is_utf8`, that
    SMTPUTF8 was among the parameters of MAIL.
    """
    found = _TYPED.fullmatch(value)
    if found is None or len(value) > ORCPT_OCTETS_MAX:
        return None
    kind, address = found.groups()
    if not address:  # xtext of no octets: the same as none
        return b""
    if kind.upper() == b"UTF-8":
        is_good = (is_utf8 or address.isascii()) and _is_unitext(address)
    else:
        is_good = _is_printable(decode_xtext(address))
    return value if is_good else None


def parse_auth(value: bytes) -> bytes | None:
    """AUTH (RFC 4954 5): who first submitted the message, decoded; b"" when nobody says (<>)."""
    if value == b"<>":
        return b""
    mailbox = decode_xtext(value)
    return mailbox if mailbox and is_text(mailbox) else None


def _is_printable(octets: bytes | None) -> bool:
    return octets is not None and _PRINTABLE.fullmatch(octets) is not None


def _is_unitext(octets: bytes) -> bool:
    if _UNITEXT.fullmatch(octets) is None or not is_text(octets):
        return False
    for digits in _EMBEDDED.findall(octets):
        point = int(digits, 16)
        if point < 128:
            is_good = point in _EMBEDDED_ASCII
        else:
            is_good = point <= _UNICODE_MAX and is_text(chr(point).encode("utf-8", "surrogatepass"))
        if not is_good:
            return False
    return True
