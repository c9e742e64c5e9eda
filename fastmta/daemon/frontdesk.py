"""The front desk's process: it serves HTTP from the workers' blocks, see `fastmta.front`."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence

import uvloop

import fastmta
from fastmta.config import Config, Endpoint
from fastmta.front import Desk, Server
from fastmta.front.desk import DeskOptions
from fastmta.journal.block import Block

from .attendant import Attendant, become
from .sockets import BadStart, bind

PROCESS_NAME = "fastmta-front"
_BEAT_S = 1.0


class FrontDesk:
    """The supervisor's part: listening sockets, opened once, and a process that serves them."""

    def __init__(self, config: Config, blocks: Sequence[Block]) -> None:
        """Listens. Raises BadStart."""
        metrics = config.metrics
        self._listening: list[socket.socket] = []
        self.addresses: list[str] = []
        for endpoint in metrics.bind:
            try:
                opened = bind(endpoint.address, endpoint.port, is_shared=False)
            except OSError as error:
                self._close_sockets()
                text = f"metrics.bind: cannot listen on {endpoint}: {error.strerror}"
                raise BadStart(text) from error
            self._listening.append(opened)
            self.addresses.append(str(Endpoint(endpoint.address, opened.getsockname()[1])))
        self._blocks = blocks
        self._options = DeskOptions(fastmta.__version__, metrics.token, metrics.postfix_names)
        self._on_fork: Callable[[], None] = lambda: None
        self._attendant = Attendant("the front desk", self._run)
        self.ended = self._attendant.ended
        self.look = self._attendant.look
        self.wait_s = self._attendant.wait_s

    def start(self, on_fork: Callable[[], None]) -> None:
        """Fork; `on_fork` closes in each new process what is not for it."""
        self._on_fork = on_fork
        self._attendant.start()

    def close_all(self) -> None:
        """In another new process: nothing of this is for it."""
        self._attendant.forget()
        self._close_sockets()

    def close(self) -> None:
        """The end."""
        self._attendant.close()
        self._close_sockets()

    def _close_sockets(self) -> None:
        for each in self._listening:
            each.close()

    def _run(self, leash_fd: int, beat_fd: int) -> int:
        """In the new process."""
        self._on_fork()
        become(PROCESS_NAME)
        desk = Desk(self._blocks, time.monotonic_ns, self._options)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(desk, self._listening, leash_fd, beat_fd))
        return 0


async def _serve(
    desk: Desk, listening: Sequence[socket.socket], leash_fd: int, beat_fd: int
) -> None:
    """Until the supervisor is gone."""
    loop = asyncio.get_running_loop()
    server = Server(desk.answer, loop)
    for each in listening:
        await server.start(each)
    ended = asyncio.Event()
    loop.add_reader(leash_fd, ended.set)

    def beat() -> None:
        loop.call_later(_BEAT_S / 2, beat)
        try:
            os.write(beat_fd, b".")
        except BlockingIOError:  # the supervisor is busy, and sees enough of them
            return

    beat()
    await ended.wait()
    loop.remove_reader(leash_fd)
    server.close()
