"""SCRAM-SHA-256."""

import base64

import pytest

from fastmta.security.password import ScramVerifier, make_verifier
from fastmta.security.scram import ScramExchange
from fastmta.security.step import Client, unavailable
from fastmta.security.users import User, Users
from fastmta.smtp.sasl import Done, Exchange, Verdict
from tests.support.sasl import CLIENT, Said, ScramClient, log_in_by_scram, turn

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
SECRET = b"s" * 32
NONCE = b"n" * 18
SERVER_NONCE = base64.b64encode(NONCE)


class FakeVerifiers:
    """`user` has the password `pencil`; whoever else is asked for says so."""

    def __init__(self, other: Exchange | None = None, *, is_down: bool = False) -> None:
        user = User("user", verifier=make_verifier(b"pencil", 4096, SALT))
        comma = User("a,b=c", verifier=make_verifier(b"pencil", 4096, SALT))
        self.users = Users.build([user, comma], SECRET)
        self.other = other
        self.is_down = is_down
        self.asked: list[str] = []

    def verifier(self, login: str) -> ScramVerifier | None:
        self.asked.append(login)
        return None if self.is_down else self.users.verifier(login)

    def elsewhere(self, login: str, client: Client) -> Exchange | None:
        return None if login in self.users else self.other


def begin(verifiers: FakeVerifiers | None = None) -> ScramExchange:
    return ScramExchange(verifiers or FakeVerifiers(), CLIENT, lambda: NONCE)


def test_vector_of_rfc_7677(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7677 3, octet for octet."""
    nonce = b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"  # is no base64: ours always is
    real = base64.b64encode

    def encode(octets: bytes) -> bytes:
        return nonce if octets == NONCE else real(octets)

    monkeypatch.setattr("fastmta.security.scram.base64.b64encode", encode)
    exchange = begin()
    assert turn(exchange, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").octets == (
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    step = turn(
        exchange,
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    )
    assert step.verdict is Verdict.CHALLENGE
    assert step.octets == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    step = turn(exchange, b"")
    assert (step.verdict, step.login) == (Verdict.ACCEPTED, "user")


@pytest.mark.parametrize("header", ["n,,", "y,,", "n,a=user,", "y,a=user,"])
def test_both_sides_know_each_other(header: str) -> None:
    client = ScramClient("user", "pencil", header=header)
    step = log_in_by_scram(begin(), client)
    assert (step.verdict, step.login) == (Verdict.ACCEPTED, "user")
    assert client.server_first["r"] == "client" + SERVER_NONCE.decode()


def test_without_initial_response() -> None:
    exchange = begin()
    step = turn(exchange, None)
    assert (step.verdict, step.octets) == (Verdict.CHALLENGE, b"")
    assert log_in_by_scram(exchange, ScramClient("user", "pencil")).verdict is Verdict.ACCEPTED


def test_comma_and_equals_sign_in_a_name() -> None:
    step = log_in_by_scram(begin(), ScramClient("a=2Cb=3Dc", "pencil"))
    assert (step.verdict, step.login) == (Verdict.ACCEPTED, "a,b=c")


def test_wrong_password_and_unknown_user_differ_in_nothing() -> None:
    for name in ("user", "nobody"):
        client = ScramClient(name, "guess")
        step = log_in_by_scram(begin(), client)
        assert (step.verdict, step.reason) == (Verdict.REFUSED, "credentials invalid")
        assert step.login == name
        assert (len(client.server_first["s"]), client.server_first["i"]) == (24, "4096")


def test_unknown_user_has_the_same_salt_each_time_and_not_that_of_another() -> None:
    salts = []
    for name in ("nobody", "nobody", "no-one"):
        client = ScramClient(name, "guess")
        log_in_by_scram(begin(), client)
        salts.append(client.server_first["s"])
    assert salts[0] == salts[1] != salts[2]


def test_unknown_user_is_refused_with_any_password() -> None:
    """Also with the empty one, and when the made-up keys are known to be HMACs of the name."""
    for password in ("", "nobody", "pencil"):
        step = log_in_by_scram(begin(), ScramClient("nobody", password))
        assert step.verdict is Verdict.REFUSED


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "malformed SCRAM client-first-message"),
        (b"n=user,r=x", "malformed SCRAM client-first-message"),
        (b"n,n=user,r=x", "malformed SCRAM client-first-message"),
        (b"x,,n=user,r=x", "malformed SCRAM client-first-message"),
        (b"n,,r=x,n=user", "malformed SCRAM client-first-message"),
        (b"n,,n=user", "malformed SCRAM client-first-message"),
        (b"n,,n=user,r=", "malformed SCRAM client-first-message"),
        (b"n,,n=user,r=a b", "malformed SCRAM client-first-message"),
        (b"n,,n=user,r=x\n", "malformed SCRAM client-first-message"),
        (b"n,,n=user,r=x,", "malformed SCRAM client-first-message"),
        (b"n,,n=user,r=" + b"x" * 257, "malformed SCRAM client-first-message"),
        (b"n,,m=ext,n=user,r=x", "SCRAM extension not supported"),
        (b"p=tls-unique,,n=user,r=x", "channel binding is not supported"),
        (b"p=tls-exporter,a=user,n=user,r=x", "channel binding is not supported"),
        (b"n,a=other,n=user,r=x", "acting as another user is not allowed"),
        (b"n,a=,n=user,r=x", "malformed name"),
        (b"n,,n=,r=x", "malformed name"),
        (b"n,,n=us=er,r=x", "malformed name"),
        (b"n,,n=us=2cer,r=x", "malformed name"),
        (b"n,,n=us\0er,r=x", "malformed name"),
        (b"n,,n=us\ner,r=x", "control characters are not allowed"),
        (b"n,,n=us\xffer,r=x", "the name is not UTF-8"),
        (b"n,,n=user,r=x" + b",x=y" * 600, "SCRAM message too long"),
    ],
)
def test_malformed_first_message_is_refused_before_a_look_up(message: bytes, reason: str) -> None:
    verifiers = FakeVerifiers()
    step = turn(begin(verifiers), message)
    assert (step.verdict, step.reason) == (Verdict.REFUSED, reason)
    assert verifiers.asked == []


def test_optional_extensions_are_ignored() -> None:
    client = ScramClient("user", "pencil")
    client.bare += b",z=whatever"
    assert log_in_by_scram(begin(), client).verdict is Verdict.ACCEPTED


PROOF = base64.b64encode(b"p" * 32)
FULL_NONCE = b"client" + SERVER_NONCE


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "malformed SCRAM client-final-message"),
        (b"c=biws,r=%s" % FULL_NONCE, "malformed SCRAM client-final-message"),
        (b"r=%s,c=biws,p=%s" % (FULL_NONCE, PROOF), "malformed SCRAM client-final-message"),
        (b"c=biws,r=%s,p=%s\n" % (FULL_NONCE, PROOF), "malformed SCRAM client-final-message"),
        (b"c=biws,r=%s,p=%s,x=y" % (FULL_NONCE, PROOF), "malformed SCRAM client-final-message"),
        (b"c=eSws,r=%s,p=%s" % (FULL_NONCE, PROOF), "SCRAM channel binding does not match"),
        (b"c=biws,r=client,p=%s" % PROOF, "SCRAM nonce does not match"),
        (b"c=biws,r=%sx,p=%s" % (FULL_NONCE, PROOF), "SCRAM nonce does not match"),
        (b"c=biws,r=%s,p=AAAA" % FULL_NONCE, "malformed SCRAM proof"),
        (b"c=biws,r=%s,p=%sA" % (FULL_NONCE, PROOF), "a field is too long"),
        (b"c=biws,r=%s,p=A=AA" % FULL_NONCE, "bad base64"),
        (b"c=biws,r=%s,p=%s" % (FULL_NONCE, PROOF[:-2] + b"B="), "bad base64"),
        (b"c=biws,r=%s,p=%s" % (FULL_NONCE, PROOF), "credentials invalid"),
        (b"x" * 2049, "SCRAM message too long"),
    ],
)
def test_malformed_final_message_is_refused(message: bytes, reason: str) -> None:
    exchange = begin()
    turn(exchange, b"n,,n=user,r=client")
    step = turn(exchange, message)
    assert (step.verdict, step.reason, step.login) == (Verdict.REFUSED, reason, "user")


def test_client_that_answers_the_server_final_with_something_is_refused() -> None:
    exchange, client = begin(), ScramClient("user", "pencil")
    step = turn(exchange, client.final(turn(exchange, client.first()).octets))
    assert step.verdict is Verdict.CHALLENGE
    assert turn(exchange, b"x").verdict is Verdict.REFUSED


def test_users_that_cannot_be_read_are_no_refusal() -> None:
    step = turn(begin(FakeVerifiers(is_down=True)), b"n,,n=user,r=x")
    assert (step.verdict, step.reason) == (Verdict.UNAVAILABLE, "the users cannot be read")


class Elsewhere:
    """Takes down what it is given."""

    def __init__(self) -> None:
        self.responses: list[bytes | None] = []
        self.is_cancelled = False

    def step(self, response: bytes | None, done: Done) -> None:
        self.responses.append(response)
        done(unavailable("elsewhere"))

    def cancel(self) -> None:
        self.is_cancelled = True


def test_name_that_is_known_elsewhere_is_passed_on_whole() -> None:
    other = Elsewhere()
    exchange = begin(FakeVerifiers(other))
    turn(exchange, None)
    assert turn(exchange, b"n,,n=else,r=x").reason == "elsewhere"
    turn(exchange, b"c=biws,r=xy,p=zz")
    assert other.responses == [b"n,,n=else,r=x", b"c=biws,r=xy,p=zz"]
    exchange.cancel()
    assert other.is_cancelled


def test_cancel_is_harmless_in_every_state() -> None:
    client = ScramClient("user", "pencil")
    for count in range(4):
        exchange, said = begin(), Said()
        if count > 0:
            exchange.step(client.first(), said)
        if count > 1:
            exchange.step(client.final(said[0].octets), said)
        if count > 2:
            exchange.step(b"", said)
        exchange.cancel()
        assert len(said) == count
