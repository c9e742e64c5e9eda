"""A client that speaks SMTP line by line over a socket, for tests that look at each reply."""

from __future__ import annotations

import base64
import socket
import ssl
import time
from collections.abc import Callable
from types import TracebackType

_TIMEOUT_S = 15.0


class Client:
    """One connection; replies are whole, with their lines joined by LF.

    `source` is the address to connect from: all of 127.0.0.0/8 is this machine, so that one server
    can have clients that it trusts and strangers. `tls`: TLS from the first octet.
    A `host` that is a path is a unix socket.
    `receive_octets`: how much the kernel keeps of what is not read.
    """

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        greets: bool = True,
        *,
        source: str = "",
        tls: ssl.SSLContext | None = None,
        hello: str = "EHLO",
        receive_octets: int = 0,
    ) -> None:
        self.hello = f"{hello} client.example"
        is_local = host.startswith("/")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(socket.AF_UNIX if is_local else family)
        self._socket.settimeout(_TIMEOUT_S)
        if receive_octets:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_octets)
        if source:
            self._socket.bind((source, 0))
        try:
            self._socket.connect(host if is_local else (host, port))
        except OSError:
            self._socket.close()
            raise
        if not is_local:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        if tls is not None:
            self.wrap(tls)
        if greets:
            assert self.reply().startswith("220"), "no greeting"
            assert self.say(self.hello).startswith("250")

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave without a word."""
        self._file.close()
        self._socket.close()

    @property
    def socket(self) -> socket.socket:
        """What it speaks over."""
        return self._socket

    @property
    def local_port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    def wrap(self, tls: ssl.SSLContext, name: str = "fastmta.test") -> None:
        """The handshake."""
        self._file.close()
        self._socket = tls.wrap_socket(self._socket, server_hostname=name)
        self._file = self._socket.makefile("rb")

    def start_tls(self, tls: ssl.SSLContext, name: str = "fastmta.test") -> str:
        """STARTTLS and the EHLO behind it; the reply to that."""
        answer = self.say("STARTTLS")
        assert answer.startswith("220"), answer
        self.wrap(tls, name)
        return self.say(self.hello)

    def raw(self, octets: bytes) -> None:
        """Send without waiting."""
        self._socket.sendall(octets)

    def reply(self) -> str:
        """The next whole reply; "" when the server has closed."""
        lines = []
        while True:
            line = self._file.readline().decode("ascii")
            lines.append(line.removesuffix("\r\n"))
            if line[3:4] != "-":
                return "\n".join(lines)

    def is_cut(self) -> bool:
        """Whether the server says nothing more and closes, with or without an orderly end."""
        try:
            return self.reply() == ""
        except OSError:
            return True

    def say(self, command: str | bytes) -> str:
        """Send a command; its reply."""
        octets = command.encode() if isinstance(command, str) else command
        self.raw(octets + b"\r\n")
        return self.reply()

    def log_in(self, login: str, password: str) -> str:
        """AUTH PLAIN; the reply."""
        response = base64.b64encode(f"\0{login}\0{password}".encode()).decode("ascii")
        return self.say(f"AUTH PLAIN {response}")

    def envelope(self, *forward_paths: str, reverse_path: str = "sender@source.example") -> None:
        """MAIL, RCPT for each and DATA, all accepted."""
        self.transaction(*forward_paths, reverse_path=reverse_path)
        assert self.say("DATA").startswith("354")

    def transaction(self, *forward_paths: str, reverse_path: str = "sender@source.example") -> None:
        """MAIL and RCPT for each, all accepted."""
        for command in (
            f"MAIL FROM:<{reverse_path}>",
            *(f"RCPT TO:<{path}>" for path in forward_paths),
        ):
            answer = self.say(command)
            assert answer.startswith("250"), answer

    def send(
        self,
        *forward_paths: str,
        content: str = "Subject: x\r\n\r\nbody\r\n",
        reverse_path: str = "sender@source.example",
    ) -> str:
        """A whole message; the reply to its final dot."""
        self.envelope(*forward_paths, reverse_path=reverse_path)
        self.raw(content.encode() + b".\r\n")
        return self.reply()


def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    """Wait until `condition` holds; fails the test after `timeout_s`."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.02)
