"""Who is asked about a login: our users, then Dovecot, then the operator's function.

A name that is in the file or the list is judged there. Any other goes to Dovecot and then to the
hook, until one of them accepts it. When none does and one of them could not say, nobody can: the
client shall try again. With several sources the time that a refusal takes may tell which of them
knows a name; with one of them it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from fastmta.smtp.sasl import Done, Exchange, SaslStep, Verdict

from .dovecot import Dovecot
from .hook import Hook, describe
from .password import BadPassword, ScramVerifier, prepare_name
from .step import (
    BUSY,
    INVALID,
    NO_USERS,
    Cancel,
    Client,
    accepted,
    nothing_to_cancel,
    refused,
    unavailable,
)
from .threads import Failure, Threads
from .users import Users, UserSource, Warn
from .verified import Verified

PASSWORD_MECHANISMS: Final = ("PLAIN", "LOGIN")
TOKEN_MECHANISMS: Final = ("XOAUTH2", "OAUTHBEARER")
SCRAM: Final = "SCRAM-SHA-256"
HOOK_FAILED: Final = "the authentication hook failed"

Ask = Callable[[Done], Cancel]


class OwnUsers:
    """The users file and the list; hashes are computed in threads."""

    def __init__(
        self, source: UserSource, threads: Threads, verified: Verified, warn: Warn
    ) -> None:
        self._source = source
        self._threads = threads
        self._verified = verified
        self._warn = warn

    def current(self) -> Users:
        return self._source.current()

    @property
    def is_readable(self) -> bool:
        return self._source.is_readable

    def ask(self, login: str, password: str, done: Done) -> Cancel:
        """Whether that is the password of `login`, which need not be there."""
        users = self._source.current()
        generation = self._source.generation
        if users.unknown is None:  # no hashes, so it takes microseconds
            done(accepted(login) if users.check(login, password) else refused(INVALID, login))
            return nothing_to_cancel
        if login in users and self._verified.has(login, password, generation):
            done(accepted(login))
            return nothing_to_cancel

        def finish(result: bool | Failure) -> None:
            if isinstance(result, Failure):
                self._warn(f"password check: {describe(result)}")
                done(unavailable("the password could not be checked", login))
            elif result:
                self._verified.add(login, password, generation)
                done(accepted(login))
            else:
                done(refused(INVALID, login))

        job = self._threads.run(partial(users.check, login, password), finish)
        if job is None:
            done(unavailable(BUSY, login))
            return nothing_to_cancel
        return job.cancel


class Sources:
    """Every source that is configured; `Checker` of the mechanisms, `Verifiers` of SCRAM."""

    def __init__(
        self,
        own: OwnUsers | None,
        dovecot: Dovecot | None,
        password_hook: Hook | None,
        token_hook: Hook | None,
        warn: Warn,
    ) -> None:
        self._own = own
        self._dovecot = dovecot
        self._password_hook = password_hook
        self._token_hook = token_hook
        self._warn = warn

    def offers(self, mechanism: str) -> bool:
        """Whether somebody can be asked by that mechanism."""
        if mechanism in PASSWORD_MECHANISMS and (self._own or self._password_hook):
            return True
        if mechanism in TOKEN_MECHANISMS and self._token_hook:
            return True
        if mechanism == SCRAM and self._own is not None and self._own.current().has_scram:
            return True
        return self._dovecot_offers(mechanism)

    def check_password(self, login: str, password: str, client: Client, done: Done) -> Cancel:
        questions: list[Ask] = []
        asks_dovecot = any(self._dovecot_offers(name) for name in PASSWORD_MECHANISMS)
        if self._own is not None:
            is_known = login in self._own.current()
            has_others = asks_dovecot or self._password_hook is not None
            if not is_known and not has_others and not self._own.is_readable:
                done(unavailable(NO_USERS, login))
                return nothing_to_cancel
            if is_known or not has_others:
                return self._own.ask(login, password, done)
        if asks_dovecot:
            questions.append(partial(self._ask_dovecot, login, password, client))
        if self._password_hook is not None:
            questions.append(partial(self._ask_hook, login, password, client))
        return _Inquiry(questions, login, done).start()

    def check_token(
        self, mechanism: str, message: bytes, token: tuple[str, str], client: Client, done: Done
    ) -> Cancel:
        questions: list[Ask] = []
        if self._dovecot is not None and self._dovecot_offers(mechanism):
            exchange = self._dovecot.begin(mechanism, client)
            # Its challenge is an error message, and we have our own.
            questions.append(partial(_converse, exchange, [message]))
        if self._token_hook is not None:
            questions.append(partial(self._ask_token_hook, *token, client))
        return _Inquiry(questions, token[0], done).start()

    def verifier(self, login: str) -> ScramVerifier | None:
        if self._own is None:
            return None
        users = self._own.current()
        if not self._own.is_readable and login not in users:
            return None
        return users.verifier(login)

    def elsewhere(self, login: str, client: Client) -> Exchange | None:
        if self._own is not None and login in self._own.current():
            return None
        if self._dovecot is None or not self._dovecot_offers(SCRAM):
            return None
        return self._dovecot.begin(SCRAM, client)

    def _dovecot_offers(self, mechanism: str) -> bool:
        if self._dovecot is None:
            return False
        known = self._dovecot.mechanisms
        return mechanism in (PASSWORD_MECHANISMS if known is None else known)

    def _ask_dovecot(self, login: str, password: str, client: Client, done: Done) -> Cancel:
        assert self._dovecot is not None
        name, secret = login.encode("utf-8"), password.encode("utf-8")
        if self._dovecot_offers("PLAIN"):
            exchange = self._dovecot.begin("PLAIN", client)
            return _converse(exchange, [b"\0%s\0%s" % (name, secret)], done)
        return _converse(self._dovecot.begin("LOGIN", client), [None, name, secret], done)

    def _ask_hook(self, login: str, password: str, client: Client, done: Done) -> Cancel:
        assert self._password_hook is not None

        def answered(outcome: object) -> None:
            if outcome is True:
                done(accepted(login))
            elif outcome is False:
                done(refused(INVALID, login))
            else:
                done(self._hook_failed("password", outcome, login))

        return self._password_hook.call(login, password, client.address, answered)

    def _ask_token_hook(self, login: str, token: str, client: Client, done: Done) -> Cancel:
        assert self._token_hook is not None

        def answered(outcome: object) -> None:
            if outcome is None:
                done(refused(INVALID, login))
                return
            try:
                if isinstance(outcome, str):
                    done(accepted(prepare_name(outcome)))
                    return
            except BadPassword as problem:
                self._warn(f"token hook: {problem}")
            done(self._hook_failed("token", outcome, login))

        return self._token_hook.call(login, token, client.address, answered)

    def _hook_failed(self, which: str, outcome: object, login: str) -> SaslStep:
        text = f"it returned {type(outcome).__name__}"
        if isinstance(outcome, Failure):
            text = describe(outcome)
        self._warn(f"{which} hook: {text}")
        return unavailable(HOOK_FAILED, login)


class _Inquiry:
    """Several that are asked in turn."""

    def __init__(self, questions: list[Ask], login: str, done: Done) -> None:
        self._questions = questions
        self._login = login
        self._done = done
        self._cancel: Cancel = nothing_to_cancel
        self._is_cancelled = False
        self._doubt: SaslStep | None = None  # of one that could not say

    def start(self) -> Cancel:
        self._next(refused(INVALID, self._login))
        return self._stop

    def _next(self, last: SaslStep) -> None:
        """`last` is what the one before said."""
        if not self._questions:
            self._done(self._doubt or last)
            return
        self._cancel = nothing_to_cancel
        cancel = self._questions.pop(0)(self._answered)
        if self._cancel is nothing_to_cancel:  # the answer has not come yet, or there was no other
            self._cancel = cancel

    def _answered(self, step: SaslStep) -> None:
        if self._is_cancelled:
            return
        if step.verdict is Verdict.ACCEPTED:
            self._done(step)
            return
        if not step.login:
            step = msgspec.structs.replace(step, login=self._login)
        if step.verdict is Verdict.UNAVAILABLE:
            self._doubt = self._doubt or step
        self._next(step)

    def _stop(self) -> None:
        self._is_cancelled = True
        self._cancel()


def _converse(exchange: Exchange, responses: list[bytes | None], done: Done) -> Cancel:
    """Lead the client's side of `exchange`; one challenge too many is a refusal."""
    left = list(responses)

    def answered(step: SaslStep) -> None:
        if step.verdict is not Verdict.CHALLENGE:
            done(step)
        elif left:
            exchange.step(left.pop(0), answered)
        else:
            exchange.cancel()
            done(refused(INVALID))

    exchange.step(left.pop(0), answered)
    return exchange.cancel
