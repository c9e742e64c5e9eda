"""What tests of logins share: a loop with a clock of its own, a checker that obeys, both sides'
arithmetic of SCRAM."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable
from queue import Empty, Queue
from typing import Any

from fastmta.security.password import Cost, hash_password, make_verifier
from fastmta.security.step import Cancel, Client, accepted, refused, unavailable
from fastmta.smtp.sasl import Done, Exchange, SaslStep, Verdict

CHEAP = Cost(ln=4, r=1, p=1)
CLIENT = Client("192.0.2.1", is_secure=True)


class FakeTimer:
    """A call that is due later."""

    def __init__(self, when_s: float, call: Callable[[], object]) -> None:
        self.when_s = when_s
        self.call = call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeLoop(asyncio.AbstractEventLoop):
    """As much of a loop as callbacks need. Time passes in `advance` only."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._timers: list[FakeTimer] = []
        self._from_threads: Queue[Callable[[], object]] = Queue()

    def time(self) -> float:
        return self.now_s

    def call_later(  # type: ignore[override]  # called in one way only
        self, delay: float, callback: Any, *args: Any
    ) -> Any:
        timer = FakeTimer(self.now_s + delay, lambda: callback(*args))
        self._timers.append(timer)
        return timer

    def call_soon_threadsafe(  # type: ignore[override]  # called in one way only
        self, callback: Any, *args: Any
    ) -> Any:
        self._from_threads.put(lambda: callback(*args))

    @property
    def timers(self) -> list[FakeTimer]:
        """Those that are still due, the next one first."""
        self._timers = [timer for timer in self._timers if not timer.is_cancelled]
        return sorted(self._timers, key=lambda timer: timer.when_s)

    def advance(self, seconds: float) -> None:
        """Let time pass, and call what is due."""
        ends_s = self.now_s + seconds
        while (timers := self.timers) and timers[0].when_s <= ends_s:
            self.now_s = timers[0].when_s
            self._timers.remove(timers[0])
            timers[0].call()
        self.now_s = ends_s

    def from_thread(self, timeout_s: float = 30.0) -> None:
        """Take one result of a thread, waiting for it."""
        self._from_threads.get(timeout=timeout_s)()

    def has_from_thread(self, timeout_s: float = 0.05) -> bool:
        """Whether a thread gives a result within that time; it is taken."""
        try:
            self.from_thread(timeout_s)
        except Empty:
            return False
        return True


class Said(list[SaslStep]):
    """The steps that an exchange has given: `exchange.step(response, said)`."""

    def __call__(self, step: SaslStep) -> None:
        self.append(step)

    @property
    def one(self) -> SaslStep:
        """The only one, taken out."""
        assert len(self) == 1, list(self)
        return self.pop()


def turn(exchange: Exchange, response: bytes | None) -> SaslStep:
    """A step that is answered at once."""
    said = Said()
    exchange.step(response, said)
    return said.one


class FakeChecker:
    """Accepts each name with the password `NAME-secret` and the token `NAME-token`.

    With `is_slow`, answers when `release` is called.
    """

    def __init__(self, *, is_slow: bool = False, is_down: bool = False) -> None:
        self.is_slow = is_slow
        self.is_down = is_down
        self.asked: list[tuple[str, str]] = []
        self.cancelled_count = 0
        self._waiting: list[tuple[Done, SaslStep]] = []

    def check_password(self, login: str, password: str, client: Client, done: Done) -> Cancel:
        return self._answer(login, password, password == f"{login}-secret", done)

    def check_token(
        self, mechanism: str, message: bytes, token: tuple[str, str], client: Client, done: Done
    ) -> Cancel:
        login = token[1].removesuffix("-token")
        return self._answer(login, token[1], token[1].endswith("-token"), done)

    def release(self) -> None:
        for done, step in self._waiting:
            done(step)
        self._waiting.clear()

    def _answer(self, login: str, secret: str, is_good: bool, done: Done) -> Cancel:
        self.asked.append((login, secret))
        step = accepted(login) if is_good else refused("no", login)
        if self.is_down:
            step = unavailable("down", login)
        if self.is_slow:
            self._waiting.append((done, step))
        else:
            done(step)
        return self._cancel

    def _cancel(self) -> None:
        self.cancelled_count += 1
        self._waiting.clear()


def user_line(name: str, password: str, *, scram: int = 0, cost: Cost = CHEAP) -> str:
    """A line of a users file, with cheap hashes."""
    octets = password.encode("utf-8")
    line = f"{name}:{hash_password(octets, cost)}"
    return f"{line}:{make_verifier(octets, scram).render()}" if scram else line


class ScramClient:
    """The client's side of SCRAM-SHA-256 (RFC 5802 3)."""

    def __init__(
        self, name: str, password: str, nonce: str = "client", header: str = "n,,"
    ) -> None:
        self.header = header.encode()
        self.bare = f"n={name},r={nonce}".encode()
        self._password = password.encode("utf-8")
        self._server_signature = b""
        self.server_first: dict[str, str] = {}

    def first(self) -> bytes:
        return self.header + self.bare

    def final(self, server_first: bytes) -> bytes:
        """The proof for what the server said."""
        fields = dict(each.split("=", 1) for each in server_first.decode().split(","))
        self.server_first = fields
        salt = base64.b64decode(fields["s"])
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, int(fields["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        stored_key = hashlib.sha256(client_key).digest()
        bare = b"c=%s,r=%s" % (base64.b64encode(self.header), fields["r"].encode())
        signed = b",".join((self.bare, server_first, bare))
        signature = hmac.digest(stored_key, signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        self._server_signature = hmac.digest(server_key, signed, "sha256")
        return bare + b",p=" + base64.b64encode(proof)

    def is_server(self, server_final: bytes) -> bool:
        """Whether the server knows us, too."""
        return server_final == b"v=" + base64.b64encode(self._server_signature)


def log_in_by_scram(exchange: Exchange, client: ScramClient) -> SaslStep:
    """The whole exchange, answered at once; its last step."""
    step = turn(exchange, client.first())
    if step.verdict is not Verdict.CHALLENGE:
        return step
    step = turn(exchange, client.final(step.octets))
    if step.verdict is not Verdict.CHALLENGE:
        return step
    assert client.is_server(step.octets)
    return turn(exchange, b"")
