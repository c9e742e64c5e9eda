"""AUTH through a handler: its `auth_` methods, or an authenticator as aiosmtpd's SMTP takes one."""

from __future__ import annotations

import asyncio
import binascii
import inspect
from base64 import b64decode, b64encode
from collections.abc import Callable
from functools import partial
from typing import Any

import aiosmtpd.smtp as real
import msgspec

from fastmta.smtp import Reply
from fastmta.smtp.sasl import Done, SaslStep, Verdict

from .dialog import Dialog
from .handler import Handler, Hook
from .invocation import MISSING, Answer, invoke
from .loader import placed
from .thread import Call

_LOGIN_MAX = 255
_CALLBACK_PARAMETERS = 3  # of the older form: mechanism, login, password
_NO_NAME = "unknown"  # a login that the handler accepted without saying whose it is
_SUCCESS_CODE = 235
_FLOOR_S = 0.3  # from a response to its refusal: the time shall not tell what was wrong


class Mechanisms:
    """Every mechanism that can be offered, and how each is carried out."""

    def __init__(
        self,
        handler: Handler,
        authenticator: Callable[..., Any] | None,
        *,
        is_tls_required: bool,
    ) -> None:
        self._authenticator = authenticator
        self._is_tls_required = is_tls_required
        self._is_old_form = False
        methods = handler.mechanisms
        if authenticator is not None:
            count = len(inspect.signature(authenticator).parameters)
            self._is_old_form = count == _CALLBACK_PARAMETERS
        if authenticator is not None or "AUTH" in handler.hooks:
            own = {
                "LOGIN": Hook("AUTH LOGIN", self._login, False),
                "PLAIN": Hook("AUTH PLAIN", self._plain, False),
            }
            methods = own | methods
        self.hooks = dict(sorted(methods.items()))

    def offered(self, is_secure: bool) -> tuple[str, ...]:
        """Their names, for EHLO."""
        return tuple(self.hooks) if is_secure or not self._is_tls_required else ()

    async def _plain(self, server: _AuthServer, arguments: list[str]) -> Any:
        """RFC 4616."""
        octets = await _first(server, arguments, "")
        if octets is MISSING:
            return real.AuthResult(success=False)
        parts = octets.split(b"\0")
        if len(parts) != 3:
            return real.AuthResult(success=False, handled=False)
        return await self._judge(server, "PLAIN", real.LoginPassword(parts[1], parts[2]))

    async def _login(self, server: _AuthServer, arguments: list[str]) -> Any:
        login = await _first(server, arguments, server.AuthLoginUsernameChallenge)
        if login is MISSING:
            return real.AuthResult(success=False)
        password = await server.challenge_auth(server.AuthLoginPasswordChallenge)
        if password is MISSING:
            return real.AuthResult(success=False)
        return await self._judge(server, "LOGIN", real.LoginPassword(login, password))

    async def _judge(self, server: _AuthServer, mechanism: str, data: real.LoginPassword) -> Any:
        """What the authenticator says of a login and a password."""
        authenticator = self._authenticator
        if authenticator is None:
            return real.AuthResult(success=False, handled=False)
        hook = Hook("authenticator", authenticator, not inspect.iscoroutinefunction(authenticator))
        arguments: tuple[Any, ...] = (server, server.session, server.envelope, mechanism, data)
        if self._is_old_form:
            arguments = (mechanism, data.login, data.password)
        result = await server.exchange.apply(hook, *arguments)
        if isinstance(result, bool):
            return real.AuthResult(success=result, handled=False, auth_data=data)
        if isinstance(result, real.AuthResult) and result.success and result.auth_data is None:
            result.auth_data = data
        return result


_AuthServer = Any  # a Server with its exchange


async def _first(server: _AuthServer, arguments: list[str], challenge: str) -> Any:
    """The initial response, or the response to the first challenge."""
    if len(arguments) > 1:
        return b64decode(arguments[1])
    return await server.challenge_auth(challenge)


class HandlerAuthenticator:
    """The `Authenticate` of one session whose handler looks after logins."""

    def __init__(self, dialog: Dialog, mechanisms: Mechanisms) -> None:
        self._dialog = dialog
        self._mechanisms = mechanisms

    def mechanisms(self, is_secure: bool) -> tuple[str, ...]:
        """Names to offer, in order."""
        return self._mechanisms.offered(is_secure)

    def begin(self, mechanism: str, address: str, is_secure: bool) -> HandlerExchange | None:
        """One AUTH command; None when the mechanism is not offered."""
        if self._dialog.is_insecure or mechanism not in self._mechanisms.offered(is_secure):
            return None
        return HandlerExchange(self._dialog, mechanism, self._mechanisms.hooks[mechanism])

    def may_send_as(self, login: str, reverse_path: bytes) -> bool:
        """handle_MAIL decides that."""
        return True


class HandlerExchange:
    """One AUTH command: the hook runs on a thread, its challenges come out here (RFC 4954 4)."""

    def __init__(self, dialog: Dialog, mechanism: str, hook: Hook) -> None:
        self._dialog = dialog
        self._mechanism = mechanism
        self._hook = hook
        self._done: Done | None = None
        self._call: Call | None = None
        self._is_over = False
        self._began_s = 0.0
        self._timer: asyncio.TimerHandle | None = None  # of a refusal
        self._named = ""  # who the client says it is
        self._granted: tuple[Any, Any] | None = None  # as in Dialog
        self._response: asyncio.Future[Any] | None = None  # of the hook's loop
        self._reason = ""
        self._session = session = dialog.session
        self._before = session.authenticated, session.auth_data, session._login_data
        dialog.granted = None

    # On the worker's thread.

    def step(self, response: bytes | None, done: Done) -> None:
        """The client's response, or its initial one, to the hook."""
        self._done = done
        self._began_s = self._dialog.shared.loop.time()
        self._listen(response)
        if self._call is None:
            words = [self._mechanism]
            if response is not None:
                words.append(b64encode(response).decode("ascii") or "=")  # RFC 4954 4
            what = f"AUTH {self._mechanism}"
            self._dialog.run(partial(self._run, words), what, self._ended, placed)
            self._call = self._dialog.call
            return
        self._dialog.shared.crew.hold(self._call, False)
        self._answer(response or b"")

    def cancel(self) -> None:
        """The hook hears MISSING if it waits for the client, and is cancelled otherwise."""
        if self._timer is not None:
            self._timer.cancel()
        if self._is_over:
            return
        self._is_over = True
        self._done = None
        self._dialog.abandon()  # first: what the hook still does must not make anybody a user
        if self._response is not None:
            assert self._call is not None
            self._dialog.shared.crew.hold(self._call, False)
            self._answer(MISSING)
        else:
            self._dialog.ended()
        self._undo()

    def _undo(self) -> None:
        """Whatever the hook has set, the client is not logged in, or not yet."""
        session = self._dialog.session
        session.authenticated, session.auth_data, session._login_data = self._before

    def _listen(self, response: bytes | None) -> None:
        """The name that a refusal is counted for and logged with."""
        if self._named or response is None:
            return
        if self._mechanism == "LOGIN":
            self._named = _login_of(response)
        elif self._mechanism == "PLAIN" and response.count(b"\0") == 2:  # RFC 4616 2
            self._named = _login_of(response.split(b"\0")[1])

    def _answer(self, response: Any) -> None:
        future, self._response = self._response, None
        if future is not None:
            self._dialog.shared.crew.resolve(future, response)

    def _ask_client(self, octets: bytes, future: asyncio.Future[Any]) -> None:
        """A challenge of the hook, which waits for `future`."""
        done, self._done = self._done, None
        if done is None or self._call is None:  # the client is gone
            self._dialog.shared.crew.resolve(future, MISSING)
            return
        self._dialog.shared.crew.hold(self._call, True)  # the client takes its time
        self._response = future
        done(SaslStep(Verdict.CHALLENGE, octets))

    def _ended(self, answer: Answer) -> None:
        """The hook has returned: its answer in the words of SASL."""
        self._is_over = True
        done, self._done = self._done, None
        if done is None:
            return
        session, reply, granted = self._session, answer.reply, self._granted
        assert reply is not None
        if granted is None and session.authenticated:  # handle_AUTH has set it itself
            granted = session.auth_data, session._login_data
        named = self._named or _login_of(session.auth_data)
        self._undo()  # in either case: our session has the last word, and says so by `logged_in`
        if granted is not None and reply.code == _SUCCESS_CODE:
            login = _login_of(granted[0]) or _login_of(granted[1]) or _NO_NAME
            self._dialog.granted = granted
            done(SaslStep(Verdict.ACCEPTED, login=login, reason=self._reason))
            return
        reason = " ".join(reply.lines)
        if answer.is_failure or reply.is_transient:
            done(SaslStep(Verdict.UNAVAILABLE, login=named, reason=reason))
            return
        loop, step = self._dialog.shared.loop, SaslStep(Verdict.REFUSED, login=named, reason=reason)
        self._timer = loop.call_at(self._began_s + _FLOOR_S, done, step)

    # On a thread of the hooks.

    async def _run(self, words: list[str], call: Call) -> Answer:
        dialog = self._dialog
        shared, server, session = dialog.shared, dialog.server, self._session
        server.begin(session, dialog.envelope)
        server.exchange = self
        self._call = call
        try:
            hook = shared.handler.hooks.get("AUTH")
            if hook is not None:
                arguments = (server, session, dialog.envelope, words)
                answer = await invoke(shared, server, call, hook, arguments, self._read_status)
                if answer.reply is not None:
                    return _checked(answer, session)
            method, read = self._hook, self._read_result
            return await invoke(
                shared, server, call, method, (server, words), read, has_default=False
            )
        finally:
            server.exchange = None

    async def apply(self, hook: Hook, *arguments: Any) -> Any:
        """Call a function of the handler's side as its kind wants it."""
        assert self._call is not None
        return await self._dialog.shared.crew.apply(self._call, hook, *arguments)

    async def challenge(self, challenge: bytes, is_plain: bool) -> Any:
        """What the client answers to `challenge`; MISSING when it does not."""
        try:
            octets = challenge if is_plain else b64decode(challenge, validate=True)
        except binascii.Error as error:
            raise ValueError("a challenge that is not base64 cannot be sent") from error
        call, future = self._call, asyncio.get_running_loop().create_future()
        assert call is not None
        call.is_away = True
        self._dialog.shared.crew.say(partial(self._ask_client, octets, future))
        return await future

    def _read_status(self, pushed: list[object], returned: Any) -> Reply | None:
        """handle_AUTH: a reply, or None when all is pushed."""
        texts = pushed if returned is None else [*pushed, returned]
        silent = _ACCEPTED if self._session.authenticated else _REFUSED
        return self._dialog.shared.answers.read(texts[:-1], texts[-1]) if texts else silent

    def _read_result(self, pushed: list[object], result: Any) -> Reply | None:
        """What an `auth_` method returned, in its new form or an old one."""
        if isinstance(result, bool):
            result = real.AuthResult(success=result, handled=False)
        if result is None or result is MISSING:
            result = real.AuthResult(success=False, handled=result is None)
        if not isinstance(result, real.AuthResult):
            result = real.AuthResult(success=True, auth_data=result)
        read = self._dialog.shared.answers.read
        if result.success:
            self._granted = result.auth_data, getattr(result.auth_data, "login", None)
            reply = read([], result.message) if result.message else _ACCEPTED
            if reply is None or reply.code != _SUCCESS_CODE:
                return _ACCEPTED
            self._reason = " ".join(reply.lines) if result.message else ""
            return reply
        if result.handled and pushed:
            return read(pushed[:-1], pushed[-1])
        return read([], result.message) if result.message else _REFUSED


_ACCEPTED = Reply(_SUCCESS_CODE, "2.7.0", ("Authentication successful",))
_REFUSED = Reply(535, "5.7.8", ("Authentication credentials invalid",))


def _checked(answer: Answer, session: real.Session) -> Answer:
    """handle_AUTH has to set `session.authenticated`: saying 235 alone makes nobody a user."""
    if answer.reply is None or answer.reply.code != _SUCCESS_CODE or session.authenticated:
        return answer
    note = "handle_AUTH answered 235 but did not set session.authenticated"
    return msgspec.structs.replace(answer, reply=_REFUSED, notes=(*answer.notes, note))


def _login_of(data: Any) -> str:
    """The name in whatever the handler calls authentication data; "" if there is none."""
    name = getattr(data, "login", data)
    if isinstance(name, bytes | bytearray):
        return bytes(name).decode("utf-8", "replace")[:_LOGIN_MAX]
    return name[:_LOGIN_MAX] if isinstance(name, str) else ""
