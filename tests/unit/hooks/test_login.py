"""AUTH of handlers: `auth_` methods, authenticators and handle_AUTH, here and under aiosmtpd."""

import asyncio
import socket
import threading
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, NoReturn

import pytest
from aiosmtpd.smtp import MISSING, AuthResult, LoginPassword, auth_mechanism

from fastmta.smtp.sasl import SaslStep, Verdict
from tests.support import hooking
from tests.support.hooking import World, running_oracle, with_hooks

pytestmark = pytest.mark.filterwarnings("ignore")


def raise_error(text: str) -> NoReturn:
    raise OSError(text)


PLACE = f"{__file__}:{raise_error.__code__.co_firstlineno + 1}"


def encoded(octets: bytes) -> bytes:
    return b64encode(octets)


PLAIN = encoded(b"\0user\0secret")
WRONG = encoded(b"\0user\0wrong")


def ours(handler: Any, lines: Sequence[bytes], **options: Any) -> tuple[list[str], World, Any]:
    """Replies to `EHLO`, an AUTH command and the responses behind it; the session."""
    kept: list[Any] = []
    said: list[str] = []

    async def scenario(world: World) -> None:
        session = world.session()
        kept.append(session)
        await session.say(b"EHLO a")
        said.append(await session.say(lines[0]))
        for line in lines[1:]:
            said.append(await session.respond(line))

    world = with_hooks(handler, scenario, auth_require_tls=False, **options)
    return said, world, kept[0]


def theirs(handler: Any, lines: Sequence[bytes], **options: Any) -> list[str]:
    said = []
    with (
        running_oracle(handler, **options) as address,
        socket.create_connection(address, 5) as connection,
        connection.makefile("rb") as stream,
    ):
        stream.readline()
        connection.sendall(b"EHLO a\r\n")
        while stream.readline()[3:4] == b"-":
            pass
        for line in lines:
            connection.sendall(line + b"\r\n")
            said.append(stream.readline().decode().rstrip("\r\n"))
    return said


class Nothing:
    """No hook at all."""


def judge(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    assert type(data) is LoginPassword
    assert server.session is session
    return AuthResult(success=data.password == b"secret", handled=False, auth_data=data)


def judge_bool(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> bool:
    return bool(data.password == b"secret")


async def judge_later(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
    await asyncio.sleep(0)
    return judge(server, session, envelope, mechanism, data)


def judge_old(mechanism: str, login: bytes, password: bytes) -> bool:
    return password == b"secret"


EXCHANGES = [
    [b"AUTH PLAIN " + PLAIN],
    [b"AUTH PLAIN", PLAIN],
    [b"AUTH PLAIN " + WRONG],
    [b"AUTH LOGIN", encoded(b"user"), encoded(b"secret")],
    [b"AUTH LOGIN " + encoded(b"user"), encoded(b"secret")],
    [b"AUTH LOGIN", encoded(b"user"), encoded(b"no")],
]


@pytest.mark.parametrize("function", [judge, judge_bool, judge_later, judge_old])
@pytest.mark.parametrize("lines", EXCHANGES, ids=range(len(EXCHANGES)))
def test_authenticator_as_under_aiosmtpd(lines: list[bytes], function: Any) -> None:
    hooking.authenticator = function
    target = "tests.support.hooking:authenticator"
    said, world, session = ours(Nothing(), lines, authenticator=target)
    expected = theirs(Nothing(), lines, authenticator=judge)
    assert [each[:3] for each in said] == [each[:3] for each in expected]
    challenges = [each for each in expected if each.startswith("334")]
    assert [each for each in said if each.startswith("334")] == challenges
    assert session.login == ("user" if said[-1].startswith("235") else "")
    assert world.notes == []


class Mechanisms:
    """Mechanisms of a handler's own, in every form."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def auth_NEW(self, server: Any, args: list[str]) -> AuthResult:
        self.seen.append(args)
        first = await server.challenge_auth("first")
        second = await server.challenge_auth(b"second")
        data = LoginPassword(first, second)
        return AuthResult(success=second == b"two", handled=False, auth_data=data)

    async def auth_WITH__DASH(self, server: Any, args: list[str]) -> AuthResult:
        return AuthResult(success=True, message="235 2.7.0 come in", auth_data="name")

    @auth_mechanism("x-named")
    async def auth_whatever(self, server: Any, args: list[str]) -> AuthResult:
        return AuthResult(success=True)

    async def auth_OLDGOOD(self, server: Any, args: list[str]) -> bytes:
        return b"olduser"

    async def auth_OLDBAD(self, server: Any, args: list[str]) -> Any:
        return MISSING

    async def auth_OLDFALSE(self, server: Any, args: list[str]) -> Any:
        return False

    async def auth_HANDLED(self, server: Any, args: list[str]) -> AuthResult:
        await server.push("535 5.7.8 not today")
        return AuthResult(success=False)

    async def auth_OLDHANDLED(self, server: Any, args: list[str]) -> None:
        await server.push("535 5.7.8 not today either")

    async def auth_BUSY(self, server: Any, args: list[str]) -> AuthResult:
        return AuthResult(success=False, handled=False, message="454 4.7.0 ask again")


TABLE = [
    ([b"AUTH NEW", encoded(b"one"), encoded(b"two")], "235", "one"),
    ([b"AUTH NEW", encoded(b"one"), encoded(b"three")], "535", ""),
    ([b"AUTH WITH-DASH"], "235 come in", "name"),
    ([b"AUTH OLDGOOD"], "235", "olduser"),
    ([b"AUTH OLDBAD"], "535", ""),
    ([b"AUTH OLDFALSE"], "535", ""),
    ([b"AUTH HANDLED"], "535 not today", ""),
    ([b"AUTH OLDHANDLED"], "535 not today either", ""),
    ([b"AUTH BUSY"], "454 ask again", ""),
]


@pytest.mark.parametrize(("lines", "expected", "login"), TABLE)
def test_mechanism_of_a_handler(lines: list[bytes], expected: str, login: str) -> None:
    handler, other = Mechanisms(), Mechanisms()
    said, world, session = ours(handler, lines)
    real = theirs(other, lines)
    assert said[:-1] == real[:-1]
    assert said[-1].startswith(expected)
    assert said[-1][:3] == real[-1][:3]
    assert session.login == login
    assert handler.seen == other.seen
    assert world.notes == []


def test_mechanism_without_data_has_some_login() -> None:
    said, _, session = ours(Mechanisms(), [b"AUTH X-NAMED"])
    assert said[0].startswith("235")
    assert session.login == "unknown"


def test_mechanisms_are_offered_as_they_may_be_used() -> None:
    async def scenario(world: World) -> None:
        authenticate = world.session().hook.authenticate
        assert authenticate is not None
        assert authenticate.mechanisms(False) == ()
        offered = authenticate.mechanisms(True)
        expected = "BUSY HANDLED NEW OLDBAD OLDFALSE OLDGOOD OLDHANDLED WITH-DASH X-NAMED"
        assert " ".join(offered) == expected
        assert authenticate.begin("NEW", "127.0.0.1", False) is None
        assert authenticate.begin("ABSENT", "127.0.0.1", True) is None
        assert authenticate.may_send_as("", b"anyone@example.com")

    with_hooks(Mechanisms(), scenario)


def test_handler_without_logins_has_no_authenticator() -> None:
    async def scenario(world: World) -> None:
        assert world.session().hook.authenticate is None

    with_hooks(Nothing(), scenario)


class Whole:
    """handle_AUTH: the handler does it all."""

    def __init__(self, answer: Any, *, is_right: bool) -> None:
        self.answer = answer
        self.is_right = is_right
        self.seen: list[Any] = []

    async def handle_AUTH(self, server: Any, session: Any, envelope: Any, args: list[str]) -> Any:
        self.seen.append(args)
        if self.is_right:
            session.authenticated = True
            session.auth_data = LoginPassword(b"user", b"")
        if self.answer is None:
            await server.push("235 2.7.0 pushed" if self.is_right else "535 5.7.8 pushed")
        return self.answer


@pytest.mark.parametrize(
    ("answer", "is_right", "expected", "notes"),
    [
        ("235 2.7.0 yes", True, "235", 0),
        (None, True, "235", 0),
        ("535 5.7.8 no", False, "535 no", 0),
        (None, False, "535 pushed", 0),
        (MISSING, False, "535", 0),
        ("235 2.7.0 yes", False, "535", 1),  # whoever says so must also note it
        ("454 4.7.0 later", False, "454 later", 0),
        (b"\xff", False, "454", 1),
    ],
)
def test_handle_auth(answer: Any, is_right: bool, expected: str, notes: int) -> None:
    handler = Whole(answer, is_right=is_right)
    said, world, session = ours(handler, [b"AUTH PLAIN " + PLAIN])
    assert said[0].startswith(expected)
    assert handler.seen == [["PLAIN", PLAIN.decode()]]
    assert session.login == ("user" if is_right else "")
    assert len(world.notes) == notes


async def steps_of(world: World, mechanism: str) -> tuple[Any, Any, list[SaslStep]]:
    session = world.session()
    await session.say(b"EHLO a")
    told: list[SaslStep] = []
    assert session.hook.authenticate is not None
    exchange = session.hook.authenticate.begin(mechanism, "127.0.0.1", True)
    assert exchange is not None
    exchange.step(None, told.append)
    while not told:
        await asyncio.sleep(0.005)
    return session, exchange, told


def test_client_that_gives_up_is_missing() -> None:
    heard: list[Any] = []
    ended = threading.Event()

    class Waiting:
        async def auth_SLOW(self, server: Any, args: list[str]) -> AuthResult:
            heard.append(await server.challenge_auth("?"))
            server.session.authenticated = True  # too late: nobody asks any more
            ended.set()
            return AuthResult(success=True)

    async def scenario(world: World) -> None:
        session, exchange, told = await steps_of(world, "SLOW")
        exchange.cancel()
        exchange.cancel()
        assert await asyncio.to_thread(ended.wait, 5)
        assert (await session.say(b"MAIL FROM:<a@example.com>")).startswith("250")
        assert session.hook._dialog.session.authenticated is None
        assert [step.verdict for step in told] == [Verdict.CHALLENGE]

    world = with_hooks(Waiting(), scenario)
    assert heard == [MISSING]
    assert world.notes == []


def test_client_may_take_its_time_but_the_handler_may_not() -> None:
    class Slow:
        async def auth_SLOW(self, server: Any, args: list[str]) -> AuthResult:
            await server.challenge_auth("?")
            server.session.authenticated = True
            await asyncio.sleep(60)
            return AuthResult(success=True)

    async def scenario(world: World) -> None:
        session, exchange, told = await steps_of(world, "SLOW")
        await asyncio.sleep(0.4)
        assert world.notes == []
        exchange.step(b"answer", told.append)
        while len(told) < 2:
            await asyncio.sleep(0.01)
        assert told[1].verdict is Verdict.UNAVAILABLE
        assert world.notes == ["127.0.0.1: AUTH SLOW hook: no answer within 0.2 s"]
        assert session.hook._dialog.session.authenticated is None
        session.hook.ended()

    with_hooks(Slow(), scenario, timeout_s=0.2)


def test_mechanism_that_raises_is_unavailable() -> None:
    class Raises:
        async def auth_BAD(self, server: Any, args: list[str]) -> AuthResult:
            raise_error("no database")

    said, world, session = ours(Raises(), [b"AUTH BAD"])
    assert said[0].startswith("454")
    assert session.login == ""
    assert world.notes == ["127.0.0.1: auth_BAD raised OSError at " + PLACE]


def test_challenge_outside_of_auth_is_an_error() -> None:
    class Asks:
        async def handle_NOOP(self, server: Any, session: Any, envelope: Any, arg: str) -> Any:
            return await server.challenge_auth("?")

    said, world = hooking.play(Asks(), [b"NOOP"])
    assert said[0].startswith("451")
    assert "for AUTH only" in world.notes[0]


def test_blocking_authenticator_holds_up_nobody_else() -> None:
    gate = threading.Event()

    def slow(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> bool:
        return gate.wait(10) if data.login == b"slow" else True

    async def scenario(world: World) -> None:
        lines = [b"AUTH PLAIN " + encoded(b"\0%b\0x" % name) for name in (b"slow", b"quick")]
        task = asyncio.create_task(world.session().say(lines[0]))
        for _ in range(5):
            said = await asyncio.wait_for(world.session().say(lines[1]), 5)
            assert said.startswith("235")
        assert not task.done()
        gate.set()
        assert (await task).startswith("235")

    hooking.authenticator = slow
    target = "tests.support.hooking:authenticator"
    with_hooks(Nothing(), scenario, authenticator=target, auth_require_tls=False)


def test_exchange_that_outlives_the_hooks_is_no_trouble() -> None:
    kept: list[Any] = []

    async def scenario(world: World) -> None:
        kept.extend(await steps_of(world, "NEW"))

    async def late() -> None:
        _, exchange, told = kept
        exchange.step(b"answer", told.append)
        exchange.cancel()
        assert len(told) == 1

    with_hooks(Mechanisms(), scenario)
    asyncio.run(late())


def test_login_of_the_server_itself_is_told() -> None:
    async def scenario(world: World) -> None:
        session = world.session()
        session.hook.logged_in("user", "PLAIN")
        assert (await session.say(b"NOOP")) == "250 True b'user' b'user'"

    class Tells:
        async def handle_NOOP(self, server: Any, session: Any, envelope: Any, arg: str) -> str:
            return f"250 {session.authenticated} {session.auth_data.login} {session.login_data}"

    with_hooks(Tells(), scenario)
