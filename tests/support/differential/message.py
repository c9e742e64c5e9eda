"""What became of a message, and how two servers' forms of it are made comparable."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

import idna

_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Stored:
    """Envelope and content as a server keeps or delivers them; the paths are `mailbox`es."""

    reverse_path: bytes
    forward_paths: tuple[bytes, ...]
    content: bytes

    @property
    def envelope(self) -> tuple[bytes, tuple[bytes, ...]]:
        """In one form; a mailbox that is named twice is one."""
        return self.reverse_path, tuple(dict.fromkeys(self.forward_paths))


def unquoted(path: bytes) -> bytes:
    """A path of the wire without quoting: `"a b"@c` and `a b@c` are the same mailbox."""
    local_part, at, domain = path.rpartition(b"@")
    if local_part.startswith(b'"'):
        local_part = _ESCAPED.sub(rb"\1", local_part[1:-1])
    return local_part + at + domain


def mailbox(path: bytes) -> bytes:
    """An unquoted path in one form: of its domain, and of "postmaster"."""
    if not path:
        return b""
    local_part, _, domain = path.rpartition(b"@")
    if local_part.lower() == b"postmaster":  # RFC 5321 4.5.1
        local_part = b"postmaster"
    return local_part + b"@" + _one_form(domain.lower())


def _one_form(domain: bytes) -> bytes:
    if domain.startswith(b"[ipv6:"):
        return str(ipaddress.IPv6Address(domain[6:-1].decode())).encode()
    return domain if domain.isascii() else idna.encode(domain.decode())


def without_trace(content: bytes) -> tuple[bytes, bytes]:
    """(our queue id, the rest) of a content that begins with one Received field."""
    assert content.startswith(b"Received: "), content[:100]
    end = content.index(b"\r\n") + 2
    while content[end : end + 1] in (b" ", b"\t"):
        end = content.index(b"\r\n", end) + 2
    found = re.search(rb"\bid (\w+)", content[:end])
    return found[1] if found else b"", content[end:]
