"""AUTH over the wire: mechanisms, refusals, and when it is out of place."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.support.client import Client, until
from tests.support.login import (
    FAILED,
    FLOOR_S,
    SUCCESS,
    WAYS,
    LoginSite,
    by_plain,
    challenge,
    encoded,
    login_site,
    new_host,
    together,
)
from tests.support.sasl import ScramClient
from tests.support.tls import client_context


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginSite]:
    with login_site(tmp_path_factory.mktemp("login")) as site:
        yield site


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("listener", ["submission", "submissions", "relay"])
def test_a_login_and_its_message(site: LoginSite, listener: str, way: str) -> None:
    mechanism, log_in = WAYS[way]
    path = f"{listener}-{way.replace(' ', '-')}@elsewhere.example"
    with site.connect(listener=listener) as client:
        assert "250-AUTH PLAIN LOGIN SCRAM-SHA-256\n" in client.say("EHLO c.example") + "\n"
        assert log_in(client, "anna", "anna-secret") == SUCCESS
        queued = client.send(path)
        assert queued.startswith("250 2.0.0 Ok: queued as ")
    queue_id = queued.split()[-1]
    site.wait_for_line(
        rf"{queue_id}: client=unknown\[127\.0\.0\.\d+\], "
        rf"sasl_method={mechanism}, sasl_username=anna\n"
    )
    until(lambda: any(path.encode() in each.forward_paths for each in site.receiver.transactions))
    (one,) = [each for each in site.receiver.transactions if path.encode() in each.forward_paths]
    assert b"with ESMTPSA id" in one.content
    assert b"anna" not in one.content


@pytest.mark.parametrize("way", ["plain", "login", "scram"])
def test_a_name_and_a_password_beyond_ascii(site: LoginSite, way: str) -> None:
    with site.connect() as client:
        assert WAYS[way][1](client, "ünal", "пароль") == SUCCESS


def test_a_wrong_password_and_a_name_that_nobody_has(site: LoginSite) -> None:
    """One text, and no sooner than any other refusal."""
    together(partial(fail_twice, site), WAYS)


def fail_twice(site: LoginSite, way: str) -> None:
    source = new_host()
    times = []
    with site.connect(source) as client:
        for name in ("dora", "nobody"):
            begin_s = time.monotonic()
            assert WAYS[way][1](client, name, "wrong") == FAILED
            times.append(time.monotonic() - begin_s)
    assert min(times) >= FLOOR_S
    mechanism = WAYS[way][0]
    line = rf"warning: unknown\[{re.escape(source)}\]: SASL {mechanism} authentication failed: .*"
    site.wait_for_line(line + "sasl_username=dora\n")
    site.wait_for_line(line + "sasl_username=nobody\n")
    assert "wrong\n" not in site.server.log_text()


def test_who_exists_cannot_be_timed(site: LoginSite) -> None:
    times: dict[str, list[float]] = {"emma": [], "nobody": []}
    for _ in range(2):
        with site.connect() as client:
            for name, seconds in times.items():
                begin_s = time.monotonic()
                assert by_plain(client, name, "wrong") == FAILED
                seconds.append(time.monotonic() - begin_s)
    difference_s = statistics.mean(times["emma"]) - statistics.mean(times["nobody"])
    assert abs(difference_s) < 0.2, times


# Exchanges that go wrong; what is no exchange at all is in tests/vectors/auth.toml.


def test_a_scram_client_that_lies(site: LoginSite) -> None:
    with site.connect() as client:
        scram = ScramClient("anna", "anna-secret")
        first = client.say(f"AUTH SCRAM-SHA-256 {encoded(scram.first())}")
        final = scram.final(challenge(first)).replace(b"r=client", b"r=Client")
        assert client.say(encoded(final)).startswith("535 5.7.8")
        bound = ScramClient("anna", "anna-secret", header="p=tls-unique,,")
        assert client.say(f"AUTH SCRAM-SHA-256 {encoded(bound.first())}").startswith("535 5.7.8")


def test_lines_that_are_too_long(site: LoginSite) -> None:
    with site.connect() as client:
        reply = client.say("AUTH PLAIN " + "A" * 4000)
        assert reply == "500 5.5.2 fastmta.test Error: command too long"
        assert client.say("AUTH PLAIN") == "334 "
        reply = client.say("A" * 12_288)
        assert reply.startswith("500 5.5.6"), reply
        assert client.say("NOOP").startswith("250")
        assert client.say("AUTH PLAIN") == "334 "
        assert client.say("A" * 12_284).startswith("535 5.7.8")  # as long as it may be
        assert client.log_in("anna", "anna-secret") == SUCCESS


def test_an_endless_exchange_is_no_way_to_stay(site: LoginSite) -> None:
    with site.connect() as client:
        for _ in range(40):
            if not client.say("AUTH LOGIN").startswith("334"):
                break
            if not client.say("*").startswith("501"):
                break
        else:
            pytest.fail("an abort is an error of the client, and errors end a session")


# When AUTH is out of place.


def test_before_tls(site: LoginSite) -> None:
    with Client(site.relay, source=new_host()) as client:
        assert "AUTH" not in client.say("EHLO c.example")
        reply = "538 5.7.11 Encryption required for requested authentication mechanism"
        assert client.say("AUTH PLAIN") == reply
        assert client.log_in("anna", "anna-secret") == reply
    with Client(site.submission, source=new_host()) as client:
        assert "AUTH" not in client.say("EHLO c.example")
        reply = client.log_in("anna", "anna-secret")
        assert reply == "530 5.7.0 Must issue a STARTTLS command first"


def test_twice_and_in_a_transaction(site: LoginSite) -> None:
    with site.connect(listener="relay") as client:
        assert client.say("MAIL FROM:<a@b.example>").startswith("250")
        in_progress = "503 5.5.1 Error: MAIL transaction in progress"
        assert client.log_in("anna", "anna-secret") == in_progress
        assert client.say("RCPT TO:<x@ours.example>").startswith("250")
        assert client.log_in("anna", "anna-secret") == in_progress
        assert client.say("RSET").startswith("250")
        assert client.log_in("anna", "anna-secret") == SUCCESS
        already = "503 5.5.1 Error: already authenticated"
        assert client.log_in("berta", "berta-secret") == already
        assert client.say("RSET").startswith("250")
        assert client.say("EHLO again.example").startswith("250")
        assert client.log_in("berta", "berta-secret") == already
        client.transaction("x@elsewhere.example")  # EHLO and RSET do not log out


def test_before_ehlo(site: LoginSite) -> None:
    with Client(site.submissions, source=new_host(), greets=False, tls=client_context()) as client:
        assert client.reply().startswith("220")
        assert client.log_in("anna", "anna-secret") == "503 5.5.1 Error: send HELO/EHLO first"


def test_a_client_that_leaves_in_the_middle(site: LoginSite) -> None:
    for _ in range(5):
        with site.connect() as client:
            assert client.say("AUTH LOGIN").startswith("334")
        with site.connect() as client:
            client.raw(
                f"AUTH PLAIN {encoded(chr(0) + 'frieda' + chr(0) + 'frieda-secret')}\r\n".encode()
            )
    with site.connect() as client:
        assert client.log_in("frieda", "frieda-secret") == SUCCESS


@pytest.mark.parametrize("listener", ["submission", "submissions"])
def test_submission_without_a_login(site: LoginSite, listener: str) -> None:
    with site.connect(listener=listener) as client:
        for command in ("MAIL FROM:<a@ours.example>", "MAIL FROM:<>"):
            assert client.say(command) == "530 5.7.0 Authentication required"
        assert client.say("RCPT TO:<a@ours.example>") == "503 5.5.1 Error: need MAIL command"
        assert client.say("DATA") == "503 5.5.1 Error: need RCPT command"
        assert client.say("VRFY anna").startswith("252")
