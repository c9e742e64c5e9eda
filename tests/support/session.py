"""An inbound session in memory: fake ports, and a client's side that reads replies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fastmta.event import Event
from fastmta.message import ContentFile, Message
from fastmta.policy import RelayPolicy
from fastmta.session import ContentRoom, Ports, Session, SessionSettings
from fastmta.smtp import Reply

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


class Dialog:
    """One session and everything it said, as octets and as reply lines."""

    def __init__(
        self,
        address: str = "127.0.0.1",
        settings: SessionSettings | None = None,
        domains: Iterable[str] = (),
        accept: FakeAccept | None = None,
        room: ContentRoom | None = None,
    ) -> None:
        self.accept = accept or FakeAccept()
        self.events: list[Event] = []
        policy = RelayPolicy.build(
            ["127.0.0.0/8", "::1/128"], domains, "origin.example", "postmaster@origin.example"
        )
        ports = Ports(
            settings or SessionSettings(HOSTNAME),
            policy,
            self.accept,
            FakeClock(),
            self.events.append,
            room or ContentRoom(ROOM_OCTETS),
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

    def hello(self) -> Dialog:
        """Greeting and EHLO done."""
        self.send(b"EHLO client.example\r\n")
        return self
