"""From a record of the log to a `Message`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from fastmta.message import ContentFile, Envelope, Message

from .codec import decode_envelope

KIND_BATCH = 1
KIND_MESSAGE = 2
KIND_STATE = 3
KIND_REFERENCE = 4
KIND_FOLD = 5
KIND_TOMB = 6

BigPath: TypeAlias = Callable[[int, bytes], str]
# id, arrived_at_ns, envelope octets, content (or the octets, checksum and boot of its file)
Record: TypeAlias = tuple[bytes, int, bytes, bytes | tuple[int, int, int]]


def message_of(record: Record, position: int, big_path: BigPath) -> Message:
    """The message of a MSG or REF record, every recipient queued."""
    id, arrived_at_ns, envelope, content = record
    message = _bare(id, decode_envelope(envelope), arrived_at_ns, position)
    if isinstance(content, bytes):
        message.content = content
        message.size_octets = len(content)
    else:
        size_octets, checksum, boot = content
        message.file = ContentFile(big_path(boot, id), size_octets, checksum, boot)
        message.size_octets = size_octets
    return message


def _bare(id: bytes, envelope: Envelope, arrived_at_ns: int, position: int) -> Message:
    message = Message(id, envelope, b"", arrived_at_ns)
    message.content = None
    message.position = position
    return message
