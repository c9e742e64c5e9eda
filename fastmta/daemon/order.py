"""Packets between the supervisor and a worker about configurations: a kind, a body, descriptors.

To the worker   SOCKETS   more listening sockets, for the next PREPARE
                PREPARE   a generation: who listens where, and the configuration; answered
                COMMIT    use it; answered
                ABORT     forget it
                TELL      a line for the log
To the supervisor         JSON: the generation, what was done, and what is wrong

Both ends are ours, so what is in packets is trusted: a configuration is pickled.
"""

from __future__ import annotations

import array
import os
import pickle
import socket
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from fastmta.config import Config

SOCKETS, PREPARE, COMMIT, ABORT, TELL = b"S", b"P", b"C", b"X", b"T"
_OCTETS_MAX = 128 * 1024
_FDS_MAX = 100  # of a packet; the kernel takes 253


class Place(NamedTuple):
    """One address that is listened on, as workers hear of it."""

    name: str  # of the [listen.<name>] section
    address: str
    path: str
    key: str  # the same in two generations: the same sockets
    fds: int  # how many of the new sockets are its; 0: those it had


class Plan(NamedTuple):
    """The body of a PREPARE."""

    generation: int
    places: tuple[Place, ...]


class Answer(msgspec.Struct, frozen=True):
    """What a worker says to a PREPARE or COMMIT."""

    generation: int
    is_done: bool = False  # of a COMMIT
    problem: str = ""


def channel() -> tuple[socket.socket, socket.socket]:
    """A pair of ends that keep packets apart; neither blocks."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


def pack_config(config: Config) -> int:
    """A descriptor from which `unpack_config` reads the same in another process."""
    fd = os.memfd_create("fastmta-config", os.MFD_CLOEXEC)
    view = memoryview(pickle.dumps(config))
    while view:
        view = view[os.write(fd, view) :]
    return fd


def unpack_config(fd: int) -> Config:
    """What `pack_config` was given."""
    config = pickle.loads(os.pread(fd, os.fstat(fd).st_size, 0))
    assert isinstance(config, Config)
    return config


def send_plan(end: socket.socket, plan: Plan, config_fd: int, sockets: Sequence[int]) -> bool:
    """Send a PREPARE; False: it does not fit, or nobody reads any more."""
    for start in range(0, len(sockets), _FDS_MAX):
        if not send(end, SOCKETS, b"", sockets[start : start + _FDS_MAX]):
            return False
    return send(end, PREPARE, pickle.dumps(plan), [config_fd])


def send(end: socket.socket, kind: bytes, body: bytes, fds: Sequence[int] = ()) -> bool:
    """Send one packet; False: there is no room for it, or nobody reads any more."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        end.sendmsg([kind + body], rights)
    except OSError:
        return False
    return True


def receive(end: socket.socket) -> tuple[bytes, bytes, list[int]] | None:
    """(kind, body, descriptors) of the next packet; None: there is none. Raises EOFError."""
    try:
        room = socket.CMSG_LEN(_FDS_MAX * array.array("i").itemsize)
        data, extra, _, _ = end.recvmsg(_OCTETS_MAX, room, socket.MSG_CMSG_CLOEXEC)
    except BlockingIOError:
        return None
    except OSError as error:
        raise EOFError from error
    if not data:
        raise EOFError
    fds = array.array("i")
    for level, kind, octets in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(octets[: len(octets) - len(octets) % fds.itemsize])
    return data[:1], data[1:], list(fds)


def number(generation: int) -> bytes:
    """The body of a COMMIT or ABORT."""
    return generation.to_bytes(8, "big")
