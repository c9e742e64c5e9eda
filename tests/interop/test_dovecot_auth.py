"""Logins that Debian's Dovecot decides, over its auth socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
import uvloop

from fastmta.security import Authenticator, AuthOptions
from fastmta.smtp.sasl import Exchange, SaslStep, Verdict
from tests.support.dovecot import DovecotServer, running_dovecot
from tests.support.sasl import ScramClient

pytestmark = pytest.mark.interop

MECHANISMS = ("SCRAM-SHA-256", "PLAIN", "LOGIN", "OAUTHBEARER", "CRAM-MD5")
USERS = {"alice@example.com": "pencil", "bob": "eraser"}
WAIT_S = 30.0


@pytest.fixture(scope="module")
def dovecot() -> Iterator[DovecotServer]:
    with running_dovecot(USERS) as dovecot:
        yield dovecot


class Talk:
    """An authenticator on the loop that runs."""

    def __init__(self, where: str) -> None:
        self.warned: list[str] = []
        options = AuthOptions(mechanisms=MECHANISMS, dovecot=where)
        loop = asyncio.get_running_loop()
        self.authenticator = Authenticator(options, loop, self.warned.append)
        self.authenticator.start()

    async def wait_for_connection(self) -> None:
        """Until a login is answered by Dovecot."""
        async with asyncio.timeout(WAIT_S):
            while (await self.plain(b"nobody", b"x")).verdict is Verdict.UNAVAILABLE:
                await asyncio.sleep(0.05)

    def begin(self, mechanism: str) -> Exchange:
        exchange = self.authenticator.begin(mechanism, "192.0.2.7", True)
        assert exchange is not None
        return exchange

    async def step(self, exchange: Exchange, response: bytes | None) -> SaslStep:
        answer: asyncio.Future[SaslStep] = asyncio.get_running_loop().create_future()
        exchange.step(response, answer.set_result)  # a second call would raise
        return await asyncio.wait_for(answer, WAIT_S)

    async def plain(self, name: bytes, password: bytes) -> SaslStep:
        return await self.step(self.begin("PLAIN"), b"\0%s\0%s" % (name, password))

    async def login(self, name: bytes, password: bytes) -> SaslStep:
        exchange = self.begin("LOGIN")
        assert (await self.step(exchange, None)).octets == b"Username:"
        assert (await self.step(exchange, name)).octets == b"Password:"
        return await self.step(exchange, password)

    async def scram(self, name: str, password: str) -> SaslStep:
        client, exchange = ScramClient(name, password), self.begin("SCRAM-SHA-256")
        step = await self.step(exchange, client.first())
        if step.verdict is Verdict.CHALLENGE:
            step = await self.step(exchange, client.final(step.octets))
        if step.verdict is Verdict.CHALLENGE:
            assert client.is_server(step.octets)
            step = await self.step(exchange, b"")
        return step


def talk(where: str, dialog: Callable[[Talk], Awaitable[None]], *, is_up: bool = True) -> list[str]:
    """Run `dialog` on uvloop; what the operator was told."""

    async def run() -> list[str]:
        talk = Talk(where)
        try:
            if is_up:
                await talk.wait_for_connection()
                talk.warned.clear()
            await dialog(talk)
        finally:
            talk.authenticator.close()
            await asyncio.sleep(0)
        return talk.warned

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def test_what_is_offered_is_what_both_have(dovecot: DovecotServer) -> None:
    async def dialog(talk: Talk) -> None:
        offered = talk.authenticator.mechanisms(True)
        assert offered == ("SCRAM-SHA-256", "PLAIN", "LOGIN", "OAUTHBEARER")
        assert talk.authenticator.mechanisms(False) == ()

    assert talk(dovecot.socket, dialog) == []


@pytest.mark.parametrize("place", ["unix", "tcp"])
def test_plain_and_login(dovecot: DovecotServer, place: str) -> None:
    async def dialog(talk: Talk) -> None:
        for ask in (talk.plain, talk.login):
            step = await ask(b"alice@example.com", b"pencil")
            assert (step.verdict, step.login) == (Verdict.ACCEPTED, "alice@example.com")
            wrong = await ask(b"alice@example.com", b"wrong")
            nobody = await ask(b"eve", b"pencil")
            assert (wrong.verdict, nobody.verdict) == (Verdict.REFUSED, Verdict.REFUSED)
            assert wrong.reason == nobody.reason
            assert (await ask(b"bob", b"eraser")).login == "bob"

    where = dovecot.socket if place == "unix" else f"127.0.0.1:{dovecot.port}"
    assert talk(where, dialog) == []


def test_dovecot_is_told_who_asks(dovecot: DovecotServer) -> None:
    async def dialog(talk: Talk) -> None:
        await talk.plain(b"bob", b"eraser")

    talk(dovecot.socket, dialog)
    log = dovecot.log_text()
    assert "service=smtp\tnologin\trip=192.0.2.7\tsecured\tresp=" in log
    assert "BUG" not in log


def test_scram(dovecot: DovecotServer) -> None:
    async def dialog(talk: Talk) -> None:
        step = await talk.scram("alice@example.com", "pencil")
        assert (step.verdict, step.login) == (Verdict.ACCEPTED, "alice@example.com")
        assert (await talk.scram("alice@example.com", "wrong")).verdict is Verdict.REFUSED
        assert (await talk.scram("eve", "pencil")).verdict is Verdict.REFUSED

    assert talk(dovecot.socket, dialog) == []


def test_token_that_is_not_good(dovecot: DovecotServer) -> None:
    async def dialog(talk: Talk) -> None:
        exchange = talk.begin("OAUTHBEARER")
        step = await talk.step(exchange, b"n,a=bob,\x01auth=Bearer abc\x01\x01")
        # Dovecot has no database of tokens here, hence either is right.
        assert step.verdict in (Verdict.CHALLENGE, Verdict.UNAVAILABLE)

    assert talk(dovecot.socket, dialog) == []


def test_many_at_once_and_some_that_leave(dovecot: DovecotServer) -> None:
    async def dialog(talk: Talk) -> None:
        left = []
        for number in range(30):
            exchange = talk.begin("PLAIN")
            exchange.step(b"\0bob\0eraser", left.append)
            if number % 2:
                exchange.cancel()
        steps = await asyncio.gather(
            *(talk.plain(b"bob", b"eraser" if number % 3 else b"x") for number in range(60))
        )
        good = [step for step in steps if step.verdict is Verdict.ACCEPTED]
        assert (len(good), len(steps) - len(good)) == (40, 20)
        async with asyncio.timeout(WAIT_S):
            while len(left) < 15:
                await asyncio.sleep(0.02)
        assert [step.login for step in left] == ["bob"] * 15

    assert talk(dovecot.socket, dialog) == []


def test_dovecot_that_is_stopped_and_started_again() -> None:
    with running_dovecot(USERS) as dovecot:

        async def dialog(talk: Talk) -> None:
            exchange = talk.begin("LOGIN")
            await talk.step(exchange, b"bob")
            assert (await talk.plain(b"bob", b"eraser")).verdict is Verdict.ACCEPTED
            await asyncio.to_thread(dovecot.stop)
            async with asyncio.timeout(WAIT_S):
                while (await talk.plain(b"bob", b"eraser")).verdict is not Verdict.UNAVAILABLE:
                    await asyncio.sleep(0.05)
            assert (await talk.step(exchange, b"eraser")).verdict is Verdict.UNAVAILABLE
            assert talk.authenticator.mechanisms(True)  # still offered: 454, not 503
            await asyncio.to_thread(dovecot.start)
            await talk.wait_for_connection()
            assert (await talk.plain(b"bob", b"eraser")).verdict is Verdict.ACCEPTED

        warned = talk(dovecot.socket, dialog)
        assert warned[-1] == "dovecot: connected again"
        assert any(words in warned[0] for words in ("connection lost", "Connection reset"))


def test_dovecot_that_is_not_there(tmp_path: object) -> None:
    async def dialog(talk: Talk) -> None:
        assert talk.authenticator.mechanisms(True) == ("PLAIN", "LOGIN")
        assert (await talk.plain(b"bob", b"eraser")).verdict is Verdict.UNAVAILABLE

    talk(f"{tmp_path}/none", dialog, is_up=False)
