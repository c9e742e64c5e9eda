"""Logins at a relay: when one is tried, what is said, and that a failure bounces nothing."""

from __future__ import annotations

from base64 import b64encode

import pytest

from fastmta.delivery.dialog import Dialog
from fastmta.delivery.state import State, Step
from fastmta.message import OutcomeKind, Scope
from fastmta.route.way import TlsLevel, TlsPolicy, Way
from tests.support.securing import PaperTls, Spoken
from tests.support.talking import GREETING, feed, make_dialog, make_transaction, sent

EHLO_TLS = b"250-mx.example\r\n250 STARTTLS\r\n"
EHLO_AUTH = b"250-mx.example\r\n250-AUTH PLAIN LOGIN\r\n250 SIZE 1000\r\n"
NAME = "mx.example[192.0.2.1]"
FAILED = "SASL authentication failed; "
PIECES = pytest.mark.parametrize("pieces", ["whole", "octets"])


def make(
    *, is_trusted: bool = True, is_forced: bool = False, ehlo: bytes = EHLO_AUTH
) -> tuple[Dialog, Step]:
    """A dialog within TLS after its second EHLO."""
    policy = TlsPolicy(TlsLevel.ENCRYPT)
    dialog = make_dialog(Way(tls=policy, credentials="relay", is_auth_forced=is_forced))
    for reply in (GREETING, EHLO_TLS, b"220 Go\r\n"):
        step = dialog.receive(reply)
        sent(dialog)
    assert step is Step.TLS
    dialog.secured(PaperTls(is_trusted))
    sent(dialog)
    return dialog, dialog.receive(ehlo)


def assert_deferred(dialog: Dialog, text: str, status: str, scope: Scope = Scope.SITE) -> None:
    outcome = dialog.trouble
    assert outcome is not None
    assert (outcome.kind, outcome.status) == (OutcomeKind.DEFERRED, status)
    assert (outcome.text, outcome.scope) == (FAILED + text, scope)
    assert dialog.output == []
    assert dialog.state is State.CLOSED


@PIECES
def test_plain_in_one_line(pieces: str) -> None:
    dialog, step = make()
    assert (step, dialog.offered_mechanisms) == (Step.CREDENTIAL, ("PLAIN", "LOGIN"))
    assert dialog.log_in(Spoken()) is Step.WAIT
    assert sent(dialog) == b"AUTH PLAIN " + b64encode(b"\0u\0p") + b"\r\n"
    assert feed(dialog, b"235 2.7.0 Welcome\r\n", pieces) is Step.READY
    dialog.begin(make_transaction())
    assert sent(dialog).startswith(b"MAIL FROM:<sender@example.com> SIZE=")  # EHLO still counts


@PIECES
def test_challenges_and_answers(pieces: str) -> None:
    dialog, _ = make()
    exchange = Spoken("LOGIN", None, [b"user", b""])
    dialog.log_in(exchange)
    assert sent(dialog) == b"AUTH LOGIN\r\n"
    assert feed(dialog, b"334 " + b64encode(b"Username:") + b"\r\n", pieces) is Step.WAIT
    assert sent(dialog) == b64encode(b"user") + b"\r\n"
    assert feed(dialog, b"334 \r\n", pieces) is Step.WAIT
    assert sent(dialog) == b"\r\n"
    assert exchange.challenges == [b"Username:", b""]
    assert feed(dialog, b"235 2.7.0 Welcome\r\n", pieces) is Step.READY


def test_empty_initial_response_is_an_equals_sign() -> None:
    dialog, _ = make()
    dialog.log_in(Spoken("EXTERNAL", b""))
    assert sent(dialog) == b"AUTH EXTERNAL =\r\n"


def test_long_initial_response_waits_for_its_challenge() -> None:
    """RFC 4954 4."""
    token = b"t" * 2000
    dialog, _ = make()
    dialog.log_in(Spoken("XOAUTH2", token))
    assert sent(dialog) == b"AUTH XOAUTH2\r\n"
    assert dialog.receive(b"334 \r\n") is Step.WAIT
    assert sent(dialog) == b64encode(token) + b"\r\n"
    dialog, _ = make()
    dialog.log_in(Spoken("XOAUTH2", token))
    sent(dialog)
    assert dialog.receive(b"334 eHg=\r\n") is Step.CLOSED
    assert_deferred(
        dialog, f"cannot authenticate to server {NAME}: a challenge where none is due", "4.7.0"
    )


@PIECES
@pytest.mark.parametrize(
    ("refusal", "status", "scope"),
    [
        (b"535 5.7.8 Wrong\r\n", "4.7.8", Scope.SITE),
        (b"535 Wrong\r\n", "4.0.0", Scope.SITE),
        (b"504 5.5.4 What\r\n", "4.5.4", Scope.SITE),
        (b"454 4.7.0 Later\r\n", "4.7.0", Scope.HOST),
        (b"421 4.3.2 Bye\r\n", "4.3.2", Scope.HOST),
    ],
)
def test_refused_login_defers(refusal: bytes, status: str, scope: Scope, pieces: str) -> None:
    dialog, _ = make()
    dialog.log_in(Spoken())
    sent(dialog)
    assert feed(dialog, refusal, pieces) is Step.CLOSED
    assert_deferred(dialog, f"server {NAME} said: {refusal[:-2].decode()}", status, scope)
    assert dialog.is_alarming is (refusal[:3] != b"421")
    assert not dialog.is_tls_trouble


@pytest.mark.parametrize("is_forced", [True, False])
def test_nothing_is_said_to_a_peer_that_is_not_trusted(is_forced: bool) -> None:
    dialog, step = make(is_trusted=False, is_forced=is_forced)
    if is_forced:
        assert step is Step.CREDENTIAL
        return
    assert step is Step.CLOSED
    reason = "its certificate is not trusted"
    assert_deferred(dialog, f"cannot authenticate to server {NAME}: {reason}", "4.7.0")
    assert dialog.is_alarming


@pytest.mark.parametrize("level", [TlsLevel.NONE, TlsLevel.MAY])
@pytest.mark.parametrize("is_forced", [True, False])
def test_nothing_is_said_in_clear(level: TlsLevel, is_forced: bool) -> None:
    way = Way(tls=TlsPolicy(level), credentials="relay", is_auth_forced=is_forced)
    dialog = make_dialog(way)
    dialog.receive(GREETING)
    sent(dialog)
    step = dialog.receive(EHLO_AUTH)
    assert step is (Step.CREDENTIAL if is_forced else Step.CLOSED)
    assert sent(dialog) == b""
    if not is_forced:
        reason = "there is no TLS"
        assert_deferred(dialog, f"cannot authenticate to server {NAME}: {reason}", "4.7.0")


def test_server_without_auth_gets_no_mail() -> None:
    dialog, step = make(ehlo=b"250 mx.example\r\n")
    assert step is Step.CLOSED
    reason = "it does not announce SASL authentication support"
    assert_deferred(dialog, f"cannot authenticate to server {NAME}: {reason}", "4.7.0")


@pytest.mark.parametrize("hint", ["/run/secrets/smtp: Permission denied", "token: HTTP 400"])
def test_no_login_no_mail_and_no_word_of_our_files(hint: str) -> None:
    dialog, _ = make()
    assert dialog.cannot_log_in("there is none", hint) is Step.CLOSED
    assert_deferred(dialog, f"cannot authenticate to server {NAME}: there is none", "4.7.0")
    assert dialog.hint == hint


def test_no_mechanism_no_mail() -> None:
    dialog, _ = make()
    assert dialog.log_in(None) is Step.CLOSED
    assert_deferred(
        dialog, f"cannot authenticate to server {NAME}: no mechanism available", "4.7.0"
    )


@PIECES
@pytest.mark.parametrize(
    ("challenge", "reason"),
    [
        (b"334 !!!\r\n", "malformed challenge"),
        (b"334-eHg=\r\n334 eHg=\r\n", "malformed challenge"),
        (b"334 \xe4\r\n", "malformed challenge"),
        (b"334 eHg=\r\n", "a challenge that makes no sense"),
    ],
)
def test_challenge_that_makes_no_sense(challenge: bytes, reason: str, pieces: str) -> None:
    dialog, _ = make()
    dialog.log_in(Spoken())
    sent(dialog)
    assert feed(dialog, challenge, pieces) is Step.CLOSED
    assert_deferred(dialog, f"cannot authenticate to server {NAME}: {reason}", "4.7.0")


def test_challenges_do_not_go_on_for_ever() -> None:
    dialog, _ = make()
    dialog.log_in(Spoken("X", None, [b"x"] * 100))
    step, count = Step.WAIT, 0
    while step is Step.WAIT:
        sent(dialog)
        step = dialog.receive(b"334 eHg=\r\n")
        count += 1
    assert count == 9
    assert_deferred(dialog, f"cannot authenticate to server {NAME}: too many challenges", "4.7.0")


def test_server_that_cannot_prove_itself_gets_no_mail() -> None:
    dialog, _ = make()
    exchange = Spoken()
    exchange.is_forged = True
    dialog.log_in(exchange)
    sent(dialog)
    assert dialog.receive(b"235 2.7.0 Welcome\r\n") is Step.CLOSED
    reason = "the server does not know the password"
    assert_deferred(dialog, f"cannot authenticate to server {NAME}: {reason}", "4.7.0")


@pytest.mark.parametrize("tail", [b"2", b"250 Ok\r\n", b"\r\n"])
def test_octets_behind_the_verdict_end_the_session(tail: bytes) -> None:
    dialog, _ = make()
    dialog.log_in(Spoken())
    sent(dialog)
    assert dialog.receive(b"235 2.7.0 Welcome\r\n" + tail) is Step.CLOSED
    assert dialog.trouble is not None
    assert dialog.trouble.scope is Scope.HOST


@pytest.mark.parametrize("octets", [b"421 4.4.2 Too slow\r\n", b"250 Ok\r\n", b"?\r\n"])
def test_server_that_speaks_while_the_login_is_looked_for(octets: bytes) -> None:
    dialog, _ = make()
    assert dialog.receive(octets) is Step.CLOSED
    assert dialog.trouble is not None
    assert dialog.trouble.scope is Scope.HOST


def test_connection_that_ends_within_the_login() -> None:
    dialog, _ = make()
    dialog.log_in(Spoken())
    assert dialog.lose() is Step.CLOSED
    assert dialog.trouble is not None
    assert dialog.trouble.text.endswith("while performing SASL authentication")
    assert not dialog.is_tls_trouble


@PIECES
def test_what_takes_long_is_computed_elsewhere(pieces: str) -> None:
    dialog, _ = make()
    exchange = Spoken("SCRAM-SHA-256", b"n,,", [b"proof"])
    exchange.is_slow = True
    dialog.log_in(exchange)
    sent(dialog)
    assert feed(dialog, b"334 " + b64encode(b"r=1") + b"\r\n", pieces) is Step.COMPUTE
    assert (dialog.state, dialog.output) == (State.CREDENTIAL, [])
    assert dialog.work is not None
    assert dialog.computed() is Step.WAIT
    assert sent(dialog) == b64encode(b"proof") + b"\r\n"
    assert exchange.challenges == [b"r=1"]
    assert dialog.receive(b"235 2.7.0 Welcome\r\n") is Step.READY


def test_server_that_does_not_wait_for_the_proof() -> None:
    dialog, _ = make()
    exchange = Spoken("SCRAM-SHA-256", b"n,,", [b"proof"])
    exchange.is_slow = True
    dialog.log_in(exchange)
    sent(dialog)
    assert dialog.receive(b"334 eA==\r\n235 2.7.0 Welcome\r\n") is Step.CLOSED
    assert dialog.trouble is not None
    assert dialog.trouble.scope is Scope.HOST


def test_what_the_mechanism_said_before_the_refusal_is_told() -> None:
    dialog, _ = make()
    exchange = Spoken("XOAUTH2", b"token", [b""])
    dialog.log_in(exchange)
    sent(dialog)
    dialog.receive(b"334 eyJzIjoxfQ==\r\n")
    sent(dialog)
    exchange.notice = "status 400"
    assert dialog.receive(b"535 5.7.8 No\r\n") is Step.CLOSED
    assert_deferred(dialog, f"server {NAME} said: 535 5.7.8 No (status 400)", "4.7.8")
    assert dialog.is_login_refused


ECHOES = {
    "line": b"535 5.7.8 Error: AUTH PLAIN AHVzZXIAc2VjcmV0IHdvcmQ= failed\r\n",
    "cut short": b"535 5.7.8 Error: AUTH PLAIN AHVzZXIAc2Vj failed\r\n",
    "upper case": b"500 5.5.2 unknown: AUTH PLAIN AHVZZXIAC2VJCMV0IHDVCMQ= failed\r\n",
    "password": b"535-5.7.8 wrong\r\n535 5.7.8 password: Secret word failed\r\n",
    "later": b"454 4.7.0 secret word and secret word failed\r\n",
    "closing": b"421 4.7.0 AHVzZXIAc2VjcmV0IHdvcmQ= failed\r\n",
    "garbage": b"AUTH PLAIN AHVzZXIAc2VjcmV0IHdvcmQ= failed\r\n",
    "too much": b"535 5.7.8 secret word failed\r\n250 secret word\r\n",
}


def assert_told_nothing(*texts: str | None) -> None:
    told = " ".join(text for text in texts if text).lower()
    assert "failed" in told
    assert "ahvzzxia" not in told
    assert "secret" not in told


@PIECES
@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_what_we_logged_in_with_is_in_no_text(pieces: str, echo: bytes) -> None:
    """Servers quote lines that they refuse; what they say ends in logs and bounces."""
    dialog, _ = make()
    dialog.log_in(Spoken(initial=b"\0user\0secret word"), ("secret word",))
    sent(dialog)
    if pieces == "whole":
        dialog.receive(echo)
    else:
        for at in range(len(echo)):
            if dialog.state is not State.CLOSED:
                dialog.receive(echo[at : at + 1])
    outcome = dialog.trouble
    assert outcome is not None
    assert_told_nothing(outcome.text, outcome.diagnostic, "failed")


@pytest.mark.parametrize("reply", [b"250 2.0.0 Ok", b"550 5.7.1 No", b"451 4.7.1 Later"])
def test_nor_after_the_login(reply: bytes) -> None:
    dialog, _ = make()
    dialog.log_in(Spoken("LOGIN", None, [b"user", b"secret word"]), ("secret word",))
    for answer in (b"334 \r\n", b"334 \r\n", b"235 2.7.0 Welcome\r\n"):
        sent(dialog)
        dialog.receive(answer)
    transaction = make_transaction()
    dialog.begin(transaction)
    quoted = b": not failed: c2VjcmV0IHdvcmQ= secret word\r\n"
    for answer in (b"250 Ok\r\n", b"250 Ok\r\n", reply + quoted, b"354 Go\r\n", reply + quoted):
        sent(dialog)
        dialog.receive(answer)
    assert transaction.undecided == 0
    for outcome in transaction.outcomes:
        assert outcome is not None
        assert_told_nothing(outcome.text, outcome.diagnostic)
        assert "c2vj" not in outcome.text.lower()


def test_a_challenge_that_quotes_is_still_a_challenge() -> None:
    dialog, _ = make()
    exchange = Spoken("SCRAM-SHA-256", b"n,,n=user,r=nonce", [b"proof"])
    dialog.log_in(exchange)
    sent(dialog)
    dialog.receive(b"334 " + b64encode(b"n,,n=user,r=nonce and more") + b"\r\n")
    assert exchange.challenges == [b"n,,n=user,r=nonce and more"]
