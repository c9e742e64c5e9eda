"""A receiver that counts: how often each key came, and whether its content is what was sent.

Keys that begin with `bad` are refused with 550, those with `late` with 451 the first time. Reports
of failures (null reverse-path) are read for the keys that they name. It counts when the content has
come, before it answers: a peer that dies without reading the 250 has delivered.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import threading
from collections import Counter
from types import TracebackType
from typing import BinaryIO

from .loading import BAD, DIGEST_FIELD, LATE

_PATH = re.compile(rb"<([^>]*)>")
_DIGEST = re.compile(rb"^%b: (\w+)\r\n" % DIGEST_FIELD, re.MULTILINE)
_REPORTED = re.compile(rb"^Final-Recipient: *rfc822; *(\w+)@", re.MULTILINE | re.IGNORECASE)
_ID = re.compile(rb"\bid (\w+)")  # in the topmost Received field
_GREETING = b"220 sink.example ESMTP\r\n"
_EXTENSIONS = b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 50000000\r\n"


class Sink:
    """Listens from construction on; `close()` ends every connection."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()  # deliveries by key
        self.reported: Counter[str] = Counter()  # failures by key
        self.ids: dict[str, set[str]] = {}  # queue ids of the sender, by key
        self.damaged: list[bytes] = []  # Subject lines of contents that were changed
        self._late: set[str] = set()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._is_closing = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every connection."""
        self._is_closing = True
        with self._lock:
            sockets = [self._listener, *self._sockets]
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def is_done(self, key: str) -> bool:
        """Whether this key has been delivered, or its failure reported."""
        return key in (self.reported if key.startswith(BAD) else self.counts)

    @property
    def total(self) -> int:
        """Everything that came."""
        with self._lock:
            return self.counts.total() + self.reported.total()

    def _accept(self) -> None:
        while not self._is_closing:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
            connection.sendall(_GREETING)
            self._session(connection, lines)
        with self._lock:
            self._sockets.discard(connection)

    def _session(self, connection: socket.socket, lines: BinaryIO) -> None:
        reverse_path, keys = b"", list[str]()
        while line := lines.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                connection.sendall(_EXTENSIONS)
                continue
            if verb == b"QUIT":
                connection.sendall(b"221 2.0.0 bye\r\n")
                return
            if verb == b"MAIL":
                reverse_path, keys = _path_in(line), []
            if verb == b"RCPT":
                connection.sendall(self._recipient(_path_in(line), keys))
                continue
            if verb == b"DATA" and not keys:
                connection.sendall(b"554 5.5.1 no recipients\r\n")
                continue
            if verb == b"DATA":
                connection.sendall(b"354 go on\r\n")
                self._note(reverse_path, keys, _read_content(lines))
            connection.sendall(b"250 2.0.0 ok\r\n")

    def _recipient(self, path: bytes, keys: list[str]) -> bytes:
        key = path.partition(b"@")[0].decode()
        if key.startswith(BAD):
            return b"550 5.1.1 no such user\r\n"
        with self._lock:
            is_first = key.startswith(LATE) and key not in self._late
            self._late.add(key)
        if is_first:
            return b"451 4.2.0 later\r\n"
        keys.append(key)
        return b"250 2.1.5 ok\r\n"

    def _note(self, reverse_path: bytes, keys: list[str], content: bytes) -> None:
        with self._lock:
            if not reverse_path:
                self.reported.update(key.decode() for key in set(_REPORTED.findall(content)))
                return
            self.counts.update(keys)
            found = _ID.search(content)
            for key in keys:
                self.ids.setdefault(key, set()).add(found[1].decode() if found else "")
        header, _, body = content.partition(b"\r\n\r\n")
        stated = _DIGEST.search(header + b"\r\n")
        if stated is None or stated[1] != hashlib.sha256(body).hexdigest().encode():
            self.damaged.append(header[-200:])


def _path_in(line: bytes) -> bytes:
    found = _PATH.search(line)
    return found[1] if found else b""


def _read_content(lines: BinaryIO) -> bytes:
    pieces = []
    while (line := lines.readline()) != b".\r\n":
        if not line:
            raise ConnectionError("the content has no end")
        pieces.append(line[1:] if line.startswith(b".") else line)
    return b"".join(pieces)
