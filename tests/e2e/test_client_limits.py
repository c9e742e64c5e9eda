"""What one client may use up, exactly, over two workers."""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.client import Client, until
from tests.support.daemon import Server, running
from tests.support.receiver import Receiver
from tests.support.sasl import user_line
from tests.support.tls import client_context, issue

CONNECTIONS, MESSAGES, RECIPIENTS, TLS, AUTHS = 14, 5, 7, 4, 4
AT_A_TIME = 6
LOGIN_MESSAGES = 5
EXEMPT = "127.0.0.200"
ATTEMPTS = 24
_hosts = itertools.count(10)


def new_host() -> str:
    """An address that nothing has been counted for."""
    return f"127.0.0.{next(_hosts)}"


@dataclass
class Site:
    server: Server
    receiver: Receiver

    def connect(self, source: str) -> Client:
        return Client(self.server.port, source=source)

    def secured(self, source: str) -> Client:
        client = self.connect(source)
        assert client.start_tls(client_context()).startswith("250")
        return client

    def workers_of(self, source: str) -> set[str]:
        """Who has seen this client."""
        pattern = rf"smtpd\[(\d+)\]: connect from unknown\[{re.escape(source)}\]"
        return set(re.findall(pattern, self.server.log_text()))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("limits")
    users = [user_line(f"user{n}", "secret") for n in range(4)]
    (directory / "users").write_text("".join(f"{each}\n" for each in users))
    (directory / "users").chmod(0o600)
    with (
        Receiver() as receiver,
        running(
            directory,
            relay_host=f"[127.0.0.1]:{receiver.port}",
            workers=2,
            tls__certificate=issue(directory / "server.pem", "fastmta.test"),
            relay__trusted_networks=[f"{EXEMPT}/32"],
            relay__domains=["ours.example"],
            auth__accounts_file=str(directory / "users"),
            listen__smtp__login="offered",
            limits__connections_per_client=AT_A_TIME,
            client_limits__window_s=600,
            client_limits__connections=CONNECTIONS,
            client_limits__messages=MESSAGES,
            client_limits__recipients=RECIPIENTS,
            client_limits__tls_sessions=TLS,
            client_limits__auths=AUTHS,
            client_limits__login_messages=LOGIN_MESSAGES,
            client_limits__auth_failures=100,
        ) as server,
    ):
        yield Site(server, receiver)


def spread(site: Site, source: str, count: int = AT_A_TIME) -> list[Client]:
    """Connections of one client that both workers have a part of."""
    for _ in range(8):  # the kernel chooses; one worker alone gets them once in 2 ** 5 times
        clients = [site.connect(source) for _ in range(count)]
        time.sleep(0.15)  # until both have written their log
        if len(site.workers_of(source)) == 2:
            return clients
        for client in clients:
            client.close()
        source = new_host()
    raise AssertionError("one worker gets them all")


def source_of(client: Client) -> str:
    address: str = client.socket.getsockname()[0]
    return address


def at_once(clients: list[Client], ask: Callable[[Client], str], attempts: int) -> Counter[str]:
    """Let all of them ask at the same time, `attempts` in total; how often each reply came."""
    replies: Counter[str] = Counter()

    def go_on(client: Client) -> list[str]:
        return [ask(client) for _ in range(attempts // len(clients))]

    with ThreadPoolExecutor(len(clients)) as pool:
        for said in pool.map(go_on, clients):
            replies.update(said)
    return replies


def close_all(clients: list[Client]) -> None:
    for client in clients:
        client.close()


# Each limit.


def begin(client: Client) -> str:
    reply = client.say("MAIL FROM:<a@b.example>")
    client.say("RSET")
    return reply


def test_messages(site: Site) -> None:
    clients = spread(site, new_host())
    source = source_of(clients[0])
    refusal = f"450 4.7.1 Error: too much mail from unknown[{source}]"
    replies = at_once(clients, begin, ATTEMPTS)
    assert replies == {"250 2.1.0 Ok": MESSAGES, refusal: ATTEMPTS - MESSAGES}
    close_all(clients)
    with site.connect(source) as client:
        assert begin(client) == refusal
    until(lambda: f"reject: MAIL from unknown[{source}]: {refusal}" in site.server.log_text())
    with site.connect(new_host()) as client:
        assert begin(client).startswith("250")


def test_recipients(site: Site) -> None:
    clients = spread(site, new_host(), 4)
    source = source_of(clients[0])
    for client in clients:
        assert client.say("MAIL FROM:<a@b.example>").startswith("250")
    refusal = f"450 4.7.1 Error: too many recipients from unknown[{source}]"
    replies = at_once(clients, lambda client: client.say("RCPT TO:<x@ours.example>"), ATTEMPTS)
    assert replies == {"250 2.1.5 Ok": RECIPIENTS, refusal: ATTEMPTS - RECIPIENTS}
    close_all(clients)


def test_refused_recipients_count_as_well(site: Site) -> None:
    """Or nothing would limit whoever tries addresses."""
    with site.connect(new_host()) as client:
        client.say("MAIL FROM:<a@b.example>")
        codes = [client.say("RCPT TO:<x@elsewhere.example>")[:3] for _ in range(RECIPIENTS + 1)]
    assert codes == ["554"] * RECIPIENTS + ["450"]


def test_connections_at_a_time(site: Site) -> None:
    clients = spread(site, new_host())
    source = source_of(clients[0])
    for _ in range(3):
        with Client(site.server.port, greets=False, source=source) as client:
            refusal = f"421 4.7.0 fastmta.test Error: too many connections from [{source}]"
            assert client.reply() == refusal
            assert client.is_cut()
    clients.pop().close()
    until(lambda: greets(site, source))
    close_all(clients)


def greets(site: Site, source: str) -> bool:
    with Client(site.server.port, greets=False, source=source) as client:
        return client.reply().startswith("220")


def test_connections_begun(site: Site) -> None:
    source = new_host()
    said = []
    for _ in range(CONNECTIONS + 4):
        with Client(site.server.port, greets=False, source=source) as client:
            said.append(client.reply()[:9])
            client.raw(b"QUIT\r\n")
            client.is_cut()
    assert said == ["220 fastm"] * CONNECTIONS + ["421 4.7.0"] * 4
    until(lambda: f"reject: CONNECT from unknown[{source}]: 421" in site.server.log_text())
    until(lambda: len(site.workers_of(source)) == 2)


def test_tls_sessions(site: Site) -> None:
    clients = spread(site, new_host(), AT_A_TIME)
    source = source_of(clients[0])
    replies = at_once(clients, lambda client: client.say("STARTTLS"), AT_A_TIME)
    refusal = f"421 4.7.0 fastmta.test Error: too many new TLS sessions from unknown[{source}]"
    assert replies == {"220 2.0.0 Ready to start TLS": TLS, refusal: AT_A_TIME - TLS}
    close_all(clients)


def test_auth_commands(site: Site) -> None:
    source = new_host()
    clients = [site.secured(source) for _ in range(TLS)]
    refusal = f"450 4.7.1 Error: too many AUTH commands from unknown[{source}]"

    def ask(client: Client) -> str:
        reply = client.say("AUTH LOGIN")
        if reply.startswith("334"):
            assert client.say("*").startswith("501")
        return reply[:3] if reply.startswith("334") else reply

    assert at_once(clients, ask, 12) == {"334": AUTHS, refusal: 12 - AUTHS}
    close_all(clients)


def test_messages_of_a_login_wherever_it_comes_from(site: Site) -> None:
    """Also of a client that is an exception."""
    sources = [new_host(), EXEMPT, new_host()]
    clients = [site.secured(source) for source in sources]
    for client in clients:
        assert client.log_in("user0", "secret").startswith("235")
    replies = at_once(clients, lambda client: begin(client)[:9], 12)
    assert replies == {"250 2.1.0": LOGIN_MESSAGES, "450 4.7.1": 12 - LOGIN_MESSAGES}
    assert clients[1].say("EHLO c.example").startswith("250")
    close_all(clients)
    with site.secured(EXEMPT) as client:
        assert client.log_in("user1", "secret").startswith("235")
        assert begin(client).startswith("250")


def test_exceptions_have_no_limits(site: Site) -> None:
    clients = [site.connect(EXEMPT) for _ in range(CONNECTIONS * 2)]
    assert at_once(clients, begin, CONNECTIONS * 4) == {"250 2.1.0 Ok": CONNECTIONS * 4}
    clients[0].say("MAIL FROM:<a@b.example>")
    for _ in range(RECIPIENTS * 2):
        assert clients[0].say("RCPT TO:<x@elsewhere.example>").startswith("250")
    for client in clients[: TLS * 2]:
        client.say("RSET")
        assert client.start_tls(client_context()).startswith("250")
    close_all(clients)


# The window.


def test_windows_end_and_networks_are_one_client(tmp_path: Path) -> None:
    window_s = 1.0
    with running(
        tmp_path,
        relay_host="[127.0.0.1]:9",
        workers=2,
        relay__trusted_networks=["10.0.0.0/8"],
        client_limits__window_s=window_s,
        client_limits__messages=3,
        client_limits__prefix_v4=24,
    ) as server:
        clients = [Client(server.port, source=f"127.0.3.{last}") for last in range(1, 6)]
        for _ in range(2):
            begin_s = time.monotonic()
            codes = [begin(client)[:3] for client in clients]
            if time.monotonic() - begin_s < window_s:  # on a busy machine it is over before
                assert codes == ["250"] * 3 + ["450"] * 2
            time.sleep(max(0.0, begin_s + window_s + 0.1 - time.monotonic()))
        assert begin(clients[4]).startswith("250")
        with Client(server.port, source="127.0.4.1") as another:
            assert [begin(another)[:3] for _ in range(3)] == ["250"] * 3
        close_all(clients)
