"""Turning clients away: when it is said, when there is no room, when there is no descriptor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Iterator

import uvloop

from fastmta.listener.census import Census
from fastmta.listener.door import Door, Spare
from fastmta.listener.listener import Listener
from fastmta.smtp import reply as replies
from tests.unit.listener.test_connection import World

BUSY = replies.r421_busy("relay.example").octets
Hear = Callable[[], Awaitable[bytes]]


async def hear(port: int) -> bytes:
    """What a client is told first; then it leaves."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await asyncio.wait_for(reader.readline(), 2.0)
    finally:
        writer.close()


def serving(scenario: Callable[[Listener, int], Awaitable[None]], census: Census) -> None:
    async def run() -> None:
        world = World(census=census)
        ports, settings = world.listener.ports, world.listener.settings
        loop = asyncio.get_running_loop()
        listener = Listener(ports, settings, world.listener._names, census, loop)
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        await listener.start([listening])
        try:
            await scenario(listener, port)
        finally:
            await listener.stop(0.0)
            await asyncio.sleep(0.15)

    uvloop.run(run())


def test_a_listener_that_is_shut_says_421_in_place_of_the_banner() -> None:
    async def scenario(listener: Listener, port: int) -> None:
        assert (await hear(port)).startswith(b"220 ")
        listener.shut(True)
        for _ in range(3):
            assert b"421 4.3.2 relay.example Error: insufficient" in await hear(port)
        listener.shut(True, is_draining=True)
        assert b"421 4.3.2 relay.example Service shutting down" in await hear(port)
        listener.shut(False)
        await asyncio.sleep(0.25)
        assert (await hear(port)).startswith(b"220 ")

    serving(scenario, Census())


def test_an_open_session_goes_on_while_the_listener_is_shut() -> None:
    async def scenario(listener: Listener, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await reader.readline()).startswith(b"220 ")
        listener.shut(True)
        await asyncio.sleep(0.15)
        writer.write(b"NOOP\r\n")
        assert (await asyncio.wait_for(reader.readline(), 2.0)).startswith(b"250 ")
        writer.close()

    serving(scenario, Census())


def test_a_crowd_is_turned_away_until_some_have_left() -> None:
    async def scenario(listener: Listener, port: int) -> None:
        inside = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        for reader, _ in inside:
            assert (await reader.readline()).startswith(b"220 ")
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        heard = await asyncio.gather(*(hear(port) for _ in range(21)))
        assert {words[:9] for words in heard} == {b"421 4.3.2"}
        assert loop.time() - begin_s > 0.25, "not more than 50 a second"
        for _, writer in inside:
            writer.close()
        await asyncio.sleep(0.25)
        assert (await hear(port)).startswith(b"220 ")

    serving(scenario, Census(connections_max=4))


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def fill_gaps() -> list[int]:
    """Take the free numbers below the highest descriptor, so that a lower limit leaves none."""
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(200)]
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    while max(taken) < highest:
        taken.append(os.open(os.devnull, os.O_RDONLY))
    return taken


def test_without_a_descriptor_the_spare_one_answers() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    clients = [socket.create_connection(listening.getsockname()) for _ in range(3)]
    loop = asyncio.new_event_loop()
    door = Door(loop, listening, asyncio.Protocol, 8)
    spare = Spare()
    gaps = fill_gaps()
    try:
        with no_descriptors():
            assert door.turn_away(replies.r421_busy("relay.example"), 2, spare) == ["127.0.0.1"] * 2
            assert spare.give_up(), "it is there for the next one"
            spare.take_back()
            assert door.turn_away(replies.r421_busy("relay.example"), 5, spare) == ["127.0.0.1"]
        for client in clients:
            assert client.recv(1000) == BUSY
            assert client.recv(1000) == b""
    finally:
        for fd in gaps:
            os.close(fd)
        spare.give_up()
        door.close()
        loop.close()
        for client in clients:
            client.close()
