"""OAUTHBEARER and XOAUTH2."""

import base64
import json

import pytest

from fastmta.security.bearer import BearerExchange
from fastmta.smtp.sasl import Verdict
from tests.support.sasl import CLIENT, FakeChecker, Said, turn

# RFC 7628 4.1, the message of a client
EXAMPLE = base64.b64decode(
    "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBv"
    "cnQ9MTQzAWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52YjNSbGNrQmhiSFJoZG1s"
    "emRHRXVZMjl0Q2c9PQEB"
)
TOKEN = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="


def oauthbearer(checker: FakeChecker) -> BearerExchange:
    return BearerExchange(checker, CLIENT, "OAUTHBEARER")


def xoauth2(checker: FakeChecker) -> BearerExchange:
    return BearerExchange(checker, CLIENT, "XOAUTH2")


def test_example_of_rfc_7628() -> None:
    """RFC 7628 4.1, and the failure of 4.3: an error in a challenge, then the dummy answer."""
    checker = FakeChecker()
    exchange = oauthbearer(checker)
    step = turn(exchange, EXAMPLE)
    assert checker.asked == [(TOKEN, TOKEN)]
    assert step.verdict is Verdict.CHALLENGE
    assert json.loads(step.octets)["status"] == "invalid_token"
    assert turn(exchange, b"\x01").verdict is Verdict.REFUSED


@pytest.mark.parametrize(
    "message",
    [
        b"n,,\x01auth=Bearer alice-token\x01\x01",
        b"y,,\x01auth=Bearer alice-token\x01\x01",
        b"n,a=alice,\x01host=h\x01port=25\x01auth=bearer  alice-token\x01\x01",
    ],
)
def test_oauthbearer_good_token(message: bytes) -> None:
    step = turn(oauthbearer(FakeChecker()), message)
    assert (step.verdict, step.login) == (Verdict.ACCEPTED, "alice")


def test_oauthbearer_without_initial_response() -> None:
    exchange = oauthbearer(FakeChecker())
    assert turn(exchange, None).octets == b""
    assert turn(exchange, b"n,,\x01auth=Bearer alice-token\x01\x01").verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("message", [b"n,,\x01\x01", b"n,a=alice,\x01auth=\x01\x01"])
def test_oauthbearer_without_token_is_told_what_is_wanted(message: bytes) -> None:
    """RFC 7628 4.3."""
    checker = FakeChecker()
    exchange = oauthbearer(checker)
    step = turn(exchange, message)
    assert json.loads(step.octets) == {"status": "invalid_token", "schemes": "bearer"}
    assert turn(exchange, b"\x01").verdict is Verdict.REFUSED
    assert checker.asked == []


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "malformed OAUTHBEARER message"),
        (b"n,,", "malformed OAUTHBEARER message"),
        (b"n,,auth=Bearer x\x01\x01", "malformed OAUTHBEARER message"),
        (b"n,b=x,\x01auth=Bearer x\x01\x01", "malformed OAUTHBEARER message"),
        (b"p=tls-unique,,\x01auth=Bearer x\x01\x01", "channel binding is not supported"),
        (b"n,a=,\x01auth=Bearer x\x01\x01", "malformed name"),
        (b"n,a=a\nb,\x01auth=Bearer x\x01\x01", "control characters are not allowed"),
        (b"n,,\x01auth=Bearer x\x01", "malformed key=value pairs"),
        (b"n,,\x01auth=Bearer x", "malformed key=value pairs"),
        (b"n,,\x01auth\x01\x01", "malformed key=value pairs"),
        (b"n,,\x01=x\x01\x01", "malformed key=value pairs"),
        (b"n,,\x01auth=Bearer x\x01auth=Bearer x\x01\x01", "malformed key=value pairs"),
        (b"n,,\x01auth=Bearer x\x01\x01\x01", "malformed key=value pairs"),
        (b"n,,\x01auth=Bearer \0\x01\x01", "malformed key=value pairs"),
        (
            b"n,,\x01" + b"".join(b"k%c=v\x01" % c for c in b"abcdefghijklmnopq") + b"\x01",
            "malformed key=value pairs",
        ),
        (b"n,,\x01auth=Basic eDp5\x01\x01", "not a bearer token"),
        (b"n,,\x01auth=Bearer\x01\x01", "not a bearer token"),
        (b"n,,\x01auth=Bearer a b\x01\x01", "not a bearer token"),
        (b"n,,\x01auth=Bearer a\r\n\x01\x01", "not a bearer token"),
        (b"n,,\x01auth=Bearer " + b"a" * 8193 + b"\x01\x01", "the token is too long"),
    ],
)
def test_oauthbearer_malformed_message_is_refused(message: bytes, reason: str) -> None:
    checker = FakeChecker()
    step = turn(oauthbearer(checker), message)
    assert (step.verdict, step.reason) == (Verdict.REFUSED, reason)
    assert checker.asked == []


def test_xoauth2_good_and_bad_token() -> None:
    exchange = xoauth2(FakeChecker())
    step = turn(exchange, b"user=alice@example.com\x01auth=Bearer alice-token\x01\x01")
    assert (step.verdict, step.login) == (Verdict.ACCEPTED, "alice")
    exchange = xoauth2(FakeChecker())
    step = turn(exchange, b"user=alice\x01auth=Bearer old\x01\x01")
    assert json.loads(step.octets)["schemes"] == "bearer"
    assert turn(exchange, b"").verdict is Verdict.REFUSED


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"auth=Bearer x\x01\x01",
        b"user=\x01auth=Bearer x\x01\x01",
        b"user=a\tb\x01auth=Bearer x\x01\x01",
        b"user=\xff\x01auth=Bearer x\x01\x01",
        b"user=a\x01user=b\x01auth=Bearer x\x01\x01",
        b"user=a\x01auth=Bearer x\x01",
    ],
)
def test_xoauth2_malformed_message_is_refused(message: bytes) -> None:
    checker = FakeChecker()
    assert turn(xoauth2(checker), message).verdict is Verdict.REFUSED
    assert checker.asked == []


def test_no_answer_is_no_error_message() -> None:
    step = turn(xoauth2(FakeChecker(is_down=True)), b"user=a\x01auth=Bearer x\x01\x01")
    assert step.verdict is Verdict.UNAVAILABLE


def test_cancel_is_harmless_in_every_state() -> None:
    checker, said = FakeChecker(is_slow=True), Said()
    exchange = oauthbearer(checker)
    exchange.cancel()
    exchange.step(None, said)
    exchange.cancel()
    exchange.step(EXAMPLE, said)
    exchange.cancel()
    checker.release()
    assert [step.verdict for step in said] == [Verdict.CHALLENGE]
    failed = oauthbearer(FakeChecker())
    turn(failed, EXAMPLE)
    failed.cancel()
