"""What the service manager is told: ready, reloading, stopping, and that the workers get on.

The protocol is systemd's sd_notify: datagrams of `KEY=value` lines to the socket that NOTIFY_SOCKET
names. Without that variable nothing is sent. Other managers speak it, too.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import socket
import time
from collections.abc import Callable, MutableMapping, Sequence

WORKERS_MAX = 256  # `workers.count` allows no more
_HEART_OCTETS = 8
_OURS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Hearts:
    """When each worker's loop last turned, in memory that all processes share. Made before a fork.

    One writer for each worker; a reader sees a time as a whole, because it is one aligned word.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, WORKERS_MAX * _HEART_OCTETS)
        self._beats = memoryview(self._memory).cast("d")

    def beat(self, index: int) -> None:
        """Worker `index` gets on."""
        self._beats[index] = time.monotonic()

    def age_s(self, index: int) -> float:
        """How long ago that was; nothing is said of a worker that never did."""
        return time.monotonic() - self._beats[index]


class Notifier:
    """Tells the service manager. A manager that does not listen costs nothing and stops nothing."""

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        """`address`: a path, or `@` and an abstract name; empty: there is no manager."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._interval_s = watchdog_s / 2
        self._next_s = 0.0
        self._said = ""
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Notifier:
        """As the manager that started us wants it. What we start ourselves is not to answer it."""
        address, octets, pid = (environ.pop(name, "") for name in _OURS)
        is_watched = octets.isdigit() and len(octets) < 20 and pid in ("", str(os.getpid()))
        return cls(address, int(octets) / 1e6 if is_watched else 0.0)

    @property
    def silence_s(self) -> float:
        """How long a worker's heart may stand still; no manager watches: forever."""
        return self._interval_s or math.inf

    def ready(self, status: str) -> None:
        """All workers serve: at the start, and after a reload."""
        self._send(f"READY=1\nSTATUS={_line(status)}")
        self._said = status

    def status(self, text: str) -> None:
        """A sentence for `systemctl status`."""
        if text != self._said:
            self._send(f"STATUS={_line(text)}")
            self._said = text

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it, also when it failed."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now_us}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1\nSTATUS=finishing what is in flight")

    def wait_s(self) -> float:
        """When `watch` wants to be called next."""
        if not self._interval_s:
            return math.inf
        return max(0.0, self._next_s - time.monotonic())

    def watch(self, is_alive: Callable[[], bool]) -> None:
        """Say that we get on, when it is time to and if it is true."""
        if self._interval_s and time.monotonic() >= self._next_s:
            if is_alive():
                self._send("WATCHDOG=1")
                self._next_s = time.monotonic() + self._interval_s
            else:  # soon again: it may have been a moment only
                self._next_s = time.monotonic() + self._interval_s / 10

    def close(self) -> None:
        """In a process that does not speak for the server."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # nobody listens, or too slowly: mail goes on
                self._socket.sendto(text.encode("utf-8", "replace"), self._address)


class Herald:
    """Tells what becomes of the workers, each time that the supervisor's loop turns."""

    def __init__(self, notifier: Notifier, count: int) -> None:
        """`count` workers are to serve."""
        self.hearts = Hearts()
        self._notifier = notifier
        self._count = count
        self._is_ready = False
        self._is_reloading = False

    def tell(self, serving: Sequence[int], is_reloading: bool) -> None:
        """`serving`: the workers that serve. Until all of them did once, nothing is told."""
        status = f"{len(serving)} of {self._count} workers serve"
        if is_reloading and self._is_ready and not self._is_reloading:
            self._notifier.reloading()
        if not self._is_ready and len(serving) == self._count:
            self._is_ready = True
            self._notifier.ready(status)
        elif self._is_reloading and not is_reloading:
            self._notifier.ready(status)
        elif self._is_ready:
            self._notifier.status(status)
        self._is_reloading = is_reloading and self._is_ready
        self._notifier.watch(lambda: self._get_on(serving))

    def _get_on(self, serving: Sequence[int]) -> bool:
        """Whether the loop of each has turned lately. One that starts may have a whole spool to
        read first.
        """
        limit_s = self._notifier.silence_s
        return all(self.hearts.age_s(index) < limit_s for index in serving)


def _line(text: str) -> str:
    return text.replace("\n", " ")
