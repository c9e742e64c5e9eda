"""The hooks of one session: every question of the session, put to the handler."""

from __future__ import annotations

import contextvars
import copy
from collections.abc import Callable, Coroutine
from typing import Any

import aiosmtpd.smtp as real

from fastmta.session.port import Client, HookArgument
from fastmta.smtp import Reply, Verb
from fastmta.smtp import reply as replies
from fastmta.smtp.tls import TlsFacts

from .crew import TooSlow
from .envelope import Given, address_of, options_of, text_of
from .handler import Hook
from .invocation import Answer, Arguments, Read, Shared, invoke
from .loader import told
from .port import Done, Report
from .server import Server
from .thread import Call, Outcome

_R554_INSECURE = Reply(554, "5.7.0", ("Command refused due to lack of security",))  # RFC 3207 4.1
_ALWAYS = frozenset((Verb.EHLO, Verb.HELO, Verb.LHLO, Verb.MAIL, Verb.RCPT))
_CONTENT_VERBS = frozenset((Verb.DATA, Verb.BDAT))
# Verbs whose hook has another name: aiosmtpd's LMTP asks that of EHLO, and handle_DATA is asked
# about the content, not about the command.
_HOOK_OF = {Verb.LHLO: "EHLO", Verb.DATA: "", Verb.BDAT: ""}
_PLAIN_VERBS = frozenset((Verb.NOOP, Verb.RSET, Verb.VRFY, Verb.QUIT))


def stages_of(shared: Shared) -> frozenset[Verb]:
    """The verbs that a session has to ask about for this handler."""
    hooks = shared.handler.hooks
    if "STARTTLS" in hooks:  # it may refuse everything
        return _ALWAYS | _CONTENT_VERBS | _PLAIN_VERBS
    stages = _ALWAYS | {verb for verb in _PLAIN_VERBS if verb.name in hooks}
    return stages | _CONTENT_VERBS if "RCPT" in hooks else stages


class Dialog:
    """What aiosmtpd's SMTP object is to a handler: session, envelope, and who is asked when.

    All methods belong to the worker's thread. The handler's objects are touched here only while
    none of its hooks runs for this session.
    """

    def __init__(self, shared: Shared, view: Client, server: Server, report: Report) -> None:
        self.shared = shared
        self.server = server
        self.context = contextvars.copy_context()  # one for all hooks of a session, as in one task
        self.call: Call | None = None  # the hook under way
        self.given = Given()
        self.envelope = real.Envelope()
        self._report = report
        self._view = view
        # (auth_data, login_data) of a login that the handler has accepted and our session has not
        # yet, which may have its own reasons not to.
        self.granted: tuple[Any, Any] | None = None
        self.is_insecure = False  # handle_STARTTLS said no
        self._has_new_tls = False  # handle_STARTTLS has not been asked yet
        self.session = self._new_session(view.tls)

    def _new_session(self, facts: TlsFacts | None) -> real.Session:
        session = real.Session(self.shared.loop)
        self.server.transport.peer = peer = self._view.peer
        session.peer = peer  # type: ignore[assignment]  # aiosmtpd's hint says str
        if facts is not None:
            session.ssl = {
                "cipher": (facts.cipher, facts.protocol, facts.bits),
                "compression": None,
                "peercert": {},
                "server_hostname": facts.server_name,
                "fingerprint": facts.fingerprint,
            }
        self.server.transport.ssl = session.ssl
        return session

    @property
    def has_recipients(self) -> bool:
        """Whether there is anything in rcpt_tos: a hook that takes care of RCPT may keep none."""
        texts: object = getattr(self.envelope, "rcpt_tos", None)
        return bool(texts) if isinstance(texts, list | tuple) else texts is not None

    # What the session tells.

    def forget(self) -> None:
        """The transaction is over."""
        self.envelope = self.server.envelope = real.Envelope()
        self.given = Given()

    def tls_started(self, facts: TlsFacts) -> None:
        """All that was before TLS is forgotten (RFC 3207 4.2), as aiosmtpd does."""
        self._begin_anew(facts)
        self.is_insecure = False
        self._has_new_tls = "STARTTLS" in self.shared.handler.hooks

    def renamed(self) -> None:
        """The client is another one (XCLIENT): nothing that was known of the one before is left.

        But what handle_STARTTLS said: the TLS session goes on.
        """
        self._begin_anew(self._view.tls)
        self.context = contextvars.copy_context()

    def _begin_anew(self, facts: TlsFacts | None) -> None:
        self.session = self._new_session(facts)
        self.granted = None
        self.forget()

    def logged_in(self, login: str, mechanism: str) -> None:
        """The client has logged in, by the handler or else by us, and then its password is
        nobody's business here."""
        session: Any = self.session  # aiosmtpd's hints are narrower than its values
        name = login.encode("utf-8", "surrogateescape")
        data, self.granted = self.granted or (real.LoginPassword(name, b""), name), None
        session.auth_data, session._login_data = data
        session.authenticated = True

    def ended(self) -> None:
        """The connection is gone: whatever is under way is cancelled and not answered."""
        if self.call is not None:
            self.shared.crew.drop(self.call)
            self.call = None

    # What the session asks.

    def ask(self, verb: Verb, argument: HookArgument, done: Done) -> None:
        """Put a command to its hook, if there is one; `done` may be called at once."""
        if self._has_new_tls:
            self._ask_tls(lambda: self.ask(verb, argument, done))
            return
        if self.is_insecure:
            done(None if verb is Verb.QUIT else _R554_INSECURE)
            return
        try:
            settled = _SETTLERS[verb](self, argument)
        except (AttributeError, TypeError) as error:  # the objects may be anything by now
            text = f"what the handler left of its objects cannot be used: {told(error)}"
            self.note(Answer(replies.R451_LOCAL_ERROR, True, (text,)))
            settled = replies.R451_LOCAL_ERROR
        if isinstance(settled, Reply):
            done(settled)
            return
        hook = self.shared.handler.hooks.get(_HOOK_OF.get(verb, verb.name))
        if hook is None or verb in _CONTENT_VERBS:  # handle_DATA is asked about the content
            done(None)
        elif hook.name == "handle_EHLO":
            more, read = self._ehlo(settled, argument.reply)
            self._ask_hook(verb, hook, more, argument, done, read)
        else:
            self._ask_hook(verb, hook, settled, argument, done)

    def _ask_hook(
        self,
        verb: Verb,
        hook: Hook,
        more: Arguments,
        argument: HookArgument,
        done: Done,
        read: Read | None = None,
    ) -> None:
        server, session, envelope = self.server, self.session, self.envelope

        async def body(call: Call) -> Answer:
            server.begin(session, envelope)
            arguments = (server, session, envelope, *more)
            return await invoke(self.shared, server, call, hook, arguments, read)

        def answered(answer: Answer) -> None:
            if answer.reply is None:
                _DEFAULTS[verb](self, argument)
            done(answer.reply)

        self.run(body, verb.name, answered)

    def _ask_tls(self, go_on: Callable[[], None]) -> None:
        """handle_STARTTLS comes before anything else: without a true value no mail is taken."""
        self._has_new_tls = False
        hook = self.shared.handler.hooks["STARTTLS"]
        server, session, envelope = self.server, self.session, self.envelope

        def read(pushed: list[object], returned: Any) -> Reply:
            return replies.R250_OK if returned else _R554_INSECURE

        async def body(call: Call) -> Answer:
            server.begin(session, envelope)
            arguments = (server, session, envelope)
            answer = await invoke(self.shared, server, call, hook, arguments, read)
            if answer.reply is not _R554_INSECURE:
                return answer
            return Answer(answer.reply, True, (f"{hook.name} refused the TLS session",))

        def answered(answer: Answer) -> None:
            self.is_insecure = answer.is_failure
            go_on()

        self.run(body, "STARTTLS", answered)

    def run(
        self,
        body: Callable[[Call], Coroutine[Any, Any, Answer]],
        what: str,
        answered: Callable[[Answer], None],
        tell: Callable[[BaseException], str] = told,
    ) -> None:
        """Run `body` on the hooks' threads; `answered` gets its answer, or one that says 451.

        Notes of the answer go to the log, in words of `tell` when `body` raised.
        """

        def ended(outcome: Outcome) -> None:
            if self.call is call:
                self.call = None
            answer, error = outcome
            if error is not None:
                self.abandon()
                text = str(error) if isinstance(error, TooSlow) else tell(error)
                answer = Answer(replies.R451_LOCAL_ERROR, True, (f"{what} hook: {text}",))
            self.note(answer)
            answered(answer)

        self.call = call = self.shared.crew.begin(body, self.context, ended)

    def note(self, answer: Answer) -> None:
        """Its notes to the log."""
        for note in answer.notes:
            self._report(f"{self._view.peer[0]}: {note}")

    def abandon(self) -> None:
        """A hook that was given up may still run: it keeps its objects, we go on with copies."""
        self.context = self.context.copy()
        envelope = self.envelope
        self.envelope = copy.copy(envelope)
        for name, value in vars(envelope).items():
            if isinstance(value, list):
                setattr(self.envelope, name, list(value))
        self.session = copy.copy(self.session)
        self.server = self.server.copy()

    # What is set before a hook is asked; the arguments it gets, or a refusal instead of it.

    def _settle_hello(self, argument: HookArgument, *, is_extended: bool) -> Arguments | Reply:
        self.forget()
        self.session.extended_smtp = is_extended
        word = "EHLO" if is_extended else "HELO"
        if word not in self.shared.handler.hooks:
            self._default_hello(argument)
        return (text_of(argument.octets),)

    def _settle_helo(self, argument: HookArgument) -> Arguments | Reply:
        return self._settle_hello(argument, is_extended=False)

    def _settle_ehlo(self, argument: HookArgument) -> Arguments | Reply:
        return self._settle_hello(argument, is_extended=True)

    def _settle_mail(self, argument: HookArgument) -> Arguments | Reply:
        if not self.session.host_name:  # a hook took care of EHLO and did not set it
            return replies.R503_NEED_HELO
        address = address_of(argument.octets, argument.path)
        self.given.reverse = (address, argument.path)
        options = options_of(argument.parameters)
        self.envelope.smtp_utf8 = self.given.is_utf8 = "SMTPUTF8" in options
        if "MAIL" not in self.shared.handler.hooks:
            self.envelope.mail_from = address
            self.envelope.mail_options.extend(options)
        return (address, options)

    def _settle_rcpt(self, argument: HookArgument) -> Arguments | Reply:
        if not self.envelope.mail_from:  # a hook took care of MAIL and did not set it
            return replies.R503_NEED_MAIL
        address = address_of(argument.octets, argument.path)
        self.given.forward[address] = argument.path
        options = options_of(argument.parameters)
        if "RCPT" not in self.shared.handler.hooks:
            self.envelope.rcpt_tos.append(address)
            self.envelope.rcpt_options.extend(options)
        return (address, options)

    def _settle_content(self, argument: HookArgument) -> Arguments | Reply:
        return () if self.has_recipients else replies.R503_NEED_RCPT

    def _settle_reset(self, argument: HookArgument) -> Arguments | Reply:
        self.forget()
        return ()

    def _settle_text(self, argument: HookArgument) -> Arguments | Reply:
        return (text_of(argument.octets) if argument.octets else None,)

    def _settle_nothing(self, argument: HookArgument) -> Arguments | Reply:
        return ()

    # What is done when a hook returned MISSING: as if there were none.

    def _default_hello(self, argument: HookArgument) -> None:
        self.session.host_name = text_of(argument.octets)

    def _default_mail(self, argument: HookArgument) -> None:
        self.envelope.mail_from = address_of(argument.octets, argument.path)
        self.envelope.mail_options.extend(options_of(argument.parameters))

    def _default_rcpt(self, argument: HookArgument) -> None:
        self.envelope.rcpt_tos.append(address_of(argument.octets, argument.path))
        self.envelope.rcpt_options.extend(options_of(argument.parameters))

    # EHLO has more than one line.

    def _ehlo(self, settled: Arguments, planned: Reply) -> tuple[Arguments, Read]:
        """The arguments of handle_EHLO in its form, and how its answer is read."""
        lines = [f"250-{line}" for line in planned.lines]
        read = self.shared.answers.read

        def read_last(pushed: list[object], returned: Any) -> Reply | None:
            refusal = read([], returned)
            if refusal is not None and not refusal.is_positive:
                return refusal
            return read([*lines, *pushed], returned)

        def read_list(pushed: list[object], returned: Any) -> Reply | None:
            if not isinstance(returned, list | tuple) or not returned:
                return None
            return read([*pushed, *returned[:-1]], returned[-1])

        if self.shared.handler.has_old_ehlo:
            return settled, read_last
        return (*settled, [*lines, "250 HELP"]), read_list


_SETTLERS: dict[Verb, Callable[[Dialog, HookArgument], Arguments | Reply]] = {
    Verb.HELO: Dialog._settle_helo,
    Verb.EHLO: Dialog._settle_ehlo,
    Verb.LHLO: Dialog._settle_ehlo,
    Verb.MAIL: Dialog._settle_mail,
    Verb.RCPT: Dialog._settle_rcpt,
    Verb.DATA: Dialog._settle_content,
    Verb.BDAT: Dialog._settle_content,
    Verb.RSET: Dialog._settle_reset,
    Verb.NOOP: Dialog._settle_text,
    Verb.VRFY: Dialog._settle_text,
    Verb.QUIT: Dialog._settle_nothing,
}


def _no_default(dialog: Dialog, argument: HookArgument) -> None:
    """Nothing to be done."""


_DEFAULTS: dict[Verb, Callable[[Dialog, HookArgument], None]] = {
    **dict.fromkeys(_SETTLERS, _no_default),
    Verb.HELO: Dialog._default_hello,
    Verb.EHLO: Dialog._default_hello,
    Verb.LHLO: Dialog._default_hello,
    Verb.MAIL: Dialog._default_mail,
    Verb.RCPT: Dialog._default_rcpt,
}
