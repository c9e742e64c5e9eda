"""A receiver that keeps envelope and content of everything, by the sender's queue id."""

from __future__ import annotations

import asyncio
import re

from .message import Stored, mailbox, unquoted, without_trace

_EHLO = (
    b"250-recorder.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n"
    b"250 ENHANCEDSTATUSCODES\r\n"
)
_PATH = re.compile(rb'[^<]*<((?:[^"\\>]|\\.|"(?:[^"\\]|\\.)*")*)>')
_LINE_OCTETS_MAX = 1 << 24


class Recorder:
    """Listens on the running loop from `start` on."""

    def __init__(self) -> None:
        self.messages: dict[str, list[Stored]] = {}
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=_LINE_OCTETS_MAX
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            return  # it left
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 recorder.example ESMTP\r\n")
        reverse_path, forward_paths = b"", list[bytes]()
        while line := await reader.readuntil(b"\r\n"):
            verb = line[:4].upper()
            if verb == b"EHLO":
                writer.write(_EHLO)
            elif verb == b"MAIL":
                reverse_path, forward_paths = _path(line), []
                writer.write(b"250 2.1.0 Ok\r\n")
            elif verb == b"RCPT":
                forward_paths.append(_path(line))
                writer.write(b"250 2.1.5 Ok\r\n")
            elif verb == b"DATA":
                writer.write(b"354 Go on\r\n")
                content = await _read_content(reader)
                queue_id, rest = without_trace(content)
                stored = Stored(reverse_path, tuple(forward_paths), rest)
                self.messages.setdefault(queue_id.decode(), []).append(stored)
                writer.write(b"250 2.0.0 Ok\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 2.0.0 Bye\r\n")
                return
            else:
                writer.write(b"250 2.0.0 Ok\r\n")


def _path(line: bytes) -> bytes:
    found = _PATH.match(line)
    assert found, line
    return mailbox(unquoted(found[1]))


async def _read_content(reader: asyncio.StreamReader) -> bytes:
    lines: list[bytes] = []
    while (line := await reader.readuntil(b"\r\n")) != b".\r\n":
        lines.append(line[1:] if line.startswith(b".") else line)
    return b"".join(lines)
