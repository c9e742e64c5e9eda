"""The server name that a client asks for, read from its ClientHello (RFC 8446 4.1.2, RFC 6066 3).

Read here and not in a callback of the ssl module: that one ends the handshake and writes to stderr
when the name is not ASCII. OpenSSL judges the same octets afterwards, so nothing depends on this
reading but which certificate is shown.
"""

import re
from collections.abc import Sequence

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_RECORD_OCTETS_MAX = 16384  # RFC 8446 5.1
_HELLO_OCTETS_MAX = 16384
_RECORDS_MAX = 8  # a client needs one; without a bound each dribbled octet would cost more
_FIXED_OCTETS = 34  # legacy_version and random
_NAME_OCTETS_MAX = 254  # RFC 1035 2.3.4, and the root's dot that some clients send
_NAME = re.compile(rb"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?", re.IGNORECASE)

Octets = bytes | bytearray


def scan_server_name(octets: Octets) -> str | None:
    """The name in lower case, "" when there is none to go by; None: not all is there yet.

    "" is also the answer to everything that is no ClientHello. None means that `octets` is shorter
    than 17 kB: whoever collects them need not count.
    """
    end = len(octets)
    message = bytearray()
    begin = 0
    for _ in range(_RECORDS_MAX):
        if end > begin and octets[begin] != _HANDSHAKE:
            return ""
        if end < begin + 5:
            return None
        size = _number(octets, begin + 3)
        if not 0 < size <= _RECORD_OCTETS_MAX:
            return ""
        head = bytes(message[:4]) or octets[begin + 5 : begin + 9]
        if head and (head[0] != _CLIENT_HELLO or _size_of(head) > _HELLO_OCTETS_MAX):
            return ""
        if end < begin + 5 + size:
            return None
        message += octets[begin + 5 : begin + 5 + size]
        begin += 5 + size
        if len(message) >= 4 and len(message) >= 4 + _size_of(message):
            return _find_name(bytes(message[4 : 4 + _size_of(message)]))
    return ""


def _number(octets: Sequence[int], position: int) -> int:
    return octets[position] << 8 | octets[position + 1]


def _size_of(head: Octets) -> int:
    """What a handshake message says of its size; 0 while that is not known."""
    return int.from_bytes(head[1:4], "big") if len(head) >= 4 else 0


def _find_name(hello: bytes) -> str:
    """The name in the body of a ClientHello."""
    try:
        position = _FIXED_OCTETS
        position += 1 + hello[position]  # legacy_session_id
        position += 2 + _number(hello, position)  # cipher_suites
        position += 1 + hello[position]  # legacy_compression_methods
        end = min(len(hello), position + 2 + _number(hello, position))
        position += 2
        while position + 4 <= end:
            size = _number(hello, position + 2)
            if _number(hello, position) == _SERVER_NAME:
                return _name_of(hello[position + 4 : min(end, position + 4 + size)])
            position += 4 + size
    except IndexError:  # it ends early
        return ""
    return ""


def _name_of(extension: bytes) -> str:
    """The first name of a server_name extension, which has to be a host_name (type 0)."""
    if extension[2] != 0:
        return ""
    size = _number(extension, 3)
    name = extension[5 : 5 + size]
    if len(name) < size or size > _NAME_OCTETS_MAX or not _NAME.fullmatch(name):
        return ""
    return name.decode("ascii").lower().removesuffix(".")
