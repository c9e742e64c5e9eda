"""What becomes of logins through a handler: who is told, when, and what is never said."""

import asyncio
from base64 import b64decode, b64encode
from typing import Any, NoReturn

import pytest
from aiosmtpd.smtp import MISSING, AuthResult, LoginPassword

from fastmta.smtp.sasl import SaslStep, Verdict
from tests.support import hooking
from tests.support.hooking import World, with_hooks

pytestmark = pytest.mark.filterwarnings("ignore")

TARGET = "tests.support.hooking:authenticator"


def raise_error(text: str) -> NoReturn:
    raise OSError(text)


PLACE = f"{__file__}:{raise_error.__code__.co_firstlineno + 1}"


class Nothing:
    """No hook at all."""


class Decides:
    """handle_AUTH lets everybody in."""

    async def handle_AUTH(self, server: Any, session: Any, envelope: Any, args: list[str]) -> str:
        session.authenticated = True
        session.auth_data = LoginPassword(b"user", b"")
        return "235 2.7.0 yes"


def judge(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> bool:
    return bool(data.password == b"secret")


SECRET = b"hunter2"
GUESS = b"\0bob\0" + SECRET


class Raising:
    """Tells what it was given in whatever it does."""

    def __init__(self, way: str) -> None:
        self.way = way

    async def handle_AUTH(self, server: Any, session: Any, envelope: Any, args: list[str]) -> Any:
        if self.way == "auth-text":
            return b64decode(args[1]).decode("latin-1")
        return (
            raise_error(f"given {args} {b64decode(args[1])!r}") if self.way == "auth" else MISSING
        )

    async def handle_exception(self, error: Exception) -> Any:
        return raise_error(str(error)) if self.way == "auth" else str(error)


@pytest.mark.parametrize("way", ["auth", "auth-text", "authenticator"])
def test_what_a_hook_of_auth_says_of_its_failure_is_not_logged(way: str) -> None:
    def judge_loudly(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> bool:
        raise_error(f"no such password: {data.password!r}")

    hooking.authenticator = judge_loudly
    said = []

    async def attempt(world: World) -> None:
        session = world.session()
        said.append(await session.say(b"AUTH PLAIN " + b64encode(GUESS)))
        assert session.login == ""

    world = with_hooks(Raising(way), attempt, authenticator=TARGET, auth_require_tls=False)
    assert said[0].startswith("454")
    assert world.notes
    text = " ".join(world.notes)
    assert SECRET.decode() not in text
    assert b64encode(GUESS).decode() not in text
    assert way == "auth-text" or PLACE in text


def test_other_hooks_of_the_session_may_still_say_what_went_wrong() -> None:
    """Also after an AUTH command that was given up half way."""

    class Slow:
        async def auth_SLOW(self, server: Any, args: list[str]) -> AuthResult:
            await server.challenge_auth("?")
            return AuthResult(success=False)

        async def handle_NOOP(self, server: Any, session: Any, envelope: Any, arg: str) -> str:
            raise ValueError("no such thing")

    async def scenario(world: World) -> None:
        session = world.session()
        await session.say(b"EHLO a")
        assert session.hook.authenticate is not None
        exchange = session.hook.authenticate.begin("SLOW", "127.0.0.1", True)
        assert (await session.step(exchange, None)).verdict is Verdict.CHALLENGE
        exchange.cancel()
        await session.say(b"NOOP")
        assert world.notes == ["127.0.0.1: handle_NOOP raised ValueError: no such thing"]

    with_hooks(Slow(), scenario)


class HandlesPlain:
    """All by itself, in one of two ways."""

    async def handle_AUTH(self, server: Any, session: Any, envelope: Any, args: list[str]) -> Any:
        return "535 5.7.8 no" if args[0] == "PLAIN" else MISSING

    async def auth_LOGIN(self, server: Any, args: list[str]) -> AuthResult:
        await server.challenge_auth("Name")
        await server.challenge_auth("Word")
        return AuthResult(success=False)


REFUSALS = [
    ("PLAIN", [GUESS]),
    ("PLAIN", [None, GUESS]),
    ("LOGIN", [b"bob", SECRET]),
    ("LOGIN", [None, b"bob", SECRET]),
]


@pytest.mark.parametrize("handler", [Nothing(), HandlesPlain()], ids=["authenticator", "handler"])
@pytest.mark.parametrize(("mechanism", "responses"), REFUSALS)
def test_refusal_names_who_it_was_and_takes_its_time(
    mechanism: str, responses: list[bytes | None], handler: Any
) -> None:
    """So that failures count for the account, and the log has its name."""
    if isinstance(handler, HandlesPlain) and responses[0] is not None and mechanism == "LOGIN":
        responses = [None, *responses]
    if isinstance(handler, HandlesPlain) and responses[0] is None and mechanism == "PLAIN":
        responses = responses[1:]

    async def scenario(world: World) -> None:
        session = world.session()
        assert session.hook.authenticate is not None
        exchange = session.hook.authenticate.begin(mechanism, "127.0.0.1", True)
        loop = asyncio.get_running_loop()
        for response in responses:
            began_s = loop.time()
            step = await session.step(exchange, response)
        assert (step.verdict, step.login) == (Verdict.REFUSED, "bob")
        assert loop.time() - began_s >= 0.29

    hooking.authenticator = judge
    with_hooks(handler, scenario, authenticator=TARGET)


def test_refusal_is_not_told_to_a_client_that_has_gone() -> None:
    async def scenario(world: World) -> None:
        session = world.session()
        assert session.hook.authenticate is not None
        exchange = session.hook.authenticate.begin("PLAIN", "127.0.0.1", True)
        told: list[SaslStep] = []
        exchange.step(GUESS, told.append)
        while exchange._timer is None:
            await asyncio.sleep(0.005)
        exchange.cancel()
        await asyncio.sleep(0.35)
        assert told == []

    hooking.authenticator = judge
    with_hooks(Nothing(), scenario, authenticator=TARGET)


@pytest.mark.parametrize("handler", [Nothing(), Decides()])
def test_login_counts_only_when_our_session_has_accepted_it(handler: Any) -> None:
    """It may have its own reasons: an account that has failed too often."""

    async def scenario(world: World) -> None:
        session = world.session()
        dialog = session.hook._dialog
        before = dialog.session.authenticated, dialog.session.auth_data
        for is_accepted in (False, True):
            assert session.hook.authenticate is not None
            exchange = session.hook.authenticate.begin("PLAIN", "127.0.0.1", True)
            step = await session.step(exchange, b"\0user\0secret")
            assert (step.verdict, step.login) == (Verdict.ACCEPTED, "user")
            assert (dialog.session.authenticated, dialog.session.auth_data) == before
            assert dialog.session._login_data is None
            if is_accepted:
                session.hook.logged_in(step.login, "PLAIN")
        assert dialog.session.authenticated is True
        assert dialog.session.auth_data.login == b"user"
        assert dialog.granted is None

    hooking.authenticator = judge
    with_hooks(handler, scenario, authenticator=TARGET)


def test_login_that_was_not_accepted_is_not_the_next_one_s() -> None:
    """Nor that of whom XCLIENT names."""

    async def scenario(world: World) -> None:
        session = world.session()
        assert session.hook.authenticate is not None
        exchange = session.hook.authenticate.begin("PLAIN", "127.0.0.1", True)
        await session.step(exchange, b"\0user\0secret")
        session.hook.renamed()
        session.hook.logged_in("other", "XCLIENT")
        assert session.hook._dialog.session.auth_data == LoginPassword(b"other", b"")

    hooking.authenticator = judge
    with_hooks(Nothing(), scenario, authenticator=TARGET)
