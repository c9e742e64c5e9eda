"""Log lines of all workers as they are written, for as long as somebody looks."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fastmta.control.client import WHO, Client, ClientError, Denied
from fastmta.control.place import socket_paths

from .talk import EXIT_DENIED, EXIT_NOT_RUNNING, fail

LOOK_S = 1.0  # how often new workers are looked for
GONE_S = 5.0  # without any worker, before the server is taken for gone
ANSWER_S = 30.0


class Lines(NamedTuple):
    """What one worker wrote."""

    worker: int
    lines: list[bytes]
    dropped: int  # lines that were not read in time


def _closed(directory: str, error: OSError) -> str:
    return f"{directory}: {error.strerror}: {WHO}"


class Live:
    """One connection to each worker; those that start later, or again, are found."""

    def __init__(
        self, directory: str, needles: Sequence[str], complain: Callable[[str], None]
    ) -> None:
        """Lines that hold one of `needles`; all if there are none."""
        self._directory = directory
        self._needles = list(needles)
        self._complain = complain
        self._clients: dict[str, Client] = {}
        self._looked_s = self._alive_s = 0.0

    def begin(self) -> None:
        """Find workers, or end the command: there is none, or none for the likes of us."""
        try:
            is_there = self.connect()
        except PermissionError as error:
            text = str(error) if isinstance(error, Denied) else _closed(self._directory, error)
            fail(text, EXIT_DENIED)
        if not is_there:
            fail("no server runs", EXIT_NOT_RUNNING)

    def connect(self) -> bool:
        """Find workers; whether there is one. What they write from now on will be read."""
        self._looked_s = time.monotonic()
        for path in socket_paths(self._directory):
            if path in self._clients:
                continue
            try:
                self._clients[path] = self._open(path)
            except Denied:
                raise
            except (ConnectionError, FileNotFoundError, ClientError):
                continue
        if self._clients:
            self._alive_s = self._looked_s
        return bool(self._clients)

    @property
    def is_gone(self) -> bool:
        """Whether no worker has been there for a while."""
        return not self._clients and time.monotonic() - self._alive_s > GONE_S

    def read(self, timeout_s: float) -> list[Lines]:
        """What there is, after at most that long."""
        if time.monotonic() - self._looked_s >= LOOK_S:
            self.connect()
        ready = [path for path, client in self._clients.items() if client.has_line]
        found = [lines for path in ready or self._wait(timeout_s) if (lines := self._take(path))]
        return [lines for lines in found if lines.lines or lines.dropped]

    def close(self) -> None:
        """End all connections."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def _open(self, path: str) -> Client:
        client = Client(path)
        try:
            client.send({"id": 1, "verb": "tail", "ids": self._needles})
            answer = client.read(ANSWER_S)
            if "error" in answer:
                kind = Denied if answer["error"]["code"] == "denied" else ClientError
                raise kind(str(answer["error"]["text"]))
        except BaseException as error:
            client.close()
            if isinstance(error, ClientError):
                self._complain(f"{path}: {error}")
            raise
        return client

    def _wait(self, timeout_s: float) -> list[str]:
        if not self._clients:
            time.sleep(min(timeout_s, LOOK_S))
            return []
        with selectors.DefaultSelector() as selector:
            for path, client in self._clients.items():
                selector.register(client, selectors.EVENT_READ, path)
            return [key.data for key, _ in selector.select(timeout_s)]

    def _take(self, path: str) -> Lines | None:
        client = self._clients[path]
        worker = int(client.hello.get("worker", 0))
        try:
            answer = client.read(ANSWER_S)
        except (ClientError, OSError):
            client.close()
            del self._clients[path]
            self._alive_s = time.monotonic()
            self._complain(f"worker {worker} is gone; lines may be missing")
            return None
        told = answer.get("progress") or {}
        lines = str(told.get("lines", "")).encode("utf-8", "replace").split(b"\n")
        return Lines(worker, lines[:-1], int(told.get("dropped", 0)))
