"""A client of Dovecot's auth process: one connection that is kept, many requests on it.

While there is no connection, and for requests that were under way when it was lost, the answer is
UNAVAILABLE; the connection is tried again at once and then less and less often.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias, cast

import msgspec

from fastmta.smtp.sasl import Done, SaslStep

from .dovecot_line import (
    ID_MAX,
    READ_OCTETS_MAX,
    VERSION_MAJOR,
    Answer,
    auth_request,
    cancellation,
    continuation,
    handshake,
    parse_answer,
)
from .password import BadPassword, prepare_name
from .step import (
    BUSY,
    INVALID,
    Cancel,
    Client,
    accepted,
    challenge,
    nothing_to_cancel,
    refused,
    unavailable,
)

REQUESTS_MAX: Final = 512  # under way at once
HANDSHAKE_TIMEOUT_S: Final = 10.0
BACKOFF_S_MIN: Final = 0.25
BACKOFF_S_MAX: Final = 5.0
MECHANISMS_MAX: Final = 64
TOO_LONG: Final = "response too long"
DOWN: Final = "authentication service not available"

# Give the protocol a transport, or call the function with a reason; cancel by what is returned.
Connect: TypeAlias = Callable[[asyncio.Protocol, Callable[[str], None]], Cancel]


class DovecotPorts(msgspec.Struct, frozen=True):
    """What the client needs of the world."""

    connect: Connect
    client_id: Callable[[], int]  # 1 to ID_MAX, another one for each connection
    warn: Callable[[str], None]


class Dovecot:
    """One Dovecot. `start` and `close` on the loop that it was made for."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ports: DovecotPorts, timeout_s: float
    ) -> None:
        self._loop = loop
        self._ports = ports
        self._timeout_s = timeout_s
        self._link: _Link | None = None
        self._stop_attempt: Cancel = nothing_to_cancel
        self._timer: asyncio.TimerHandle | None = None
        self._backoff_s = 0.0
        self._is_open = False
        self._last_problem = ""
        self._ready_at_s = 0.0
        self.mechanisms: frozenset[str] | None = None  # of the last handshake; None: none yet

    def start(self) -> None:
        """Begin to connect."""
        self._is_open = True
        self._try()

    def close(self) -> None:
        """Requests under way become UNAVAILABLE."""
        self._is_open = False
        if self._timer is not None:
            self._timer.cancel()
        self._stop_attempt()
        if self._link is not None:
            self._link.end("closed")

    def begin(self, mechanism: str, client: Client) -> DovecotExchange:
        """An exchange that Dovecot leads."""
        return DovecotExchange(self, mechanism, client)

    def request(self, mechanism: str, client: Client, response: bytes | None) -> Request | SaslStep:
        """Begin a request; a step: why not."""
        if self._link is None or not self._link.is_ready:
            return unavailable(DOWN)
        return self._link.begin(mechanism, client, response)

    def _try(self) -> None:
        self._timer = None
        link = _Link(self._loop, self._timeout_s, self._ports.client_id(), self)
        self._stop_attempt = self._ports.connect(link, partial(self._failed, link))

    def _failed(self, link: _Link, reason: str) -> None:
        if self._link is link:
            link.end(reason)
        else:
            self._lost(reason)

    def linked(self, link: _Link) -> None:
        """A connection is there; the handshake begins."""
        self._link = link
        if not self._is_open:
            link.end("closed")

    def ready(self, mechanisms: frozenset[str]) -> None:
        """The handshake is done."""
        self.mechanisms = mechanisms
        self._ready_at_s = self._loop.time()
        if self._last_problem:
            self._ports.warn("dovecot: connected again")
            self._last_problem = ""

    def unlinked(self, reason: str, is_ready: bool) -> None:
        """The connection has ended."""
        self._link = None
        if is_ready and self._loop.time() - self._ready_at_s >= BACKOFF_S_MAX:
            self._backoff_s = 0.0  # it was good for a while: again at once
        self._lost(reason)

    def _lost(self, reason: str) -> None:
        if not self._is_open or self._timer is not None:
            return
        if reason != self._last_problem:
            self._last_problem = reason
            self._ports.warn(f"dovecot: {reason}")
        self._timer = self._loop.call_later(self._backoff_s, self._try)
        self._backoff_s = min(max(self._backoff_s * 2, BACKOFF_S_MIN), BACKOFF_S_MAX)


class Request:
    """One request under way on a connection; it takes turns with the caller."""

    __slots__ = ("_link", "done", "id", "timer")

    def __init__(self, link: _Link, id: int) -> None:
        self._link = link
        self.id = id
        self.timer: asyncio.TimerHandle | None = None  # runs while it is Dovecot's turn
        self.done: Callable[[Answer | SaslStep], None] | None = None  # a step: it has ended

    @property
    def is_open(self) -> bool:
        """Whether Dovecot still knows it."""
        return self._link.has(self)

    def proceed(self, response: bytes) -> bool:
        """Answer a CONT; False: the response is too long for Dovecot."""
        return self._link.proceed(self, response)

    def cancel(self) -> None:
        """No more answers."""
        self._link.cancel(self)

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class _Link(asyncio.Protocol):
    """One connection to the auth process."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, timeout_s: float, client_id: int, owner: Dovecot
    ) -> None:
        self._loop = loop
        self._timeout_s = timeout_s
        self._client_id = client_id
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._buffer = b""
        self._reason = "connection lost"
        self._mechanisms: set[str] = set()
        self._has_version = False
        self._requests: dict[int, Request] = {}
        self._last_id = 0
        self.is_ready = False

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._timer = self._loop.call_later(HANDSHAKE_TIMEOUT_S, self.end, "no handshake in time")
        self._transport.write(handshake(self._client_id))
        self._owner.linked(self)

    def data_received(self, octets: bytes) -> None:
        *lines, self._buffer = (self._buffer + octets).split(b"\n")
        for line in lines:
            if self._transport is None:
                return
            if self.is_ready:
                self._answer(line)
            else:
                self._greet(line)
        if len(self._buffer) > READ_OCTETS_MAX:
            self.end("a line that is too long")

    def connection_lost(self, error: Exception | None) -> None:
        self.end(str(error) if error is not None else self._reason)

    # What the client calls.

    def begin(self, mechanism: str, client: Client, response: bytes | None) -> Request | SaslStep:
        self._last_id = id = self._last_id % ID_MAX + 1
        if len(self._requests) >= REQUESTS_MAX or id in self._requests:
            return unavailable(BUSY)
        line = auth_request(id, mechanism, client, response)
        if line is None:
            return refused(TOO_LONG)
        self._requests[id] = request = Request(self, id)
        self._send(request, line)
        return request

    def has(self, request: Request) -> bool:
        return self._requests.get(request.id) is request

    def proceed(self, request: Request, response: bytes) -> bool:
        line = continuation(request.id, response)
        if line is None:
            return False
        self._send(request, line)
        return True

    def _send(self, request: Request, line: bytes) -> None:
        assert self._transport is not None
        assert request.timer is None
        request.timer = self._loop.call_later(self._timeout_s, self._expire, request)
        self._transport.write(line)

    def cancel(self, request: Request) -> None:
        if not self.has(request):
            return
        del self._requests[request.id]
        request.stop_timer()
        request.done = None
        if self._transport is not None:
            self._transport.write(cancellation(request.id))

    def end(self, reason: str) -> None:
        """Whatever is under way is UNAVAILABLE. Not twice."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        transport.abort()
        was_ready, self.is_ready = self.is_ready, False
        self._owner.unlinked(reason, was_ready)
        requests, self._requests = self._requests, {}
        for request in requests.values():
            _tell(request, unavailable(DOWN))

    # Lines.

    def _greet(self, line: bytes) -> None:
        command, *fields = line.split(b"\t")
        if command == b"VERSION":
            self._has_version = fields[:1] == [VERSION_MAJOR]
            if not self._has_version:
                self.end("it speaks another version of the protocol")
        elif command == b"MECH" and fields and len(self._mechanisms) < MECHANISMS_MAX:
            if b"anonymous" not in fields[1:]:
                self._mechanisms.add(fields[0].decode("ascii", "replace").upper())
        elif command == b"DONE":
            if not self._has_version:
                self.end("it did not say which version it speaks")
                return
            if self._timer is not None:
                self._timer.cancel()
            self.is_ready = True
            self._owner.ready(frozenset(self._mechanisms))

    def _answer(self, line: bytes) -> None:
        answer = parse_answer(line)
        request = self._requests.get(answer.id) if answer is not None else None
        if answer is None or request is None:
            return  # for a request that was cancelled, or a word of a later version
        if answer.command != b"CONT":
            del self._requests[answer.id]
        _tell(request, answer)

    def _expire(self, request: Request) -> None:
        request.timer = None
        done = request.done
        self.cancel(request)
        if done is not None:
            done(unavailable("authentication service did not answer in time"))


def _tell(request: Request, what: Answer | SaslStep) -> None:
    """Give the answer to who waits for it; a client that is out of turn gets none."""
    request.stop_timer()
    done, request.done = request.done, None
    if done is not None:
        done(what)


class DovecotExchange:
    """An exchange that Dovecot leads; we pass on what the client says."""

    def __init__(self, dovecot: Dovecot, mechanism: str, client: Client) -> None:
        self._dovecot = dovecot
        self._mechanism = mechanism
        self._client = client
        self._request: Request | None = None

    def step(self, response: bytes | None, done: Done) -> None:
        request = self._request
        if request is None:
            begun = self._dovecot.request(self._mechanism, self._client, response)
            if isinstance(begun, SaslStep):
                done(begun)
                return
            self._request = request = begun
        elif not request.is_open:
            done(unavailable(DOWN))  # it was lost, or Dovecot lost patience
            return
        elif not request.proceed(response or b""):
            request.cancel()
            done(refused(TOO_LONG))
            return
        request.done = partial(self._answered, done)

    def cancel(self) -> None:
        if self._request is not None:
            self._request.cancel()

    def _answered(self, done: Done, answer: Answer | SaslStep) -> None:
        done(answer if isinstance(answer, SaslStep) else read_answer(answer))


def read_answer(answer: Answer) -> SaslStep:
    """What an answer means to the client."""
    if answer.command == b"CONT":
        try:
            octets = answer.fields[0] if answer.fields else b""
            return challenge(base64.b64decode(octets, validate=True))
        except binascii.Error:
            return unavailable("authentication service answered nonsense")
    login = answer.values.get(b"user", b"").decode("utf-8", "replace")
    if answer.command == b"OK":
        try:
            return accepted(prepare_name(login))
        except BadPassword:
            return unavailable("authentication service named no user")
    reason = answer.values.get(b"reason", b"").decode("utf-8", "replace")
    if answer.is_temporary:
        return unavailable(reason or "authentication service has a problem", login)
    return refused(reason or INVALID, login)
