"""Our logins elsewhere: what is said, what hostile servers get, and which mechanism it is."""

from __future__ import annotations

import pytest

from fastmta.security.bearer import BearerExchange
from fastmta.security.client_sasl import (
    ClientExchange,
    Credential,
    LoginClient,
    PlainClient,
    SaslFailure,
    ScramKeyCache,
    XOAuth2Client,
    choose,
)
from fastmta.security.client_scram import ScramClient
from fastmta.security.password import make_verifier
from fastmta.security.plain import LoginExchange, PlainExchange
from fastmta.security.scram import ScramExchange
from fastmta.security.step import Client
from fastmta.security.users import User, Users
from fastmta.smtp.sasl import Exchange, SaslStep, Verdict
from tests.support.sasl import CLIENT, FakeChecker, turn

ALL = ("LOGIN", "PLAIN", "XOAUTH2", "SCRAM-SHA-256", "CRAM-MD5")
BOTH = Credential("anna", "anna-secret", "anna-token")
SECRETS = ("anna-secret", "anna-token", "s3cret", "pencil")
# RFC 7677 3
NONCE = b"rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = (
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
)
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


class Verifiers:
    """`anna` has the password `anna-secret`."""

    def __init__(self, name: str = "anna", password: str = "anna-secret") -> None:
        users = [User(name, verifier=make_verifier(password.encode(), 4096))]
        self._users = Users.build(users, b"s" * 32)

    def verifier(self, login: str) -> object:
        return self._users.verifier(login)

    def elsewhere(self, login: str, client: Client) -> None:
        return None


def scram_server(name: str = "anna", password: str = "anna-secret") -> ScramExchange:
    verifiers = Verifiers(name, password)
    return ScramExchange(verifiers, CLIENT, lambda: b"n" * 18)  # type: ignore[arg-type]  # is one


def log_in(server: Exchange, client: ClientExchange) -> SaslStep:
    """All of a login; SaslFailure passes."""
    step = turn(server, client.initial())
    for _ in range(5):
        if step.verdict is not Verdict.CHALLENGE:
            break
        work = client.prepare(step.octets)
        if work is not None:
            work()
        step = turn(server, client.respond(step.octets))
    if step.verdict is Verdict.ACCEPTED:
        client.finish(b"")
    return step


def scram(cache: ScramKeyCache | None = None, nonce: bytes = NONCE) -> ScramClient:
    return ScramClient("user", "pencil", nonce, cache)


@pytest.mark.parametrize("secret", ["anna-secret", "anna-wrong"])
def test_our_own_server_takes_what_we_say(secret: str) -> None:
    """Every mechanism, with the right secret and with a wrong one."""
    is_good = secret == "anna-secret"
    credential = Credential("anna", secret, "anna-token" if is_good else "anna-wrong")
    checker = FakeChecker()
    pairs: list[tuple[Exchange, ClientExchange]] = [
        (PlainExchange(checker, CLIENT), PlainClient(credential)),
        (LoginExchange(checker, CLIENT), LoginClient(credential)),
        (BearerExchange(checker, CLIENT, "XOAUTH2"), XOAuth2Client(credential)),
        (scram_server(), ScramClient("anna", secret, b"nonce")),
    ]
    for server, client in pairs:
        step = log_in(server, client)
        assert step.verdict is (Verdict.ACCEPTED if is_good else Verdict.REFUSED)
        assert not is_good or step.login == "anna"
    assert pairs[2][1].notice == ("" if is_good else "status invalid_token")


def test_octets_of_each_mechanism() -> None:
    assert PlainClient(BOTH).initial() == b"\0anna\0anna-secret"
    assert XOAuth2Client(BOTH).initial() == b"user=anna\x01auth=Bearer anna-token\x01\x01"
    login = LoginClient(Credential("änna", "p\u00e4ss"))
    assert login.initial() is None
    assert login.respond(b"Username:") == "änna".encode()
    assert login.respond(b"whatever") == "päss".encode()
    login.finish(b"")


@pytest.mark.parametrize(
    ("offered", "credential", "is_confidential", "name"),
    [
        (ALL, BOTH, True, "SCRAM-SHA-256"),
        (ALL, BOTH, False, "SCRAM-SHA-256"),
        (("login", "plain", "xoauth2"), BOTH, True, "XOAUTH2"),
        (("LOGIN", "PLAIN"), BOTH, True, "PLAIN"),
        (("LOGIN",), BOTH, True, "LOGIN"),
        (("LOGIN", "PLAIN", "XOAUTH2"), BOTH, False, ""),
        (ALL, Credential("anna", token="t"), True, "XOAUTH2"),
        (ALL, Credential("anna", token="t"), False, ""),
        (ALL, Credential("anna"), True, ""),
        (ALL, Credential("anna", "s3cret", mechanisms=("login", "plain")), True, "PLAIN"),
        (ALL, Credential("anna", "s3cret", mechanisms=("EXTERNAL",)), True, ""),
        (("CRAM-MD5", "SCRAM-SHA-256-PLUS"), BOTH, True, ""),
        ((), BOTH, True, ""),
    ],
)
def test_choice(
    offered: tuple[str, ...], credential: Credential, is_confidential: bool, name: str
) -> None:
    chosen = choose(offered, credential, is_confidential=is_confidential)
    assert (chosen.name if chosen else "") == name


def test_nonces_differ() -> None:
    chosen = [choose(ALL, BOTH, is_confidential=True) for _ in range(2)]
    first, second = (one.initial() for one in chosen if one is not None)
    assert first is not None
    assert first != second
    assert first.startswith(b"n,,n=anna,r=")
    assert len(first) > 30


def test_secrets_are_not_shown() -> None:
    text = f"{BOTH} {BOTH!r} {Credential('b')!r}"
    assert not any(secret in text for secret in SECRETS)
    assert "password=***, token=***" in text
    cache = ScramKeyCache()
    log_in(scram_server(), ScramClient("anna", "anna-secret", b"x", cache))
    assert repr(next(iter(cache._keys.values()))) == "ScramKeys(***)"


@pytest.mark.parametrize("client", [PlainClient, XOAuth2Client])
def test_long_messages_wait_for_a_challenge(client: type[PlainClient | XOAuth2Client]) -> None:
    """RFC 4954 4: a command has at most 512 octets."""
    long = Credential("anna", "p" * 1000, "t" * 2000)
    exchange = client(long)
    assert exchange.initial() is None
    message = exchange.respond(b"")
    assert b"p" * 1000 in message or b"t" * 2000 in message
    exchange.finish(b"")


def test_hostile_challenges() -> None:
    plain, login, oauth = PlainClient(BOTH), LoginClient(BOTH), XOAuth2Client(BOTH)
    plain.initial()
    oauth.initial()
    with pytest.raises(SaslFailure, match="a challenge that the mechanism does not have"):
        plain.respond(b"more?")
    for exchange in (PlainClient(BOTH), LoginClient(BOTH), XOAuth2Client(BOTH)):
        with pytest.raises(SaslFailure, match="too long"):
            exchange.respond(b"x" * 8193)
        with pytest.raises(SaslFailure, match="accepted before"):
            exchange.finish(b"")
    login.respond(b"")
    with pytest.raises(SaslFailure, match="before the password"):
        login.finish(b"")
    login.respond(b"")
    with pytest.raises(SaslFailure, match="third"):
        login.respond(b"")
    assert oauth.respond(b'{"status":"400","schemes":"Bearer","scope":"\r\nx"}') == b""
    assert oauth.notice == "status 400"
    with pytest.raises(SaslFailure, match="second error"):
        oauth.respond(b"{}")
    with pytest.raises(SaslFailure, match="accepted after"):
        oauth.finish(b"")
    oauth = XOAuth2Client(BOTH)
    oauth.initial()
    assert oauth.respond(b"\xff\0 anna-token \r\n") == b""
    assert oauth.notice == "an error"


@pytest.mark.parametrize(
    "credential",
    [
        Credential("a\0b", "s3cret"),
        Credential("a\x01b", "s3cret", "t"),
        Credential("anna", "s3cret\0"),
        Credential("", "s3cret", "t"),
        Credential("\udc80", "s3cret", "t"),
        Credential("a" * 321, "s3cret", "t"),
        Credential("anna", "s3cret" * 200, "s3cret\x01"),
        Credential("anna", "\x07", "s3cret\r\n"),
    ],
)
def test_credentials_that_cannot_be_sent(credential: Credential) -> None:
    failures = []
    for exchange in (
        PlainClient(credential),
        LoginClient(credential),
        XOAuth2Client(credential),
        ScramClient(credential.username, credential.password, NONCE),
    ):
        try:
            exchange.initial()
            exchange.respond(b"")
        except SaslFailure as failure:
            failures.append(str(failure))
    assert len(failures) >= 2
    assert not any(secret in text for text in failures for secret in SECRETS)


def test_vector_of_rfc_7677() -> None:
    """RFC 7677 3, octet for octet, with the work done before and without."""
    for is_prepared in (True, False):
        client = scram()
        assert client.initial() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
        work = client.prepare(SERVER_FIRST) if is_prepared else None
        if work is not None:
            work()
            assert client.prepare(SERVER_FIRST) is None
        assert client.respond(SERVER_FIRST) == CLIENT_FINAL
        assert client.prepare(SERVER_FINAL) is None
        assert client.respond(SERVER_FINAL) == b""
        client.finish(b"")


def test_server_final_with_the_reply() -> None:
    client = scram()
    client.initial()
    client.respond(SERVER_FIRST)
    client.finish(SERVER_FINAL)


def test_initial_message_in_answer_to_an_empty_challenge() -> None:
    client = scram()
    assert client.respond(b"") == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert client.respond(SERVER_FIRST) == CLIENT_FINAL


def test_names_are_written_so_that_they_do_not_end_early() -> None:
    client = ScramClient("a,b=c\u00ad", "anna-secret", b"x")
    assert client.initial() == b"n,,n=a=2Cb=3Dc,r=x"
    server = scram_server("a,b=c")
    assert log_in(server, ScramClient("a,b=c", "anna-secret", b"x")).login == "a,b=c"


@pytest.mark.parametrize(
    ("first", "text"),
    [
        (b"", "malformed"),
        (b"e=other-error", "malformed"),
        (SERVER_FIRST + b"\0", "malformed"),
        (SERVER_FIRST + b"\r\n", "malformed"),
        (SERVER_FIRST + b",x=" + b"y" * 3000, "malformed"),
        (b"m=ext," + SERVER_FIRST, "malformed"),
        (SERVER_FIRST.replace(b"r=rO", b"r=sO"), "nonce is not ours"),
        (b"r=" + NONCE + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "nonce is not ours"),
        (SERVER_FIRST.replace(b"%", b"%" * 600), "nonce is too long"),
        (SERVER_FIRST.replace(b"4096", b"4095"), "too few or too many"),
        (SERVER_FIRST.replace(b"4096", b"1"), "too few or too many"),
        (SERVER_FIRST.replace(b"4096", b"1000001"), "too few or too many"),
        (SERVER_FIRST.replace(b"4096", b"9" * 30), "malformed"),
        (SERVER_FIRST.replace(b"4096", b"-4096"), "malformed"),
        (SERVER_FIRST.replace(b"W22ZaJ0SNY7soEsUEjb6gQ==", b"W2="), "malformed salt"),
        (SERVER_FIRST.replace(b"W22ZaJ0SNY7soEsUEjb6gQ==", b"AAAA" * 100), "malformed salt"),
    ],
)
def test_hostile_server_first(first: bytes, text: str) -> None:
    client = scram()
    client.initial()
    assert client.prepare(first) is None
    with pytest.raises(SaslFailure, match=text):
        client.respond(first)


@pytest.mark.parametrize(
    ("final", "text"),
    [
        (b"", "malformed"),
        (b"v=", "malformed"),
        (b"v=AAAA", "does not know the password"),
        (SERVER_FINAL.replace(b"6rri", b"7rri"), "does not know the password"),
        (b"e=invalid-proof", "refused by the server"),
        (b"v=" + b"A" * 5000, "malformed"),
        (SERVER_FIRST, "malformed"),
    ],
)
def test_hostile_server_final(final: bytes, text: str) -> None:
    client = scram(cache := ScramKeyCache())
    client.initial()
    client.respond(SERVER_FIRST)
    with pytest.raises(SaslFailure, match=text):
        client.respond(final)
    with pytest.raises(SaslFailure):
        client.finish(b"")
    assert client.notice == ("invalid-proof" if final.startswith(b"e=") else "")
    assert len(cache) == 0


def test_a_server_that_accepts_without_a_proof() -> None:
    client = scram()
    client.initial()
    with pytest.raises(SaslFailure, match="has not proved"):
        client.finish(b"")
    client.respond(SERVER_FIRST)
    with pytest.raises(SaslFailure, match="has not proved"):
        client.finish(b"")
    client.respond(SERVER_FINAL)
    with pytest.raises(SaslFailure, match="after the last"):
        client.respond(b"")


def test_keys_are_kept_of_servers_that_proved_themselves() -> None:
    cache = ScramKeyCache(count_max=1)
    first = scram(cache)
    first.initial()
    assert first.prepare(SERVER_FIRST) is not None
    first.respond(SERVER_FIRST)
    assert len(cache) == 0
    first.respond(SERVER_FINAL)
    first.finish(b"")
    assert len(cache) == 1
    second = scram(cache)
    second.initial()
    assert second.prepare(SERVER_FIRST) is None  # no work
    assert second.respond(SERVER_FIRST) == CLIENT_FINAL
    other = ScramClient("user", "other", NONCE, cache)
    other.initial()
    assert other.prepare(SERVER_FIRST) is not None
    assert scram(cache).prepare(SERVER_FIRST) is None  # nothing was said yet
    more = scram_server()
    assert log_in(more, ScramClient("anna", "anna-secret", b"x", cache)).login == "anna"
    assert len(cache) == 1
