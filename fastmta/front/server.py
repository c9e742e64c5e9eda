"""HTTP/1.1 over sockets: h11 reads and writes it, here are the bounds of time and number.

A connection has so long for a whole request, and so long to read the answer. When there are too
many connections the one that has been idle longest makes room; if none is, the new one is closed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple, cast

import h11

from .desk import Answer, Request

_UNREADABLE = Answer(400, "text/plain; charset=utf-8", b"That is no HTTP/1.1 request.\n")


class ServerLimits(NamedTuple):
    """Bounds of what strangers can take."""

    connections: int = 64
    request_octets: int = 8192  # its first line and header fields
    body_octets: int = 65_536  # read and thrown away
    request_s: float = 10.0  # from its first octet, or from the beginning of the connection
    idle_s: float = 120.0  # between requests; longer than scrapers usually wait
    answer_s: float = 10.0  # to be read by the client


class Server:
    """Serves a listening socket. Loop thread only."""

    def __init__(
        self,
        answer: Callable[[Request], Answer],
        loop: asyncio.AbstractEventLoop,
        limits: ServerLimits | None = None,
    ) -> None:
        self.answer = answer
        self.loop = loop
        self.limits = limits or ServerLimits()
        self.connections: dict[_Connection, None] = {}  # those used last stand last
        self._servers: list[asyncio.Server] = []

    async def start(self, listening: socket.socket) -> None:
        """Serve from now on."""
        self._servers.append(
            await self.loop.create_server(
                lambda: _Connection(self), sock=listening, backlog=self.limits.connections
            )
        )

    def close(self) -> None:
        """Stop, and close what is open."""
        for each in self._servers:
            each.close()
        for connection in list(self.connections):
            connection.abort()

    def admit(self, connection: _Connection) -> bool:
        """Whether there is room for one more."""
        if len(self.connections) >= self.limits.connections:
            idle = next((one for one in self.connections if one.is_idle), None)
            if idle is None:
                return False
            idle.abort()
            self.connections.pop(idle, None)
        self.connections[connection] = None
        return True


class _Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = h11.Connection(
            h11.SERVER, max_incomplete_event_size=server.limits.request_octets
        )
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._request: Request | None = None
        self._body_octets = 0
        self._is_writing_paused = False
        self._has_ended = False
        self.is_idle = False  # it has had an answer, and has not begun to ask again

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._server.admit(self):
            self._has_ended = True
            self._transport.abort()
            return
        self._wait(self._server.limits.request_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._has_ended:
            return
        if self.is_idle:
            self.is_idle = False
            self._wait(self._server.limits.request_s)
        try:
            self._http.receive_data(data)
            self._advance()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint)

    def pause_writing(self) -> None:
        self._is_writing_paused = True
        self._wait(self._server.limits.answer_s)

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        if not self._has_ended:
            self._rest()

    def abort(self) -> None:
        """Close it now."""
        if self._transport is not None:
            self._transport.abort()

    def _advance(self) -> None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._begin(event)
            elif isinstance(event, h11.Data):
                self._body_octets += len(event.data)
                if self._body_octets > self._server.limits.body_octets:
                    raise h11.RemoteProtocolError("too large", error_status_hint=413)
            elif isinstance(event, h11.EndOfMessage):
                self._reply()
                if self._http.our_state is not h11.DONE or self._is_writing_paused:
                    self._end()
                    return
                self._http.start_next_cycle()
            elif isinstance(event, h11.ConnectionClosed):
                self._end()
                return
            else:  # NEED_DATA, or PAUSED: the client wants something else than HTTP/1.1
                if event is h11.PAUSED:
                    self._end()
                return

    def _begin(self, event: h11.Request) -> None:
        self._body_octets = 0
        authorization = ""
        for name, value in event.headers:
            if name == b"authorization":
                authorization = value.decode("latin-1")
        self._request = Request(
            event.method.decode("ascii"), event.target.decode("latin-1"), authorization
        )
        if self._http.they_are_waiting_for_100_continue:
            self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))

    def _reply(self) -> None:
        request, self._request = self._request, None
        assert request is not None
        self._send(self._server.answer(request), is_head=request.method == "HEAD")
        connections = self._server.connections
        connections.pop(self, None)
        connections[self] = None
        if not self._is_writing_paused:
            self._rest()

    def _refuse(self, status: int) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send(_UNREADABLE._replace(status=status))
        self._end()

    def _send(self, answer: Answer, *, is_head: bool = False) -> None:
        status = HTTPStatus(answer.status)
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            *answer.headers,
        ]
        parts = [
            self._http.send(
                h11.Response(status_code=status, reason=status.phrase.encode(), headers=headers)
            ),
            None if is_head else self._http.send(h11.Data(data=answer.body)),
            self._http.send(h11.EndOfMessage()),
        ]
        self._write(b"".join(part for part in parts if part))

    def _write(self, octets: bytes | None) -> None:
        assert self._transport is not None
        if octets:
            self._transport.write(octets)

    def _rest(self) -> None:
        """Until it asks again."""
        self.is_idle = True
        self._wait(self._server.limits.idle_s)

    def _end(self) -> None:
        """Say no more. What still comes is thrown away: a reset could overtake the answer."""
        self.is_idle = False
        self._has_ended = True
        self._wait(self._server.limits.answer_s)
        assert self._transport is not None
        self._transport.write_eof()

    def _wait(self, limit_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._server.loop.call_later(limit_s, self.abort)
