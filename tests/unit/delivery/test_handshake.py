"""The opening of a session with TLS: what leaves in clear, and what is believed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from fastmta.delivery.dialog import Dialog
from fastmta.delivery.state import State, Step
from fastmta.delivery.transaction import Extras
from fastmta.message import OutcomeKind, Scope
from fastmta.route.way import TlsLevel, TlsPolicy, Way
from tests.support.securing import PaperTls
from tests.support.talking import (
    EHLO_PIPELINING,
    EHLO_PLAIN,
    GREETING,
    PATHS,
    converse,
    feed,
    make_dialog,
    make_transaction,
    sent,
)

EHLO_TLS = b"250-mx.example\r\n250-PIPELINING\r\n250-SIZE 9\r\n250 STARTTLS\r\n"
GO_ON = b"220 2.0.0 Ready to start TLS\r\n"
NAME = "mx.example[192.0.2.1]"
STRICT = [TlsLevel.ENCRYPT, TlsLevel.FINGERPRINT, TlsLevel.VERIFY, TlsLevel.SECURE]
PIECES = pytest.mark.parametrize("pieces", ["whole", "octets"])


def make(level: TlsLevel, *, is_clear: bool = False, is_implicit: bool = False) -> Dialog:
    policy = TlsPolicy(level, is_implicit=is_implicit)
    return make_dialog(Way(tls=policy), is_clear=is_clear)


def hear(dialog: Dialog, replies: Sequence[bytes], pieces: str = "whole") -> tuple[Step, bytes]:
    """The last step, and everything that the dialog said."""
    said = b""
    step = Step.WAIT
    for reply in replies:
        assert step is Step.WAIT
        step = feed(dialog, reply, pieces)
        said += sent(dialog)
    return step, said


@PIECES
@pytest.mark.parametrize("level", [TlsLevel.MAY, *STRICT])
def test_starttls_then_everything_anew(level: TlsLevel, pieces: str) -> None:
    dialog = make(level)
    step, said = hear(dialog, [GREETING, EHLO_TLS, GO_ON], pieces)
    assert (step, dialog.state) == (Step.TLS, State.TLS)
    assert said == b"EHLO relay.example\r\nSTARTTLS\r\n"
    assert dialog.secured(PaperTls()) is Step.WAIT
    assert sent(dialog) == b"EHLO relay.example\r\n"
    assert feed(dialog, EHLO_PLAIN, pieces) is Step.READY
    dialog.begin(make_transaction())  # SIZE and PIPELINING were said before TLS
    assert sent(dialog) == b"MAIL FROM:<sender@example.com>\r\n"


def test_what_was_offered_in_clear_is_forgotten_even_if_nothing_is_offered_later() -> None:
    dialog = make(TlsLevel.MAY)
    hear(dialog, [GREETING, EHLO_TLS, GO_ON])
    dialog.secured(PaperTls())
    sent(dialog)
    step, said = hear(dialog, [b"500 What\r\n", b"250 mx.example\r\n"])
    assert (step, said[-20:]) == (Step.READY, b"HELO relay.example\r\n")
    dialog.begin(make_transaction())
    assert sent(dialog) == b"MAIL FROM:<sender@example.com>\r\n"


@PIECES
def test_implicit_tls_comes_before_the_greeting(pieces: str) -> None:
    dialog = make(TlsLevel.VERIFY, is_implicit=True)
    assert dialog.state is State.TLS
    assert dialog.secured(PaperTls()) is Step.WAIT
    step, said = hear(dialog, [GREETING, EHLO_TLS], pieces)
    assert (step, said) == (Step.READY, b"EHLO relay.example\r\n")  # no STARTTLS within TLS


@pytest.mark.parametrize("level", [TlsLevel.FINGERPRINT, TlsLevel.VERIFY, TlsLevel.SECURE])
@pytest.mark.parametrize("is_implicit", [True, False])
def test_peer_that_is_not_the_one_is_told_nothing(level: TlsLevel, is_implicit: bool) -> None:
    dialog = make(level, is_implicit=is_implicit)
    if not is_implicit:
        hear(dialog, [GREETING, EHLO_TLS, GO_ON])
    assert dialog.secured(PaperTls(is_trusted=False)) is Step.CLOSED
    assert (dialog.output, dialog.is_tls_trouble) == ([], False)
    assert dialog.trouble is not None
    assert (dialog.trouble.status, dialog.trouble.scope) == ("4.7.5", Scope.HOST)
    assert dialog.trouble.text == f"Server certificate not trusted (host {NAME})"


@pytest.mark.parametrize("level", [TlsLevel.MAY, TlsLevel.ENCRYPT])
def test_certificate_does_not_matter_where_nobody_asked_for_it(level: TlsLevel) -> None:
    dialog = make(level)
    hear(dialog, [GREETING, EHLO_TLS, GO_ON])
    assert dialog.secured(PaperTls(is_trusted=False)) is Step.WAIT


@PIECES
@pytest.mark.parametrize("level", STRICT)
@pytest.mark.parametrize("ehlo", [EHLO_PIPELINING, EHLO_PLAIN, b"250-x\r\n250 XSTARTTLS\r\n"])
def test_starttls_that_is_not_offered_defers(level: TlsLevel, ehlo: bytes, pieces: str) -> None:
    dialog = make(level)
    step, said = hear(dialog, [GREETING, ehlo], pieces)
    assert (step, said) == (Step.CLOSED, b"EHLO relay.example\r\n")
    assert dialog.trouble is not None
    assert dialog.trouble.kind is OutcomeKind.DEFERRED
    assert (dialog.trouble.status, dialog.trouble.scope) == ("4.7.4", Scope.HOST)
    assert dialog.trouble.text == f"TLS is required, but was not offered by host {NAME}"
    assert not dialog.is_tls_trouble


@pytest.mark.parametrize("level", STRICT)
def test_helo_has_no_starttls_either(level: TlsLevel) -> None:
    step, said = hear(make(level), [GREETING, b"500 What\r\n", b"250 mx.example\r\n"])
    assert (step, said) == (Step.CLOSED, b"EHLO relay.example\r\nHELO relay.example\r\n")


@PIECES
@pytest.mark.parametrize("level", [TlsLevel.MAY, *STRICT])
@pytest.mark.parametrize(
    "refusal", [b"454 4.7.0 No\r\n", b"502 5.5.1 No\r\n", b"421 4.3.2 No\r\n", b"354 No\r\n"]
)
def test_refused_starttls_ends_the_session(level: TlsLevel, refusal: bytes, pieces: str) -> None:
    dialog = make(level)
    step, said = hear(dialog, [GREETING, EHLO_TLS, refusal], pieces)
    assert (step, said) == (Step.CLOSED, b"EHLO relay.example\r\nSTARTTLS\r\n")
    assert dialog.is_tls_trouble
    assert dialog.trouble is not None
    status = {b"454": "4.7.0", b"502": "4.5.1", b"421": "4.3.2"}.get(refusal[:3], "4.7.4")
    assert (dialog.trouble.kind, dialog.trouble.status) == (OutcomeKind.DEFERRED, status)
    text = f"host {NAME} refused to start TLS: {refusal[:-2].decode()}"
    expected = text if level is TlsLevel.MAY else f"TLS is required, but {text}"
    assert dialog.trouble.text == expected


@pytest.mark.parametrize("level", [TlsLevel.MAY, *STRICT])
@pytest.mark.parametrize(
    "junk",
    [
        b"2",
        b"\r\n",
        b"250-evil\r\n250 AUTH PLAIN\r\n",
        b"220 again\r\n",
        b"junk\r\n",
        b"\x16\x03\x03",
    ],
)
def test_octets_behind_the_220_are_an_injection(level: TlsLevel, junk: bytes) -> None:
    dialog = make(level)
    hear(dialog, [GREETING, EHLO_TLS])
    assert dialog.receive(GO_ON + junk) is Step.CLOSED
    assert dialog.output == []
    assert not dialog.is_tls_trouble  # somebody is at work there: no reason to go on in clear
    assert dialog.trouble is not None
    assert (dialog.trouble.status, dialog.trouble.scope) == ("4.7.5", Scope.HOST)
    assert "injection" in dialog.trouble.text


@pytest.mark.parametrize("level", [TlsLevel.MAY, *STRICT])
@pytest.mark.parametrize("tail", [GO_ON, b"2", b"250 more\r\n", b"\xff\r\n"])
def test_reply_that_comes_before_starttls_has_left(level: TlsLevel, tail: bytes) -> None:
    dialog = make(level)
    hear(dialog, [GREETING])
    assert dialog.receive(EHLO_TLS + tail) is Step.CLOSED
    assert dialog.output == []
    assert dialog.trouble is not None


@pytest.mark.parametrize("level", [TlsLevel.MAY, *STRICT])
@pytest.mark.parametrize("is_timeout", [True, False])
def test_connection_that_ends_within_tls(level: TlsLevel, is_timeout: bool) -> None:
    for replies, stage in (
        ([GREETING, EHLO_TLS], "sending STARTTLS"),
        ([GREETING, EHLO_TLS, GO_ON], "performing the TLS handshake"),
    ):
        dialog = make(level)
        hear(dialog, replies)
        assert (dialog.give_up() if is_timeout else dialog.lose()) is Step.CLOSED
        assert dialog.is_tls_trouble
        assert dialog.trouble is not None
        assert dialog.trouble.text.endswith(f"while {stage}")


def test_failed_handshake_is_told_with_its_reason() -> None:
    dialog = make(TlsLevel.ENCRYPT)
    hear(dialog, [GREETING, EHLO_TLS, GO_ON])
    assert dialog.tls_failed("no shared cipher") is Step.CLOSED
    assert dialog.is_tls_trouble
    assert dialog.trouble is not None
    assert dialog.trouble.status == "4.7.5"
    text = f"Cannot start TLS: handshake failure with {NAME}: no shared cipher"
    assert dialog.trouble.text == text


@pytest.mark.parametrize("level", [TlsLevel.NONE, TlsLevel.MAY])
def test_session_in_clear_does_not_even_ask(level: TlsLevel) -> None:
    dialog = make(level, is_clear=True)
    assert hear(dialog, [GREETING, EHLO_TLS]) == (Step.READY, b"EHLO relay.example\r\n")


@pytest.mark.parametrize("level", STRICT)
def test_nothing_talks_a_strict_policy_into_clear(level: TlsLevel) -> None:
    dialog = make(level, is_clear=True)
    assert hear(dialog, [GREETING, EHLO_TLS])[1].endswith(b"STARTTLS\r\n")


ANYTHING = [
    b"220 mx.example\r\n",
    b"250 2.0.0 Ok\r\n",
    EHLO_PIPELINING,
    EHLO_TLS,
    b"354 Go on\r\n",
    b"334 \r\n",
    b"235 2.7.0 Welcome\r\n",
    b"421 4.3.2 Bye\r\n",
    b"450 Later\r\n",
    b"503 5.5.1 Order\r\n",
    b"530 5.7.0 Must issue STARTTLS\r\n",
    b"garbage\r\n",
]
HARMLESS = (b"", b"EHLO relay.example\r\n", b"HELO relay.example\r\n", b"STARTTLS\r\n")


@pytest.mark.parametrize("level", [TlsLevel.ENCRYPT, TlsLevel.SECURE])
@pytest.mark.parametrize("is_joined", [True, False], ids=["joined", "apart"])
def test_whatever_the_server_says_no_mail_and_no_login_leaves_in_clear(
    level: TlsLevel, is_joined: bool
) -> None:
    """Every run of four replies, apart and in one read."""
    way = Way(tls=TlsPolicy(level), credentials="relay", is_auth_forced=True)
    for replies in itertools.product(ANYTHING, repeat=4):
        dialog = make_dialog(way)
        step = Step.WAIT
        for read in [b"".join(replies)] if is_joined else replies:
            step = dialog.receive(read)
            for line in sent(dialog).split(b"\r\n"):
                assert line in (b"", *[one[:-2] for one in HARMLESS])
            if step is not Step.WAIT:
                break
        assert step in (Step.WAIT, Step.CLOSED, Step.TLS)
        if step is Step.CLOSED:
            assert dialog.trouble is not None
            if dialog.state is not State.HELO:
                assert dialog.trouble.scope is Scope.HOST


@pytest.mark.parametrize("offers", [True, False])
@pytest.mark.parametrize("tls", ["trusted", "untrusted", "clear"])
def test_requiretls_wants_a_trusted_peer_that_offers_it(offers: bool, tls: str) -> None:
    dialog = make(TlsLevel.MAY)
    ehlo = b"250-mx.example\r\n250 REQUIRETLS\r\n" if offers else EHLO_PLAIN
    if tls == "clear":
        hear(dialog, [GREETING, ehlo])
    else:
        hear(dialog, [GREETING, EHLO_TLS, GO_ON])
        dialog.secured(PaperTls(is_trusted=tls == "trusted"))
        sent(dialog)
        hear(dialog, [ehlo])
    extras = Extras(None, (0, 1), is_utf8=False, has_ascii_header=None, is_tls_required=True)
    transaction = make_transaction(extras=extras)
    sent(dialog)
    step = dialog.begin(transaction)
    if offers and tls == "trusted":
        assert sent(dialog) == b"MAIL FROM:<sender@example.com> REQUIRETLS\r\n"
        return
    assert (step, sent(dialog), dialog.state) == (Step.DONE, b"", State.IDLE)
    for outcome in transaction.outcomes:
        assert outcome is not None
        assert (outcome.kind, outcome.status) == (OutcomeKind.FAILED, "5.7.30")
        assert outcome.scope is Scope.TRANSACTION
    other = make_transaction(PATHS)
    assert converse(dialog, [b"450 4.2.0 No\r\n"], other) is Step.DONE  # the session is as good
