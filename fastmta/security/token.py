"""Bearer tokens to log in with: fetched and renewed by OAuth 2 (RFC 6749), or out of a file."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Protocol

from .bearer import TOKEN_OCTETS_MAX
from .context import Stamp, stamp_of
from .threads import Failure, Job, Threads
from .token_request import Grant, Token, TokenProblem, TokenRequest, check_token_request

__all__ = ["FileToken", "RefreshingToken", "TokenDone", "TokenProblem", "TokenRequest", "Tokens"]

TokenDone = Callable[[str, str], None]  # (token, ""), or ("", what went wrong)

LIFE_S_DEFAULT: Final = 300.0  # of a token that comes without: RFC 6749 5.1 only recommends it
LIFE_S_MAX: Final = 86_400.0
_MARGIN_S_MAX: Final = 300.0  # a token is renewed so long before its end
_PAUSE_S: Final = 5.0  # after a failure; doubled with each further one
_PAUSE_S_MAX: Final = 300.0
_FRESH_S: Final = 60.0  # a token that is refused so soon: another will hardly be better
_WAITING_MAX: Final = 10_000
_FILE_TOKEN = re.compile(rb"[ \t\r\n]*([A-Za-z0-9._~+/-]+=*)[ \t\r\n]*")
_FILE_OCTETS_MAX: Final = TOKEN_OCTETS_MAX + 64


class Tokens(Protocol):
    """Where the tokens of one account come from."""

    def get(self, done: TokenDone) -> None:
        """Call `done` once, at once or later, with a token that is good or with what is wrong."""

    def refuse(self, token: str) -> None:
        """The server did not take `token`: do not give it again, as far as there is another."""


class RefreshingToken:
    """Fetches a token when there is none, and the next one shortly before that ends.

    One request at a time, whoever waits for it; after failures the next is tried later and later,
    and until then everybody is told at once what was wrong. From one loop.
    """

    def __init__(
        self,
        request: TokenRequest,
        threads: Threads,
        now_s: Callable[[], float],
        warn: Callable[[str], None],
    ) -> None:
        """`now_s` is monotonic; `warn` hears what an operator must set right, with each token.

        Raises TokenProblem for a request that cannot be right.
        """
        check_token_request(request)
        self._grant = Grant(request)
        self._threads = threads
        self._now_s = now_s
        self._warn = warn
        self._token = ""
        self._renew_at_s = 0.0
        self._ends_at_s = 0.0
        self._fetched_at_s = 0.0
        self._failures_count = 0
        self._refusals_count = 0
        self._problem = ""
        self._retry_at_s = 0.0
        self._job: Job[Token] | None = None
        self._waiting: list[TokenDone] = []
        self._is_open = True

    def get(self, done: TokenDone) -> None:
        now_s = self._now_s()
        if self._token and now_s < self._renew_at_s:
            done(self._token, "")
            return
        is_begun = self._job is not None or self._begin(now_s)
        if self._token and now_s < self._ends_at_s:
            done(self._token, "")  # the next one comes, or does not come yet
        elif is_begun and len(self._waiting) < _WAITING_MAX:
            self._waiting.append(done)
        else:
            done("", self._problem or "too many wait for the token")

    def refuse(self, token: str) -> None:
        if not token or token != self._token:
            return
        self._token, self._problem = "", "the token was refused"
        now_s = self._now_s()
        if now_s - self._fetched_at_s < _FRESH_S:
            self._retry_at_s = now_s + _pause_s(self._refusals_count)
            self._refusals_count += 1
        else:
            self._refusals_count = 0

    def close(self) -> None:
        """Nobody is answered any more."""
        self._is_open = False
        self._waiting.clear()
        if self._job is not None:
            self._job.cancel()

    def _begin(self, now_s: float) -> bool:
        """Ask for a token, if it is time to."""
        if not self._is_open or now_s < self._retry_at_s:
            return False
        self._job = self._threads.run(self._grant.fetch, self._finish)
        if self._job is None:
            self._problem = "too many token requests are under way"
        return self._job is not None

    def _finish(self, result: Token | Failure) -> None:
        self._job = None
        now_s = self._now_s()
        if isinstance(result, Failure):
            self._fail(result.error, now_s)
        else:
            life_s = min(result.life_s or LIFE_S_DEFAULT, LIFE_S_MAX)
            self._token = result.text
            self._ends_at_s = now_s + life_s
            self._renew_at_s = self._ends_at_s - min(_MARGIN_S_MAX, life_s / 4)
            self._failures_count, self._problem = 0, ""
            self._fetched_at_s = now_s
            # Not more often for a server whose tokens are over at once.
            self._retry_at_s = now_s + 1.0
            if result.warning:
                self._warn(result.warning)
        waiting, self._waiting = self._waiting, []
        is_good = not isinstance(result, Failure)
        for done in waiting:
            done(self._token if is_good else "", "" if is_good else self._problem)

    def _fail(self, error: BaseException, now_s: float) -> None:
        is_expected = isinstance(error, TokenProblem)
        # The text of anything else might hold what was sent.
        self._problem = str(error) if is_expected else f"token request: {type(error).__name__}"
        self._retry_at_s = now_s + _pause_s(self._failures_count)
        self._failures_count += 1


def _pause_s(count: int) -> float:
    """How long to wait after so many earlier failures and one more."""
    return min(_PAUSE_S * (1 << min(count, 10)), _PAUSE_S_MAX)


class FileToken:
    """The token that is in a file, which another process renews: by itself on a line."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: Stamp = None
        self._token = ""
        self._refused = ""

    def get(self, done: TokenDone) -> None:
        """The file is read when it has changed."""
        stamp = stamp_of(self._path)
        if stamp is None:
            done("", f"{self._path}: not found: no token there")
            return
        if stamp != self._stamp or not self._token:
            self._stamp, self._token = stamp, ""
            try:
                with open(self._path, "rb") as file:
                    octets = file.read(_FILE_OCTETS_MAX + 1)
            except OSError as error:
                done("", f"{self._path}: the token is not readable: {error.strerror}")
                return
            match = _FILE_TOKEN.fullmatch(octets) if len(octets) <= _FILE_OCTETS_MAX else None
            if match is None:
                done("", f"{self._path}: has no bearer token in it")
                return
            self._token = match[1].decode("ascii")
        if self._token == self._refused:
            done("", f"{self._path}: the token was refused, and has not been renewed since")
        else:
            done(self._token, "")

    def refuse(self, token: str) -> None:
        self._refused = token
