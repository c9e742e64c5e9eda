"""One connection to one server: octets out, replies in, nothing waited for longer than allowed."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from dataclasses import dataclass

CLOSED = 0  # in place of a code: the server has closed
SILENT = -1  # no reply in time
_LINES_MAX = 50
_REPLY_S = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply with its lines, or the want of one."""

    code: int
    text: str = ""

    def __str__(self) -> str:
        return {CLOSED: "(closed)", SILENT: "(silence)"}.get(self.code, self.text)

    @property
    def is_positive(self) -> bool:
        return 200 <= self.code < 400


class Side:
    """The client's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int, source: str) -> Side:
        """From that address of ours."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        return cls(reader, writer)

    def write(self, octets: bytes) -> None:
        self._writer.write(octets)

    async def answer(self, within_s: float = _REPLY_S) -> Answer:
        """The next reply."""
        lines: list[str] = []
        try:
            async with asyncio.timeout(within_s):
                for _ in range(_LINES_MAX):
                    line = await self._reader.readline()
                    if not line.endswith(b"\r\n"):
                        return Answer(CLOSED, line.decode("latin-1"))
                    lines.append(line[:-2].decode("latin-1"))
                    if line[3:4] != b"-":
                        break
        except TimeoutError:
            return Answer(SILENT)
        except OSError:
            return Answer(CLOSED)
        assert re.match("[2-5][0-9][0-9]", lines[-1]), lines
        return Answer(int(lines[-1][:3]), "\n".join(lines))

    async def answers(self) -> list[Answer]:
        """All replies until the server closes, or is silent."""
        found: list[Answer] = []
        while not found or found[-1].code > 0:
            found.append(await self.answer())
        return found

    async def start_tls(self, context: ssl.SSLContext) -> bool:
        """Whether the handshake succeeded."""
        try:
            async with asyncio.timeout(_REPLY_S):
                await self._writer.start_tls(context)
        except (OSError, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        """Leave, having sent everything."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_REPLY_S):
                await self._writer.wait_closed()
