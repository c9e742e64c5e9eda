"""A server with many ways out, each told by the domain of the recipient, and what became of mail.

    exits = Exits(certificates.trusted)
    exits.relay("tight", receiver.port, tls="encrypt")       # mail to anybody@tight.test
    with exits.running(directory) as outbound:
        outbound.send("tight")
        assert outbound.result("tight").status == "deferred"

Relays are `[relay.example]`, which a name server of the tests knows. Deferred mail is not tried
again while a test runs.
"""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, until
from tests.support.daemon import Server, running
from tests.support.nameserver import NameServer

HOST = "relay.example"
OTHER_HOST = "other.relay.example"
CONTENT = "Subject: to {name}\r\n\r\nsecret for {name}\r\n"
Value = str | int | float | bool | Sequence[str]
_LINE = (
    r"(?m)^.*: to=<{}>,(?: orig_to=<[^>]*>,)? relay=(\S+), .*"
    r"dsn=([0-9.]+), status=(\w+) \((.*)\)$"
)


@dataclass(frozen=True)
class Result:
    """A line of the log about one recipient."""

    relay: str
    dsn: str
    status: str
    reason: str


class Exits:
    """The configuration of a server, as far as it is about the way out."""

    def __init__(self, ca_file: str = "") -> None:
        self.settings: dict[str, Value] = {
            "retry.first_s": 3000.0,
            "retry.max_s": 3600.0,
            "retry.site_backoff_min_s": 1.0,
            "delivery.ca_file": ca_file,
        }
        self.environment: dict[str, str] = {}
        self._route_count = 0

    def relay(self, name: str, port: int | str, **keys: Value) -> None:
        """A relay of this name for mail to `name.test`; `port` is one of HOST, or a whole host."""
        host = f"[{HOST}]:{port}" if isinstance(port, int) else port
        for key, value in {"host": host, **keys}.items():
            self.settings[f"relays.{name}.{key}"] = value
        self.route(name, recipient=f"{name}.test")

    def route(self, to: str, *, recipient: str = "", sender: str = "") -> None:
        """The next rule."""
        self._route_count += 1
        prefix = f"FASTMTA_ROUTE__{self._route_count}__"
        keys = {"TO": to, "RECIPIENT": recipient, "SENDER": sender}
        self.environment |= {prefix + key: value for key, value in keys.items() if value}

    @contextmanager
    def running(self, directory: Path) -> Iterator[Outbound]:
        """A server like that, and its name server."""
        with NameServer() as names:
            for name in (HOST, OTHER_HOST):
                names.add(name, "A", "127.0.0.1")
            self.settings["dns.servers"] = "{}:{}".format(*names.endpoint)
            settings: dict[str, Any] = dict(self.settings)  # names of keys, not of parameters
            with running(directory, environment=self.environment, **settings) as server:
                yield Outbound(server, names)


class Outbound:
    """A started one."""

    def __init__(self, server: Server, names: NameServer) -> None:
        self.server = server
        self.names = names

    def send(
        self, *names: str, reverse_path: str = "sender@source.example", parameters: str = ""
    ) -> None:
        """A message to `one@NAME.test` for each name; its content says whom it is for.

        `parameters` are those of RCPT.
        """
        with Client(self.server.port) as client:
            for name in names:
                for line in (
                    f"MAIL FROM:<{reverse_path}>",
                    f"RCPT TO:<one@{name}.test> {parameters}".rstrip(" "),
                    "DATA",
                    CONTENT.format(name=name) + ".",
                ):
                    reply = client.say(line)
                    assert reply[:1] in ("2", "3"), reply

    def results(self, name: str, count: int = 1, timeout_s: float = 15.0) -> list[Result]:
        """What the log says of `one@NAME.test` (or of a whole address), oldest first."""
        address = name if "@" in name else f"one@{name}.test"
        pattern = re.compile(_LINE.format(re.escape(address)))

        def found() -> list[tuple[str, ...]]:
            return pattern.findall(self.server.log_text())

        until(lambda: len(found()) >= count, timeout_s)
        return [Result(*one) for one in found()]

    def result(self, name: str) -> Result:
        """The latest line."""
        return self.results(name)[-1]

    def count(self, name: str) -> int:
        """How many lines there are by now."""
        address = name if "@" in name else f"one@{name}.test"
        return len(re.findall(_LINE.format(re.escape(address)), self.server.log_text()))


def address_with_port(port: int) -> str:
    """An address of this machine where `port`, a well-known one, is free; skips where it may not
    be bound."""
    for _ in range(50):
        address = "127.{}.{}.{}".format(*(random.randrange(1, 255) for _ in range(3)))
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except PermissionError:
                pytest.skip(f"needs root: port {port}")
            except OSError:
                continue
            return address
    raise AssertionError(f"port {port} is free nowhere")
