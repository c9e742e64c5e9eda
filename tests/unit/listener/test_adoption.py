"""Serving the socket of a worker that died, on a real loop."""

import asyncio
import socket

from fastmta.listener.listener import Listener
from tests.unit.listener.test_connection import World


async def scenario(is_dropped_first: bool) -> tuple[bytes, bytes]:
    """What clients hear while the socket is adopted, and after it is dropped."""
    world = World()
    loop = asyncio.get_running_loop()
    listener = Listener(
        world.listener.ports, world.listener.settings, world.listener._names, world.census, loop
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        listener.adopt(listening)
        heard = [b"" if is_dropped_first else await hear(listening)]
        listener.drop(listening)
        await asyncio.sleep(0.1)
        heard.append(await hear(listening))
        await listener.stop(0.0)
    return heard[0], heard[1]


async def hear(listening: socket.socket) -> bytes:
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    try:
        return await asyncio.wait_for(reader.read(3), 0.3)
    except TimeoutError:
        return b""
    finally:
        writer.close()


def test_a_socket_is_served_until_its_owner_is_back() -> None:
    assert asyncio.run(scenario(is_dropped_first=False)) == (b"220", b"")


def test_an_owner_that_is_back_at_once_is_not_served_for() -> None:
    assert asyncio.run(scenario(is_dropped_first=True)) == (b"", b"")
