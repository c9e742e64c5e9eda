"""What a worker and the broker of budgets tell each other: one message is one packet.

Both sides state absolute numbers (so many places kept, so many units in stock, so many used so
far), numbered in both directions. A message that is lost, or that comes after a later one, costs
time and nothing else: what the broker granted in messages that the worker has not acknowledged yet
counts as granted.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

COUNT_MAX: Final = 1_000_000  # of places or units under one name
LINES_MAX: Final = 400  # in one message
FRAME_OCTETS_MAX: Final = 65_536
KEY_OCTETS_MAX: Final = 24

_DIGEST_OCTETS: Final = 16
_NUMBER_MAX: Final = 2**63 - 1

_Key: TypeAlias = Annotated[bytes, Meta(min_length=1, max_length=KEY_OCTETS_MAX)]
_Count: TypeAlias = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
_Number: TypeAlias = Annotated[int, Meta(ge=0, le=_NUMBER_MAX)]
_Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=1e12)]
_Interval: TypeAlias = Annotated[float, Meta(gt=0, le=1e12)]


class PlaceAsk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A worker about the places of one name."""

    key: _Key
    limit: _Count  # over all workers, as this one knows it
    keep: _Count  # places that it has, used or not
    want: _Count  # places that it has work for, those included


class RateAsk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A worker about the units of one throttle."""

    key: _Key
    interval_s: _Interval
    burst: _Count
    stock: _Count  # units that it has not used
    want: _Count  # units that it has work for besides
    used: _Number  # so far, ever
    used_at_s: _Seconds  # the last of them; monotonic, one clock for all processes
    arrival_s: _Seconds  # the latest that it was told; monotonic


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """A message of a worker. Any renews all that the worker has leased."""

    life: _Number  # of this worker; a higher one means that the one before is gone
    seq: _Number
    epoch: _Number  # the broker that it knows; 0: none yet
    ack: _Number  # the last message of that broker which it has read
    epochs: _Number  # how many brokers it has known
    is_whole: bool  # with this message the broker knows all that the worker has
    is_gone: bool  # the supervisor says: this life is over, its connections are closed
    places: Annotated[list[PlaceAsk], Meta(max_length=LINES_MAX)]
    rates: Annotated[list[RateAsk], Meta(max_length=LINES_MAX)]


class PlaceGrant(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The broker about the places of one name."""

    key: _Key
    more: _Count  # places, besides those that the worker has
    cap: _Count  # places above this number go back as soon as their work is done
    spare: _Count  # so many with idle connections only are wanted by others


class RateGrant(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The broker about the units of one throttle."""

    key: _Key
    units: _Count  # besides those that the worker has
    arrival_s: _Seconds  # when all of the burst will be there if these are the last units


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """A message of the broker."""

    epoch: _Number  # which broker this is; a later one has a higher number
    life: _Number  # of the worker whom this is for
    seq: _Number
    heard: _Number  # the last message of the worker that was read
    wants_report: bool  # tell all that you have
    places: Annotated[list[PlaceGrant], Meta(max_length=LINES_MAX)]
    rates: Annotated[list[RateGrant], Meta(max_length=LINES_MAX)]


def key_of(name: str) -> bytes:
    """A short key for any name: itself if it is short, else a hash of it."""
    octets = name.encode("utf-8", "surrogateescape")
    if len(octets) < KEY_OCTETS_MAX:
        return b"=" + octets
    return b"#" + blake2b(octets, digest_size=_DIGEST_OCTETS).digest()


def gone(life: int) -> bytes:
    """What the supervisor says for a worker that has ended."""
    return encode(Ask(life, _NUMBER_MAX, 0, 0, 0, True, True, [], []))


encode = msgspec.msgpack.Encoder().encode
_decode_ask = msgspec.msgpack.Decoder(Ask).decode
_decode_grant = msgspec.msgpack.Decoder(Grant).decode


def decode_ask(frame: bytes) -> Ask:
    """The message of a worker. Raises ValueError."""
    if len(frame) > FRAME_OCTETS_MAX:
        raise ValueError(f"a message has at most {FRAME_OCTETS_MAX} octets")
    try:
        return _decode_ask(frame)
    except msgspec.DecodeError as error:
        raise ValueError(f"no message of a worker: {error}") from error


def decode_grant(frame: bytes) -> Grant:
    """The message of a broker. Raises ValueError."""
    if len(frame) > FRAME_OCTETS_MAX:
        raise ValueError(f"a message has at most {FRAME_OCTETS_MAX} octets")
    try:
        return _decode_grant(frame)
    except msgspec.DecodeError as error:
        raise ValueError(f"no message of a broker: {error}") from error
