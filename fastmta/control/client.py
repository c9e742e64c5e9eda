"""The other end of the socket, for commands: blocking, with time limits. Imports little."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .place import PROTOCOL, short_path

if TYPE_CHECKING:
    from .wire import Request

CONNECT_S = 5.0
WHO = "be root, the server's user, or one of control.users"
ANSWER_OCTETS_MAX = 64 * 1024 * 1024


class ClientError(Exception):
    """The worker does not answer, or not in our language."""


class Denied(ClientError, PermissionError):
    """It is not for us: the socket is closed to us, or whoever serves it says so."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.EACCES, text)

    def __str__(self) -> str:
        return str(self.strerror)


class Client:
    """One connection to one worker."""

    def __init__(self, path: str, connect_s: float = CONNECT_S) -> None:
        """Connect. Raises ConnectionError or FileNotFoundError when nobody listens, ClientError.

        Denied is one of the latter.
        """
        self.path = path
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(connect_s)
            with short_path(path) as short:
                self._socket.connect(short)
            self.hello = self.read(connect_s)
            if "error" in self.hello:
                raise Denied(str(self.hello["error"]["text"]))
        except BaseException as error:
            self._socket.close()
            if isinstance(error, PermissionError) and not isinstance(error, Denied):
                raise Denied(f"{path}: {error.strerror}: {WHO}") from None
            if isinstance(error, BlockingIOError | TimeoutError):
                raise ClientError(f"{path} takes no connection: too many wait there") from None
            raise
        if self.hello.get("protocol") != PROTOCOL:
            self._socket.close()
            spoken = self.hello.get("protocol")
            raise ClientError(f"{path} speaks protocol {spoken}, and this command {PROTOCOL}")

    @property
    def shards(self) -> list[int]:
        """Which shards the worker has."""
        return list(self.hello["shards"])

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def send(self, request: Request | Mapping[str, object]) -> None:
        """Ask: a `Request`, or the same as a mapping, which spares a command importing it.

        Raises ClientError.
        """
        if isinstance(request, Mapping):
            line = json.dumps(request).encode()
        else:
            from .wire import encode_request

            line = encode_request(request)
        try:
            self._socket.sendall(line + b"\n")
        except OSError:
            raise ClientError(f"{self.path}: the worker closed the connection") from None

    def read(self, timeout_s: float) -> dict[str, Any]:
        """The next line. Raises ClientError when there is none in time."""
        while (end := self._buffer.find(b"\n")) < 0:
            self._socket.settimeout(timeout_s)
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                raise ClientError(f"no answer within {timeout_s:g} s at {self.path}") from None
            if not data:
                raise ClientError(f"{self.path}: the worker closed the connection")
            self._buffer += data
            if len(self._buffer) > ANSWER_OCTETS_MAX:
                raise ClientError("the answer is too long")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                return value
        raise ClientError("the worker answered something that is not an object")

    @property
    def has_line(self) -> bool:
        """Whether `read` would return at once."""
        return b"\n" in self._buffer

    def close(self) -> None:
        """End the connection."""
        self._socket.close()
