"""Who may ask what: root and our own user everything, others what the configuration lets them.

The kernel says who is at the other end of a socket. Whoever is nobody is told so, and let go.
"""

from __future__ import annotations

import contextlib
import enum
import grp
import json
import os
import pwd
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

GROUP = "@"  # in front of the name of a group
_PEER = struct.Struct("3i")  # process, user, group
_SO_PEERGROUPS = 59  # <asm-generic/socket.h>; Python does not name it
_GROUPS_OCTETS = 1024  # as much as Python hands over: 256 groups


class Right(enum.IntEnum):
    """What somebody may do; each includes the one before."""

    NOTHING = 0
    LOOK = 1  # at addresses, states and logs, not at the content of mail
    ORDER = 2


RIGHTS: Mapping[str, Right] = {
    # Of a worker; `wire.Verb` has them.
    "list": Right.LOOK,
    "census": Right.LOOK,
    "find": Right.LOOK,
    "search": Right.LOOK,
    "count": Right.LOOK,
    "next-due": Right.LOOK,
    "summary": Right.LOOK,
    "explain": Right.LOOK,
    "sites": Right.LOOK,
    "concern": Right.LOOK,
    "status": Right.LOOK,  # of the supervisor, too
    "tail": Right.LOOK,
    "counters": Right.LOOK,
    "cancel": Right.LOOK,  # of what one has asked oneself
    "content": Right.ORDER,
    "hold": Right.ORDER,
    "release": Right.ORDER,
    "delete": Right.ORDER,
    "requeue": Right.ORDER,
    "expire": Right.ORDER,
    "flush": Right.ORDER,
    "reshape": Right.ORDER,
    # Of the supervisor.
    "reload": Right.ORDER,
    "drain": Right.ORDER,
    "undrain": Right.ORDER,
    "stop": Right.ORDER,
}


class Peer(NamedTuple):
    """Whoever is at the other end."""

    user: int
    groups: frozenset[int]

    @property
    def is_ours(self) -> bool:
        """Whether it is root or our own user."""
        return self.user in (0, os.geteuid())


class Access:
    """Who has which right."""

    def __init__(self, users: Iterable[str] = (), readers: Iterable[str] = ()) -> None:
        """Names or numbers of users who may do everything and who may look; `@name`: of a group."""
        self.unknown: list[str] = []  # names that nobody has: they are passed over
        self._orders = self._known(users)
        self._looks = self._known(readers)

    @property
    def is_shared(self) -> bool:
        """Whether others than root and our own user may do anything."""
        return any((*self._orders, *self._looks))

    @property
    def mode(self) -> int:
        """Of a socket: others can connect only if there are any who may."""
        return 0o666 if self.is_shared else 0o600

    def right(self, peer: Peer) -> Right:
        """What this one may do."""
        if peer.is_ours:
            return Right.ORDER
        for right, (users, groups) in (
            (Right.ORDER, self._orders),
            (Right.LOOK, self._looks),
        ):
            if peer.user in users or not groups.isdisjoint(peer.groups):
                return right
        return Right.NOTHING

    def _known(self, names: Iterable[str]) -> tuple[frozenset[int], frozenset[int]]:
        users, groups = set(), set()
        for text in names:
            name = text.removeprefix(GROUP)
            try:
                if name != text:
                    groups.add(int(name) if _is_number(name) else grp.getgrnam(name).gr_gid)
                else:
                    users.add(int(name) if _is_number(name) else pwd.getpwnam(name).pw_uid)
            except KeyError:
                self.unknown.append(text)
        return frozenset(users), frozenset(groups)


def peer_of(connection: socket.socket) -> Peer:
    """Who connected, as the kernel knows it, with all groups. Raises OSError."""
    octets = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, user, group = _PEER.unpack(octets)
    return Peer(user, frozenset((group, *_groups_of(connection, user, group))))


def refuse_peer(connection: socket.socket, user: int) -> None:
    """Tell somebody who has no right that it is so, and let go."""
    text = f"uid {user} is neither in control.users nor in control.readers"
    line = json.dumps({"id": 0, "error": {"code": "denied", "text": text}})
    with contextlib.suppress(OSError):
        connection.send(line.encode() + b"\n")
    connection.close()


def make_directory(path: str, *, is_shared: bool) -> None:
    """Where sockets are, if it is missing; others can come to it if it is to be shared.

    Raises OSError.
    """
    if not os.path.isdir(path):
        os.makedirs(path, mode=0o700, exist_ok=True)
        if is_shared:
            os.chmod(path, 0o755)


def lacking(verb: str, right: Right) -> str:
    """Why somebody with `right` is refused a verb; "": it is not. Unknown verbs are for others."""
    if RIGHTS.get(verb, Right.NOTHING) <= right:
        return ""
    return f"{verb}: control.readers may only look; this is for control.users"


def _groups_of(connection: socket.socket, user: int, group: int) -> Iterable[int]:
    try:
        octets = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_OCTETS)
        return struct.unpack(f"{len(octets) // 4}I", octets)
    except OSError:  # an old kernel, or more groups than there is room for
        try:
            return os.getgrouplist(pwd.getpwuid(user).pw_name, group)
        except KeyError:
            return ()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
