"""Where a service is, and what goes wrong on the way there."""

import asyncio
from pathlib import Path

import pytest

from fastmta.security import dial
from fastmta.security.dial import BadPlace, Dialler


@pytest.mark.parametrize(
    "where",
    ["", "host", "host:", ":1", "host:0", "host:65536", "host:+1", "a b:1", "[::1", "x/y:1"],
)
def test_no_place(where: str) -> None:
    with pytest.raises(BadPlace):
        Dialler(where, asyncio.AbstractEventLoop())


def reach(where: str) -> list[str]:
    """`connected` or the reason."""

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            said.append("connected")
            transport.close()
            ended.set()

    said: list[str] = []
    ended = asyncio.Event()

    def failed(reason: str) -> None:
        said.append(reason)
        ended.set()

    async def run() -> None:
        Dialler(where, asyncio.get_running_loop()).connect(Protocol(), failed)
        await asyncio.wait_for(ended.wait(), 30)

    asyncio.run(run())
    return said


def test_path_and_port_of_a_server(tmp_path: Path) -> None:
    async def serve() -> None:
        path = str(tmp_path / "socket")
        loop = asyncio.get_running_loop()
        unix = await loop.create_unix_server(asyncio.Protocol, path)
        tcp = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        port = tcp.sockets[0].getsockname()[1]
        try:
            for where in (path, f"127.0.0.1:{port}", f"localhost:{port}"):
                assert await asyncio.to_thread(reach, where) == ["connected"]
        finally:
            unix.close()
            tcp.close()

    asyncio.run(serve())


def test_nobody_there(tmp_path: Path) -> None:
    assert reach(str(tmp_path / "none")) == ["No such file or directory"]
    (reason,) = reach("127.0.0.1:1")
    assert "Connect call failed" in reason


def test_no_connection_in_time_and_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "CONNECT_TIMEOUT_S", 0.01)
    said: list[str] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()

        async def hang(*_: object) -> None:
            await asyncio.sleep(3600)

        monkeypatch.setattr(loop, "create_unix_connection", hang)
        dialler = Dialler("/socket", loop)
        dialler.connect(asyncio.Protocol(), said.append)()
        dialler.connect(asyncio.Protocol(), said.append)
        await asyncio.sleep(0.05)

    asyncio.run(run())
    assert said == ["no connection in time"]
