"""Hooks that raise, hang or return garbage: one 451 for one session and one line."""

import asyncio
import sys
from typing import Any

import pytest

from fastmta.smtp import Verb
from tests.support.hooking import (
    CONTENT,
    R451,
    World,
    codes,
    handler_with,
    play,
    with_hooks,
)

HOOKS = ("HELO", "EHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "VRFY", "QUIT")
COMMAND_OF = {
    "HELO": b"HELO a",
    "EHLO": b"EHLO a",
    "MAIL": b"MAIL FROM:<a@example.com>",
    "RCPT": b"RCPT TO:<b@example.com>",
    "DATA": b"DATA",
    "RSET": b"RSET",
    "NOOP": b"NOOP",
    "VRFY": b"VRFY a@example.com",
    "QUIT": b"QUIT",
}
BEFORE = {
    "RCPT": (b"EHLO a", COMMAND_OF["MAIL"]),
    "DATA": (b"EHLO a", COMMAND_OF["MAIL"], COMMAND_OF["RCPT"]),
}


def said_to(name: str, behave: Any, **options: Any) -> tuple[str, World]:
    """The reply to the command of hook `name`, after which the session must go on."""
    replies: list[str] = []

    async def scenario(world: World) -> None:
        session = world.session()
        for line in BEFORE.get(name, (b"EHLO a",) if name == "MAIL" else ()):
            await session.say(line)
        said = await session.say(COMMAND_OF[name])
        if name == "DATA":
            said = await session.content(CONTENT)
        replies.append(said)
        if name != "EHLO" and name != "NOOP":
            session.is_closed = False
            assert (await session.say(b"EHLO again")).startswith("250")
        session.hook.ended()

    world = with_hooks(handler_with(name, behave), scenario, **options)
    return replies[0], world


def raising(error: BaseException) -> Any:
    def behave(*arguments: Any) -> Any:
        raise error

    return behave


@pytest.mark.parametrize("name", HOOKS)
def test_hook_that_raises(name: str) -> None:
    said, world = said_to(name, raising(RuntimeError("no\ngood \x1b[31m")))
    assert said == R451
    assert world.notes == [f"127.0.0.1: handle_{name} raised RuntimeError: no good ?[31m"]
    assert world.stored == []


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
        StopIteration(),
        GeneratorExit(),
        MemoryError("x" * 1000),
        RecursionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_hook_that_raises_what_nobody_catches(error: BaseException) -> None:
    said, world = said_to("DATA", raising(error))
    assert said == R451
    assert len(world.notes) == 1
    assert len(world.notes[0]) < 300


@pytest.mark.parametrize("name", HOOKS)
def test_hook_that_hangs_is_cancelled(name: str) -> None:
    cancelled = []

    async def hang(*arguments: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(name)
            raise

    said, world = said_to(name, lambda *arguments: hang(), timeout_s=0.1)
    assert said == R451
    assert world.notes == [f"127.0.0.1: {name} hook: no answer within 0.1 s"]
    assert cancelled == [name]


GARBAGE = [
    None,
    "",
    "OK",
    "99 no code",
    "200OK",
    "354 go on",
    "100 wait",
    "600 beyond",
    "250-one\r\n550 two",
    "250 one\r\nMAIL FROM:<x@y>",
    "2500 four digits",
    "٢٥٠ other digits",
    b"\xff\xfe",
    250,
    True,
    object,
    ["250 OK"],
    "250 " + "x" * 70000,
    "\r\n".join(["250-x"] * 60),
]


@pytest.mark.parametrize("value", GARBAGE, ids=lambda value: ascii(value)[:20])
@pytest.mark.parametrize("name", ["MAIL", "DATA"])
def test_hook_that_returns_garbage(name: str, value: Any) -> None:
    said, world = said_to(name, lambda *arguments: value)
    assert said == R451
    assert len(world.notes) == 1
    assert world.notes[0].startswith(f"127.0.0.1: handle_{name} returned ")
    assert "which is no reply" in world.notes[0]
    assert len(world.notes[0]) < 200
    assert world.stored == []


@pytest.mark.parametrize("value", [None, [], "250 OK", [None], ["250-a", "550 b"], 7])
def test_ehlo_hook_that_returns_garbage(value: Any) -> None:
    said, world = said_to("EHLO", lambda *arguments: value)
    assert said == R451
    assert len(world.notes) == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("550 no\r\n", "550 no"),
        ("550-a\n550-b", "550-a\n550 b"),
        ("550 a\r\n550 b", "550-a\n550 b"),
        ("550", "550"),
        ("550 caf\xe9 \x07", "550 caf? ?"),
        ("421 4.3.2 later", "421 4.3.2 later"),
    ],
)
def test_untidy_replies_are_put_right(value: str, expected: str) -> None:
    said, world = said_to("MAIL", lambda *arguments: value)
    assert said == expected
    assert world.notes == []


def test_enhanced_status_is_found() -> None:
    async def scenario(world: World) -> None:
        session = world.session()
        reply = await session._ask(Verb.NOOP, session._argument(Verb.NOOP, b""))
        assert reply is not None
        assert (reply.code, reply.enhanced_status, reply.lines) == (451, "4.7.1", ("wait",))

    with_hooks(handler_with("NOOP", lambda *arguments: "451 4.7.1 wait"), scenario)


class Excuse:
    """handle_exception in both forms."""

    def __init__(self, answer: Any, *, is_async: bool) -> None:
        self.seen: list[str] = []
        self.answer = answer
        if is_async:
            self.handle_exception = self.later
        else:
            self.handle_exception = self.now

    async def later(self, error: Exception) -> Any:
        return self.now(error)

    def now(self, error: Exception) -> Any:
        self.seen.append(type(error).__name__)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        raise KeyError("a secret that belongs to the log")


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize(
    ("answer", "expected", "notes"),
    [
        ("542 5.3.0 sorry", "542 5.3.0 sorry", 1),
        ("250 OK", R451, 1),
        (None, R451, 2),
        (ValueError("again"), R451, 2),
    ],
)
def test_handle_exception(answer: Any, expected: str, notes: int, is_async: bool) -> None:
    handler = Excuse(answer, is_async=is_async)
    said, world = play(handler)
    assert said[-2] == expected
    assert handler.seen == ["KeyError"]
    assert len(world.notes) == notes
    assert world.stored == []


def test_sink_gives_the_word_of_handle_exception() -> None:
    said, _ = play(Excuse("250 OK", is_async=True), mode="sink")
    assert said[-2] == "250 OK"


def test_what_a_hook_left_behind_is_reported() -> None:
    def fail() -> None:
        raise RuntimeError("later")

    async def behave(server: Any, session: Any, envelope: Any, arg: str) -> str:
        server.loop.call_soon(fail if arg == "error" else sys.exit)
        return "250 done"

    async def scenario(world: World) -> None:
        assert await world.session().say(b"NOOP error") == "250 done"
        assert await world.session().say(b"NOOP exit") == "250 done"
        assert await world.session().say(b"NOOP error") == "250 done"  # its thread is still there
        async with asyncio.timeout(5):
            while len(world.notes) < 3:
                await asyncio.sleep(0.01)

    world = with_hooks(handler_with("NOOP", lambda *arguments: behave(*arguments)), scenario)
    assert world.notes == [
        "something that a hook left behind failed: RuntimeError",
        "a hook's own task ended with SystemExit",
        "something that a hook left behind failed: RuntimeError",
    ]


def test_closed_transport_ends_the_session() -> None:
    def behave(server: Any, *arguments: Any) -> str:
        server.transport.close()
        return "550 5.7.1 enough of you"

    said, world = said_to("MAIL", behave)
    assert said == "421 5.7.1 enough of you" or said == "421 enough of you"
    assert world.notes == []


def test_unknown_attribute_of_server_is_named() -> None:
    said, world = said_to("MAIL", lambda server, *arguments: server.smtp_MAIL)
    assert said == R451
    assert "no server.smtp_MAIL; there are: hostname session" in world.notes[0]


def test_codes_are_read_from_replies() -> None:
    assert codes(["250-a\n250 b", "451 c"]) == ["250", "451"]
