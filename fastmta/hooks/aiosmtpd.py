"""aiosmtpd's handlers at our sessions: one handler per worker, one set of objects per session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiosmtpd.proxy_protocol

from fastmta.message import Message
from fastmta.session.port import Client, HookArgument
from fastmta.smtp import Reply, Verb
from fastmta.smtp.limit import SIZE_OCTETS_MAX
from fastmta.smtp.reply import R250_OK
from fastmta.smtp.tls import TlsFacts

from .answer import Answers
from .content import ContentRules, put_content
from .crew import Crew, TooSlow
from .dialog import Dialog, stages_of
from .handler import Handler
from .invocation import Answer, Shared, invoke
from .loader import find, make, told
from .login import HandlerAuthenticator, Mechanisms
from .port import Done, Report
from .server import Server
from .thread import Call

MODES = ("filter", "sink")
_R421_PROXY = Reply(421, "4.7.0", ("Connection refused",))


@dataclass(frozen=True, slots=True)
class HookOptions:
    """What the configuration says of one handler."""

    target: str  # "module:Class"; an object or a function that makes one will do, too
    arguments: Sequence[Any] = ()
    directories: Sequence[str] = ()  # where modules are looked for first
    mode: str = "filter"  # "sink": the handler is the destination
    timeout_s: float = 30.0  # of each hook
    threads: int = 16  # of each kind, see Crew; 1: one hook at a time, as under aiosmtpd
    decode_data: bool = False  # envelope.content is str
    message_octets_max: int = SIZE_OCTETS_MAX
    authenticator: str = ""  # "module:function", as aiosmtpd's SMTP takes one
    auth_require_tls: bool = True


class AiosmtpdHooks:
    """The handler of one worker. Make it on the worker's thread, before its loop is busy.

    Raises ValueError, which names the target, if there is no such handler or it cannot be made.
    `report` gets one sentence for each failure, on the worker's thread. Contents are in memory.
    """

    def __init__(
        self, options: HookOptions, loop: asyncio.AbstractEventLoop, report: Report
    ) -> None:
        if options.mode not in MODES:
            raise ValueError(f'mode "{options.mode}" is not one of {", ".join(MODES)}')
        found = find(options.target, options.directories)
        authenticator = _authenticator(options)
        self._options = options
        self._report = report
        self._rules = ContentRules(
            is_sink=options.mode == "sink",
            is_decoding=options.decode_data,
            octets_max=options.message_octets_max,
        )
        crew = Crew(loop, options.threads, options.timeout_s, report)
        made: list[Any] = []
        try:
            crew.start(lambda: made.append(make(options.target, found, options.arguments)))
        except TooSlow as error:
            raise ValueError(f'"{options.target}": {error}') from error
        try:
            handler = Handler(made[0])
        except (TypeError, ValueError) as error:
            crew.close()
            raise ValueError(f'"{options.target}": {error}') from error
        self._shared = Shared(handler, crew, loop, Answers())
        self._stages = stages_of(self._shared)
        self._mechanisms = Mechanisms(
            handler, authenticator, is_tls_required=options.auth_require_tls
        )
        for name in handler.unknown:
            report(f"{options.target} has {name}, which nobody calls")

    def begin(self, view: Client) -> SessionHook:
        """The hooks of one session."""
        options, handler = self._options, self._shared.handler
        server = Server(view, handler.instance, options.message_octets_max)
        dialog = Dialog(self._shared, view, server, self._report)
        authenticate = None
        if self._mechanisms.hooks:
            authenticate = HandlerAuthenticator(dialog, self._mechanisms)
        return SessionHook(dialog, self._stages, self._rules, authenticate)

    def close(self) -> None:
        """Cancel what is under way and end the threads; when no session is left to be answered."""
        self._shared.crew.close()


class SessionHook:
    """The `Hook` of one session: what it does is described there."""

    __slots__ = ("_dialog", "_rules", "authenticate", "stages")

    def __init__(
        self,
        dialog: Dialog,
        stages: frozenset[Verb],
        rules: ContentRules,
        authenticate: HandlerAuthenticator | None,
    ) -> None:
        self._dialog = dialog
        self._rules = rules
        self.stages = stages
        self.authenticate = authenticate  # None: the handler does not look after logins

    def ask(self, verb: Verb, argument: HookArgument, done: Done) -> None:
        """Put a command to the handler; `done` is called once, perhaps before this returns."""
        self._dialog.ask(verb, argument, done)

    def content(self, message: Message, done: Done) -> None:
        """Put a content to the handler; `message` may be another one when `done` is called."""
        put_content(self._dialog, self._rules, message, done)

    def proxied(self, header: bytes, done: Done) -> None:
        """A PROXY protocol header came in front of everything: ask handle_PROXY about it.

        Without that hook `done(None)`: which peers may send one is the listener's to decide.
        """
        _put_proxy(self._dialog, header, done)

    def forget(self) -> None:
        """The transaction is over."""
        self._dialog.forget()

    def tls_started(self, facts: TlsFacts) -> None:
        """Everything begins anew under TLS; handle_STARTTLS is asked with the next command."""
        self._dialog.tls_started(facts)

    def renamed(self) -> None:
        """The client is another one: a new `Session`, with the peer of now and not logged in."""
        self._dialog.renamed()

    def logged_in(self, login: str, mechanism: str) -> None:
        """The client has logged in."""
        self._dialog.logged_in(login, mechanism)

    def ended(self) -> None:
        """The connection is gone: the hook under way is cancelled, its `done` is never called."""
        self._dialog.ended()


def _authenticator(options: HookOptions) -> Callable[..., Any] | None:
    if not options.authenticator:
        return None
    found = find(options.authenticator, options.directories)
    try:
        function = found() if isinstance(found, type) else found
    except (Exception, SystemExit) as error:
        raise ValueError(f'"{options.authenticator}": cannot make it: {told(error)}') from error
    if not callable(function):
        raise ValueError(f'"{options.authenticator}" cannot be called')
    return function  # type: ignore[no-any-return]  # it is the operator's


def _put_proxy(dialog: Dialog, header: bytes, done: Done) -> None:
    hook = dialog.shared.handler.hooks.get("PROXY")
    if hook is None:
        done(None)
        return

    async def body(call: Call) -> Answer:
        reader = asyncio.StreamReader()
        reader.feed_data(header)
        reader.feed_eof()
        session, server = dialog.session, dialog.server
        session.proxy_data = await aiosmtpd.proxy_protocol.get_proxy(reader)
        if not session.proxy_data:
            return Answer(_R421_PROXY, True, ("malformed PROXY header",))
        server.begin(session, dialog.envelope)
        arguments = (server, session, dialog.envelope, session.proxy_data)
        return await invoke(dialog.shared, server, call, hook, arguments, _read_verdict)

    dialog.run(body, "PROXY", lambda answer: done(None if answer.reply is R250_OK else _R421_PROXY))


def _read_verdict(pushed: list[object], returned: Any) -> Reply:
    """handle_PROXY returns something true or false."""
    return R250_OK if returned else _R421_PROXY
