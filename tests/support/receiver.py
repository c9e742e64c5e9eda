"""A scripted SMTP receiver over real sockets, for every test that needs somebody to deliver to.

    script = {"RCPT/2": Act(b"550 5.1.1 no such user\r\n"), "DATA": Act(then="close")}
    with Receiver(script) as receiver:
        ...                                     # deliver to 127.0.0.1, receiver.port
        receiver.wait_for_transactions(1)
        assert receiver.transactions[0].content == b"..."

It runs on threads of its own, so it serves an event loop of the test as well as another process.
Given a list of scripts, session n follows the n-th, the last one all that come after.

Keys of a script: `CONNECT`, a verb, `.` (the reply after end of data), `CONTENT` (acts as soon as
that many octets of content have come: `Act(after_octets=...)`). `VERB/2` is the second one of its
session and wins over `VERB`. A list of acts is used up one by one, its last one for all that
follow. What is not in the script is answered as a plain ESMTP server would.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TypeAlias

END_OF_DATA = b"\r\n.\r\n"
EHLO_REPLY = (
    b"250-receiver.example\r\n250-PIPELINING\r\n250-SIZE 26214400\r\n250-8BITMIME\r\n"
    b"250 ENHANCEDSTATUSCODES\r\n"
)
PLAIN_EHLO_REPLY = b"250 receiver.example\r\n"  # offers nothing


@dataclass(frozen=True)
class Act:
    """What to do at one point: wait, say `octets` (all at once or in drips), then go on or not.

    `octets` None stands for the usual reply. `then`: "" goes on, "close" ends the connection,
    "reset" ends it with RST, "hang" says nothing more until the client leaves.
    """

    octets: bytes | None = None
    delay_s: float = 0.0
    drip_s: float | None = None  # one octet each so many seconds
    then: str = ""
    after_octets: int = 0  # for CONTENT only


Script: TypeAlias = Mapping[str, Act | Sequence[Act]]


@dataclass
class Transaction:
    """One DATA that reached its end of data, accepted or not."""

    session_index: int
    reverse_path: bytes
    mail_parameters: bytes
    forward_paths: list[bytes]  # the accepted ones
    wire_content: bytes  # as it came, without the final dot line
    is_accepted: bool
    rcpt_parameters: list[bytes] = field(default_factory=list)  # of those

    @property
    def content(self) -> bytes:
        """Without dot-stuffing."""
        content = self.wire_content.replace(b"\r\n.", b"\r\n")
        return content[1:] if content.startswith(b".") else content


@dataclass
class Session:
    """One connection as seen from here."""

    index: int
    peer: str  # the client's address
    octets: bytearray = field(default_factory=bytearray)  # everything received
    reads: list[bytes] = field(default_factory=list)  # as it came in pieces
    commands: list[bytes] = field(default_factory=list)  # lines without CR LF
    is_open: bool = True


class Receiver:
    """Listens from construction on; `close()` ends every connection."""

    def __init__(
        self,
        script: Script | Sequence[Script] = (),
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """`address` with a slash is the path of a unix socket."""
        scripts = [script] if isinstance(script, Mapping) else list(script)
        self._scripts: list[Script] = scripts or [{}]
        self.sessions: list[Session] = []
        self.transactions: list[Transaction] = []
        self.on_transaction: Callable[[Transaction], None] | None = None  # on a receiver's thread
        self._changed = threading.Condition()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._is_closing = False
        self._listener = _listen(address, port)
        self.address = address
        self.port: int = 0 if "/" in address else self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every connection and thread."""
        self._is_closing = True
        _shut(self._listener)
        self._accepting.join(5)
        with self._changed:
            sockets = list(self._sockets)
        for one in sockets:
            _shut(one)
        for thread in self._threads:
            thread.join(5)

    def wait_for(self, condition: Callable[[Receiver], bool], timeout_s: float = 5.0) -> None:
        """Until `condition` holds; it is looked at whenever something happened here."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), timeout_s):
                raise AssertionError(
                    f"not in {timeout_s} s: {len(self.sessions)} sessions,"
                    f" {len(self.transactions)} transactions"
                )

    def arrived(self, path: str, timeout_s: float = 15.0) -> Transaction:
        """The message to this recipient, once it is there; the first of several."""
        wanted = path.encode()

        def found(receiver: Receiver) -> Transaction | None:
            here = [one for one in receiver.transactions if wanted in one.forward_paths]
            return here[0] if here else None

        self.wait_for(lambda receiver: found(receiver) is not None, timeout_s)
        transaction = found(self)
        assert transaction is not None
        return transaction

    def wait_for_transactions(self, count: int, timeout_s: float = 5.0) -> None:
        """Until `count` contents have arrived."""
        self.wait_for(lambda receiver: len(receiver.transactions) >= count, timeout_s)

    def _accept(self) -> None:
        while not self._is_closing:
            try:
                connection, peer = self._listener.accept()
            except OSError:
                return
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                session = self.begin_session(len(self.sessions), peer[0] if peer else "")
                self.sessions.append(session)
                self._sockets.add(connection)
            script = self._scripts[min(session.index, len(self._scripts) - 1)]
            server = self.serve(session, connection, script)
            thread = threading.Thread(target=server.run, daemon=True)
            self._threads.append(thread)
            thread.start()

    def begin_session(self, index: int, peer: str) -> Session:
        """What is known of a new connection; other kinds of receivers know more."""
        return Session(index, peer)

    def serve(self, session: Session, connection: socket.socket, script: Script) -> Server:
        """Who shall serve a new connection; other kinds of receivers have others."""
        return Server(self, session, connection, script)

    def note(self, transaction: Transaction | None = None) -> None:
        """For the sessions: something happened."""
        with self._changed:
            if transaction is not None:
                self.transactions.append(transaction)
            self._changed.notify_all()
        if transaction is not None and self.on_transaction is not None:
            self.on_transaction(transaction)

    def forget(self, connection: socket.socket) -> None:
        """For the sessions: over."""
        with self._changed:
            self._sockets.discard(connection)
            connection.close()
            self._changed.notify_all()


class Ended(Exception):
    """The connection is over."""


class Server:
    """One connection, on its own thread. Methods with an underscore are for kinds of it, too."""

    def __init__(
        self, receiver: Receiver, session: Session, connection: socket.socket, script: Script
    ) -> None:
        self._receiver = receiver
        self._session = session
        self._socket = connection
        self._script = script
        self._buffer = b""
        self._counts: dict[str, int] = {}
        self._reverse_path: bytes | None = None
        self._parameters = b""
        self._forward_paths: list[bytes] = []
        self._rcpt_parameters: list[bytes] = []

    def run(self) -> None:
        try:
            self._begin()
            while self._serve(self._read_line()):
                pass
        except (Ended, OSError):
            pass
        finally:
            self._session.is_open = False
            self._receiver.forget(self._socket)

    def _begin(self) -> None:
        self._act("CONNECT", b"220 receiver.example ESMTP\r\n")

    def _serve(self, line: bytes) -> bool:
        self._session.commands.append(line)
        self._receiver.note()
        verb = line[:4].decode("latin-1").upper()
        return self._obey(verb, line)

    def _obey(self, verb: str, line: bytes) -> bool:
        """Answer one command; whether more may come."""
        if verb in ("EHLO", "HELO"):
            self._act(verb, EHLO_REPLY if verb == "EHLO" else PLAIN_EHLO_REPLY)
        elif verb == "MAIL":
            path, _, parameters = line[10:].partition(b">")
            if self._act(verb, b"250 2.1.0 Ok\r\n"):
                self._reverse_path = path.removeprefix(b"<")
                self._parameters = parameters[1:]
                self._forward_paths, self._rcpt_parameters = [], []
        elif verb == "RCPT":
            if self._act(verb, b"250 2.1.5 Ok\r\n"):
                path, _, parameters = line[8:].partition(b"> ")
                self._rcpt_parameters.append(parameters)
                self._forward_paths.append(path.removeprefix(b"<").removesuffix(b">"))
        elif verb == "DATA":
            if self._act(verb, self._data_reply()):
                self._read_content()
        elif verb == "RSET":
            self._reverse_path, self._forward_paths = None, []
            self._act(verb, b"250 2.0.0 Ok\r\n")
        elif verb == "QUIT":
            self._act(verb, b"221 2.0.0 Bye\r\n")
            return False
        else:
            self._act(verb, b"500 5.5.2 Error: command not recognized\r\n")
        return True

    def _data_reply(self) -> bytes:
        if self._forward_paths:
            return b"354 End data with <CR><LF>.<CR><LF>\r\n"
        return b"554 5.5.1 Error: no valid recipients\r\n"

    def _read_content(self) -> None:
        early = self._choose("CONTENT")
        buffer = b"\r\n" + self._buffer  # a dot on the very first line ends the data, too
        seen = 0
        while (end := buffer.find(END_OF_DATA, max(seen - 4, 0))) < 0:
            if early is not None and len(buffer) - 2 >= early.after_octets:
                self._perform(early, b"")
                early = None
            seen = len(buffer)
            buffer += self._receive()
        self._buffer = buffer[end + 5 :]
        self._judge(buffer[2 : end + 2])
        self._reverse_path, self._forward_paths = None, []

    def _judge(self, wire_content: bytes) -> None:
        """The reply to a content that has come."""
        usual = b"250 2.0.0 Ok: queued as R%d\r\n" % (self._session.index + 1)
        self._act(".", usual, lambda accepted: self._keep(wire_content, accepted))

    def _keep(self, wire_content: bytes, is_accepted: bool) -> None:
        self._receiver.note(
            Transaction(
                self._session.index,
                self._reverse_path or b"",
                self._parameters,
                self._forward_paths,
                wire_content,
                is_accepted,
                self._rcpt_parameters,
            )
        )

    def _choose(self, stage: str) -> Act | None:
        count = self._counts[stage] = self._counts.get(stage, 0) + 1
        entry = self._script.get(f"{stage}/{count}", self._script.get(stage))
        if entry is None or isinstance(entry, Act):
            return entry
        return entry[min(count, len(entry)) - 1]

    def _act(self, stage: str, usual: bytes, before: Callable[[bool], None] | None = None) -> bool:
        """Perform what the script says; whether the reply was positive."""
        act = self._choose(stage) or Act()
        octets = usual if act.octets is None else act.octets
        is_positive = act.then == "" and octets[:1] in (b"2", b"3")
        if before is not None:
            before(is_positive)
        self._perform(act, usual)
        return is_positive

    def _perform(self, act: Act, usual: bytes) -> None:
        octets = usual if act.octets is None else act.octets
        if act.then == "hang" and act.octets is None:
            octets = b""
        if act.then in ("close", "reset") and act.octets is None:
            octets = b""
        if act.delay_s:
            time.sleep(act.delay_s)
        if act.drip_s is None:
            self._send(octets)
        else:
            for index in range(len(octets)):
                self._send(octets[index : index + 1])
                time.sleep(act.drip_s)
        if act.then == "hang":
            while True:
                self._receive()
        if act.then == "reset":
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if act.then == "close":  # FIN, not RST, though the client may have sent more
            self._leave()
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(1.0)
            while True:
                self._receive()
        if act.then:
            raise Ended

    def _leave(self) -> None:
        """Before an orderly end."""

    def _read_line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._buffer += self._receive()
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def _receive(self) -> bytes:
        octets = self._socket.recv(262144)
        if not octets:
            raise Ended
        self._session.octets += octets
        self._session.reads.append(octets)
        return octets


def _listen(address: str, port: int) -> socket.socket:
    if "/" in address:
        return socket.create_server(address, family=socket.AF_UNIX, backlog=512)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=512)


def _shut(one: socket.socket) -> None:
    """Wake whoever blocks on it, and close."""
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
