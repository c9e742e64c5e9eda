"""The whole server with Debian's Dovecot behind AUTH: logins within TLS, and mail of who is in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastmta.lab import free_port
from tests.support.client import Client, until
from tests.support.daemon import Server, running
from tests.support.dovecot import DovecotServer, running_dovecot
from tests.support.login import FAILED, SUCCESS, WAYS, by_plain, by_scram
from tests.support.receiver import Receiver
from tests.support.sasl import user_line
from tests.support.tls import client_context, issue

pytestmark = pytest.mark.interop

USERS = {"alice@example.com": "pencil", "bob": "eraser"}
AWAY = "454 4.7.0 Temporary authentication failure: authentication service not available"
NO_SUCH = "535 5.7.8 Error: authentication failed: Invalid authentication mechanism"


class Site:
    """A submission listener whose users are Dovecot's."""

    def __init__(self, server: Server, receiver: Receiver, port: int) -> None:
        self.server = server
        self.receiver = receiver
        self._port = port

    def connect(self) -> Client:
        """A client within TLS that has said EHLO."""
        client = Client(self._port)
        client.start_tls(client_context())
        return client

    def offered(self) -> set[str]:
        """What AUTH is offered with."""
        with self.connect() as client:
            lines = client.say("EHLO c.example").split("\n")
        found = [line[4:].split(" ")[1:] for line in lines if line[4:].startswith("AUTH ")]
        return set(found[0]) if found else set()


@contextmanager
def serving(directory: Path, dovecot: DovecotServer, **settings: str) -> Iterator[Site]:
    port = free_port()
    with (
        Receiver() as receiver,
        running(
            directory,
            relay_host=f"[127.0.0.1]:{receiver.port}",
            tls__certificate=issue(directory / "server.pem", "fastmta.test"),
            relay__trusted_networks=["10.0.0.0/8"],
            auth__dovecot=dovecot.socket,
            client_limits__auth_failures=0,
            listen__submission__bind=f"127.0.0.1:{port}",
            listen__submission__kind="submission",
            **settings,
        ) as server,
    ):
        yield Site(server, receiver, port)


@pytest.fixture(scope="module")
def dovecot() -> Iterator[DovecotServer]:
    with running_dovecot(USERS) as dovecot:
        yield dovecot


@pytest.fixture(scope="module")
def site(dovecot: DovecotServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("all"), dovecot) as site:
        until(lambda: "SCRAM-SHA-256" in site.offered())  # connected
        yield site


@pytest.mark.parametrize("way", WAYS)
def test_a_login_and_its_message(site: Site, way: str) -> None:
    mechanism, log_in = WAYS[way]
    path = f"{way.replace(' ', '-')}@elsewhere.example"
    with site.connect() as client:
        assert log_in(client, "alice@example.com", "pencil") == SUCCESS
        queue_id = client.send(path).split()[-1]
    login = f"sasl_method={mechanism}, sasl_username=alice@example\\.com\n"
    line = rf"{queue_id}: client=\S+\[127\.0\.0\.1\], {login}"
    until(lambda: re.search(line, site.server.log_text()) is not None)
    until(lambda: any(path.encode() in each.forward_paths for each in site.receiver.transactions))


def test_wrong_ones(site: Site) -> None:
    with site.connect() as client:
        assert by_plain(client, "bob", "wrong") == FAILED
        assert by_plain(client, "eve", "eraser") == FAILED
        assert client.say("MAIL FROM:<bob@example.com>") == "530 5.7.0 Authentication required"


def test_dovecot_that_goes_and_comes_back(site: Site, dovecot: DovecotServer) -> None:
    dovecot.stop()
    try:
        until(lambda: log_in_once(site) == AWAY)
        until(lambda: "warning: auth.dovecot: " in site.server.log_text())
    finally:
        dovecot.start()
    until(lambda: log_in_once(site) == SUCCESS)


def log_in_once(site: Site) -> str:
    with site.connect() as client:
        return by_plain(client, "bob", "eraser")


def log_in_once_by_scram(site: Site) -> str:
    with site.connect() as client:
        return by_scram(client, "bob", "eraser")


@pytest.fixture(scope="module")
def scram_only() -> Iterator[DovecotServer]:
    """A Dovecot that offers nothing else."""
    with running_dovecot(USERS, "scram-sha-256") as dovecot:
        yield dovecot


def test_dovecot_that_has_only_scram(scram_only: DovecotServer, tmp_path: Path) -> None:
    with serving(tmp_path, scram_only) as site:
        until(lambda: site.offered() == {"SCRAM-SHA-256"})
        with site.connect() as client:
            assert by_plain(client, "bob", "eraser") == NO_SUCH
            assert by_scram(client, "bob", "wrong") == FAILED
            assert by_scram(client, "bob", "eraser") == SUCCESS
            assert client.send("scram@elsewhere.example").startswith("250 2.0.0 Ok: queued")


def test_dovecot_that_has_only_scram_beside_a_file(
    scram_only: DovecotServer, tmp_path: Path
) -> None:
    """PLAIN is offered for the file's users; by the reply nobody learns who they are."""
    file = tmp_path / "users"
    file.write_text(user_line("anna", "anna-secret", scram=4096) + "\n")
    file.chmod(0o600)
    with serving(tmp_path, scram_only, auth__accounts_file=str(file)) as site:
        until(lambda: log_in_once_by_scram(site) == SUCCESS)
        with site.connect() as client:
            assert by_plain(client, "anna", "wrong") == FAILED
            assert by_plain(client, "bob", "eraser") == FAILED, "Dovecot is asked no passwords"
            assert by_plain(client, "anna", "anna-secret") == SUCCESS
        with site.connect() as client:
            assert by_scram(client, "anna", "anna-secret") == SUCCESS
