"""From a name to a handler, what is wrong with names, and what comes before commands."""

import asyncio
import contextvars
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.proxy_protocol import AF, ProxyData

from fastmta.smtp import Verb
from fastmta.smtp.tls import TlsFacts
from tests.support.hooking import World, play, with_hooks

MODULE = """
    import asyncio, sys
    from abc import ABC, abstractmethod

    class Plain:
        loop = None
        def __init__(self, *arguments):
            self.arguments = arguments
            self.loop = asyncio.get_event_loop()
        async def handle_NOOP(self, server, session, envelope, arg):
            assert asyncio.get_running_loop() is self.loop
            return f"250 {self.arguments}"
        class Inner:
            async def handle_NOOP(self, server, session, envelope, arg):
                return "250 inner"

    class FromCli:
        @classmethod
        def from_cli(cls, parser, *arguments):
            if len(arguments) != 1:
                parser.error("one argument, please")
            return cls()
        async def handle_NOOP(self, server, session, envelope, arg):
            return "250 made by from_cli"

    def factory(word="default"):
        return Plain(word)

    async def coroutine():
        return Plain()

    def nothing():
        return None

    class Raises:
        def __init__(self):
            raise OSError("no such disk")

    class Exits:
        def __init__(self):
            sys.exit(3)

    class Abstract(ABC):
        @abstractmethod
        def f(self): ...

    class BadEhlo:
        async def handle_EHLO(self, server, session): ...

    class Typo:
        async def handle_MIAL(self, server): ...
        def handle_message(self): ...

    instance = Plain("instance")
    number = 7
"""


@pytest.fixture
def directory(tmp_path: Path) -> Any:
    (tmp_path / "a_handler.py").write_text(textwrap.dedent(MODULE))
    (tmp_path / "broken_handler.py").write_text("import nowhere_to_be_found")
    (tmp_path / "exiting_handler.py").write_text("import sys; sys.exit()")
    yield str(tmp_path)
    sys.path[:] = [each for each in sys.path if each != str(tmp_path)]
    for name in ("a_handler", "broken_handler", "exiting_handler"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("Plain", [], "250 ()"),
        ("Plain", ["a", 2], "250 ('a', 2)"),
        ("Plain.Inner", [], "250 inner"),
        ("FromCli", ["x"], "250 made by from_cli"),
        ("factory", [], "250 ('default',)"),
        ("factory", ["word"], "250 ('word',)"),
    ],
)
def test_handler_is_made(directory: str, name: str, arguments: Any, expected: str) -> None:
    options = {"target": f"a_handler:{name}", "directories": [directory], "arguments": arguments}
    said, world = play(None, [b"NOOP"], **options)
    assert said == [expected]
    assert world.notes == []


@pytest.mark.parametrize(
    ("target", "arguments", "text"),
    [
        ("a_handler", [], 'write it as "module:Class"'),
        (":Plain", [], 'write it as "module:Class"'),
        ("a_handler:", [], 'write it as "module:Class"'),
        ("a_handler:Gone", [], 'a_handler has no "Gone"'),
        ("a_handler:Plain.Gone", [], 'a_handler has no "Plain.Gone"'),
        ("nowhere_at_all:Plain", [], "ModuleNotFoundError"),
        ("broken_handler:Plain", [], "nowhere_to_be_found"),
        ("exiting_handler:Plain", [], "SystemExit"),
        ("a_handler:FromCli", [], "one argument, please"),
        ("a_handler:Raises", [], "OSError: no such disk"),
        ("a_handler:Raises", ["x"], "TypeError"),
        ("a_handler:Exits", [], "SystemExit: 3"),
        ("a_handler:Abstract", [], "abstract"),
        ("a_handler:coroutine", [], "coroutine function"),
        ("a_handler:nothing", [], "returned None"),
        ("a_handler:instance", ["x"], "takes no arguments"),
        ("a_handler:BadEhlo", [], "handle_EHLO takes 2 arguments"),
    ],
)
def test_handler_that_cannot_be_made_is_named(
    directory: str, target: str, arguments: Any, text: str
) -> None:
    with pytest.raises(ValueError, match=r'^"') as caught:
        play(None, [], target=target, directories=[directory], arguments=arguments)
    assert str(caught.value).startswith(f'"{target}"')
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"mode": "drop"}, {"authenticator": "a_handler:number"}, {"authenticator": "x"}]
)
def test_other_options_are_checked(directory: str, options: Any) -> None:
    with pytest.raises(ValueError, match=r"mode|called|write it"):
        play(None, [], target="a_handler:Plain", directories=[directory], **options)


def test_method_that_nobody_calls_is_reported(directory: str) -> None:
    _, world = play(None, [], target="a_handler:Typo", directories=[directory])
    assert world.notes == ["a_handler:Typo has handle_MIAL, which nobody calls"]


# What comes before commands.

FACTS = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, "name.example", "ab" * 32)


class Secure:
    def __init__(self, answer: Any, *, is_async: bool = False) -> None:
        self.answer = answer
        self.seen: list[Any] = []
        if is_async:
            self.handle_STARTTLS = self.later

    def handle_STARTTLS(self, server: Any, session: Any, envelope: Any) -> Any:
        self.seen.append((session.ssl["cipher"], session.host_name, hasattr(session, "mark")))
        assert server.transport.get_extra_info("cipher") == session.ssl["cipher"]
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def later(self, server: Any, session: Any, envelope: Any) -> Any:
        return Secure.handle_STARTTLS(self, server, session, envelope)

    async def handle_NOOP(self, server: Any, session: Any, envelope: Any, arg: str) -> str:
        session.mark = True
        return "250 OK"


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("answer", [True, 1, False, None, RuntimeError("no")])
def test_handle_starttls(answer: Any, is_async: bool) -> None:
    is_refused = answer is None or answer is False or isinstance(answer, Exception)
    handler = Secure(answer, is_async=is_async)

    async def scenario(world: World) -> None:
        session = world.session()
        await session.say(b"EHLO before")
        await session.say(b"NOOP")
        session.start_tls(FACTS)
        for line in (b"EHLO after", b"MAIL FROM:<a@example.com>", b"NOOP"):
            said = await session.say(line)
            assert said.startswith("554 5.7.0 Command refused" if is_refused else "250")
        assert (await session.say(b"QUIT")).startswith("221")

    world = with_hooks(handler, scenario)
    # The session before TLS is forgotten, with all that the handler kept there.
    assert handler.seen == [(("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256), None, False)]
    assert len(world.notes) == (1 if is_refused else 0)


def test_session_that_begins_under_tls() -> None:
    class Tells:
        async def handle_NOOP(self, server: Any, session: Any, envelope: Any, arg: str) -> str:
            return f"250 {session.ssl['server_hostname']}"

    async def scenario(world: World) -> None:
        assert await world.session(tls=FACTS).say(b"NOOP") == "250 name.example"

    with_hooks(Tells(), scenario)


class Proxied:
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.data: list[ProxyData] = []

    async def handle_PROXY(self, server: Any, session: Any, envelope: Any, data: ProxyData) -> Any:
        assert session.proxy_data is data
        assert session.peer[0] == "127.0.0.1"
        self.data.append(data)
        return self.answer


async def proxied(world: World, header: bytes) -> Any:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    world.session().hook.proxied(header, future.set_result)
    return await future


@pytest.mark.parametrize("answer", [True, False, None])
def test_handle_proxy(answer: Any) -> None:
    handler = Proxied(answer)

    async def scenario(world: World) -> None:
        reply = await proxied(world, b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 25\r\n")
        assert (reply is None) is bool(answer)
        assert reply is None or reply.code == 421

    with_hooks(handler, scenario)
    (data,) = handler.data
    assert type(data) is ProxyData
    assert (data.version, data.family, str(data.src_addr), data.src_port) == (
        1,
        AF.INET,
        "192.0.2.1",
        1111,
    )


@pytest.mark.parametrize("header", [b"", b"PROXY\r\n", b"EHLO a\r\n", b"PROXY TCP4 x y 1 2\r\n"])
def test_malformed_proxy_header_is_refused(header: bytes) -> None:
    handler = Proxied(True)

    async def scenario(world: World) -> None:
        assert (await proxied(world, header)).code == 421
        assert len(world.notes) == 1

    with_hooks(handler, scenario)
    assert handler.data == []


def test_proxy_header_without_its_hook_is_for_the_listener_to_judge() -> None:
    async def scenario(world: World) -> None:
        assert await proxied(world, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n") is None

    with_hooks(Secure(True), scenario)


@pytest.mark.parametrize(
    ("name", "verbs"),
    [
        ("handle_DATA", ()),
        ("handle_RCPT", (Verb.DATA, Verb.BDAT)),
        ("handle_NOOP", (Verb.NOOP,)),
        ("handle_STARTTLS", (Verb.DATA, Verb.BDAT, Verb.NOOP, Verb.RSET, Verb.VRFY, Verb.QUIT)),
    ],
)
def test_only_what_matters_is_asked(name: str, verbs: Any) -> None:
    handler = type("Handler", (), {name: lambda *arguments: None})()
    always = {Verb.EHLO, Verb.HELO, Verb.LHLO, Verb.MAIL, Verb.RCPT}

    async def scenario(world: World) -> None:
        assert world.session().hook.stages == always | set(verbs)

    with_hooks(handler, scenario)


def test_client_that_xclient_named_begins_anew() -> None:
    """Nothing is left of the front end: not its login, its peer, its objects, its context."""
    trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="-")

    class Tells:
        async def handle_NOOP(self, server: Any, session: Any, envelope: Any, arg: str) -> str:
            session.count = getattr(session, "count", 0) + 1
            before = trace.get()
            trace.set("set")
            assert server.session is session
            assert server.transport.get_extra_info("peername") == session.peer
            login = session.auth_data and session.auth_data.login
            names = session.host_name, envelope.mail_from
            about = (session.count, session.authenticated, login, before)
            return f"250 {session.peer} {about} {names}"

        async def handle_VRFY(self, server: Any, session: Any, envelope: Any, arg: str) -> str:
            raise ValueError("x")

    async def scenario(world: World) -> None:
        session = world.session()
        for _ in range(2):
            await session.say(b"EHLO a")
            session.hook.logged_in("alice", "PLAIN")
            await session.say(b"MAIL FROM:<a@example.com>")
            said = await session.say(b"NOOP")
        peer = "('127.0.0.1', 40000)"
        assert said == f"250 {peer} (2, True, b'alice', 'set') ('a', 'a@example.com')"
        session.view.peer = ("192.0.2.9", 0)
        session.hook.forget()
        session.hook.renamed()
        expected = "250 ('192.0.2.9', 0) (1, None, None, '-') (None, None)"
        assert await session.say(b"NOOP") == expected
        await session.say(b"VRFY a")
        assert world.notes == ["192.0.2.9: handle_VRFY raised ValueError: x"]

    with_hooks(Tells(), scenario)


def test_client_that_xclient_named_is_still_under_the_tls_that_was_refused() -> None:
    class Refuses:
        async def handle_STARTTLS(self, server: Any, session: Any, envelope: Any) -> bool:
            return False

    async def scenario(world: World) -> None:
        facts = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
        session = world.session(tls=facts)
        session.start_tls(facts)
        assert (await session.say(b"EHLO a")).startswith("554")
        session.hook.renamed()
        assert session.hook._dialog.session.ssl is not None
        assert (await session.say(b"EHLO a")).startswith("554")

    with_hooks(Refuses(), scenario)
