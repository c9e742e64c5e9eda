"""Next hops to which nothing went when the last process ended: a file, so that lists show mail as
they did before, with and without a server.

It is a note for people, not state: nothing is delivered or kept back by it, and a file that is
missing or cannot be understood says nothing. After a crash there is none.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from itertools import islice

import msgspec

from fastmta.message.situation import Trouble

from .layout import Layout, write_file

NAMES_MAX = 50_000
_OCTETS_MAX = 64 << 20

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes, str, str]]).decode


def write_suspended(layout: Layout, suspended: Mapping[bytes, Trouble]) -> None:
    """Put the file in place. Raises OSError."""
    rows = [
        (next_hop, trouble.text.encode("utf-8", "replace").decode(), trouble.status)
        for next_hop, trouble in islice(suspended.items(), NAMES_MAX)
    ]
    write_file(layout.suspended, _encode(rows))


def read_suspended(layout: Layout, *, is_last: bool) -> dict[bytes, Trouble]:
    """What it says; `is_last`: it will not be true for long, take it away."""
    octets = b""
    with contextlib.suppress(OSError), open(layout.suspended, "rb") as file:
        octets = file.read(_OCTETS_MAX)
    if is_last:
        with contextlib.suppress(OSError):
            os.unlink(layout.suspended)
    try:
        rows = _decode(octets) if octets else []
    except msgspec.MsgspecError:
        return {}
    return {next_hop: Trouble(text, status) for next_hop, text, status in rows}
