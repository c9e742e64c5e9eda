"""AUTH: base64, order, failures, what a login changes; and giving up in every state."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from fastmta.event import ClientDisconnected, CommandRefused, MessageReceived
from fastmta.event.security import LoginRefused
from fastmta.session import SessionSettings, State
from fastmta.smtp.sasl import LOCKED, SaslStep, Verdict
from fastmta.smtp.use import Use
from tests.support.session import (
    HOSTNAME,
    TLS,
    Dialog,
    FakeAccept,
    FakeAuthenticate,
    FakeExchange,
    FakeQuota,
    accepting,
)

STRANGER = "192.0.2.1"
REFUSED = SaslStep(Verdict.REFUSED, login="user", reason="authentication failure")


def b64(octets: bytes) -> bytes:
    return base64.b64encode(octets)


def dialog(*exchanges: FakeExchange, settings: dict[str, Any] | None = None, **more: Any) -> Dialog:
    authenticate = FakeAuthenticate(list(exchanges))
    return Dialog(
        STRANGER,
        SessionSettings(HOSTNAME, has_auth=True, **(settings or {})),
        authenticate=authenticate,
        **more,
    ).hello()


def test_a_login_may_send_to_anyone_and_is_named_in_envelope_and_event() -> None:
    exchange = accepting()
    it = dialog(exchange)
    assert it.send(b"AUTH PLAIN " + b64(b"\0user\0secret") + b"\r\n") == [
        "235 2.7.0 Authentication successful"
    ]
    assert exchange.responses == [b"\0user\0secret"]
    it.send(b"MAIL FROM:<user@client.example>\r\nRCPT TO:<x@anywhere.example>\r\nDATA\r\n")
    assert it.codes(b"Subject: x\r\n\r\n.\r\n") == ["250"]
    (message,) = it.accept.messages
    assert message.envelope.client.login == message.envelope.tenant == "user@client.example"
    assert message.envelope.client.protocol == "ESMTPA"
    assert b"with ESMTPA id" in (message.content or b"")
    (event,) = [event for event in it.events if isinstance(event, MessageReceived)]
    assert (event.login, event.mechanism) == ("user@client.example", "PLAIN")


def test_without_a_login_the_same_client_may_not() -> None:
    it = dialog()
    assert it.codes(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<x@anywhere.example>\r\n") == [
        "250",
        "554",
    ]


def test_auth_is_offered_only_where_it_can_be_used() -> None:
    offered = [line for line in Dialog(STRANGER).send(b"EHLO c\r\n") if "AUTH" in line]
    assert offered == [], "no source of users"
    it = dialog()
    assert "250-AUTH PLAIN LOGIN" in it.send(b"EHLO c\r\n")


def test_without_tls_it_is_538_and_not_offered() -> None:
    authenticate = FakeAuthenticate([accepting()], is_without_tls=False)
    settings = SessionSettings(HOSTNAME, has_auth=True, has_tls=True)
    it = Dialog(STRANGER, settings, authenticate=authenticate)
    assert not [line for line in it.send(b"EHLO c\r\n") if "AUTH" in line]
    assert it.send(b"AUTH PLAIN AAAA\r\n") == [
        "538 5.7.11 Encryption required for requested authentication mechanism"
    ]
    it.start_tls()
    assert it.codes(b"AUTH PLAIN AAAA\r\n") == ["235"]
    assert authenticate.begun == [("PLAIN", STRANGER, True)]


def test_challenges_go_out_in_base64_and_come_back_decoded() -> None:
    challenge = SaslStep(Verdict.CHALLENGE, octets=b"Username:")
    again = SaslStep(Verdict.CHALLENGE, octets=b"")
    exchange = FakeExchange([challenge, again, SaslStep(Verdict.ACCEPTED, login="u")])
    it = dialog(exchange)
    assert it.send(b"auth login\r\n") == ["334 VXNlcm5hbWU6"]
    assert it.session.state is State.AUTH
    assert it.send(b64(b"u") + b"\r\n") == ["334 "]
    assert it.codes(b"\r\n") == ["235"]
    assert exchange.responses == [None, b"u", b""]
    assert it.session.state is State.READY
    ended = it.session.ended("")
    assert ended.verbs["auth"] == (1, 1), "one command, however many lines"


def test_an_initial_response_of_no_octets_is_an_equals_sign() -> None:
    exchange = accepting()
    assert dialog(exchange).codes(b"AUTH PLAIN =\r\n") == ["235"]
    assert exchange.responses == [b""]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"AUTH", "501"),
        (b"AUTH PLAIN AAAA BBBB", "501"),
        (b"AUTH PLAIN  AAAA", "501"),
        (b"AUTH PLAIN A", "501"),
        (b"AUTH PLAIN AA=A", "501"),
        (b"AUTH PLAIN AAAA=", "501"),
        (b"AUTH PLAIN A-_A", "501"),
        (b"AUTH PLAIN AAAA====", "501"),
        (b"AUTH CRAM-MD5", "535"),
        (b"AUTH \xff\xfe", "535"),
        (b"AUTH " + b"X" * 1000, "535"),
    ],
)
def test_what_is_no_auth_command_is_refused_and_changes_nothing(line: bytes, code: str) -> None:
    it = dialog(FakeExchange([REFUSED]))
    assert it.codes(line + b"\r\n") == [code]
    assert it.session.state is State.READY
    assert not it.session.login
    assert it.codes(b"NOOP\r\n") == ["250"]


@pytest.mark.parametrize(
    ("line", "code", "is_cancelled"),
    [
        (b"*", "501", True),
        (b"no base64", "501", True),
        (b"A", "501", True),
        (b"QUJD", "535", False),
    ],
)
def test_every_end_of_a_challenge_leads_back_to_commands(
    line: bytes, code: str, is_cancelled: bool
) -> None:
    exchange = FakeExchange([SaslStep(Verdict.CHALLENGE), REFUSED])
    it = dialog(exchange)
    it.send(b"AUTH LOGIN\r\n")
    assert it.codes(line + b"\r\n") == [code]
    assert exchange.is_cancelled is is_cancelled
    assert it.codes(b"RSET\r\n") == ["250"]


def test_a_command_within_an_exchange_is_a_response() -> None:
    it = dialog(FakeExchange([SaslStep(Verdict.CHALLENGE), REFUSED]))
    it.send(b"AUTH LOGIN\r\n")
    assert it.codes(b"QUIT\r\n") == ["535"], "QUIT is base64 of three octets"


def test_a_response_may_be_long_and_a_command_may_not() -> None:
    exchange = FakeExchange([SaslStep(Verdict.CHALLENGE), SaslStep(Verdict.ACCEPTED, login="u")])
    it = dialog(exchange)
    it.send(b"AUTH LOGIN\r\n")
    token = b64(b"x" * 9000)
    assert it.codes(token + b"\r\n") == ["235"]
    assert exchange.responses == [None, b"x" * 9000]
    assert it.codes(b"NOOP " + b"x" * 3000 + b"\r\n") == ["500"]


def test_a_response_without_end_is_bounded_and_ends_the_exchange() -> None:
    exchange = FakeExchange([SaslStep(Verdict.CHALLENGE)])
    it = dialog(exchange)
    it.send(b"AUTH LOGIN\r\n")
    assert it.codes(b"A" * 50_000) == []
    assert it.session.buffered_octets == 0
    assert it.codes(b"\r\n") == ["500"]
    assert exchange.is_cancelled
    assert it.session.state is State.READY


def test_pipelining_behind_auth_is_refused() -> None:
    it = dialog(accepting())
    assert it.codes(b"AUTH PLAIN AAAA\r\nMAIL FROM:<a@b.example>\r\n") == ["554"]
    assert it.session.is_closing


def test_pipelining_behind_a_response_is_refused() -> None:
    exchange = FakeExchange([SaslStep(Verdict.CHALLENGE)])
    it = dialog(exchange)
    it.send(b"AUTH LOGIN\r\n")
    assert it.codes(b"AAAA\r\nBBBB\r\n") == ["554"]
    assert exchange.is_cancelled
    assert it.session.is_closing


def test_while_the_answer_is_late_nothing_is_read() -> None:
    exchange = FakeExchange([SaslStep(Verdict.ACCEPTED, login="u")], is_late=True)
    it = dialog(exchange)
    assert it.send(b"AUTH PLAIN AAAA\r\n") == []
    assert it.session.is_pending
    assert it.send(b"NOOP\r\n") == []
    exchange.answer()
    assert [line[:3] for line in it.lines()] == ["235", "250"]
    assert not it.session.is_pending


def test_a_guess_counts_while_it_is_judged_and_for_a_client_that_does_not_wait() -> None:
    quota = FakeQuota({Use.AUTH_FAILURE: 1})
    exchange = FakeExchange([REFUSED], is_late=True)
    it = dialog(exchange, quota=quota)
    it.send(b"AUTH PLAIN AAAA\r\n")
    assert dialog(accepting(), quota=quota).codes(b"AUTH PLAIN AAAA\r\n") == ["450"]
    it.session.ended("lost connection")
    assert quota.left[Use.AUTH_FAILURE] == 0


@pytest.mark.parametrize("line", [b"*", b"no base64"])
def test_who_gives_up_between_steps_has_not_failed(line: bytes) -> None:
    quota = FakeQuota({Use.AUTH_FAILURE: 1})
    it = dialog(FakeExchange([SaslStep(Verdict.CHALLENGE)]), quota=quota)
    it.send(b"AUTH LOGIN\r\n")
    it.send(line + b"\r\n")
    assert quota.left[Use.AUTH_FAILURE] == 1
    it.session.ended("")
    assert quota.left[Use.AUTH_FAILURE] == 1


def test_a_client_that_leaves_cancels_its_exchange() -> None:
    exchange = FakeExchange([SaslStep(Verdict.ACCEPTED, login="u")], is_late=True)
    it = dialog(exchange)
    it.send(b"AUTH PLAIN AAAA\r\n")
    it.session.ended("lost connection")
    assert exchange.is_cancelled
    exchange.answer()
    assert it.lines() == []
    assert not it.session.login


def test_three_failures_end_the_session_and_each_is_told() -> None:
    quota = FakeQuota()
    it = dialog(*(FakeExchange([REFUSED]) for _ in range(3)), quota=quota)
    for expected in (False, False, True):
        assert it.send(b"AUTH PLAIN AAAA\r\n") == [
            "535 5.7.8 Error: authentication failed: authentication failure"
        ]
        assert it.session.is_closing is expected
    told = [event for event in it.events if isinstance(event, LoginRefused)]
    assert [(event.mechanism, event.login) for event in told] == [("PLAIN", "user")] * 3
    assert quota.spent.count((Use.AUTH_FAILURE, STRANGER, "user")) == 3
    assert quota.left[Use.AUTH_FAILURE] == 997


def test_what_only_the_log_may_say_is_not_in_the_reply() -> None:
    step = SaslStep(Verdict.REFUSED, login="user", reason="no", log_reason=LOCKED)
    it = dialog(FakeExchange([step]))
    assert it.send(b"AUTH PLAIN AAAA\r\n") == ["535 5.7.8 Error: authentication failed: no"]
    (told,) = [event for event in it.events if isinstance(event, LoginRefused)]
    assert told.reason == LOCKED


def test_the_last_failure_is_answered_also_when_the_answer_is_late() -> None:
    exchange = FakeExchange([REFUSED], is_late=True)
    it = dialog(FakeExchange([REFUSED]), FakeExchange([REFUSED]), exchange)
    for _ in range(2):
        assert it.codes(b"AUTH PLAIN AAAA\r\n") == ["535"]
    assert it.send(b"AUTH PLAIN AAAA\r\n") == []
    exchange.answer()
    assert it.lines() == ["535 5.7.8 Error: authentication failed: authentication failure"]
    assert it.session.is_closing


def test_an_authority_that_cannot_say_is_454_and_no_failure_of_the_client() -> None:
    step = SaslStep(Verdict.UNAVAILABLE, reason="try again later")
    quota = FakeQuota()
    it = dialog(*(FakeExchange([step]) for _ in range(5)), quota=quota)
    for _ in range(5):
        assert it.codes(b"AUTH PLAIN AAAA\r\n") == ["454"]
    assert not it.session.is_closing
    assert quota.left[Use.AUTH_FAILURE] == 1000


def test_after_too_many_failures_not_even_the_right_password_is_looked_at() -> None:
    authenticate = FakeAuthenticate([accepting()])
    quota = FakeQuota({Use.AUTH_FAILURE: 0})
    settings = SessionSettings(HOSTNAME, has_auth=True)
    it = Dialog(STRANGER, settings, authenticate=authenticate, quota=quota).hello()
    assert it.send(b"AUTH PLAIN AAAA\r\n") == [
        f"450 4.7.1 Error: too many AUTH commands from unknown[{STRANGER}]"
    ]
    assert authenticate.begun == []
    assert [event.stage for event in it.events if isinstance(event, CommandRefused)] == ["AUTH"]


def test_the_last_failure_is_answered_also_when_it_comes_late() -> None:
    exchange = FakeExchange([REFUSED], is_late=True)
    it = dialog(exchange, settings={"auth_failures_max": 1})
    assert it.send(b"AUTH PLAIN AAAA\r\n") == []
    exchange.answer()
    assert [line[:3] for line in it.lines()] == ["535"]
    assert it.session.is_closing


def test_the_limit_on_auth_commands() -> None:
    it = dialog(FakeExchange([REFUSED]), quota=FakeQuota({Use.AUTH: 1}))
    assert it.codes(b"AUTH PLAIN AAAA\r\n") == ["535"]
    assert it.codes(b"AUTH PLAIN AAAA\r\n") == ["450"]


def test_auth_twice_and_within_a_transaction_is_out_of_order() -> None:
    it = dialog(accepting())
    assert it.codes(b"AUTH PLAIN AAAA\r\n") == ["235"]
    assert it.send(b"AUTH PLAIN AAAA\r\n") == ["503 5.5.1 Error: already authenticated"]
    it.send(b"MAIL FROM:<>\r\n")
    assert it.send(b"AUTH PLAIN AAAA\r\n") == ["503 5.5.1 Error: MAIL transaction in progress"]


def test_auth_before_ehlo() -> None:
    settings = SessionSettings(HOSTNAME, has_auth=True)
    it = Dialog(STRANGER, settings, authenticate=FakeAuthenticate([accepting()]))
    assert it.codes(b"AUTH PLAIN AAAA\r\n")[-1] == "503"


def test_a_login_sends_only_as_itself() -> None:
    it = dialog(accepting("user@client.example"))
    it.send(b"AUTH PLAIN AAAA\r\n")
    assert it.send(b"MAIL FROM:<boss@client.example>\r\n") == [
        "553 5.7.1 <boss@client.example>: Sender address rejected: not owned by user "
        "user@client.example"
    ]
    assert it.session.state is State.READY
    assert it.codes(b"MAIL FROM:<>\r\n") == ["250"]


def test_where_a_login_is_required_mail_without_one_is_530() -> None:
    it = dialog(accepting(), settings={"is_login_required": True})
    assert it.send(b"MAIL FROM:<user@client.example>\r\n") == ["530 5.7.0 Authentication required"]
    it.send(b"AUTH PLAIN AAAA\r\n")
    assert it.codes(b"MAIL FROM:<user@client.example>\r\n") == ["250"]


def test_a_trusted_network_does_not_replace_a_required_login() -> None:
    it = Dialog("127.0.0.1", SessionSettings(HOSTNAME, is_login_required=True)).hello()
    assert it.codes(b"MAIL FROM:<a@b.example>\r\n") == ["530"]


def test_tls_forgets_the_login() -> None:
    settings = SessionSettings(HOSTNAME, has_auth=True, has_tls=True)
    it = Dialog(STRANGER, settings, authenticate=FakeAuthenticate([accepting()])).hello()
    it.send(b"AUTH PLAIN AAAA\r\n")
    it.send(b"STARTTLS\r\n")
    it.session.tls_started(TLS)
    assert not it.session.login
    assert it.codes(b"EHLO c\r\nMAIL FROM:<a@b.example>\r\n")[-1] == "554", "EHLO is not pipelined"


def test_a_login_is_named_in_the_received_field_where_it_is_configured() -> None:
    it = dialog(accepting("user@client.example"), settings={"is_naming_login": True})
    it.send(b"AUTH PLAIN AAAA\r\n")
    it.send(b"MAIL FROM:<>\r\nRCPT TO:<x@a.example>\r\nDATA\r\n")
    it.send(b"\r\n.\r\n")
    assert b"(Authenticated sender: user@client.example)" in (it.accept.messages[0].content or b"")


def test_the_end_of_a_session_counts_refused_logins() -> None:
    it = dialog(FakeExchange([REFUSED]), accept=FakeAccept())
    it.send(b"AUTH PLAIN AAAA\r\n")
    ended: ClientDisconnected = it.session.ended("lost connection")
    assert ended.verbs["auth"] == (0, 1)
