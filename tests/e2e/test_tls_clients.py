"""TLS with clients, through the whole server: injection, what is forgotten, files that change."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from fastmta.lab import free_port
from tests.support.client import Client, until
from tests.support.daemon import Server, running
from tests.support.receiver import Receiver
from tests.support.tls import authority, client_context, fingerprint, issue

STRANGER = "127.0.0.9"
HANDSHAKE_S = 1.5
OTHER_CA = trustme.CA(key_type=trustme.KeyType.ECDSA)


class Site:
    """One server: `may` offers STARTTLS and AUTH, `encrypt` insists, `implicit` begins with TLS."""

    def __init__(self, directory: Path, server: Server, receiver: Receiver, ports: list[int]):
        self.directory = directory
        self.server = server
        self.receiver = receiver
        self.may = server.port
        self.encrypt, self.implicit = ports
        self._count = itertools.count()

    def new_path(self) -> str:
        """A recipient that nobody else has."""
        return f"n{next(self._count)}@ours.example"

    def has_got(self, path: str) -> bool:
        return any(path.encode() in each.forward_paths for each in list(self.receiver.transactions))

    def certificate(self, name: str) -> str:
        return str(self.directory / name)

    def wait_for_line(self, pattern: str) -> None:
        until(lambda: re.search(pattern, self.server.log_text()) is not None)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("tls")
    issue(directory / "friend.pem", "friend.example")
    issue(directory / "known.pem", "known.example")  # of our CA, but not on the list
    issue(directory / "foreign.pem", "friend.example", ca=OTHER_CA)
    authority().cert_pem.write_to_path(directory / "ca.pem")
    ports = [free_port(), free_port()]
    with (
        Receiver() as receiver,
        running(
            directory,
            relay_host=f"[127.0.0.1]:{receiver.port}",
            tls__certificate=issue(directory / "server.pem", "fastmta.test"),
            tls__sni_certificates=[
                issue(directory / "other.pem", "other.example", "*.wild.example")
            ],
            tls__client_ca=str(directory / "ca.pem"),
            tls__handshake_s=HANDSHAKE_S,
            relay__trusted_networks=["127.0.0.1/32"],
            relay__domains=["ours.example"],
            relay__client_fingerprints=[fingerprint(directory / "friend.pem")],
            auth__users=["anna:secret"],
            auth__without_tls=True,
            listen__smtp__login="offered",
            listen__hard__bind=f"127.0.0.1:{ports[0]}",
            listen__hard__tls="encrypt",
            listen__first__bind=f"127.0.0.1:{ports[1]}",
            listen__first__tls="implicit",
            listen__first__client_certificates="ask",
        ) as server,
    ):
        yield Site(directory, server, receiver, ports)


# Versions; injection is in tests/vectors/starttls.toml.


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("listener", ["may", "implicit"])
def test_old_versions_are_refused(site: Site, listener: str, version: str) -> None:
    with Client(getattr(site, listener), greets=False) as client:
        if listener == "may":
            assert client.reply().startswith("220")
            assert client.say("EHLO c.example").startswith("250")
            assert client.say("STARTTLS").startswith("220")
        with pytest.raises((ssl.SSLError, OSError)):
            client.wrap(client_context(version))
    site.wait_for_line("SSL_accept error from .*(version|protocol)")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("listener", ["may", "encrypt", "implicit"])
def test_a_message_within_tls(site: Site, listener: str, version: str) -> None:
    path = site.new_path()
    with secured(site, listener, client_context(version)) as client:
        assert client.send(path).startswith("250 2.0.0 Ok: queued as")
        assert client.say("QUIT").startswith("221")
    until(lambda: site.has_got(path))
    (one,) = [each for each in site.receiver.transactions if path.encode() in each.forward_paths]
    assert b"with ESMTPS id" in one.content
    assert b"TLSv" + version.encode() in one.content
    line = rf"Anonymous TLS connection established from unknown\[127\.0\.0\.1\]: TLSv{version} with"
    site.wait_for_line(line)


def secured(
    site: Site, listener: str, context: ssl.SSLContext, source: str = "", name: str = "fastmta.test"
) -> Client:
    """A client within TLS, after EHLO."""
    port = getattr(site, listener)
    if listener == "implicit":
        client = Client(port, source=source, greets=False)
        client.wrap(context, name)
        assert client.reply().startswith("220")
        assert client.say("EHLO c.example").startswith("250")
        return client
    client = Client(port, source=source)
    assert client.start_tls(context, name).startswith("250")
    return client


# What was said in clear is forgotten (RFC 3207 4.2).


def test_hello_transaction_and_login_are_forgotten(site: Site) -> None:
    with Client(site.may, source=STRANGER) as client:
        assert "AUTH" in client.say("EHLO c.example")
        assert client.log_in("anna", "secret").startswith("235")
        assert client.say("MAIL FROM:<a@b.example>").startswith("250")
        assert client.say("RCPT TO:<any@elsewhere.example>").startswith("250")  # for the login
        assert client.say("STARTTLS").startswith("220")
        client.wrap(client_context())
        assert client.say("MAIL FROM:<a@b.example>") == "503 5.5.1 Error: send HELO/EHLO first"
        assert client.say("RCPT TO:<x@ours.example>") == "503 5.5.1 Error: need MAIL command"
        assert client.say("DATA") == "503 5.5.1 Error: need RCPT command"
        extensions = client.say("EHLO c.example")
        assert "STARTTLS" not in extensions
        assert "AUTH" in extensions
        assert client.say("RCPT TO:<x@ours.example>") == "503 5.5.1 Error: need MAIL command"
        assert client.say("MAIL FROM:<a@b.example>").startswith("250")
        assert client.say("RCPT TO:<any@elsewhere.example>").startswith("554 5.7.1")
        assert client.say("STARTTLS") == "554 5.5.1 Error: TLS already active"
        assert client.say("RSET").startswith("250")
        assert client.log_in("anna", "secret").startswith("235")


def test_chunks_before_tls_are_no_part_of_a_message_within(site: Site) -> None:
    path = site.new_path()
    with Client(site.may) as client:
        client.transaction(path)
        client.raw(b"BDAT 14\r\nSubject: clear\nBDAT 2\r\n\r\n")
        assert client.reply().startswith("250")
        client.is_cut()
    with Client(site.may) as client:
        client.transaction(path)
        client.raw(b"BDAT 16\r\nSubject: clear\r\n")
        assert client.reply() == "250 2.0.0 Ok: 16 bytes"
        assert client.start_tls(client_context()).startswith("250")
        client.raw(b"BDAT 5 LAST\r\nx: y\n")
        assert client.reply() == "503 5.5.1 Error: need RCPT command"
        client.transaction(path)
        client.raw(b"BDAT 17 LAST\r\nSubject: within\r\n")
        assert client.reply().startswith("250 2.0.0 Ok: 17 bytes queued")
    until(lambda: site.has_got(path))
    (one,) = [each for each in site.receiver.transactions if path.encode() in each.forward_paths]
    assert b"Subject: within\r\n" in one.content
    assert b"clear" not in one.content


# Where TLS is a must (RFC 3207 4).


def test_without_tls_only_a_few_commands_are_answered(site: Site) -> None:
    with Client(site.encrypt, greets=False) as client:
        client.reply()
        refusal = "530 5.7.0 Must issue a STARTTLS command first"
        for command in ("MAIL FROM:<a@b.example>", "VRFY x", "DATA", "RCPT TO:<a@ours.example>"):
            assert client.say(command) == refusal
        for command in ("EHLO c.example", "NOOP", "RSET", "HELO c.example"):
            assert client.say(command).startswith("250")
        for command in ("AUTH PLAIN AGEAYg==", "EXPN x", "HELP", "XCLIENT ADDR=192.0.2.1"):
            assert client.say(command) == refusal
        client.say("EHLO c.example")
        client.raw(b"BDAT 6 LAST\r\nNOOP\r\n")  # octets of a chunk are no commands
        assert client.say("FOO") == refusal
        assert client.reply() == "500 5.5.2 Error: command not recognized"
        assert client.start_tls(client_context()).startswith("250")
        client.transaction(site.new_path())


def test_clear_text_to_a_listener_that_begins_with_tls(site: Site) -> None:
    with Client(site.implicit, greets=False) as client:
        client.raw(b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\n")
        octets = b""
        with contextlib.suppress(OSError):
            while piece := client.socket.recv(4096):
                octets += piece
        assert octets[:1] in (b"", b"\x15")
        assert b"220" not in octets
    site.wait_for_line(r"SSL_accept error from unknown\[127\.0\.0\.1\]: ")


def test_early_commands_within_implicit_tls(site: Site) -> None:
    """A stranger that does not wait for the greeting gets no further."""
    with Client(site.implicit, greets=False, source=STRANGER) as client:
        client.wrap(client_context())
        client.raw(b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<a@ours.example>\r\n")
        said = list(iter(client.reply, ""))
    # The greeting may have been on its way already; EHLO is never answered with others behind it.
    assert said[-1] == "554 5.5.0 Error: SMTP protocol synchronization"
    assert len(said) <= 2


# Handshakes and records that are odd.


def test_handshakes_that_do_not_end_are_cut(site: Site) -> None:
    """Neither a part nor a drip of octets moves the deadline."""
    begin_s = time.monotonic()
    with contextlib.ExitStack() as stack:
        clients = []
        for listener in ("may", "implicit"):
            for sends in (b"", b"\x16\x03\x01\x02\x00\x01", DRIP):
                is_clear = listener == "may"
                client = stack.enter_context(Client(getattr(site, listener), greets=is_clear))
                if is_clear:
                    assert client.say("STARTTLS").startswith("220")
                client.raw(sends)
                clients.append((client, sends))
        is_over = threading.Event()
        stack.callback(is_over.set)
        dripping = [client for client, sends in clients if sends is DRIP]
        thread = threading.Thread(target=drip, args=(dripping, is_over))
        thread.start()
        for client, _ in clients:
            assert client.is_cut()
        took_s = time.monotonic() - begin_s
        is_over.set()
        thread.join()
    assert HANDSHAKE_S * 0.9 < took_s < HANDSHAKE_S + 4


DRIP = b"\x16\x03\x01\x02\x00"


def drip(clients: list[Client], is_over: threading.Event) -> None:
    while not is_over.wait(0.1):
        for client in clients:
            with contextlib.suppress(OSError):
                client.raw(b"\0")


@pytest.mark.parametrize("has_pause", [False, True])
def test_a_broken_record_ends_the_session_and_nothing_is_taken(site: Site, has_pause: bool) -> None:
    path = site.new_path()
    with secured(site, "may", client_context()) as client:
        client.envelope(path)
        client.raw(b"Subject: x\r\n\r\nbody\r\n")
        plain = socket.socket(fileno=client.socket.detach())
        with plain:
            if has_pause:
                time.sleep(0.05)  # else it is read together with the record before
            plain.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))  # no key made this
            plain.settimeout(15)
            with contextlib.suppress(OSError):
                while plain.recv(4096):
                    pass
    site.wait_for_line(r"SSL_accept error from unknown.*(bad record mac|decryption failed)")
    time.sleep(0.1)
    assert not site.has_got(path)


def test_a_client_that_ends_tls_is_not_heard_in_clear(site: Site) -> None:
    with secured(site, "may", client_context()) as client:
        with contextlib.suppress(OSError):
            assert isinstance(client.socket, ssl.SSLSocket)
            client.socket.unwrap()
        plain = socket.socket(fileno=client.socket.detach())
        with plain:
            plain.settimeout(15)
            heard = b""
            with contextlib.suppress(OSError):
                plain.sendall(b"MAIL FROM:<clear@x.example>\r\n")
                while octets := plain.recv(4096):
                    heard += octets
    assert b"250" not in heard


def test_the_end_of_a_message_with_the_end_of_tls(site: Site) -> None:
    """close_notify right behind the final dot: the message is answered, and kept."""
    path = site.new_path()
    with secured(site, "may", client_context("1.3")) as client:
        client.envelope(path)
        client.raw(b"Subject: x\r\n\r\nbody\r\n.\r\n")
        assert client.reply().startswith("250 2.0.0 Ok: queued")
    until(lambda: site.has_got(path))


# Certificates.


def shown_by(site: Site, listener: str, name: str) -> str:
    """Fingerprint of what is shown to a client that asks for `name`."""
    context = client_context()
    context.check_hostname = False
    with secured(site, listener, context, name=name) as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        der = client.socket.getpeercert(binary_form=True)
    assert der is not None
    return hashlib.sha256(der).hexdigest()


@pytest.mark.parametrize("listener", ["may", "implicit"])
def test_the_certificate_of_the_name_that_is_asked_for(site: Site, listener: str) -> None:
    other = fingerprint(site.certificate("other.pem"))
    main = fingerprint(site.certificate("server.pem"))
    assert shown_by(site, listener, "other.example") == other
    assert shown_by(site, listener, "OTHER.example") == other
    assert shown_by(site, listener, "a.wild.example") == other
    assert shown_by(site, listener, "a.b.wild.example") == main
    assert shown_by(site, listener, "fastmta.test") == main
    assert shown_by(site, listener, "unknown.example") == main


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("listener", ["may", "implicit"])
def test_a_listed_certificate_may_relay_and_no_other(
    site: Site, listener: str, version: str
) -> None:
    relay = "RCPT TO:<x@elsewhere.example>"
    friend = client_context(version, site.certificate("friend.pem"))
    with secured(site, listener, friend, STRANGER) as client:
        client.say("MAIL FROM:<a@b.example>")
        assert client.say(relay).startswith("250")
    known = client_context(version, site.certificate("known.pem"))
    with secured(site, listener, known, STRANGER) as client:
        client.say("MAIL FROM:<a@b.example>")
        assert client.say(relay).startswith("554 5.7.1")
    with secured(site, listener, client_context(version), STRANGER) as client:
        client.say("MAIL FROM:<a@b.example>")
        assert client.say(relay).startswith("554 5.7.1")


def test_a_certificate_of_another_authority_gets_nowhere(site: Site) -> None:
    """Neither one for the same name."""
    foreign = client_context("1.3", site.certificate("foreign.pem"))
    with Client(site.may, source=STRANGER) as client:
        assert client.say("STARTTLS").startswith("220")
        with contextlib.suppress(OSError):  # TLS 1.3: the client learns of it when it reads
            client.wrap(foreign)
        assert client.is_cut()
    site.wait_for_line("SSL_accept error .*certificate verify failed")


def test_many_at_once(site: Site) -> None:
    """Handshakes and messages of many clients do not mix."""
    paths = [site.new_path() for _ in range(24)]
    failures: list[str] = []

    def one(path: str) -> None:
        try:
            with secured(site, "implicit", client_context()) as client:
                for _ in range(3):
                    assert (
                        client.send(path, content=f"Subject: {path}\r\n\r\n{path}\r\n")[:3] == "250"
                    )
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=one, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    until(lambda: all(site.has_got(path) for path in paths))
    for each in list(site.receiver.transactions):
        (path,) = each.forward_paths
        if path.decode() in paths:
            assert each.content.endswith(b"\r\n\r\n" + path + b"\r\n")


def test_a_certificate_that_is_replaced(site: Site) -> None:
    """Sessions go on, new ones see the new one; a broken file changes nothing and is told of."""
    path = site.directory / "server.pem"
    before = path.read_bytes()
    first = fingerprint(path)
    try:
        with secured(site, "may", client_context()) as open_session:
            issue(path, "fastmta.test")
            second = fingerprint(path)
            assert second != first
            until(lambda: shown_by(site, "may", "fastmta.test") == second, 20.0)
            assert shown_by(site, "implicit", "fastmta.test") == second
            assert open_session.send(site.new_path()).startswith("250")
            path.write_text("-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n")
            site.wait_for_line(r"server\.pem.*\(the TLS certificates in use stay\)")
            assert shown_by(site, "may", "fastmta.test") == second
            assert open_session.say("NOOP").startswith("250")
    finally:
        path.write_bytes(before)
    until(lambda: shown_by(site, "may", "fastmta.test") == first, 20.0)
