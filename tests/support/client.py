"""A client that speaks SMTP line by line over a socket, for tests that look at each reply."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from types import TracebackType

_TIMEOUT_S = 15.0


class Client:
    """One connection; replies are whole, with their lines joined by LF."""

    def __init__(self, port: int, host: str = "127.0.0.1", greets: bool = True) -> None:
        self._socket = socket.create_connection((host, port), _TIMEOUT_S)
        self._file = self._socket.makefile("rb")
        if greets:
            assert self.reply().startswith("220"), "no greeting"
            assert self.say("EHLO client.example").startswith("250")

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        self._socket.close()

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

    def say(self, command: str) -> str:
        """Send a command; its reply."""
        self.raw(command.encode() + b"\r\n")
        return self.reply()

    def envelope(self, *forward_paths: str, reverse_path: str = "sender@source.example") -> None:
        """MAIL, RCPT for each and DATA, all accepted."""
        for command in (
            f"MAIL FROM:<{reverse_path}>",
            *(f"RCPT TO:<{path}>" for path in forward_paths),
        ):
            answer = self.say(command)
            assert answer.startswith("250"), answer
        assert self.say("DATA").startswith("354")

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
