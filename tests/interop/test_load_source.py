"""bench/source.c against servers that others wrote, and against ours."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.lab.bench.certificate import Certificate, make_certificate
from fastmta.lab.bench.contender import postfix_tls
from fastmta.lab.bench.responder import Responder
from fastmta.lab.bench.source import Holder
from fastmta.lab.loopback import LabError, free_port, is_listening, wait_until
from fastmta.lab.postfix import SBIN
from tests.support.daemon import running
from tests.support.mailbox import Mailbox
from tests.support.native import built, built_directory, run_source
from tests.support.postfix import Postfix, running_postfix

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    built("source")
    return make_certificate(built_directory())


@pytest.fixture(scope="module")
def secure_postfix(certificate: Certificate) -> Iterator[Postfix]:
    """It offers STARTTLS, and throws away what it takes."""
    discard = {"default_transport": "discard", "relay_transport": "discard"}
    with running_postfix(**postfix_tls(certificate), **discard) as postfix:
        yield postfix


@pytest.fixture
def responder(certificate: Certificate) -> Iterator[Responder]:
    built("responder")
    with Responder(built_directory(), certificate) as responder:
        yield responder


def at(port: int) -> str:
    return f"127.0.0.1:{port}"


def test_contents_arrive_as_they_were_asked_for() -> None:
    with Mailbox() as mailbox:
        for octets in (2, 79, 80, 81, 82, 160, 161, 162, 4096):
            done = run_source(
                "-l", str(octets), "-f", "a@b.test", "-t", "c@d.test", at(mailbox.port)
            )
            assert (done.status, done.report["messages"]) == (0, 1), done.complaint
            message = mailbox.wait(len(mailbox.messages) or 1)[-1]
            head, _, body = message.content.partition(b"\r\n\r\n")
            assert len(body) == octets
            assert body.endswith(b"\r\n")
            assert b"\r" not in body.replace(b"\r\n", b"")
            assert b"\n" not in body.replace(b"\r\n", b"")
            assert max(map(len, body.split(b"\r\n"))) <= 79
            assert b"Message-Id: <" in head
            assert message.reverse_path == b"a@b.test"
            assert message.forward_paths == (b"c@d.test",)


@pytest.mark.parametrize(("options", "connections"), [(("-d",), 7), ((), 200)])
def test_smtp_sink_takes_everything(options: tuple[str, ...], connections: int) -> None:
    if not (SBIN / "smtp-sink").exists():
        pytest.skip("needs Debian's postfix")
    port = free_port()
    sink = subprocess.Popen([str(SBIN / "smtp-sink"), "-u", "nobody", at(port), "100"])
    try:
        wait_until(lambda: is_listening(port), 10, "smtp-sink")
        done = run_source("-s", "7", "-m", "200", *options, at(port))
    finally:
        sink.kill()
        sink.wait()
    assert done.status == 0, done.complaint
    assert done.report["messages"] == 200
    assert done.report["connections"] == connections
    assert done.report["handshakes"] == 0
    assert 0 < done.report["reply_p50_ms"] <= done.report["reply_p99_ms"]


def test_our_server_takes_everything(tmp_path: Path) -> None:
    with (
        Mailbox() as mailbox,
        running(tmp_path / "server", relay_host=mailbox.next_hop) as server,
    ):
        done = run_source("-s", "5", "-m", "50", "-d", "--wait-greeting", at(server.port))
        assert (done.status, done.report["messages"]) == (0, 50), done.complaint
        assert run_source("-s", "5", "-m", "20", at(server.port)).status == 0
        mailbox.wait(70)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_postfix_takes_everything_by_tls(secure_postfix: Postfix, version: str) -> None:
    options = ("--tls", "starttls", "--min", version, "--max", version, "-s", "4", "-m", "12")
    done = run_source(*options, "-d", at(secure_postfix.port))
    assert done.status == 0, done.complaint
    assert done.report["messages"] == 12
    assert done.report["handshakes"] == done.report["connections"] == 4
    assert done.report["protocol"] == version
    done = run_source(*options, at(secure_postfix.port))
    assert done.status == 0, done.complaint
    assert done.report["handshakes"] == done.report["connections"] == 12
    assert done.report["resumed"] == 0


def test_postfix_agrees_to_the_cipher_that_is_asked_for(secure_postfix: Postfix) -> None:
    for version, cipher in (
        ("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256"),
        ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ):
        options = ("--tls", "starttls", "--min", version, "--max", version, "--ciphers", cipher)
        done = run_source(*options, at(secure_postfix.port))
        assert (done.status, done.report["cipher"]) == (0, cipher), done.complaint


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_sessions_are_resumed_only_when_asked_for(responder: Responder, version: str) -> None:
    options = ("--tls", "starttls", "--max", version, "-s", "3", "-m", "30", at(responder.port))
    fresh = run_source(*options)
    again = run_source("--resume", *options)
    assert (fresh.status, again.status) == (0, 0), fresh.complaint + again.complaint
    assert fresh.report["tickets"] == 30
    assert fresh.report["resumed"] == 0
    assert again.report["resumed"] == 27
    assert again.report["handshakes"] == 30


def test_tls_from_the_first_octet(certificate: Certificate) -> None:
    port = free_port()
    files = (str(certificate.chain), str(certificate.key))
    responder = subprocess.Popen([built("responder"), "--implicit", at(port), *files])
    try:
        wait_until(lambda: is_listening(port), 10, "the responder")
        done = run_source("--tls", "implicit", "-s", "3", "-m", "9", "-l", "300000", at(port))
        assert (done.status, done.report["handshakes"]) == (0, 9), done.complaint
        plain = run_source("--tls", "none", "--seconds-max", "1", at(port))
        assert (plain.status, plain.report["messages"]) == (1, 0)
    finally:
        responder.kill()
        responder.wait()


def test_a_server_without_tls_is_an_error() -> None:
    with Mailbox() as mailbox:
        done = run_source("--tls", "starttls", "-s", "2", "-m", "9", at(mailbox.port))
    assert (done.status, done.report["messages"], done.report["errors"]) == (1, 0, 2)
    assert "STARTTLS: not expected: 500" in done.complaint


@pytest.mark.parametrize(
    ("recipient", "what"),
    [("a@gone.test", "RCPT: not expected: 550"), ("a@busy.test", "RCPT: not expected: 421")],
)
def test_refusals_are_counted_and_told(recipient: str, what: str) -> None:
    with Mailbox() as mailbox:
        done = run_source("-s", "3", "-m", "30", "-t", recipient, at(mailbox.port))
    assert (done.status, done.report["messages"], done.report["errors"]) == (1, 0, 3)
    assert done.complaint.count(what) == 3


def test_a_refused_end_of_data_is_no_message() -> None:
    with Mailbox(reply="451 4.3.0 Later") as mailbox:
        done = run_source(at(mailbox.port))
    assert (done.status, done.report["messages"], done.report["errors"]) == (1, 0, 1)
    assert "end of data: not expected: 451 4.3.0 Later" in done.complaint


def test_nobody_there_is_an_error() -> None:
    done = run_source("-s", "2", "-m", "4", at(free_port()))
    assert (done.status, done.report["messages"], done.report["errors"]) == (1, 0, 2)


def test_a_silent_server_is_given_up() -> None:
    with Mailbox(delay_s=30.0) as mailbox:
        begin = time.monotonic()
        done = run_source("--seconds-max", "1", at(mailbox.port))
    assert time.monotonic() - begin < 20
    assert done.status == 1
    assert "not done after 1 s" in done.complaint


@pytest.mark.parametrize(
    "arguments",
    [
        ("192.0.2.1:25",),
        ("0.0.0.0:25",),
        ("localhost:25",),
        ("[::1]:25",),
        ("127.0.0.1",),
        ("127.0.0.1:0",),
        ("127.0.0.1:65536",),
        ("-s", "0", "127.0.0.1:25"),
        ("-s", "1x", "127.0.0.1:25"),
        ("-m", "10000001", "127.0.0.1:25"),
        ("-l", "1", "127.0.0.1:25"),
        ("-f", "a>\r\nQUIT", "127.0.0.1:25"),
        ("--tls", "maybe", "127.0.0.1:25"),
        ("--min", "SSLv3", "127.0.0.1:25"),
        ("--ciphers", "NOSUCH", "127.0.0.1:25"),
        ("--from", "192.0.2.1", "127.0.0.1:25"),
        ("--addresses", "2", "127.0.0.1:25"),
        ("--wait-greeting", "127.0.0.1:25"),
        ("--ramp", "2", "127.0.0.1:25"),
        ("-m", "0", "127.0.0.1:25"),
        (),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...]) -> None:
    done = run_source(*arguments)
    assert (done.status, done.report) == (2, {})
    assert done.complaint


def test_held_sessions_stay_until_they_are_released(responder: Responder) -> None:
    held = ("--hold", "-s", "40", "-m", "2", "--ramp", "7", "--tls", "starttls")
    origins = ("--from", "127.0.0.2", "--addresses", "3")
    with Holder([built("source"), *held, *origins, at(responder.port)]) as holder:
        report = holder.wait()
        assert (report.held, report.messages, report.handshakes) == (40, 80, 40)
        assert holder.release().held == 40


def test_a_held_session_that_is_lost_is_an_error(certificate: Certificate) -> None:
    built("responder")
    with Responder(built_directory(), certificate) as responder:
        command = [built("source"), "--hold", "-s", "5", "-m", "0", at(responder.port)]
        with Holder(command) as holder:
            assert holder.wait().held == 5
            responder.__exit__(None, None, None)
            with pytest.raises(LabError, match="5 sessions failed or were lost"):
                holder.release()
