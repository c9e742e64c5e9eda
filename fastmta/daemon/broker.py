"""The broker's process: a ledger, and a socket to each worker. No mail, no files, no network.

Sockets are of packets in their order, so a message is whole or not there at all, whoever dies. The
supervisor holds both ends: what nobody has read yet is there for the next process, on either side.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
import time
from collections.abc import Iterable, Sequence

from fastmta.budget.frame import FRAME_OCTETS_MAX, decode_ask, encode
from fastmta.budget.ledger import Ledger

from .attendant import become

BEAT_S = 1.0
PROCESS_NAME = "fastmta-broker"  # what ps shows
_PACKETS_MAX = 64  # read of one worker before the others have their turn


def broker_main(
    channels: Sequence[socket.socket],
    leash_fd: int,
    beat_fd: int,
    ledger: Ledger,
) -> int:
    """Deal out until the supervisor is gone (`leash_fd` ends); the exit code.

    One octet to `beat_fd` every second says that it is well.
    """
    become(PROCESS_NAME)
    Broker(channels, leash_fd, beat_fd, ledger).run()
    return 0


class Broker:
    """Reads all that came, lets the ledger have its turn, sends what that says."""

    def __init__(
        self, channels: Sequence[socket.socket], leash_fd: int, beat_fd: int, ledger: Ledger
    ) -> None:
        self._channels = channels
        self._beat_fd = beat_fd
        self._ledger = ledger
        self._beaten_at_s = float("-inf")
        self._is_told = False  # of nonsense that some worker sent
        self._selector = selectors.DefaultSelector()
        self._selector.register(leash_fd, selectors.EVENT_READ, None)
        for index, channel in enumerate(channels):
            channel.setblocking(False)
            self._selector.register(channel, selectors.EVENT_READ, index)

    def run(self) -> None:
        """Until the supervisor is gone."""
        wait_s = 0.0
        while True:
            ready = [key.data for key, _ in self._selector.select(wait_s)]
            if None in ready:
                return
            now_s = time.monotonic()
            is_all = self._hear(ready, now_s)
            for index, grant in self._ledger.turn(now_s):
                self._send(self._channels[index], encode(grant))
            wait_s = self._ledger.wait_s(time.monotonic()) if is_all else 0.0
            self._beat(now_s)

    def _hear(self, ready: Iterable[int], now_s: float) -> bool:
        """Whether everything was read."""
        is_all = True
        for index in ready:
            for _ in range(_PACKETS_MAX):
                frame = receive(self._channels[index])
                if not frame:
                    break
                try:
                    self._ledger.hear(index, decode_ask(frame), now_s)
                except ValueError as error:
                    self._complain(index, error)
            else:
                is_all = False
        return is_all

    def _complain(self, index: int, error: ValueError) -> None:
        if not self._is_told:
            self._is_told = True
            sys.stderr.write(f"fastmta: broker: from worker {index}: {error}\n")
            sys.stderr.flush()

    def _send(self, channel: socket.socket, frame: bytes) -> None:
        """A worker that reads nothing misses messages; it finds out when it reads again."""
        send(channel, frame)

    def _beat(self, now_s: float) -> None:
        if now_s - self._beaten_at_s >= BEAT_S / 2:
            self._beaten_at_s = now_s
            try:
                os.write(self._beat_fd, b".")
            except BlockingIOError:  # the supervisor is busy, and sees enough of them
                return


def receive(channel: socket.socket) -> bytes:
    """The next packet; empty: there is none."""
    try:
        return channel.recv(FRAME_OCTETS_MAX + 1)
    except (BlockingIOError, ConnectionError):
        return b""


def send(channel: socket.socket, frame: bytes) -> bool:
    """Send one packet, or none: False."""
    try:
        channel.send(frame)
    except (BlockingIOError, ConnectionError):
        return False
    except OSError as error:  # ENOBUFS and the like: as good as full
        sys.stderr.write(f"fastmta: broker: {error}\n")
        return False
    return True
