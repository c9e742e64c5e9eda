"""Debian's Postfix takes our mail by TLS and after a login that its Dovecot checks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from fastmta.lab import free_port
from tests.support.certificates import Certificates
from tests.support.dovecot import running_dovecot
from tests.support.mailbox import Mailbox, without_received
from tests.support.outbound import HOST, OTHER_HOST, Exits, Outbound, address_with_port
from tests.support.postfix import TlsPostfix, receiving, running_tls_postfix

pytestmark = pytest.mark.interop

LOGIN = {"username": "relay@client.example", "password": "geh eim"}
MECHANISMS = ("PLAIN", "LOGIN", "SCRAM-SHA-256")
SENT = ["may", "encrypt", "verify", "secure", "fingerprint", "submissions",
        *(f"login-{one.lower()}" for one in MECHANISMS)]  # fmt: skip


@dataclass
class World:
    outbound: Outbound
    mailbox: Mailbox
    postfix: TlsPostfix

    def received(self, name: str) -> tuple[bytes, bytes]:
        """What Postfix says of our session, and the content behind our field."""
        content = self.mailbox.wait_for(f"secret for {name}\r\n".encode()).content
        of_postfix, rest = without_received(content)
        _, rest = without_received(rest)
        return of_postfix, rest


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    shown = Certificates(tmp_path_factory.mktemp("certificates"), HOST, OTHER_HOST)
    exits = Exits(shown.trusted)
    with ExitStack() as stack:
        mailbox = stack.enter_context(Mailbox())
        passwords = {LOGIN["username"]: LOGIN["password"]}
        dovecot = stack.enter_context(running_dovecot(passwords))
        submissions = address_with_port(465)
        login = receiving(
            shown.right, level="encrypt", login_socket=dovecot.socket, is_login_needed=True
        )
        login_port, impostor_port = free_port(), free_port()
        listeners = {
            f"127.0.0.1:{login_port}": login,
            f"{submissions}:465": login | {"smtpd_tls_wrappermode": "yes"},
            f"127.0.0.1:{impostor_port}": {"smtpd_tls_cert_file": shown.other_authority},
        }
        postfix = stack.enter_context(
            running_tls_postfix(listeners, relay_host=mailbox.next_hop, **receiving(shown.right))
        )
        for level in ("may", "encrypt", "verify", "secure"):
            exits.relay(level, postfix.port, tls=level)
        exits.relay("fingerprint", postfix.port, fingerprints=[shown.fingerprint(shown.right)])
        for level in ("may", "verify"):
            # By another name: our client would resume a session that the right one began.
            exits.relay(f"impostor-{level}", f"[{OTHER_HOST}]:{impostor_port}", tls=level)
        for mechanism in MECHANISMS:
            exits.relay(f"login-{mechanism.lower()}", login_port, mechanisms=[mechanism], **LOGIN)
        exits.relay("submissions", f"[{submissions}]:465", tls_names=[HOST], **LOGIN)
        exits.relay("refused", login_port, username=LOGIN["username"], password="wrong")
        exits.relay("stranger", login_port, tls="secure")
        outbound = stack.enter_context(exits.running(tmp_path_factory.mktemp("server")))
        outbound.send(*SENT, "impostor-may", "impostor-verify", "refused", "stranger")
        yield World(outbound, mailbox, postfix)


@pytest.mark.parametrize("name", SENT)
def test_mail_arrives_by_tls(world: World, name: str) -> None:
    result = world.outbound.result(name)
    assert result.status == "sent", result
    of_postfix, content = world.received(name)
    assert content.startswith(f"Subject: to {name}\r\n".encode())
    assert content.endswith(f"\r\n\r\nsecret for {name}\r\n".encode())
    assert re.search(rb"\(using TLSv1\.3 with cipher TLS_\w+ \(", of_postfix)
    is_login = name.startswith("login") or name == "submissions"
    assert (b"Authenticated sender: relay@client.example" in of_postfix) is is_login
    assert (b" with ESMTPSA id " if is_login else b" with ESMTPS id ") in of_postfix


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_postfix_saw_the_mechanism(world: World, mechanism: str) -> None:
    world.outbound.result(f"login-{mechanism.lower()}")
    assert (
        f"sasl_method={mechanism}, sasl_username=relay@client.example" in world.postfix.log_text()
    )


def test_impostor(world: World) -> None:
    assert world.outbound.result("impostor-may").status == "sent"
    result = world.outbound.result("impostor-verify")
    assert result.status == "deferred", result
    assert "not trusted" in result.reason or "not verified" in result.reason
    assert "impostor-verify.test" not in world.postfix.log_text()


def test_refused_login_delays_mail(world: World) -> None:
    result = world.outbound.result("refused")
    assert (result.status, result.dsn) == ("deferred", "4.7.8"), result
    assert "535 5.7.8" in result.reason
    assert "wrong" not in world.outbound.server.log_text()


def test_without_a_login_postfix_refuses(world: World) -> None:
    result = world.outbound.result("stranger")
    assert result.status == "bounced", result
    assert "554 5.7.1" in result.reason
