"""A log daemon as the place where lines go, one datagram each: syslog's socket or journald's.

A daemon that is slow, or gone, holds up the writing thread and nobody else: it tries again until
the daemon is back, and what no longer fits in the writer's queue is dropped and counted there. So a
restart of the daemon loses nothing. To another machine datagrams go as they can, and nobody waits.
"""

import errno
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import TypeAlias

Address: TypeAlias = str | tuple[str, int]  # path of a unix socket, or host and port
Form: TypeAlias = Callable[[bytes], bytes]  # the datagram for a line without its end

_STALL_S = 1.0  # how long one wait for a full socket lasts before closing is looked at again
_RETRY_S = 0.2  # between attempts to reach a daemon that is not there
_SLOW = frozenset((errno.EAGAIN, errno.ENOBUFS))


class DatagramPlace:
    """Sends lines to a daemon. All is called by the writing thread."""

    def __init__(self, address: Address, form: Form) -> None:
        """Opens nothing: the daemon may start later than we do."""
        self._address = address
        self._form = form
        self._socket: socket.socket | None = None
        self._is_missed = False  # the daemon is gone, and that was said
        self._has_given_up = False  # closing, and nobody takes the rest
        name = address if isinstance(address, str) else f"{address[0]}:{address[1]}"
        self._name = name
        self.slow_text = f"{name} does not take them"

    def put(self, octets: bytes, line_count: int, is_closing: Callable[[], bool]) -> int:
        """Send a block; returns how many of its lines were lost."""
        lines = octets.split(b"\n")
        lines.pop()
        return sum(not self._send(self._form(line), is_closing) for line in lines)

    def reopen(self) -> None:
        """Find the daemon anew."""
        self.close()

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, datagram: bytes, is_closing: Callable[[], bool]) -> bool:
        while not self._has_given_up:
            try:
                if self._socket is None:
                    self._socket = _connected(self._address)
                self._socket.send(datagram)
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    return False
                if not self._wait(error, is_closing):
                    return False
            else:
                self._is_missed = False
                return True
        return False

    def _wait(self, error: OSError, is_closing: Callable[[], bool]) -> bool:
        """Wait for a daemon that could not take a line; False: this line is lost."""
        if error.errno in _SLOW and self._socket is not None:
            poll = select.poll()
            poll.register(self._socket, select.POLLOUT)
            self._has_given_up = not poll.poll(_STALL_S * 1000) and is_closing()
            return True
        self.close()
        if not self._is_missed:
            self._is_missed = True
            text = f"fastmta: journal: cannot reach {self._name}: {error.strerror}\n"
            sys.stderr.write(text)
            sys.stderr.flush()
        if isinstance(self._address, tuple):  # an earlier datagram was refused: it is too late
            return False
        self._has_given_up = is_closing()
        if not self._has_given_up:
            time.sleep(_RETRY_S)
        return True


def _connected(address: Address) -> socket.socket:
    if isinstance(address, str):
        family = socket.AF_UNIX
    else:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        made.setblocking(False)
        made.connect(address)
    except BaseException:
        made.close()
        raise
    return made
