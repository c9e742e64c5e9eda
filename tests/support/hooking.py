"""Handlers under two servers: aiosmtpd's own, and our hooks behind a small session in memory.

    codes, texts = oracle(Handler(), script)            # aiosmtpd 1.4.6, over a socket
    with_hooks(Handler(), scenario)                      # scenario(world) is a coroutine function

A script is a list of lines; the one behind b"DATA" is the content. Both give the replies in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from base64 import b64decode, b64encode
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import uvloop
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

from fastmta.hooks import AiosmtpdHooks, HookOptions
from fastmta.hooks.aiosmtpd import SessionHook
from fastmta.message import ClientIdentity, Envelope, Message
from fastmta.session.port import HookArgument
from fastmta.smtp import Reply, Verb, parse_mail, parse_rcpt
from fastmta.smtp import reply as replies
from fastmta.smtp.sasl import SaslStep, Verdict
from fastmta.smtp.tls import TlsFacts
from fastmta.smtp.verb import VERB_OF

HOSTNAME = "relay.example"
R451 = "451 4.3.0 Error: local problem"
TRACE = b"Received: from client.example (unknown [127.0.0.1])\r\n\tby relay.example; now\r\n"
CONTENT = b"Subject: one\r\nMessage-ID: <1@example>\r\n\r\nbody\r\n"
TRANSACTION = (
    b"EHLO client.example",
    b"MAIL FROM:<sender@example.com> SIZE=100 BODY=8BITMIME",
    b"RCPT TO:<one@example.com>",
    b"RCPT TO:<two@example.com>",
    b"DATA",
    CONTENT,
    b"QUIT",
)

current: Any = None  # the handler of the test; "tests.support.hooking:current" names it
authenticator: Any = None

Script: TypeAlias = Sequence[bytes]


@dataclass
class FakeView:
    peer: tuple[str, int] = ("127.0.0.1", 40000)
    client: str = "unknown[127.0.0.1]"
    hostname: str = HOSTNAME
    tls: TlsFacts | None = None


@dataclass
class FakeSession:
    """As much of a session as shows what hooks do to it; no checks but syntax."""

    hooks: AiosmtpdHooks
    stored: list[Message]
    view: FakeView = field(default_factory=FakeView)
    is_closed: bool = False
    login: str = ""

    def __post_init__(self) -> None:
        self.hook: SessionHook = self.hooks.begin(self.view)
        self._reverse_path = b""
        self._forward_paths: dict[bytes, None] = {}

    async def play(self, script: Script) -> list[str]:
        """The replies to a script, each as its lines joined by a line feed."""
        said = []
        lines = iter(script)
        for line in lines:
            if self.is_closed:
                break
            reply = await self.say(line)
            said.append(reply)
            if line == b"DATA" and reply.startswith("354"):
                said.append(await self.content(next(lines)))
        return said

    async def say(self, line: bytes) -> str:
        """The reply to one command."""
        word, _, argument = line.partition(b" ")
        verb = VERB_OF[word.upper()]
        if verb is Verb.AUTH:
            return await self._auth(argument.split(b" "))
        told = self._argument(verb, argument)
        reply = told.reply
        if verb in self.hook.stages:
            reply = await self._ask(verb, told) or reply
        if reply.code < 400 and verb is Verb.MAIL:
            self._reverse_path = told.path
        if reply.code < 400 and verb is Verb.RCPT:
            self._forward_paths[told.path] = None
        if reply.code < 400 and verb in (Verb.EHLO, Verb.HELO, Verb.RSET):
            self.reset()
        return self._shown(reply, verb)

    async def content(self, octets: bytes, **changes: Any) -> str:
        """The reply to the content."""
        message = self.message(octets)
        for name, value in changes.items():
            setattr(message, name, value)
        future: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self.hook.content(message, future.set_result)
        reply = await future
        if reply is None:
            self.stored.append(message)
            reply = replies.R250_OK.replaced_by("Ok: queued as Q")
        self.reset()
        return self._shown(reply, Verb.DATA)

    def message(self, content: bytes) -> Message:
        envelope = Envelope(self._reverse_path, tuple(self._forward_paths), ClientIdentity())
        return Message(b"Q", envelope, TRACE + content, 0)

    def reset(self) -> None:
        self._reverse_path = b""
        self._forward_paths = {}
        self.hook.forget()

    def start_tls(self, facts: TlsFacts) -> None:
        self.hook.tls_started(facts)

    async def _ask(self, verb: Verb, told: HookArgument) -> Reply | None:
        future: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self.hook.ask(verb, told, future.set_result)
        return await future

    def _argument(self, verb: Verb, octets: bytes) -> HookArgument:
        if verb in (Verb.EHLO, Verb.HELO):
            lines = (HOSTNAME, "SIZE 33554432", "8BITMIME", "SMTPUTF8", "AUTH LOGIN PLAIN")
            shown = lines if verb is Verb.EHLO else (HOSTNAME,)
            return HookArgument(octets, b"", (), Reply(250, "", shown))
        if verb in (Verb.MAIL, Verb.RCPT):
            parse = parse_mail if verb is Verb.MAIL else parse_rcpt
            problem, path, parameters = parse(octets)
            assert not problem, octets
            return HookArgument(octets, path, parameters, replies.R250_SENDER_OK)
        reply = {Verb.DATA: replies.R354_END_WITH_DOT, Verb.QUIT: replies.R221_BYE}.get(verb)
        if verb is Verb.VRFY:
            reply = replies.R252_CANNOT_VERIFY
        return HookArgument(octets, b"", (), reply or replies.R250_OK)

    def _shown(self, reply: Reply, verb: Verb) -> str:
        self.is_closed = self.is_closed or verb is Verb.QUIT or reply.code == 421
        return reply.octets.decode("ascii").removesuffix("\r\n").replace("\r\n", "\n")

    async def _auth(self, words: list[bytes]) -> str:
        authenticate = self.hook.authenticate
        assert authenticate is not None
        exchange = authenticate.begin(words[0].decode(), self.view.peer[0], True)
        if exchange is None:
            return "504 5.5.4 Unrecognized authentication type"
        response = b64decode(words[1]) if len(words) > 1 else None
        step = await self.step(exchange, response)
        self.exchange = exchange
        return self._told(step, words[0].decode())

    async def respond(self, response: bytes) -> str:
        """The client's answer to a challenge, encoded."""
        return self._told(await self.step(self.exchange, b64decode(response)), "")

    async def step(self, exchange: Any, response: bytes | None) -> SaslStep:
        future: asyncio.Future[SaslStep] = asyncio.get_running_loop().create_future()
        exchange.step(response, future.set_result)
        return await future

    def _told(self, step: SaslStep, mechanism: str) -> str:
        if step.verdict is Verdict.CHALLENGE:
            return f"334 {b64encode(step.octets).decode()}"
        if step.verdict is Verdict.ACCEPTED:
            self.login = step.login
            self.hook.logged_in(step.login, mechanism)
        code = {Verdict.ACCEPTED: 235, Verdict.REFUSED: 535, Verdict.UNAVAILABLE: 454}
        return f"{code[step.verdict]} {step.reason}"


@dataclass
class World:
    """Hooks on a running loop, what they reported and what was stored."""

    hooks: AiosmtpdHooks
    notes: list[str]
    stored: list[Message] = field(default_factory=list)

    def session(self, **view: Any) -> FakeSession:
        return FakeSession(self.hooks, self.stored, FakeView(**view))

    async def play(self, script: Script = TRANSACTION) -> list[str]:
        """The replies to a script in a session of its own."""
        session = self.session()
        said = await session.play(script)
        session.hook.ended()
        return said


def with_hooks(
    handler: Any, scenario: Callable[[World], Coroutine[Any, Any, Any]], **options: Any
) -> World:
    """Run `scenario` with hooks of `handler`; their threads are gone afterwards."""
    global current
    current = handler
    values: dict[str, Any] = {"target": "tests.support.hooking:current", "timeout_s": 5.0}
    values |= options

    async def run() -> World:
        notes: list[str] = []
        loop = asyncio.get_running_loop()
        hooks = AiosmtpdHooks(HookOptions(**values), loop, notes.append)
        world = World(hooks, notes)
        try:
            await asyncio.wait_for(scenario(world), 20)
        finally:
            hooks.close()
        return world

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as a worker does
        return runner.run(run())


def handler_with(name: str, behave: Any) -> Any:
    """A handler with one hook, a coroutine function that returns what `behave` does."""

    async def hook(*arguments: Any) -> Any:
        result = behave(*arguments)
        return await result if asyncio.iscoroutine(result) else result

    async def hook_ehlo(server: Any, session: Any, envelope: Any, hostname: Any, lines: Any) -> Any:
        return await hook(server, session, envelope, hostname, lines)

    kind = type("Handler", (), {})
    handler = kind()
    setattr(handler, f"handle_{name}", hook_ehlo if name == "EHLO" else hook)
    return handler


def play(handler: Any, script: Script = TRANSACTION, **options: Any) -> tuple[list[str], World]:
    """The replies of our side to one script."""
    said: list[str] = []

    async def scenario(world: World) -> None:
        said.extend(await world.play(script))

    world = with_hooks(handler, scenario, **options)
    return said, world


class _Oracle(Controller):
    """aiosmtpd's server as it is."""

    def factory(self) -> SMTP:
        return SMTP(self.handler, **self.SMTP_kwargs)


@contextlib.contextmanager
def running_oracle(handler: Any, **options: Any) -> Iterator[tuple[str, int]]:
    """aiosmtpd's own server with `handler`; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    values: dict[str, Any] = {"enable_SMTPUTF8": True, "auth_require_tls": False, **options}
    controller = _Oracle(handler, "127.0.0.1", port, server_hostname=HOSTNAME, **values)
    controller.start()
    try:
        yield "127.0.0.1", port
    finally:
        controller.stop()


def oracle(handler: Any, script: Script = TRANSACTION, **options: Any) -> list[str]:
    """The replies of aiosmtpd's own server to one script."""
    said = []
    with (
        running_oracle(handler, **options) as address,
        socket.create_connection(address, 5) as connection,
        connection.makefile("rb") as stream,
    ):
        assert _read_reply(stream).startswith("220")
        lines = iter(script)
        for line in lines:
            connection.sendall(line + b"\r\n")
            reply = _read_reply(stream)
            if not reply:
                break
            said.append(reply)
            if line == b"DATA" and reply.startswith("354"):
                connection.sendall(next(lines) + b".\r\n")
                said.append(_read_reply(stream))
    return said


def _read_reply(stream: Any) -> str:
    lines = []
    while line := stream.readline():
        lines.append(line.decode("ascii").rstrip("\r\n"))
        if line[3:4] != b"-":
            break
    return "\n".join(lines)


def codes(said: Sequence[str]) -> list[str]:
    """Of each reply."""
    return [each[:3] for each in said]
