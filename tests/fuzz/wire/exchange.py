"""SASL exchanges of `fastmta.security`, alone and as the `Authenticate` of a session."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator

from fastmta.security.bearer import BearerExchange
from fastmta.security.password import ScramVerifier
from fastmta.security.plain import LoginExchange, PlainExchange
from fastmta.security.scram import ScramExchange
from fastmta.security.step import Client
from fastmta.security.turn import Turns
from fastmta.smtp.sasl import Done, Exchange, SaslStep, Verdict
from tests.fuzz.wire.case import Case
from tests.fuzz.wire.scram import NONCE, SALT, SECRET, USER, verifier_of
from tests.support.sasl import FakeChecker, FakeLoop, Said

MECHANISMS = ("PLAIN", "LOGIN", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2")
NEVER_FITS = ScramVerifier(1, b"salt" * 4, bytes(32), bytes(32))
Feature = tuple[object, ...]


class RealAuthenticate:
    """Real exchanges over a fake checker; what goes wrong inside is a finding."""

    def __init__(self, checker: FakeChecker, *, is_without_tls: bool = True) -> None:
        self.loop = FakeLoop()
        self.checker = checker
        self.problems: list[str] = []
        self._witnesses: list[_Witness] = []
        self._is_without_tls = is_without_tls

    def mechanisms(self, is_secure: bool) -> tuple[str, ...]:
        return MECHANISMS if is_secure or self._is_without_tls else ()

    def begin(self, mechanism: str, address: str, is_secure: bool) -> Exchange | None:
        if mechanism not in self.mechanisms(is_secure):
            return None
        inner = self._inner(mechanism, Client(address, is_secure))
        return Turns(inner, self.loop, lambda: 0.5, self.problems.append)

    def may_send_as(self, login: str, reverse_path: bytes) -> bool:
        return reverse_path in (b"", login.encode(), login.encode() + b"@ours.example")

    def is_earned(self, login: str) -> bool:
        """Whether what was said can have been the secret of that login."""
        good = {(login, f"{login}-secret"), (login, f"{login}-token")}
        if good.intersection(self.checker.asked):
            return True
        return login == USER and any(each.is_proven() for each in self._witnesses)

    def _inner(self, mechanism: str, client: Client) -> Exchange:
        if mechanism == "PLAIN":
            return PlainExchange(self.checker, client)
        if mechanism == "LOGIN":
            return LoginExchange(self.checker, client)
        if mechanism == "SCRAM-SHA-256":
            witness = _Witness(ScramExchange(_Verifiers(), client, lambda: NONCE))
            self._witnesses.append(witness)
            return witness
        return BearerExchange(self.checker, client, mechanism)


class _Witness:
    """Hears an exchange of SCRAM, and judges it with the password in hand (RFC 5802 3)."""

    def __init__(self, inner: Exchange) -> None:
        self._inner = inner
        self._heard: list[bytes] = []
        self._challenges: list[bytes] = []

    def step(self, response: bytes | None, done: Done) -> None:
        self._heard.append(response or b"")

        def told(step: SaslStep) -> None:
            self._challenges.append(step.octets)
            done(step)

        self._inner.step(response, told)

    def cancel(self) -> None:
        self._inner.cancel()

    def is_proven(self) -> bool:
        """Whether some response is the proof that the one before it and our answer ask for."""
        turns = zip(self._heard, self._challenges, self._heard[1:], strict=False)
        return any(self._is_proof(*turn) for turn in turns)

    @staticmethod
    def _is_proof(first: bytes, server_first: bytes, final: bytes) -> bool:
        bare = first.split(b",", 2)[-1]
        without_proof, _, proof = final.rpartition(b",p=")
        signed = b",".join((bare, server_first, without_proof))
        salted = hashlib.pbkdf2_hmac("sha256", SECRET.encode(), SALT, 1)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        expected = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return proof == base64.b64encode(expected)


class _Verifiers:
    def verifier(self, login: str) -> ScramVerifier | None:
        if login == "nobody":
            return None
        return verifier_of(SECRET) if login == USER else NEVER_FITS

    def elsewhere(self, login: str, client: Client) -> Exchange | None:
        return None


def run_exchange(case: Case) -> Iterator[Feature]:
    """The octets are the responses, one behind the other, a `|` between two."""
    chance = case.chance()
    checker = FakeChecker(is_slow=chance.random() < 0.2, is_down=chance.random() < 0.1)
    authenticate = RealAuthenticate(checker)
    mechanism = case.settings_chance().choice(MECHANISMS)
    exchange = authenticate.begin(mechanism, "192.0.2.1", True)
    assert exchange is not None
    responses: list[bytes | None] = list(case.octets.split(b"|"))
    if chance.random() < 0.2:
        responses.insert(0, None)
    steps: list[Feature] = []
    is_over = False
    for response in responses:
        said = Said()
        exchange.step(response, said)
        if chance.random() < 0.05:  # the client is gone
            exchange.cancel()
            checker.release()
            authenticate.loop.advance(1.0)
            break
        checker.release()
        authenticate.loop.advance(1.0)
        step = said.one
        assert not is_over or step.verdict is Verdict.REFUSED, "it goes on behind its end"
        assert step.reason.isascii()
        assert step.reason.isprintable()
        if step.verdict is Verdict.ACCEPTED:
            assert authenticate.is_earned(step.login), step
        is_over = is_over or step.verdict is not Verdict.CHALLENGE
        steps.append((mechanism, step.verdict, step.reason[:24], len(step.octets) > 0))
    assert not authenticate.problems, authenticate.problems
    assert not authenticate.loop.timers
    yield from steps
    yield tuple(steps)
