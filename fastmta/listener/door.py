"""One listening socket: who connects is served, or (shut) told 421 at a bounded rate.

While the door is open the loop accepts. Shut, nobody polls the socket: it is looked at ten times a
second, so that no flood and no want of descriptors can make the process spin. A descriptor kept in
reserve is given up to accept, answer and close when there is no other left.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable

from fastmta.smtp import Reply

LOCAL_PEER = ("127.0.0.1", 0)  # a client of a unix socket, as Postfix knows it
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class Spare:
    """A descriptor for the moment when there is no other."""

    def __init__(self) -> None:
        self._fd = -1
        self.take_back()

    def give_up(self) -> bool:
        """Free it; False when it is gone already."""
        if self._fd < 0:
            return False
        os.close(self._fd)
        self._fd = -1
        return True

    def take_back(self) -> None:
        """Have it again, if that is possible now."""
        if self._fd < 0:
            try:
                self._fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                self._fd = -1  # somebody was faster; the next call may be luckier


class Door:
    """Owns `listening`; not open until `open` is called."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        factory: Callable[[], asyncio.BaseProtocol],
        backlog: int,
    ) -> None:
        self._loop = loop
        self._listening = listening
        self._factory = factory
        self._backlog = backlog
        self._server: asyncio.Server | None = None
        self._is_closed = False

    async def open(self) -> None:
        """Serve. Raises OSError when there is no descriptor for it."""
        if self._server is not None or self._is_closed:
            return
        accepting = self._listening.dup()  # closing a server closes its socket
        try:
            server = await self._serve(accepting)
        except OSError:
            accepting.close()
            raise
        if self._is_closed:
            server.close()
        else:
            self._server = server

    async def _serve(self, accepting: socket.socket) -> asyncio.Server:
        if accepting.family != socket.AF_UNIX:
            return await self._loop.create_server(
                self._factory, sock=accepting, backlog=self._backlog
            )
        return await self._loop.create_unix_server(
            self._factory,
            sock=accepting,
            backlog=self._backlog,
            cleanup_socket=False,  # type: ignore[call-arg]  # in the types since Python 3.13 only
        )

    def shut(self) -> None:
        """Serve nobody; who connects waits in the kernel for `turn_away`."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def close(self) -> None:
        """Give the socket up."""
        self._is_closed = True
        self.shut()
        self._listening.close()

    def turn_away(self, reply: Reply, most: int, spare: Spare) -> list[str]:
        """Answer at most `most` of those who wait with `reply`; their addresses."""
        addresses = []
        for _ in range(most):
            try:
                address = self._turn_one_away(reply)
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS or not spare.give_up():
                    break
                try:
                    address = self._turn_one_away(reply)
                except OSError:
                    break
                finally:
                    spare.take_back()
            if address is None:
                break
            addresses.append(address)
        spare.take_back()
        return addresses

    def _turn_one_away(self, reply: Reply) -> str | None:
        try:
            client, name = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        address = str(name[0]) if isinstance(name, tuple) else LOCAL_PEER[0]
        with client:
            client.setblocking(False)
            try:
                client.send(reply.octets)
                client.shutdown(socket.SHUT_WR)
            except OSError:
                return address  # it did not wait for the answer
        return address
