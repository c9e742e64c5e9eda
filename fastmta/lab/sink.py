"""`fastmta sink`: a receiver on loopback that counts messages and does what addresses say.

Orders are read from each recipient's domain (`<order>.test` or `<order>.anything`):

    slow    answers the end of data after 800 ms
    flaky   450 for the first try of each recipient
    full    452 always
    gone    550 always
    busy    421 at RCPT, and closes
    reply-NNN   that code at RCPT

Every other recipient is accepted. `--reply` sets the answer to the end of data for all messages.
"""

import argparse
import asyncio
import contextlib
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .loopback import HOST, LabError, parse_bind

_END = b"\r\n.\r\n"
_SLOW_S = 0.8
_ADDRESS = re.compile(rb"<([^>]*)>")
_ORDERS = {
    b"full": b"452 4.2.2 Mailbox full\r\n",
    b"gone": b"550 5.1.1 No such user here\r\n",
    b"busy": b"421 4.3.2 Too busy, try later\r\n",
}


@dataclass(frozen=True, slots=True)
class Received:
    """One message as it came: dot-stuffing undone, line ends as they were."""

    reverse_path: bytes
    forward_paths: tuple[bytes, ...]
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkOptions:
    """How the sink answers. `on_message` is called on its loop for every message accepted."""

    host: str = HOST
    port: int = 0
    delay_s: float = 0.0
    reply: str = "250 2.0.0 Ok"
    name: str = "sink.test"
    on_message: Callable[[Received], None] | None = None


@dataclass(slots=True)
class Counts:
    """What happened so far."""

    connections: int = 0
    messages: int = 0
    recipients: int = 0
    refused: int = 0  # recipients
    octets: int = 0
    tried: set[bytes] = field(default_factory=set)  # recipients of `flaky` seen once


class _Session(asyncio.Protocol):
    """One connection; commands are answered in order, pipelined or not."""

    def __init__(self, options: SinkOptions, counts: Counts, sessions: set["_Session"]) -> None:
        self._options = options
        self._counts = counts
        self._sessions = sessions
        self._buffer = bytearray()
        self._scanned = 0
        self._is_data = False
        self._reverse_path = b""
        self._forward_paths: list[bytes] = []
        self._delay_s = options.delay_s
        self._waiting: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._sessions.add(self)
        self._counts.connections += 1
        transport.write(f"220 {self._options.name} ESMTP\r\n".encode())

    def connection_lost(self, error: Exception | None) -> None:
        self._sessions.discard(self)
        if self._waiting:
            self._waiting.cancel()

    def data_received(self, octets: bytes) -> None:
        self._buffer += octets
        self._proceed()

    def _proceed(self) -> None:
        """Consume what is complete, unless an answer is being held back."""
        while self._waiting is None and not self.transport.is_closing():
            if self._is_data:
                if not self._take_content():
                    return
                continue
            end = self._buffer.find(b"\r\n")
            if end < 0:
                return
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            self._command(line)

    def _command(self, line: bytes) -> None:
        verb = line[:4].upper()
        if verb == b"EHLO":
            name = self._options.name
            text = f"250-{name}\r\n250-PIPELINING\r\n250-SIZE\r\n250-8BITMIME\r\n"
            self.transport.write(f"{text}250 ENHANCEDSTATUSCODES\r\n".encode())
        elif verb == b"MAIL":
            self._reset()
            self._reverse_path = _address(line)
            self.transport.write(b"250 2.1.0 Ok\r\n")
        elif verb == b"RCPT":
            self._recipient(_address(line))
        elif verb == b"DATA":
            if self._forward_paths:
                self._is_data = True
                self._scanned = 0
                self._buffer[:0] = b"\r\n"  # so that a dot on the first line ends it too
                self.transport.write(b"354 End data with <CR><LF>.<CR><LF>\r\n")
            else:
                self.transport.write(b"554 5.5.1 No valid recipients\r\n")
        elif verb == b"QUIT":
            self.transport.write(b"221 2.0.0 Bye\r\n")
            self.transport.close()
        elif verb in (b"HELO", b"RSET", b"NOOP"):
            self._reset()
            self.transport.write(b"250 2.0.0 Ok\r\n")
        else:
            self.transport.write(b"500 5.5.2 Command not known here\r\n")

    def _recipient(self, address: bytes) -> None:
        order = address.rpartition(b"@")[2].split(b".")[0].lower()
        reply = _ORDERS.get(order)
        if order == b"flaky" and address not in self._counts.tried:
            self._counts.tried.add(address)
            reply = b"450 4.2.0 Not this time\r\n"
        elif order.startswith(b"reply-"):
            reply = order[6:9] + b" As the address ordered\r\n"
        elif order == b"slow":
            self._delay_s = max(self._delay_s, _SLOW_S)
        if reply is None or reply[:1] == b"2":
            self._forward_paths.append(address)
            self.transport.write(reply or b"250 2.1.5 Ok\r\n")
            return
        self._counts.refused += 1
        self.transport.write(reply)
        if reply.startswith(b"421"):
            self.transport.close()

    def _take_content(self) -> bool:
        end = self._buffer.find(_END, self._scanned)
        if end < 0:
            self._scanned = max(0, len(self._buffer) - len(_END) + 1)
            return False
        content = bytes(self._buffer[2 : end + 2]).replace(b"\r\n.", b"\r\n")
        content = content[1:] if content.startswith(b".") else content
        del self._buffer[: end + len(_END)]
        self._is_data = False
        received = Received(self._reverse_path, tuple(self._forward_paths), content)
        if self._delay_s:
            loop = asyncio.get_running_loop()
            self._waiting = loop.call_later(self._delay_s, self._answer_late, received)
        else:
            self._answer(received)
        return True

    def _answer_late(self, received: Received) -> None:
        self._waiting = None
        self._answer(received)
        self._proceed()

    def _answer(self, received: Received) -> None:
        counts = self._counts
        reply = self._options.reply.encode()
        if reply.startswith(b"2"):
            counts.messages += 1
            counts.recipients += len(received.forward_paths)
            counts.octets += len(received.content)
            if self._options.on_message:
                self._options.on_message(received)
        else:
            counts.refused += len(received.forward_paths)
        self._reset()
        self.transport.write(reply + b"\r\n")

    def _reset(self) -> None:
        self._forward_paths = []
        self._delay_s = self._options.delay_s


def _address(line: bytes) -> bytes:
    match = _ADDRESS.search(line)
    return match[1] if match else b""


class Sink:
    """The receiver, on a thread with a loop of its own. Use as a context manager."""

    def __init__(self, options: SinkOptions | None = None) -> None:
        self.options = options or SinkOptions()
        self.counts = Counts()
        self.port = self.options.port
        self._sessions: set[_Session] = set()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)
        self._problem: OSError | None = None
        self._stop: asyncio.Event

    def __enter__(self) -> "Sink":
        self._thread.start()
        self._started.wait()
        if self._problem:
            raise LabError(f"sink: {self._problem}")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        try:
            server = await self._listen()
        except OSError as error:
            self._problem = error
            self._started.set()
            return
        self._started.set()
        await self._stop.wait()
        server.close()
        for session in list(self._sessions):
            session.transport.abort()
        await asyncio.sleep(0)  # lets connection_lost run

    async def _listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: _Session(self.options, self.counts, self._sessions),
            self.options.host,
            self.port,
            backlog=1024,
            family=socket.AF_INET6 if ":" in self.options.host else socket.AF_INET,
        )
        self.port = server.sockets[0].getsockname()[1]
        return server


def run_sink(arguments: Sequence[str]) -> int:
    """The command: serve until a signal, then say how much came."""
    parser = argparse.ArgumentParser(
        prog="fastmta sink",
        description=__doc__.split("\n", 1)[0] if __doc__ else None,
        epilog="Orders in a recipient's domain: slow. flaky. full. gone. busy. reply-NNN.",
    )
    parser.add_argument("--bind", default=f"{HOST}:2526", help="address:port, loopback only")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before the last answer")
    parser.add_argument("--reply", default="250 2.0.0 Ok", help="answer to the end of data")
    parser.add_argument("--quiet", action="store_true", help="count, but say nothing per message")
    chosen = parser.parse_args(arguments)
    if not re.match(r"[245][0-5][0-9] \S", chosen.reply):
        parser.error("--reply: write a code and a text, like '451 4.3.0 Try later'")
    try:
        host, port = parse_bind(chosen.bind)
        options = SinkOptions(
            host=host,
            port=port,
            delay_s=chosen.delay,
            reply=chosen.reply,
            on_message=None if chosen.quiet else _show,
        )
        ending = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # before the sink's thread exists
        with Sink(options) as sink:
            print(f"sink: listening on {chosen.bind}, ready", flush=True)
            signal.sigwait(ending)
    except LabError as error:
        print(f"fastmta sink: {error}", file=sys.stderr)
        return 1
    counts = sink.counts
    print(f"sink: {counts.messages} messages, {counts.octets} octets, {counts.refused} refused")
    return 0


def _show(received: Received) -> None:
    recipients = b" ".join(received.forward_paths).decode("ascii", "backslashreplace")
    reverse_path = received.reverse_path.decode("ascii", "backslashreplace")
    print(f"sink: <{reverse_path}> to {recipients}, {len(received.content)} octets", flush=True)
