"""The receivers of the tests themselves, against clients that are not ours."""

from __future__ import annotations

import base64
import smtplib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.lmtp_receiver import LmtpReceiver
from tests.support.provider import (
    OVER_QUOTA,
    OVER_RATE,
    UNVERIFIED,
    Allowance,
    Provider,
    provider_side,
)
from tests.support.receiver import Act
from tests.support.sasl import ScramClient
from tests.support.tls import client_context
from tests.support.tls_receiver import ALERT, GARBAGE, INJECTED, TlsReceiver, TlsSide

NAME = "relay.example"
USERS = {"relay": "secret"}
BAD = ["wrong_name", "expired", "early", "self_signed", "other_authority", "revoked",
       "without_intermediate"]  # fmt: skip
CONTENT = b"Subject: x\r\n\r\n.\r\nbody\r\n"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"), NAME, "127.0.0.1")


@pytest.fixture
def receiver(shown: Certificates) -> Iterator[TlsReceiver]:
    with TlsReceiver(side(shown)) as receiver:
        yield receiver


def side(shown: Certificates) -> TlsSide:
    return TlsSide(
        certificate=shown.right, users=USERS, tokens={"t0ken": "relay"}, is_auth_required=True
    )


def connect(receiver: TlsReceiver, *, version: str = "1.3") -> smtplib.SMTP:
    """Inside TLS, EHLO not yet said."""
    client = smtplib.SMTP("127.0.0.1", receiver.port, "client.example", timeout=5)
    client.starttls(context=client_context(version))
    return client


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_message_by_starttls(receiver: TlsReceiver, version: str) -> None:
    with connect(receiver, version=version) as client:
        client.login("relay", "secret")
        client.sendmail("a@source.example", ["b@sink.example"], CONTENT)
    receiver.wait_for_transactions(1)
    (session,) = receiver.tls_sessions
    assert receiver.transactions[0].content == CONTENT
    assert session.tls_version == f"TLSv{version}"
    assert session.server_name == "127.0.0.1" or session.server_name is None
    assert session.login == "relay"
    assert session.leaked() == b"ehlo client.example\r\nSTARTTLS\r\n"
    assert session.tls_commands[0] == b"ehlo client.example"
    assert b"Subject: x" in session.octets
    assert b"Subject: x" not in session.wire


def test_implicit_tls_leaves_nothing_in_clear(shown: Certificates) -> None:
    with TlsReceiver(TlsSide(certificate=shown.right, is_implicit=True)) as receiver:
        context = client_context()
        with smtplib.SMTP_SSL("127.0.0.1", receiver.port, "c.example", context=context) as client:
            client.sendmail("a@source.example", ["b@sink.example"], CONTENT)
        receiver.wait_for_transactions(1)
        assert receiver.leaked() == b""


@pytest.mark.parametrize("kind", ["right", "renewed", "by_intermediate", *BAD])
def test_certificate(shown: Certificates, kind: str) -> None:
    with TlsReceiver(TlsSide(certificate=getattr(shown, kind))) as receiver:
        context = ssl.create_default_context(cafile=shown.trusted)
        client = smtplib.SMTP("127.0.0.1", receiver.port, "client.example", timeout=5)
        with client:
            client._host = NAME  # type: ignore[attr-defined]  # whom it looks for
            if kind not in BAD:
                client.starttls(context=context)
                return
            with pytest.raises(ssl.SSLCertVerificationError):
                client.starttls(context=context)


def test_certificate_of_an_authority_that_was_trusted_before(shown: Certificates) -> None:
    with TlsReceiver(TlsSide(certificate=shown.revoked)) as receiver:
        context = ssl.create_default_context(cafile=shown.trusted_before)
        with smtplib.SMTP("127.0.0.1", receiver.port, "client.example", timeout=5) as client:
            client._host = NAME  # type: ignore[attr-defined]  # whom it looks for
            client.starttls(context=context)
        assert receiver.tls_sessions[0].server_name == NAME


def test_sessions_are_resumed_until_the_certificate_changes(shown: Certificates) -> None:
    context = client_context("1.2")
    session = None
    with TlsReceiver(TlsSide(certificate=shown.right)) as receiver:
        for certificate in ("", "", shown.renewed):
            if certificate:
                receiver.use(certificate)
            raw = open_tls(receiver)
            with context.wrap_socket(raw, server_hostname=NAME, session=session) as tls:
                session = tls.session
        assert [one.is_resumed for one in receiver.tls_sessions] == [False, True, False]


def open_tls(receiver: TlsReceiver) -> socket.socket:
    """A connection on which TLS is next."""
    raw = socket.create_connection(("127.0.0.1", receiver.port), 5)
    replies = raw.makefile("rb")
    assert replies.readline().startswith(b"220")
    raw.sendall(b"STARTTLS\r\n")
    assert replies.readline().startswith(b"220")
    return raw


@pytest.mark.parametrize("octets", [ALERT, GARBAGE, b""], ids=["alert", "garbage", "nothing"])
def test_handshake_that_is_none(shown: Certificates, octets: bytes) -> None:
    script = {"HANDSHAKE": Act(octets, then="close")}
    with TlsReceiver(TlsSide(certificate=shown.right), script) as receiver:
        client = smtplib.SMTP("127.0.0.1", receiver.port, "client.example", timeout=5)
        with pytest.raises((ssl.SSLError, OSError)):
            client.starttls(context=client_context())
        client.close()
        assert receiver.leaked() == b"ehlo client.example\r\nSTARTTLS\r\n"


def test_what_is_said_in_clear_after_all_is_seen(receiver: TlsReceiver) -> None:
    with open_tls(receiver) as raw:
        raw.sendall(b"MAIL FROM:<secret@source.example>\r\n")
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(4096):
            pass
    assert receiver.leaked() == b"STARTTLS\r\nMAIL FROM:<secret@source.example>\r\n"
    assert receiver.tls_sessions[0].tls_error


def test_injection_comes_in_one_packet(shown: Certificates) -> None:
    script = {"STARTTLS": Act(INJECTED)}
    with TlsReceiver(TlsSide(certificate=shown.right), script) as receiver:
        raw = socket.create_connection(("127.0.0.1", receiver.port), 5)
        assert raw.recv(4096).startswith(b"220")
        raw.sendall(b"STARTTLS\r\n")
        assert raw.recv(4096) == INJECTED
        with client_context().wrap_socket(raw, server_hostname="127.0.0.1") as tls:
            tls.sendall(b"NOOP\r\n")
            assert tls.recv(4096).startswith(b"500")


def encoded(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def test_login_by_xoauth2(receiver: TlsReceiver) -> None:
    with connect(receiver) as client:
        client.ehlo()
        for token, code in (("wrong", 334), ("t0ken", 235)):
            given = encoded(f"user=relay\1auth=Bearer {token}\1\1".encode())
            assert client.docmd("AUTH", f"XOAUTH2 {given}")[0] == code
            if code == 334:
                assert client.docmd("")[0] == 535


@pytest.mark.parametrize("is_forging", [False, True])
def test_login_by_scram(shown: Certificates, is_forging: bool) -> None:
    forging = TlsSide(certificate=shown.right, users=USERS, is_forging=is_forging)
    with TlsReceiver(forging) as receiver, connect(receiver) as client:
        client.ehlo()
        scram = ScramClient("relay", "secret")
        code, challenge = client.docmd("AUTH", f"SCRAM-SHA-256 {encoded(scram.first())}")
        assert code == 334
        code, final = client.docmd(encoded(scram.final(base64.b64decode(challenge))))
        assert code == 334
        assert scram.is_server(base64.b64decode(final)) is not is_forging
        assert client.docmd("")[0] == 235


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_refused_login(receiver: TlsReceiver, mechanism: str) -> None:
    with connect(receiver) as client:
        client.ehlo()
        client.esmtp_features["auth"] = mechanism
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("relay", "wrong")
        assert receiver.tls_sessions[0].attempts == [(mechanism, "relay")]
        assert client.mail("a@source.example")[0] == 530


@pytest.mark.parametrize("is_late", [False, True])
def test_provider_throttles(shown: Certificates, is_late: bool) -> None:
    allowance = Allowance(rate=3, senders=("ours.example",), is_late=is_late)
    with Provider(provider_side(shown.right, USERS), allowance) as provider:
        client = smtplib.SMTP("127.0.0.1", provider.port, "client.example", timeout=5)
        client.ehlo()
        assert client.mail("a@ours.example")[0] == 530
        client.starttls(context=client_context())
        client.ehlo()
        assert client.mail("a@ours.example")[0] == 530
        client.login("relay", "secret")
        refusals = [refusal_of(client, "a@ours.example") for _ in range(4)]
        assert refusals == [b"", b"", b"", OVER_RATE]
        provider.allowance = Allowance(quota=3, senders=("ours.example",), is_late=is_late)
        assert refusal_of(client, "a@ours.example") == OVER_QUOTA
        provider.allowance = Allowance(senders=("ours.example",), is_late=is_late)
        assert refusal_of(client, "a@other.example") == UNVERIFIED % b"a@other.example"
        assert (provider.over_rate_count, provider.over_quota_count) == (1, 1)
        assert provider.busiest_second() >= 3
        client.quit()


def refusal_of(client: smtplib.SMTP, sender: str) -> bytes:
    """The refusal of one message; nothing when it was taken."""
    try:
        client.sendmail(sender, ["b@sink.example"], CONTENT)
    except smtplib.SMTPSenderRefused as error:
        code, text = error.smtp_code, error.smtp_error
    except smtplib.SMTPDataError as error:
        code, text = error.smtp_code, error.smtp_error
    else:
        return b""
    return b"%d %s\r\n" % (code, text if isinstance(text, bytes) else text.encode())


def test_lmtp_has_a_reply_for_each_recipient(tmp_path: Path) -> None:
    path = str(tmp_path / "lmtp")
    script = {"./2": Act(b"452 4.2.2 full\r\n")}
    with LmtpReceiver(script, path) as receiver:
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(path)
            replies = raw.makefile("rb")
            raw.sendall(b"EHLO c\r\nLHLO c\r\nMAIL FROM:<a@source.example>\r\n")
            raw.sendall(b"".join(b"RCPT TO:<%c@sink.example>\r\n" % name for name in b"xyz"))
            raw.sendall(b"DATA\r\n" + CONTENT.replace(b"\n.", b"\n..") + b".\r\nQUIT\r\n")
            lines = replies.read().split(b"\r\n")
            replies.close()
        assert lines[0] == b"220 receiver.example LMTP"
        assert lines[1] == b"500 5.5.1 This is LMTP"
        assert lines[-5:-2] == [
            b"250 2.1.5 <x@sink.example> saved",
            b"452 4.2.2 full",
            b"250 2.1.5 <z@sink.example> saved",
        ]
        (transaction,) = receiver.transactions
        assert transaction.forward_paths == [b"x@sink.example", b"z@sink.example"]
        assert transaction.content == CONTENT
