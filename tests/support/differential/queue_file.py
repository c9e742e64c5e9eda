"""Postfix's queue file: the envelope and the content of one message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .message import Stored, mailbox, without_trace


def _records(octets: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, payload): a letter, a length in groups of seven bits, low ones first, the payload."""
    at = 0
    while at < len(octets):
        kind = octets[at : at + 1]
        at += 1
        length = shift = 0
        while True:
            group = octets[at]
            at += 1
            length |= (group & 0x7F) << shift
            shift += 7
            if group < 0x80:
                break
        yield kind, octets[at : at + length]
        at += length


def read_queue_file(path: Path) -> Stored:
    """Paths are without quoting there.

    Content lines are records without their line end; a long line is cut into several.
    """
    reverse_path = b""
    forward_paths: list[bytes] = []
    content: list[bytes] = []
    for kind, payload in _records(path.read_bytes()):
        if kind == b"S":
            reverse_path = mailbox(payload)
        elif kind == b"R":
            forward_paths.append(mailbox(payload))
        elif kind == b"N":
            content += (payload, b"\r\n")
        elif kind == b"L":
            content.append(payload)
    _, rest = without_trace(b"".join(content))
    return Stored(reverse_path, tuple(forward_paths), rest)
