"""An inbound session in memory: fake ports, and a client's side that reads replies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fastmta.event import Event
from fastmta.message import ContentFile, Message
from fastmta.policy import RelayPolicy
from fastmta.session import ContentRoom, Ports, Session, SessionSettings
from fastmta.session.port import Client, Hook, HookArgument
from fastmta.smtp import Reply, Verb
from fastmta.smtp.sasl import Done, Exchange, SaslStep, Verdict
from fastmta.smtp.tls import TlsFacts
from fastmta.smtp.use import Use

HOSTNAME = "relay.example"
ROOM_OCTETS = 128 * 1024 * 1024


class FakeClock:
    """A clock that stands still."""

    def wall_ns(self) -> int:
        return 1_700_000_000_000_000_000

    def date(self) -> bytes:
        return b"Tue, 14 Nov 2023 22:13:20 +0000 (UTC)"


@dataclass
class FakeSpill:
    """A content that is kept in memory, or not at all."""

    caught_up: Callable[[], None]
    error: Exception | None
    is_behind: bool
    id: bytes
    is_prompt: bool  # durable as soon as it is finished
    octets: bytes = b""
    is_abandoned: bool = False
    done: Callable[[ContentFile | None, Exception | None], None] | None = None

    def write(self, octets: bytes) -> None:
        assert self.done is None
        assert not self.is_abandoned
        self.octets += octets

    def finish(self, done: Callable[[ContentFile | None, Exception | None], None]) -> None:
        assert not self.is_abandoned
        self.done = done
        if self.is_prompt:
            self.answer()

    def abandon(self) -> None:
        assert self.done is None
        assert not self.is_abandoned
        self.is_abandoned = True

    def answer(self) -> None:
        """It is durable, or failed."""
        assert self.done is not None
        if self.error is not None:
            self.done(None, self.error)
        else:
            path = f"/big/{self.id.decode()}"
            self.done(ContentFile(path, len(self.octets), 0, 1), None)

    def catch_up(self) -> None:
        """The disk has."""
        self.is_behind = False
        self.caught_up()


@dataclass
class FakeAccept:
    """Stores at once, later (`is_late`), or fails with `error`."""

    is_late: bool = False
    error: Exception | None = None
    refuses: Reply | None = None
    declared_octets: int = -1  # of the latest MAIL
    spill_error: Exception | None = None
    is_behind: bool = False
    is_prompt: bool = False
    spills: list[FakeSpill] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    _waiting: list[Callable[[], None]] = field(default_factory=list)
    _count: int = 0

    def refusal(self, declared_octets: int) -> Reply | None:
        self.declared_octets = declared_octets
        return self.refuses

    def new_id(self) -> bytes:
        self._count += 1
        return b"%016d" % self._count

    def begin_big(self, id: bytes, caught_up: Callable[[], None]) -> FakeSpill:
        spill = FakeSpill(caught_up, self.spill_error, self.is_behind, id, self.is_prompt)
        self.spills.append(spill)
        return spill

    def accept(self, message: Message, done: Callable[[Message, Exception | None], None]) -> None:
        def store() -> None:
            if self.error is None:
                self.messages.append(message)
            done(message, self.error)

        if self.is_late:
            self._waiting.append(store)
        else:
            store()

    def store_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for store in waiting:
            store()


TLS = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)


@dataclass
class FakeExchange:
    """Says what it is told to, at once or (`is_late`) when the test says so."""

    steps: list[SaslStep]
    is_late: bool = False
    responses: list[bytes | None] = field(default_factory=list)
    is_cancelled: bool = False
    _waiting: Done | None = None

    def step(self, response: bytes | None, done: Done) -> None:
        assert self._waiting is None, "a step while one is under way"
        assert not self.is_cancelled
        self.responses.append(response)
        self._waiting = done
        if not self.is_late:
            self.answer()

    def answer(self) -> None:
        done, self._waiting = self._waiting, None
        assert done is not None
        done(self.steps.pop(0))

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class FakeAuthenticate:
    """One exchange after the other; a login may send as itself only."""

    exchanges: list[FakeExchange] = field(default_factory=list)
    is_without_tls: bool = True
    begun: list[tuple[str, str, bool]] = field(default_factory=list)

    def mechanisms(self, is_secure: bool) -> tuple[str, ...]:
        return ("PLAIN", "LOGIN") if is_secure or self.is_without_tls else ()

    def begin(self, mechanism: str, address: str, is_secure: bool) -> Exchange | None:
        self.begun.append((mechanism, address, is_secure))
        if mechanism not in ("PLAIN", "LOGIN"):
            return None
        return self.exchanges.pop(0)

    def may_send_as(self, login: str, reverse_path: bytes) -> bool:
        return reverse_path in (b"", login.encode())


def accepting(login: str = "user@client.example") -> FakeExchange:
    return FakeExchange([SaslStep(Verdict.ACCEPTED, login=login)])


@dataclass
class FakeQuota:
    """So many of each use, for every client together."""

    left: dict[Use, int] = field(default_factory=dict)
    spent: list[tuple[Use, str, str]] = field(default_factory=list)
    locked: set[str] = field(default_factory=set)

    def is_exempt(self, address: str) -> bool:
        return address.startswith("127.")

    def is_locked(self, login: str, address: str) -> bool:
        return login in self.locked

    def spend(self, use: Use, address: str, login: str = "", amount: int = 1) -> bool:
        if amount > 0:
            self.spent.append((use, address, login))
        left = self.left.get(use, 1000)
        if left < amount:
            return False
        self.left[use] = left - amount
        return True


@dataclass
class FakeHook:
    """Answers by verb, at once or (`is_late`) by `answer`."""

    stages: frozenset[Verb] = frozenset(Verb)
    replies: dict[Verb, Reply] = field(default_factory=dict)
    verdict: Reply | None = None  # on contents
    replaced: bytes | None = None  # what becomes of contents
    is_late: bool = False
    authenticate: FakeAuthenticate | None = None
    asked: list[tuple[Verb, HookArgument]] = field(default_factory=list)
    contents: list[Message] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    client: Client | None = None
    _waiting: list[Callable[[], None]] = field(default_factory=list)

    def __call__(self, client: Client) -> Hook:
        self.client = client
        return self

    def ask(self, verb: Verb, argument: HookArgument, done: Callable[[Reply | None], None]) -> None:
        self.asked.append((verb, argument))
        self._later(lambda: done(self.replies.get(verb)))

    def content(self, message: Message, done: Callable[[Reply | None], None]) -> None:
        self.contents.append(message)
        if self.replaced is not None:
            message.content = self.replaced
        self._later(lambda: done(self.verdict))

    def _later(self, action: Callable[[], None]) -> None:
        if self.is_late:
            self._waiting.append(action)
        else:
            action()

    def answer(self) -> None:
        self._waiting.pop(0)()

    def proxied(self, header: bytes, done: Callable[[Reply | None], None]) -> None:
        self.told.append("proxied")
        self._later(lambda: done(self.verdict))

    def forget(self) -> None:
        self.told.append("forget")

    def renamed(self) -> None:
        self.told.append("renamed")

    def tls_started(self, facts: TlsFacts) -> None:
        self.told.append("tls")

    def logged_in(self, login: str, mechanism: str) -> None:
        self.told.append(f"login {login} {mechanism}")

    def ended(self) -> None:
        self.told.append("ended")


class Dialog:
    """One session and everything it said, as octets and as reply lines."""

    def __init__(
        self,
        address: str = "127.0.0.1",
        settings: SessionSettings | None = None,
        domains: Iterable[str] = (),
        accept: FakeAccept | None = None,
        room: ContentRoom | None = None,
        authenticate: FakeAuthenticate | None = None,
        quota: FakeQuota | None = None,
        hook: FakeHook | None = None,
        fingerprints: Iterable[str] = (),
    ) -> None:
        self.accept = accept or FakeAccept()
        self.events: list[Event] = []
        policy = RelayPolicy.build(
            ["127.0.0.0/8", "::1/128"],
            domains,
            "origin.example",
            "postmaster@origin.example",
            fingerprints,
        )
        ports = Ports(
            settings or SessionSettings(HOSTNAME),
            policy,
            self.accept,
            FakeClock(),
            self.events.append,
            room or ContentRoom(ROOM_OCTETS),
            authenticate,
            quota,
            hook,
        )
        self.out = bytearray()
        self.session = Session(ports, address, "unknown", self.out.extend)
        self.out += self.session.greeting()

    def send(self, octets: bytes) -> list[str]:
        """Feed octets in one piece; return the lines answered since the last call."""
        self.out += self.session.receive(octets, len(octets))
        return self.lines()

    def send_in_pieces(self, pieces: Iterable[bytes]) -> list[str]:
        """Feed each piece by itself, sitting out every delay."""
        for piece in pieces:
            self.out += self.session.receive(piece, len(piece))
            while self.session.delay_s:
                self.out += self.session.resume()
        return self.lines()

    def lines(self) -> list[str]:
        """Lines answered since the last call."""
        lines = bytes(self.out).split(b"\r\n")
        assert lines.pop() == b"", "a reply does not end with CR LF"
        self.out.clear()
        return [line.decode("ascii") for line in lines]

    def codes(self, octets: bytes) -> list[str]:
        """Codes of the replies to `octets`, continuation lines left out."""
        return [line[:3] for line in self.send(octets) if line[3:4] == " "]

    def start_tls(self, facts: TlsFacts = TLS) -> Dialog:
        """EHLO, STARTTLS, handshake, EHLO."""
        self.hello()
        assert self.codes(b"STARTTLS\r\n") == ["220"]
        assert self.session.is_starting_tls
        self.session.tls_started(facts)
        return self.hello()

    def hello(self) -> Dialog:
        """Greeting and EHLO done."""
        self.send(b"EHLO client.example\r\n")
        return self
