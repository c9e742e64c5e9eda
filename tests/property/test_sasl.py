"""Whatever a client says: every step is answered exactly once, nothing is raised, nobody gets in.

The octets are biased towards what the mechanisms look for; the names and secrets that would be
right never come up, because nobody has a password that hypothesis can say.
"""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from fastmta.security.bearer import BearerExchange
from fastmta.security.password import ScramVerifier, make_verifier
from fastmta.security.plain import LoginExchange, PlainExchange
from fastmta.security.scram import ScramExchange
from fastmta.security.step import Cancel, Client, nothing_to_cancel, refused
from fastmta.security.turn import FLOOR_S, JITTER_S, Turns
from fastmta.security.users import User, Users, parse_file
from fastmta.smtp.sasl import Done, Exchange, Verdict
from tests.support.sasl import CLIENT, FakeLoop, Said

PIECES = [
    b"n,,", b"y,,", b"p=x,,", b"n,a=user,", b"n=user", b"n=", b",", b"=", b"r=x", b"r=", b"m=1",
    b"c=biws", b"p=AAAA", b"\0", b"user", b"\x01", b"auth=Bearer ", b"auth=", b"user=", b"host=h",
    b"\xff", b"\r\n", b"=2C", b"=3D", "\u00e9\u202e".encode(),
    b"r=xbm5ubm5ubm5ubm5ubm5ubm5u",  # what the server makes of r=x
    b"p=" + b"A" * 43 + b"=",
]  # fmt: skip
response = (
    st.none()
    | st.binary(max_size=40)
    | st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=8).map(b"".join)
)


class Nobody:
    """A checker and verifiers that let nobody in."""

    users = Users.build([User("user", verifier=make_verifier(b"pencil", 4096))], b"s" * 32)

    def check_password(self, login: str, password: str, client: Client, done: Done) -> Cancel:
        assert login
        assert password
        assert login.isprintable()
        assert "\0" not in password
        done(refused("no", login))
        return nothing_to_cancel

    def check_token(
        self, mechanism: str, message: bytes, token: tuple[str, str], client: Client, done: Done
    ) -> Cancel:
        assert token[1].isascii()
        assert token[0].isprintable()
        done(refused("no", token[0]))
        return nothing_to_cancel

    def verifier(self, login: str) -> ScramVerifier | None:
        return self.users.verifier(login)

    def elsewhere(self, login: str, client: Client) -> Exchange | None:
        return None


NOBODY = Nobody()
KINDS = {
    "plain": partial(PlainExchange, NOBODY, CLIENT),
    "login": partial(LoginExchange, NOBODY, CLIENT),
    "scram": partial(ScramExchange, NOBODY, CLIENT, lambda: b"n" * 18),
    "oauthbearer": partial(BearerExchange, NOBODY, CLIENT, "OAUTHBEARER"),
    "xoauth2": partial(BearerExchange, NOBODY, CLIENT, "XOAUTH2"),
}


@given(st.sampled_from(sorted(KINDS)), st.lists(response, min_size=1, max_size=5), st.booleans())
def test_every_step_is_answered_once_and_nobody_gets_in(
    kind: str, responses: list[bytes | None], is_cancelled: bool
) -> None:
    loop = FakeLoop()
    warned: list[str] = []
    exchange = Turns(KINDS[kind](), loop, lambda: 1.0, warned.append)
    for each in responses:
        said = Said()
        exchange.step(each, said)
        loop.advance(FLOOR_S + JITTER_S)
        step = said.one
        assert step.verdict in (Verdict.CHALLENGE, Verdict.REFUSED)
        assert step.reason.isascii()
        assert step.login.isprintable()
    if is_cancelled:
        exchange.cancel()
    assert loop.timers == []
    assert warned == []


@given(st.binary(max_size=200))
def test_users_file_of_any_octets(octets: bytes) -> None:
    warned: list[str] = []
    parse_file(octets, "users", warned.append)
    assert all(line.startswith("users:") for line in warned)
