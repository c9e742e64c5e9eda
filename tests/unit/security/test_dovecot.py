"""The client of Dovecot's auth process, against a scripted one: no socket, no time."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable

import pytest

from fastmta.security import dovecot as room
from fastmta.security.dovecot import BACKOFF_S_MAX, DOWN, Dovecot, DovecotPorts
from fastmta.security.dovecot_line import escape, parse_answer, unescape
from fastmta.security.step import Client
from fastmta.smtp.sasl import SaslStep, Verdict
from tests.support.sasl import CLIENT, FakeLoop, Said

HANDSHAKE = (
    b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\n"
    b"MECH\tSCRAM-SHA-256\tmutual-auth\nMECH\tANONYMOUS\tanonymous\n"
    b"SPID\t17\nCUID\t1\nCOOKIE\tabc\nDONE\n"
)
HELLO = b"VERSION\t1\t1\nCPID\t4711\n"


class FakeTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_aborted
        self.written += data

    def abort(self) -> None:
        self.is_aborted = True

    def take(self) -> bytes:
        written, self.written = self.written, b""
        return written


class Scripted:
    """The other side: each attempt waits until it is let through or refused."""

    def __init__(self, timeout_s: float = 20.0) -> None:
        self.loop = FakeLoop()
        self.warned: list[str] = []
        self.attempts: list[tuple[asyncio.Protocol, Callable[[str], None]]] = []
        self.cancelled_count = 0
        self.transport = FakeTransport()
        self.protocol: asyncio.Protocol = asyncio.Protocol()
        ports = DovecotPorts(self._connect, lambda: 4711, self.warned.append)
        self.dovecot = Dovecot(self.loop, ports, timeout_s)

    def _connect(
        self, protocol: asyncio.Protocol, failed: Callable[[str], None]
    ) -> Callable[[], None]:
        self.attempts.append((protocol, failed))
        return self._cancelled

    def _cancelled(self) -> None:
        self.cancelled_count += 1

    def let_in(self) -> None:
        """The attempt under way succeeds."""
        self.protocol, _ = self.attempts.pop()
        assert self.attempts == []
        self.transport = FakeTransport()
        self.protocol.connection_made(self.transport)

    def refuse(self, reason: str = "Connection refused") -> None:
        self.attempts.pop()[1](reason)

    def say(self, octets: bytes) -> None:
        self.protocol.data_received(octets)

    def lose(self) -> None:
        self.protocol.connection_lost(None)

    def step(
        self, response: bytes | None, mechanism: str = "PLAIN", client: Client = CLIENT
    ) -> Said:
        said = Said()
        self.dovecot.begin(mechanism, client).step(response, said)
        return said


@pytest.fixture
def ready() -> Scripted:
    """A client that has done its handshake."""
    scripted = Scripted()
    scripted.dovecot.start()
    scripted.let_in()
    assert scripted.transport.take() == HELLO
    scripted.say(HANDSHAKE)
    assert scripted.dovecot.mechanisms is not None
    return scripted


def test_handshake_octet_by_octet() -> None:
    scripted = Scripted()
    scripted.dovecot.start()
    scripted.let_in()
    for octet in HANDSHAKE:
        assert scripted.dovecot.mechanisms is None
        scripted.say(bytes([octet]))
    assert scripted.dovecot.mechanisms == {"PLAIN", "LOGIN", "SCRAM-SHA-256"}  # not ANONYMOUS
    assert scripted.warned == []
    assert scripted.loop.timers == []


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"VERSION\t2\t0\n", "it speaks another version of the protocol"),
        (b"VERSION\n", "it speaks another version of the protocol"),
        (b"MECH\tPLAIN\nDONE\n", "it did not say which version it speaks"),
        (b"x" * 70_000, "a line that is too long"),
    ],
)
def test_handshake_that_is_wrong(said: bytes, reason: str) -> None:
    scripted = Scripted()
    scripted.dovecot.start()
    scripted.let_in()
    scripted.say(said)
    assert scripted.transport.is_aborted
    assert scripted.warned == [f"dovecot: {reason}"]
    scripted.lose()  # the loop says so afterwards
    assert scripted.warned == [f"dovecot: {reason}"]


def test_handshake_that_does_not_end() -> None:
    scripted = Scripted()
    scripted.dovecot.start()
    scripted.let_in()
    scripted.say(HANDSHAKE[:-1])
    scripted.loop.advance(room.HANDSHAKE_TIMEOUT_S)
    assert scripted.transport.is_aborted
    assert scripted.warned == ["dovecot: no handshake in time"]


def test_request_says_what_dovecot_needs(ready: Scripted) -> None:
    ready.step(b"\0alice\0secret")
    resp = base64.b64encode(b"\0alice\0secret")
    assert ready.transport.take() == (
        b"AUTH\t1\tPLAIN\tservice=smtp\tnologin\trip=192.0.2.1\tsecured\tresp=%s\n" % resp
    )
    ready.step(None, "LOGIN", Client("2001:db8::1", is_secure=False))
    assert ready.transport.take() == (b"AUTH\t2\tLOGIN\tservice=smtp\tnologin\trip=2001:db8::1\n")
    ready.step(b"")
    assert ready.transport.take().endswith(b"\tsecured\tresp=\n")


ANSWERS = [
    (b"OK\t1\tuser=alice@example.com\n", SaslStep(Verdict.ACCEPTED, login="alice@example.com")),
    (b"OK\t1\tx\tuser=a\x01\x31\tresp=\n", None),
    (b"OK\t1\n", None),
    (b"OK\t1\tuser=\n", None),
    (b"OK\t1\tuser=a\x01nb\n", None),
    (
        b"FAIL\t1\tuser=alice\n",
        SaslStep(Verdict.REFUSED, login="alice", reason="credentials invalid"),
    ),
    (b"FAIL\t1\n", SaslStep(Verdict.REFUSED, reason="credentials invalid")),
    (
        b"FAIL\t1\tuser=alice\tcode=user_disabled\treason=Gone\x01r\x01n away\xff\n",
        SaslStep(Verdict.REFUSED, login="alice", reason="Gone?? away?"),
    ),
    (
        b"FAIL\t1\tuser=alice\ttemp\n",
        SaslStep(Verdict.UNAVAILABLE, login="alice", reason="authentication service has a problem"),
    ),
    (
        b"FAIL\t1\tcode=temp_fail\treason=database\n",
        SaslStep(Verdict.UNAVAILABLE, reason="database"),
    ),
    (b"CONT\t1\tVXNlcm5hbWU6\n", SaslStep(Verdict.CHALLENGE, b"Username:")),
    (b"CONT\t1\t\n", SaslStep(Verdict.CHALLENGE, b"")),
    (b"CONT\t1\n", SaslStep(Verdict.CHALLENGE, b"")),
    (
        b"CONT\t1\t!\n",
        SaslStep(Verdict.UNAVAILABLE, reason="authentication service answered nonsense"),
    ),
]


@pytest.mark.parametrize(("line", "expected"), ANSWERS)
@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "octet-by-octet"])
def test_answers(ready: Scripted, line: bytes, expected: SaslStep | None, is_whole: bool) -> None:
    said = ready.step(b"\0a\0b")
    for octets in [line] if is_whole else [bytes([octet]) for octet in line]:
        ready.say(octets)
    if expected is None:
        expected = SaslStep(Verdict.UNAVAILABLE, reason="authentication service named no user")
    assert said.one == expected
    assert ready.loop.timers == []


@pytest.mark.parametrize(
    "noise",
    [
        b"OK\t2\tuser=eve\n",
        b"OK\t+1\tuser=eve\n",
        b"OK\t01x\tuser=eve\n",
        b"OK\t99999999999\tuser=eve\n",
        b"OK\n",
        b"\n",
        b"WHAT\t1\tuser=eve\n",
        b"ok\t1\tuser=eve\n",
        b"MECH\tX\n",
    ],
)
def test_lines_of_nobody_are_passed_over(ready: Scripted, noise: bytes) -> None:
    said = ready.step(b"\0a\0b")
    ready.say(noise)
    assert said == []
    ready.say(b"OK\t1\tuser=alice\n")
    assert said.one.login == "alice"


def test_requests_are_answered_in_any_order_once(ready: Scripted) -> None:
    said = [ready.step(b"\0a\0b") for _ in range(3)]
    ready.say(b"OK\t3\tuser=three\nFAIL\t1\nOK\t3\tuser=eve\nOK\t2\tuser=two\nFAIL\t2\n")
    assert [one.one.login for one in said] == ["", "two", "three"]


def test_exchange_of_several_turns(ready: Scripted) -> None:
    exchange, said = ready.dovecot.begin("LOGIN", CLIENT), Said()
    exchange.step(None, said)
    ready.transport.take()
    ready.say(b"CONT\t1\t%s\n" % base64.b64encode(b"Username:"))
    assert said.one.octets == b"Username:"
    exchange.step(b"alice", said)
    assert ready.transport.take() == b"CONT\t1\t%s\n" % base64.b64encode(b"alice")
    ready.say(b"CONT\t1\t%s\n" % base64.b64encode(b"Password:"))
    assert said.one.octets == b"Password:"
    ready.loop.advance(3600)  # the client thinks: that is not Dovecot's time
    exchange.step(b"", said)
    assert ready.transport.take() == b"CONT\t1\t\n"
    ready.say(b"OK\t1\tuser=alice\n")
    assert said.one.verdict is Verdict.ACCEPTED


def test_no_answer_in_time(ready: Scripted) -> None:
    said = ready.step(b"\0a\0b")
    ready.transport.take()
    ready.loop.advance(19.9)
    assert said == []
    ready.loop.advance(0.2)
    assert said.one.verdict is Verdict.UNAVAILABLE
    assert ready.transport.take() == b"CANCEL\t1\n"
    ready.say(b"OK\t1\tuser=late\n")
    assert said == []


def test_cancel_in_every_state(ready: Scripted) -> None:
    ready.dovecot.begin("LOGIN", CLIENT).cancel()
    assert ready.transport.take() == b""
    exchange, said = ready.dovecot.begin("LOGIN", CLIENT), Said()
    exchange.step(None, said)
    ready.transport.take()
    exchange.cancel()
    exchange.cancel()
    assert ready.transport.take() == b"CANCEL\t1\n"
    ready.say(b"CONT\t1\t\nOK\t1\tuser=eve\n")
    between = ready.dovecot.begin("LOGIN", CLIENT)
    between.step(None, said)
    ready.say(b"CONT\t2\t\n")
    assert said.one.verdict is Verdict.CHALLENGE
    ready.transport.take()
    between.cancel()
    assert ready.transport.take() == b"CANCEL\t2\n"
    ended = ready.dovecot.begin("PLAIN", CLIENT)
    ended.step(b"\0a\0b", said)
    ready.say(b"OK\t3\tuser=alice\n")
    assert said.one.login == "alice"
    ready.transport.take()
    ended.cancel()
    assert ready.transport.take() == b""
    assert ready.loop.timers == []


def test_lost_connection_makes_everything_unavailable_and_is_tried_again(ready: Scripted) -> None:
    said = [ready.step(b"\0a\0b") for _ in range(3)]
    between, said_between = ready.dovecot.begin("LOGIN", CLIENT), Said()
    between.step(None, said_between)
    ready.say(b"CONT\t4\t\n")
    said_between.clear()
    ready.lose()
    assert [one.one for one in said] == [SaslStep(Verdict.UNAVAILABLE, reason=DOWN)] * 3
    between.step(b"alice", said_between)
    assert said_between.one.verdict is Verdict.UNAVAILABLE
    between.cancel()
    assert ready.step(b"\0a\0b").one.verdict is Verdict.UNAVAILABLE
    assert ready.dovecot.mechanisms == {"PLAIN", "LOGIN", "SCRAM-SHA-256"}  # still offered
    ready.loop.advance(0)
    ready.let_in()
    assert ready.step(b"\0a\0b").one.verdict is Verdict.UNAVAILABLE  # no handshake yet
    ready.say(HANDSHAKE)
    late = ready.step(b"\0a\0b")
    ready.say(b"OK\t1\tuser=alice\n")
    assert late.one.login == "alice"
    assert ready.warned == ["dovecot: connection lost", "dovecot: connected again"]


def test_exchange_of_a_lost_connection_is_not_taken_for_one_of_the_next(ready: Scripted) -> None:
    old, said_old = ready.dovecot.begin("LOGIN", CLIENT), Said()
    old.step(None, said_old)
    ready.say(b"CONT\t1\t\n")
    ready.lose()
    ready.loop.advance(0)
    ready.let_in()
    ready.say(HANDSHAKE)
    ready.transport.take()
    said_new = ready.step(b"\0a\0b")
    said_old.clear()
    old.step(b"alice", said_old)
    old.cancel()
    assert said_old.one.verdict is Verdict.UNAVAILABLE
    assert b"CANCEL" not in ready.transport.take()
    ready.say(b"OK\t1\tuser=new\n")
    assert said_new.one.login == "new"


def test_attempts_become_rarer_and_are_told_once() -> None:
    scripted = Scripted()
    scripted.dovecot.start()
    waits = []
    for _ in range(9):
        scripted.refuse()
        waits.append(scripted.loop.timers[0].when_s - scripted.loop.now_s)
        scripted.loop.advance(waits[-1])
    assert waits == [0, 0.25, 0.5, 1, 2, 4, 5, 5, 5]
    assert scripted.warned == ["dovecot: Connection refused"]
    assert scripted.dovecot.mechanisms is None


def test_one_that_always_hangs_up_is_not_asked_in_a_loop() -> None:
    scripted = Scripted()
    scripted.dovecot.start()
    waits = []
    for _ in range(9):
        scripted.let_in()
        scripted.say(HANDSHAKE)
        scripted.lose()
        waits.append(scripted.loop.timers[0].when_s - scripted.loop.now_s)
        scripted.loop.advance(waits[-1])
    assert waits[-1] == BACKOFF_S_MAX
    scripted.let_in()
    scripted.say(HANDSHAKE)
    scripted.loop.advance(BACKOFF_S_MAX)
    scripted.lose()
    assert scripted.loop.timers[0].when_s == scripted.loop.now_s


def test_attempt_that_fails_after_the_connection_is_there_is_one_failure() -> None:
    scripted = Scripted()
    scripted.dovecot.start()
    failed = scripted.attempts[0][1]
    scripted.let_in()
    failed("no connection in time")
    assert scripted.transport.is_aborted
    failed("no connection in time")
    assert len(scripted.loop.timers) == 1


def test_close_ends_everything(ready: Scripted) -> None:
    said = ready.step(b"\0a\0b")
    ready.dovecot.close()
    assert said.one.verdict is Verdict.UNAVAILABLE
    assert ready.transport.is_aborted
    assert ready.loop.timers == []
    assert ready.warned == []
    waiting = Scripted()
    waiting.dovecot.start()
    waiting.dovecot.close()
    assert waiting.cancelled_count == 1
    waiting.let_in()  # it came all the same
    assert waiting.transport.is_aborted
    assert waiting.loop.timers == []
    refused = Scripted()
    refused.dovecot.start()
    refused.refuse()
    refused.dovecot.close()
    assert refused.loop.timers == []


def test_too_many_requests(ready: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "REQUESTS_MAX", 2)
    said = [ready.step(b"\0a\0b") for _ in range(3)]
    assert said[2].one.reason == "too many logins are being checked"
    ready.say(b"FAIL\t1\n")
    assert ready.step(b"\0a\0b") == []


def test_response_too_long_for_a_line(ready: Scripted) -> None:
    ready.transport.take()
    assert ready.step(b"x" * 8000).one == SaslStep(Verdict.REFUSED, reason="response too long")
    exchange, said = ready.dovecot.begin("LOGIN", CLIENT), Said()
    exchange.step(None, said)
    ready.say(b"CONT\t2\t\n")
    said.clear()
    exchange.step(b"x" * 8000, said)
    assert (said.one.verdict, said) == (Verdict.REFUSED, [])
    assert ready.transport.take().endswith(b"CANCEL\t2\n")
    assert ready.loop.timers == []


def test_ids_begin_again_after_the_last(ready: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "ID_MAX", 2)
    for id in (1, 2, 1):
        ready.transport.take()
        said = ready.step(b"\0a\0b")
        assert ready.transport.take().startswith(b"AUTH\t%d\t" % id)
        ready.say(b"FAIL\t%d\n" % id)
        assert said.one.verdict is Verdict.REFUSED


def test_escapes() -> None:
    text = bytes(range(256))
    assert unescape(escape(text)) == text
    assert not set(escape(text)) & set(b"\0\t\r\n")
    assert unescape(b"a\x01lb\x01xc\x01") == b"a\nbxc\x01"
    answer = parse_answer(b"FAIL\t7\treason=a\x01tb=c\ttemp")
    assert answer is not None
    assert answer.values == {b"reason": b"a\tb=c", b"temp": b""}
    assert answer.is_temporary
