"""The socket of one worker, and the sessions on it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any, cast

from fastmta.event import Event, Notice, Severity

from .access import Access, Peer, Right, lacking, make_directory, peer_of, refuse_peer
from .desk import Desk
from .place import PROTOCOL, short_path, socket_path
from .station import SLOW_S, Result, Ticket
from .wire import (
    LINE_OCTETS_MAX,
    ErrorCode,
    Refusal,
    Request,
    Verb,
    decode_request,
    encode_line,
)

CLIENTS_MAX = 16
OTHERS_MAX = 8  # of them that are neither root nor our own user
OTHERS_PER_USER = 4  # of these, so that none keeps another out
REQUESTS_MAX = 4  # under way, of one client
OUTPUT_OCTETS_MAX = 256 * 1024  # unread, before its client is waited for
IDLE_S = 600.0  # of a client that asks for nothing


class Server:
    """Listens for root, for our own user, and for whom `access` names; there may be nobody else."""

    def __init__(
        self,
        desk: Desk,
        hello: Result,
        loop: asyncio.AbstractEventLoop,
        emit: Callable[[Event], None],
        access: Access | None = None,
    ) -> None:
        self.access = access or Access()
        self.desk = desk
        self.emit = emit
        self.hello = {**hello, "protocol": PROTOCOL}
        self._loop = loop
        self._socket: socket.socket | None = None
        self._path = ""
        self.beside: Server | None = None  # another one that begins and ends with this one
        self._sessions: set[Session] = set()
        self._arriving: dict[Session, asyncio.Task[Any]] = {}

    def start(self, directory: str, worker: int) -> None:
        """Listen. Raises OSError."""
        make_directory(directory, is_shared=self.access.is_shared)
        self._path = self.path_in(directory, worker)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)  # of a process that is gone: we have its shard's lock
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        mask = os.umask(~self.mode & 0o777)
        try:
            with short_path(self._path) as path:
                listening.bind(path)
        except OSError:
            listening.close()
            raise
        finally:
            os.umask(mask)
        listening.listen(CLIENTS_MAX)
        self._socket = listening
        self._loop.add_reader(listening.fileno(), self._accept)

    def path_in(self, directory: str, worker: int) -> str:
        """Where it listens."""
        return socket_path(directory, worker)

    @property
    def mode(self) -> int:
        """Of the socket."""
        return self.access.mode

    def right_of(self, peer: Peer) -> Right:
        """What one more client may do; NOTHING: it is not served."""
        return self.access.right(peer)

    def check(self, request: Request) -> None:
        """Raises Refusal: nobody may ask that here."""

    async def close(self) -> None:
        """Take no more requests; those under way end where they are."""
        if self.beside is not None:
            await self.beside.close()
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        tasks: set[asyncio.Task[Any]] = {*self._arriving.values(), *self.desk.close()}
        for session in list(self._sessions):
            tasks |= session.end()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self) -> None:
        assert self._socket is not None
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return  # it has gone again, or there is no descriptor: the next one may have more luck
        connection.setblocking(False)
        try:
            peer = peer_of(connection)
        except OSError:
            connection.close()
            return
        right = self.right_of(peer)
        if right is Right.NOTHING:
            refuse_peer(connection, peer.user)
        elif self.is_full(peer):
            connection.close()
        else:
            session = Session(self, self._loop, peer.user, right)
            task = self._loop.create_task(self._open(connection, session))
            self._arriving[session] = task
            task.add_done_callback(lambda _: self._arriving.pop(session, None))

    def is_full(self, peer: Peer) -> bool:
        """Whether there is no place for this one. Others never take all: some are for operators;
        and none of them takes all that the others have."""
        if self.clients >= CLIENTS_MAX:
            return True
        if peer.is_ours:
            return False
        others = sum(not one.is_ours for one in self._present)
        return others >= OTHERS_MAX or self.clients_of(peer.user) >= OTHERS_PER_USER

    @property
    def clients(self) -> int:
        """How many there are."""
        return len(self._present)

    @property
    def _present(self) -> set[Session]:
        """Those that are served, and those whose connection is being taken up."""
        return self._sessions | self._arriving.keys()

    async def _open(self, connection: socket.socket, session: Session) -> None:
        await self._loop.connect_accepted_socket(lambda: session, connection)

    def clients_of(self, user: int) -> int:
        """How many of that user there are."""
        return sum(session.user == user for session in self._present)

    def opened(self, session: Session) -> None:
        """A session begins."""
        self._sessions.add(session)

    def ended(self, session: Session) -> None:
        """A session has ended."""
        self._sessions.discard(session)


class Session(asyncio.Protocol):
    """One client."""

    def __init__(
        self, server: Server, loop: asyncio.AbstractEventLoop, user: int, right: Right
    ) -> None:
        self.user = user
        self.is_ours = user in (0, os.geteuid())
        self._right = right
        self._server = server
        self._loop = loop
        self._buffer = bytearray()
        self._tickets: dict[int, Ticket] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._idle: asyncio.TimerHandle | None = None

    # The transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who we are."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has another base class
        self._transport.set_write_buffer_limits(high=OUTPUT_OCTETS_MAX)
        self._server.opened(self)
        self._write(self._server.hello)
        self._rest()

    def data_received(self, data: bytes) -> None:
        """Part of a request, or several."""
        buffer = self._buffer
        buffer += data
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            if line.strip() and not self._begin(line):
                return
        if len(buffer) > LINE_OCTETS_MAX:
            self._refuse(0, Refusal(ErrorCode.USAGE, "the request is too long"))
            self._transport.close()

    def pause_writing(self) -> None:
        """The client does not read what it asked for."""
        self._may_write.clear()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self._may_write.set()
        self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """Nobody is there for the answers: stop after the step that is under way."""
        for ticket in self._tickets.values():
            ticket.is_cancelled = True
        self._may_write.set()
        if self._idle is not None:
            self._idle.cancel()
        self._server.ended(self)

    # Requests

    def end(self) -> set[asyncio.Task[None]]:
        """Close; the tasks that are to be waited for."""
        self._transport.abort()
        return set(self._tasks)

    def _begin(self, line: bytes) -> bool:
        """Start what a line asks for; False when the connection ends."""
        try:
            if len(line) > LINE_OCTETS_MAX:
                raise Refusal(ErrorCode.USAGE, "the request is too long")
            request = decode_request(line)
            self._server.check(request)
        except Refusal as refusal:
            self._refuse(0, refusal)
            self._transport.close()
            return False
        if why := lacking(request.verb.value, self._right):
            self._refuse(request.id, Refusal(ErrorCode.DENIED, why))
            return True
        if request.verb is Verb.CANCEL:
            ticket = self._tickets.get(request.request)
            if ticket is not None:
                ticket.is_cancelled = True
            self._write({"id": request.id, "result": {"was_under_way": ticket is not None}})
            return True
        if request.id in self._tickets or len(self._tickets) >= REQUESTS_MAX:
            text = f"at most {REQUESTS_MAX} requests at a time, each with its own id"
            self._refuse(request.id, Refusal(ErrorCode.USAGE, text))
            self._transport.close()
            return False
        self._start(request)
        return True

    def _start(self, request: Request) -> None:
        async def tell(progress: Result) -> None:
            await self._send({"id": request.id, "progress": progress}, ticket.patience_s)

        if self._idle is not None:
            self._idle.cancel()
        ticket = self._tickets[request.id] = Ticket(request, tell)
        task = self._loop.create_task(self._run(ticket))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, ticket: Ticket) -> None:
        id = ticket.request.id
        try:
            await self._send({"id": id, "result": await self._server.desk.answer(ticket)})
        except Refusal as refusal:
            self._refuse(id, refusal)
        except Exception as defect:
            text = f"control: {ticket.request.verb.value} failed: {type(defect).__name__}: {defect}"
            self._server.emit(Notice("master", text, Severity.ERROR))
            self._refuse(id, Refusal(ErrorCode.DEFECT, text))
        finally:
            del self._tickets[id]
            self._rest()

    def _rest(self) -> None:
        if not self._tickets:
            self._idle = self._loop.call_later(IDLE_S, self._transport.close)

    def _refuse(self, id: int, refusal: Refusal) -> None:
        self._write({"id": id, "error": {"code": refusal.code.value, "text": refusal.text}})

    async def _send(self, value: Result, patience_s: float = SLOW_S) -> None:
        """Write when the client has read enough of what there was; drop it when it does not."""
        try:
            await asyncio.wait_for(self._may_write.wait(), patience_s)
        except TimeoutError:
            self._transport.abort()
        self._write(value)

    def _write(self, value: Result) -> None:
        if not self._transport.is_closing():
            self._transport.write(encode_line(value))
