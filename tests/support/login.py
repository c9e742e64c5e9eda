"""A server with logins of every kind, and clients that log in each way (RFC 4954)."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from fastmta.lab import free_port
from tests.support.client import Client, until
from tests.support.daemon import Server, running
from tests.support.receiver import Receiver
from tests.support.sasl import ScramClient, user_line
from tests.support.tls import client_context, issue

FAILED = "535 5.7.8 Error: authentication failed: credentials invalid"
SUCCESS = "235 2.7.0 Authentication successful"
TOO_MANY = "450 4.7.1 Error: too many AUTH commands from unknown[{}]"
FAILURES = 6  # of one client
ACCOUNT_FAILURES = 8  # half of them from one client
FLOOR_S = 0.3  # no refusal is quicker
_hosts = itertools.count(10)


class LoginSite:
    """Two workers; each test connects from an address of its own, which nothing is held against."""

    def __init__(self, server: Server, receiver: Receiver, submission: int, submissions: int):
        self.server = server
        self.receiver = receiver
        self.submission = submission
        self.submissions = submissions
        self.users_file = server.directory / "users"

    def connect(self, source: str = "", listener: str = "submission") -> Client:
        """A client within TLS that has said EHLO."""
        source = source or new_host()
        if listener == "submissions":
            return Client(self.submissions, source=source, tls=client_context())
        client = Client(getattr(self, listener), source=source)
        assert client.start_tls(client_context()).startswith("250")
        return client

    @property
    def relay(self) -> int:
        return self.server.port

    def wait_for_line(self, pattern: str) -> None:
        until(lambda: re.search(pattern, self.server.log_text()) is not None)


def new_host() -> str:
    """An address that no test has used."""
    return f"127.0.0.{next(_hosts)}"


@contextmanager
def login_site(directory: Path) -> Iterator[LoginSite]:
    """A started one, with users whose passwords are `NAME-secret`."""
    names = ("anna", "berta", "carla", "dora", "emma", "frieda")
    lines = [user_line(name, f"{name}-secret", scram=4096) for name in names]
    lines.append(user_line("ünal", "пароль", scram=4096))
    (directory / "users").write_text("".join(f"{line}\n" for line in lines))
    (directory / "users").chmod(0o600)
    (directory / "senders").write_text("boss@ours.example anna\n@berta.example berta,carla\n")
    ports = [free_port(), free_port()]
    with (
        Receiver() as receiver,
        running(
            directory,
            relay_host=f"[127.0.0.1]:{receiver.port}",
            workers=2,
            tls__certificate=issue(directory / "server.pem", "fastmta.test"),
            relay__trusted_networks=["10.0.0.0/8"],
            relay__domains=["ours.example"],
            auth__accounts_file=str(directory / "users"),
            auth__senders_file=str(directory / "senders"),
            limits__errors_soft=11,
            limits__errors_hard=12,
            client_limits__auth_failures=FAILURES,
            client_limits__account_failures=ACCOUNT_FAILURES,
            listen__smtp__login="offered",
            listen__submission__bind=f"127.0.0.1:{ports[0]}",
            listen__submission__kind="submission",
            listen__submissions__bind=f"127.0.0.1:{ports[1]}",
            listen__submissions__kind="submissions",
        ) as server,
    ):
        yield LoginSite(server, receiver, *ports)


def together(function: Callable[[str], None], items: Iterable[str]) -> None:
    """Call it for all of them at the same time: each refusal takes a while."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(function, items))


def encoded(octets: bytes | str) -> str:
    octets = octets.encode() if isinstance(octets, str) else octets
    return base64.b64encode(octets).decode("ascii")


def challenge(reply: str) -> bytes:
    assert reply.startswith("334 "), reply
    return base64.b64decode(reply[4:], validate=True)


def by_plain(client: Client, name: str, password: str) -> str:
    return client.say(f"AUTH PLAIN {encoded(f'{chr(0)}{name}{chr(0)}{password}')}")


def by_plain_in_two_steps(client: Client, name: str, password: str) -> str:
    assert client.say("AUTH PLAIN") == "334 "
    return client.say(encoded(f"\0{name}\0{password}"))


def by_login(client: Client, name: str, password: str) -> str:
    assert challenge(client.say("AUTH LOGIN")) == b"Username:"
    assert challenge(client.say(encoded(name))) == b"Password:"
    return client.say(encoded(password))


def by_login_with_a_name(client: Client, name: str, password: str) -> str:
    assert challenge(client.say(f"AUTH LOGIN {encoded(name)}")) == b"Password:"
    return client.say(encoded(password))


def by_scram(client: Client, name: str, password: str) -> str:
    scram = ScramClient(name, password)
    first = client.say(f"AUTH SCRAM-SHA-256 {encoded(scram.first())}")
    if not first.startswith("334"):
        return first
    final = client.say(encoded(scram.final(challenge(first))))
    if not final.startswith("334"):
        return final
    assert scram.is_server(challenge(final)), "the server proves that it knows us, too"
    return client.say("")


WAYS = {
    "plain": ("PLAIN", by_plain),
    "plain in two steps": ("PLAIN", by_plain_in_two_steps),
    "login": ("LOGIN", by_login),
    "login with a name": ("LOGIN", by_login_with_a_name),
    "scram": ("SCRAM-SHA-256", by_scram),
}
