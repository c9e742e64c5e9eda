"""PLAIN and LOGIN."""

import pytest

from fastmta.security.plain import LoginExchange, PlainExchange
from fastmta.smtp.sasl import Verdict
from tests.support.sasl import CLIENT, FakeChecker, Said, turn

GOOD = b"\0alice\0alice-secret"


@pytest.mark.parametrize("authzid", [b"", b"alice"])
def test_plain_with_initial_response(authzid: bytes) -> None:
    checker = FakeChecker()
    step = turn(PlainExchange(checker, CLIENT), authzid + GOOD)
    assert (step.verdict, step.login) == (Verdict.ACCEPTED, "alice")
    assert checker.asked == [("alice", "alice-secret")]


def test_plain_without_initial_response() -> None:
    exchange = PlainExchange(FakeChecker(), CLIENT)
    step = turn(exchange, None)
    assert (step.verdict, step.octets) == (Verdict.CHALLENGE, b"")
    assert turn(exchange, GOOD).verdict is Verdict.ACCEPTED


def test_plain_wrong_password_and_no_answer() -> None:
    step = turn(PlainExchange(FakeChecker(), CLIENT), b"\0alice\0wrong")
    assert (step.verdict, step.login) == (Verdict.REFUSED, "alice")
    step = turn(PlainExchange(FakeChecker(is_down=True), CLIENT), GOOD)
    assert step.verdict is Verdict.UNAVAILABLE


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"", "malformed PLAIN response"),
        (b"alice", "malformed PLAIN response"),
        (b"\0alice", "malformed PLAIN response"),
        (b"\0alice\0alice-secret\0", "malformed PLAIN response"),
        (b"\0alice\0a\0b", "malformed PLAIN response"),
        (b"\0\0alice-secret", "the name is empty"),
        (b"\0alice\0", "the password is empty"),
        (b"bob\0alice\0alice-secret", "acting as another user is not allowed"),
        (b"\xff\0alice\0alice-secret", "the name is not UTF-8"),
        (b"\0al\xffice\0alice-secret", "the name is not UTF-8"),
        (b"\0alice\0\xff", "the password is not UTF-8"),
        (b"\0al\rice\0alice-secret", "control characters are not allowed"),
        (b"\0al\nice\0alice-secret", "control characters are not allowed"),
        (b"\0al\x1bice\0alice-secret", "control characters are not allowed"),
        ("\0al\u202eice\0alice-secret".encode(), "the name has control characters in it"),
        (b"\0" + b"a" * 321 + b"\0alice-secret", "the name is longer than 320 octets"),
        (b"\0alice\0" + b"a" * 1025, "the password is too long"),
    ],
)
def test_plain_malformed_response_is_refused_and_nobody_is_asked(
    response: bytes, reason: str
) -> None:
    checker = FakeChecker()
    step = turn(PlainExchange(checker, CLIENT), response)
    assert (step.verdict, step.reason) == (Verdict.REFUSED, reason)
    assert checker.asked == []


def test_plain_names_are_prepared() -> None:
    checker = FakeChecker()
    turn(PlainExchange(checker, CLIENT), "A\u00adB\0A\u00adB\0se\u0301cret".encode())
    assert checker.asked == [("AB", "se\u0301cret")]  # the password as it was sent


def test_login_asks_for_both() -> None:
    exchange = LoginExchange(FakeChecker(), CLIENT)
    assert turn(exchange, None).octets == b"Username:"
    assert turn(exchange, b"alice").octets == b"Password:"
    step = turn(exchange, b"alice-secret")
    assert (step.verdict, step.login) == (Verdict.ACCEPTED, "alice")


def test_login_with_initial_response() -> None:
    exchange = LoginExchange(FakeChecker(), CLIENT)
    step = turn(exchange, b"alice")
    assert (step.verdict, step.octets) == (Verdict.CHALLENGE, b"Password:")
    assert turn(exchange, b"wrong").verdict is Verdict.REFUSED


@pytest.mark.parametrize(
    ("responses", "reason"),
    [
        ([b""], "the name is empty"),
        ([b"al\0ice"], "the name has a NUL in it"),
        ([b"alice", b""], "the password is empty"),
        ([b"alice", b"a\0b"], "the password has a NUL in it"),
        ([b"alice", b"x" * 1025], "the password is too long"),
    ],
)
def test_login_malformed_response_is_refused(responses: list[bytes], reason: str) -> None:
    checker = FakeChecker()
    exchange = LoginExchange(checker, CLIENT)
    steps = [turn(exchange, response) for response in responses]
    assert (steps[-1].verdict, steps[-1].reason) == (Verdict.REFUSED, reason)
    assert checker.asked == []


@pytest.mark.parametrize("kind", [PlainExchange, LoginExchange])
def test_cancel_is_harmless_in_every_state(kind: type[PlainExchange | LoginExchange]) -> None:
    """Before the first step, between steps, while the password is checked, and at the end."""
    responses = [GOOD] if kind is PlainExchange else [b"alice", b"alice-secret"]
    for count in range(len(responses) + 1):
        checker = FakeChecker(is_slow=True)
        exchange = kind(checker, CLIENT)
        said = Said()
        exchange.step(None, said)
        for response in responses[:count]:
            exchange.step(response, said)
        given = len(said)
        exchange.cancel()
        checker.release()
        assert len(said) == given
        assert checker.cancelled_count == (count == len(responses))
    finished = kind(FakeChecker(), CLIENT)
    for response in responses:
        turn(finished, response)
    finished.cancel()
