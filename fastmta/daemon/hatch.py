"""The supervisor's own control socket: few questions, of those who may ask, never waited for.

The supervisor has neither a loop nor threads, and sleeps until a signal comes. So what happens at
these descriptors is a signal, too: SIGIO, upon which `look` looks at all of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from fastmta.control.access import Access, Right, make_directory, peer_of, refuse_peer
from fastmta.control.place import short_path, supervisor_path

from .unixsocket import set_mode

CLIENTS_MAX = 16
OTHERS_MAX = 8  # of them that are neither root nor our own user
LINE_OCTETS_MAX = 64 * 1024
_F_SETOWN_EX, _F_OWNER_TID = 15, 0  # of fcntl.h; Python does not name them


def tell_by_signal(descriptor: int) -> None:
    """From now on something to read at `descriptor` is a SIGIO for this thread, which waits for it
    (of a whole process, any thread that does not block it could have it)."""
    owner = struct.pack("ii", _F_OWNER_TID, threading.get_native_id())
    fcntl.fcntl(descriptor, _F_SETOWN_EX, owner)
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)


class Caller:
    """One client."""

    def __init__(self, connection: socket.socket, right: Right, is_ours: bool) -> None:
        self.connection = connection
        self.right = right
        self.is_ours = is_ours
        self.buffer = b""
        self.is_gone = False

    def tell(self, value: dict[str, Any]) -> None:
        """One line; who does not read what it asked for is let go."""
        if self.is_gone:
            return
        line = json.dumps(value).encode() + b"\n"
        try:
            is_taken = self.connection.send(line) == len(line)
        except OSError:
            is_taken = False
        if not is_taken:
            self.hang_up()

    def hang_up(self) -> None:
        """End the connection."""
        self.is_gone = True
        self.connection.close()


class Hatch:
    """Listens, and passes requests on: JSON objects, one a line, each with an `id` and a `verb`."""

    def __init__(
        self,
        hello: dict[str, Any],
        take: Callable[[Caller, dict[str, Any]], None],
        access: Access,
    ) -> None:
        self._access = access
        self._hello = hello
        self._take = take
        self._socket: socket.socket | None = None
        self._path = ""
        self._callers: list[Caller] = []

    def open(self, directory: str, *, is_shared: bool = False) -> None:
        """Listen; `is_shared`: others can come to the directory, if it is made. Raises OSError."""
        make_directory(directory, is_shared=is_shared)
        path = supervisor_path(directory)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(~self._access.mode & 0o777)
        try:
            with short_path(path) as short:
                listening.bind(short)
            listening.listen(CLIENTS_MAX)
        except OSError:
            listening.close()
            raise
        finally:
            os.umask(mask)
        tell_by_signal(listening.fileno())
        self._socket, self._path = listening, path

    def renew(self, access: Access) -> None:
        """From now on these may ask; who is connected keeps the right that was."""
        self._access = access
        if self._socket is not None:
            with contextlib.suppress(OSError):  # somebody took the path away
                set_mode(self._path, access.mode)

    def forked(self) -> None:
        """In a new process: none of this is its."""
        for caller in self._callers:
            caller.connection.close()
        if self._socket is not None:
            self._socket.close()

    def close(self) -> None:
        """Take no more requests; who waits for an answer sees the end."""
        self.forked()
        if self._socket is not None:
            self._socket = None
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def look(self) -> None:
        """Take what there is."""
        while self._socket is not None:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                break
            self._greet(connection)
        for caller in self._callers:
            self._read(caller)
        self._callers = [caller for caller in self._callers if not caller.is_gone]

    def _greet(self, connection: socket.socket) -> None:
        try:
            peer = peer_of(connection)
        except OSError:
            connection.close()
            return
        right = self._access.right(peer)
        if right is Right.NOTHING:
            connection.setblocking(False)
            refuse_peer(connection, peer.user)
            return
        others = 0 if peer.is_ours else sum(not one.is_ours for one in self._callers)
        if len(self._callers) >= CLIENTS_MAX or others >= OTHERS_MAX:
            connection.close()
            return
        tell_by_signal(connection.fileno())
        caller = Caller(connection, right, peer.is_ours)
        self._callers.append(caller)
        caller.tell(self._hello)

    def _read(self, caller: Caller) -> None:
        while not caller.is_gone:
            try:
                data = caller.connection.recv(LINE_OCTETS_MAX)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                caller.hang_up()
                return
            *lines, caller.buffer = (caller.buffer + data).split(b"\n")
            for line in lines:
                self._pass_on(caller, line)
            if len(caller.buffer) > LINE_OCTETS_MAX:
                caller.hang_up()

    def _pass_on(self, caller: Caller, line: bytes) -> None:
        request: Any = None  # Any: what JSON knows
        with contextlib.suppress(ValueError, RecursionError):  # the latter of "[[[[..."
            request = json.loads(line)
        if isinstance(request, dict):
            self._take(caller, request)
        else:
            caller.tell({"id": 0, "error": {"code": "usage", "text": "not a request"}})
            caller.hang_up()
