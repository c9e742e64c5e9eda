"""A connection between a fake transport and a real session: back-pressure, limits, deadlines."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import pytest

from fastmta.budget import ClientLimitOptions, ClientLimits, Tally, table_octets
from fastmta.event import ClientDisconnected, Event
from fastmta.listener.census import Census
from fastmta.listener.connection import Connection
from fastmta.listener.listener import Listener, ListenerSettings
from fastmta.listener.wheel import Wheel
from fastmta.policy import RelayPolicy
from fastmta.session import ContentRoom, Ports, SessionSettings
from tests.support.session import HOSTNAME, ROOM_OCTETS, FakeAccept, FakeClock


class FakeLoop:
    """A clock that is set by hand, and timers that are fired by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.timers: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, callback: Callable[..., None], *args: Any) -> None:
        self.timers.append((delay_s, callback, args))

    def fire(self) -> None:
        timers, self.timers = self.timers, []
        for _, callback, args in timers:
            callback(*args)


class FakeTransport:
    """Keeps what is written; `is_stuffed` lets the protocol know that the peer does not read."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.written = bytearray()
        self.is_reading = True
        self.is_closed = False
        self.is_aborted = False
        self.is_parted = False
        self.address = address

    def get_extra_info(self, name: str) -> tuple[str, int] | None:
        return (self.address, 4711) if name == "peername" else None

    def write(self, octets: bytes) -> None:
        assert not self.is_closed
        self.written += octets

    def close(self) -> None:
        self.is_closed = True

    def write_eof(self) -> None:
        assert not self.is_closed
        self.is_closed = self.is_parted = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        assert self.is_reading
        self.is_reading = False

    def resume_reading(self) -> None:
        assert not self.is_reading
        self.is_reading = True


def limits_of(connections: int, **more: int) -> ClientLimits:
    """So many connections of one client at a time; loopback is free."""
    options = ClientLimitOptions(
        connections=connections, exceptions=(ipaddress.ip_network("127.0.0.0/8"),), **more
    )
    tallies = [Tally(bytearray(table_octets(1)), 1, 0) for _ in range(2)]
    return ClientLimits(options, *tallies, lambda: 1, bytes(32))


class NoNames:
    def client_name(self, address: str, done: Callable[[str], None]) -> None:
        done("unknown")


class World:
    """One listener without a loop."""

    def __init__(
        self,
        settings: ListenerSettings | None = None,
        census: Census | None = None,
        **limits: Any,
    ) -> None:
        self.loop = FakeLoop()
        self.events: list[Event] = []
        self.accept = FakeAccept(is_late=True)
        policy = RelayPolicy.build(["127.0.0.0/8"], ["ours.example"], "o.example", "p@o.example")
        ports = Ports(
            SessionSettings(HOSTNAME, **limits),
            policy,
            self.accept,
            FakeClock(),
            self.events.append,
            ContentRoom(ROOM_OCTETS),
        )
        loop: Any = self.loop
        self.census = census or Census()
        self.listener = Listener(
            ports, settings or ListenerSettings(), NoNames(), self.census, loop
        )

    def connect(self, address: str = "127.0.0.1") -> tuple[Connection, FakeTransport]:
        connection, transport = Connection(self.listener), FakeTransport(address)
        made: Any = connection.connection_made
        made(transport)
        return connection, transport

    def send(self, connection: Connection, octets: bytes) -> None:
        connection.get_buffer(-1)[: len(octets)] = octets
        connection.buffer_updated(len(octets))


def test_a_client_that_does_not_read_is_not_read_from() -> None:
    world = World()
    connection, transport = world.connect()
    connection.pause_writing()
    assert not transport.is_reading
    world.send(connection, b"EHLO c\r\n")  # was on its way
    assert not transport.is_reading, "an answer must not switch reading on again"
    connection.resume_writing()
    assert transport.is_reading


def test_input_during_a_commit_is_bounded() -> None:
    world = World()
    connection, transport = world.connect()
    for octets in (b"EHLO c\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n"):
        world.send(connection, octets)
    world.send(connection, b"DATA\r\n")
    world.send(connection, b"x\r\n.\r\n")
    world.send(connection, b"NOOP\r\n" * 20_000)
    assert not transport.is_reading
    world.accept.store_all()
    assert b"queued as" in transport.written


def test_the_penalty_for_errors_holds_replies_and_input_back() -> None:
    world = World(errors_soft=1)
    connection, transport = world.connect()
    world.send(connection, b"EHLO c\r\n")
    world.send(connection, b"X\r\n")
    transport.written.clear()
    world.send(connection, b"X\r\nNOOP\r\n")
    assert transport.written == b""
    assert not transport.is_reading
    world.loop.fire()
    assert transport.written.startswith(b"500")
    assert transport.written.endswith(b"250 2.0.0 Ok\r\n")
    assert transport.is_reading


def test_silence_ends_with_421_and_a_timeout_line() -> None:
    world = World(ListenerSettings(idle_s=10.0))
    connection, transport = world.connect()
    world.send(connection, b"EHLO c\r\n")
    world.loop.now_s += 5.0
    world.send(connection, b"NOOP\r\n")
    for _ in range(9):
        world.loop.now_s += 1.0
        world.listener._wheel.turn()
    assert not transport.is_closed
    for _ in range(3):
        world.loop.now_s += 1.0
        world.listener._wheel.turn()
    assert transport.is_closed
    assert transport.written.endswith(b"421 4.4.2 relay.example Error: timeout exceeded\r\n")
    connection.connection_lost(None)
    (gone,) = [event for event in world.events if isinstance(event, ClientDisconnected)]
    assert (gone.reason, gone.stage) == ("timeout", "NOOP")


def test_a_client_that_never_fetches_its_last_reply_is_cut() -> None:
    world = World(ListenerSettings(idle_s=10.0))
    connection, transport = world.connect()
    world.send(connection, b"EHLO c\r\n")
    connection.pause_writing()
    for _ in range(12):
        world.loop.now_s += 1.0
        world.listener._wheel.turn()
    assert transport.is_closed
    assert not transport.is_aborted, "the 421 may still be fetched"
    for _ in range(12):
        world.loop.now_s += 1.0
        world.listener._wheel.turn()
    assert transport.is_aborted


def test_a_client_that_never_fetches_the_reply_to_quit_is_cut() -> None:
    world = World(ListenerSettings(idle_s=10.0))
    connection, transport = world.connect()
    world.send(connection, b"QUIT\r\n")
    assert transport.is_closed
    for _ in range(12):
        world.loop.now_s += 1.0
        world.listener._wheel.turn()
    assert transport.is_aborted


def test_a_half_closed_client_gets_the_reply_to_its_content() -> None:
    world = World()
    connection, transport = world.connect()
    for octets in (b"EHLO c\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n"):
        world.send(connection, octets)
    world.send(connection, b"DATA\r\n")
    world.send(connection, b"x\r\n.\r\n")
    assert connection.eof_received()
    assert not transport.is_closed
    world.accept.store_all()
    assert b"queued as" in transport.written
    assert transport.is_closed


def test_the_end_of_input_ends_a_session_that_waits_for_input() -> None:
    world = World()
    connection, _ = world.connect()
    world.send(connection, b"EHLO c\r\n")
    assert not connection.eof_received()


def test_dripping_content_ends_though_it_is_never_silent() -> None:
    world = World(ListenerSettings(idle_s=10.0))
    connection, transport = world.connect()
    for octets in (b"EHLO c\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n"):
        world.send(connection, octets)
    world.send(connection, b"DATA\r\n")
    seconds = 0
    while not transport.is_closed and seconds < 30:
        seconds += 1
        world.loop.now_s += 1.0
        world.send(connection, b"x")
        world.listener._wheel.turn()
    assert transport.is_closed
    assert seconds < 20


def test_a_dripping_command_ends_though_it_is_never_silent() -> None:
    world = World(ListenerSettings(idle_s=10.0))
    connection, transport = world.connect()
    world.send(connection, b"EHLO c\r\n")
    world.send(connection, b"NOOP\r\nNO")  # the beginning of one comes with a whole one
    seconds = 0
    while not transport.is_closed and seconds < 30:
        seconds += 1
        world.loop.now_s += 1.0
        world.send(connection, b"x")
        world.listener._wheel.turn()
    assert 9 < seconds < 15
    assert transport.written.endswith(b"421 4.4.2 relay.example Error: timeout exceeded\r\n")


def test_a_commit_that_takes_long_is_not_the_clients_fault() -> None:
    world = World(ListenerSettings(idle_s=10.0))
    connection, transport = world.connect()
    for octets in (b"EHLO c\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n"):
        world.send(connection, octets)
    world.send(connection, b"DATA\r\n")
    world.send(connection, b"x\r\n.\r\n")
    for _ in range(30):
        world.loop.now_s += 1.0
        world.listener._wheel.turn()
    assert not transport.is_closed
    world.accept.store_all()
    assert b"queued as" in transport.written


def behind(idle_s: float = 10.0) -> tuple[World, Connection, FakeTransport]:
    """A client whose large content the disk cannot take as fast as it comes."""
    world = World(ListenerSettings(idle_s=idle_s), inline_octets_max=1000, header_octets_max=500)
    world.accept.is_behind = True
    connection, transport = world.connect()
    for octets in (b"EHLO c\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n"):
        world.send(connection, octets)
    world.send(connection, b"DATA\r\n")
    assert transport.is_reading
    world.send(connection, b"Subject: x\r\n\r\n" + b"x" * 1000)
    return world, connection, transport


def test_a_slow_disk_stops_the_reading_of_a_large_content() -> None:
    world, connection, transport = behind()
    assert not transport.is_reading
    connection.pause_writing()
    connection.resume_writing()
    assert not transport.is_reading, "only the disk says when to go on"
    (spill,) = world.accept.spills
    spill.catch_up()
    assert transport.is_reading
    world.send(connection, b"\r\n.\r\n")
    spill.answer()
    world.accept.store_all()
    assert b"queued as" in transport.written


def test_a_slow_disk_is_not_the_clients_fault() -> None:
    world, connection, transport = behind(idle_s=10.0)
    for _ in range(60):
        world.loop.now_s += 1.0
        world.listener._wheel.turn()
    assert not transport.is_closed
    (spill,) = world.accept.spills
    spill.catch_up()
    for _ in range(5):
        world.loop.now_s += 1.0
        world.send(connection, b"y" * 10)
        world.listener._wheel.turn()
    assert not transport.is_closed, "the time it stood still was ours"
    for _ in range(40):
        world.loop.now_s += 1.0
        world.listener._wheel.turn()
    assert transport.is_closed
    assert spill.is_abandoned


def test_a_client_that_leaves_while_the_disk_is_behind_leaves_no_file() -> None:
    world, connection, _ = behind()
    connection.connection_lost(None)
    (spill,) = world.accept.spills
    assert spill.is_abandoned


def test_a_long_session_ends_between_transactions() -> None:
    world = World(ListenerSettings(session_s=60.0))
    connection, transport = world.connect()
    world.send(connection, b"EHLO c\r\n")
    world.send(connection, b"MAIL FROM:<a@b.example>\r\n")
    world.loop.now_s += 61.0
    world.send(connection, b"RCPT TO:<c@d.example>\r\n")
    assert not transport.is_closed
    world.send(connection, b"RSET\r\n")
    assert transport.is_closed
    assert b"421 4.7.0" in transport.written


def test_a_transaction_does_not_prolong_a_session_for_ever() -> None:
    world = World(ListenerSettings(session_s=60.0, idle_s=20.0))
    connection, transport = world.connect()
    world.send(connection, b"EHLO c\r\n")
    world.send(connection, b"MAIL FROM:<a@b.example>\r\n")
    seconds = 0
    while not transport.is_closed and seconds < 100:
        world.send(connection, b"RCPT TO:<c@d.example>\r\n")
        for _ in range(5):
            seconds += 1
            world.loop.now_s += 1.0
            world.listener._wheel.turn()
    assert 78 <= seconds <= 86


def test_connections_are_limited_per_stranger_and_in_total() -> None:
    world = World(census=Census(5, limits_of(2)))
    strangers = [world.connect("192.0.2.1") for _ in range(3)]
    assert [transport.is_closed for _, transport in strangers] == [False, False, True]
    assert strangers[2][1].written.startswith(b"421 4.7.0")
    trusted = [world.connect("127.0.0.1") for _ in range(4)]
    assert [transport.is_closed for _, transport in trusted] == [False, False, False, True]
    assert trusted[3][1].written.startswith(b"421 4.3.2")
    strangers[0][0].connection_lost(None)
    assert not world.connect("192.0.2.1")[1].is_closed
    assert world.listener.connection_count == 5


def test_a_refused_connection_does_not_free_the_place_of_another() -> None:
    world = World(census=Census(clients=limits_of(1)))
    world.connect("192.0.2.1")
    refused, _ = world.connect("192.0.2.1")
    refused.connection_lost(None)
    assert world.connect("192.0.2.1")[1].is_closed


def test_listeners_of_a_worker_share_their_limits() -> None:
    census = Census(3, limits_of(2))
    one, other = World(census=census), World(census=census)
    one.connect("192.0.2.1")
    first, _ = other.connect("192.0.2.1")
    assert one.connect("192.0.2.1")[1].written.startswith(b"421 4.7.0")
    other.connect("192.0.2.2")
    assert one.connect("192.0.2.3")[1].written.startswith(b"421 4.3.2")
    first.connection_lost(None)
    assert not one.connect("192.0.2.3")[1].is_closed
    assert census.count == 3


def test_whoever_talks_before_the_greeting_is_closed() -> None:
    world = World()
    world.listener._names = SlowNames()
    connection, transport = world.connect("192.0.2.1")
    world.send(connection, b"EHLO early\r\n")
    assert transport.written.startswith(b"554 5.5.0")
    assert transport.is_closed


class SlowNames:
    def client_name(self, address: str, done: Callable[[str], None]) -> None:
        self.done = done


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_addresses_are_normalised(address: str, expected: str) -> None:
    assert Listener.normalise(address) == expected


class Thing:
    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.bucket = 0
        self.count = 0

    def on_deadline(self) -> None:
        self.count += 1


def test_wheel_acts_once_and_late_by_a_second_at_most() -> None:
    now = [100.0]
    wheel = Wheel(lambda: now[0])
    things = [Thing(100.0 + delay / 4) for delay in range(40)]
    for thing in things:
        wheel.add(thing)
    wheel.discard(things[7])
    things[20].deadline_s += 30.0
    for _ in range(50):
        now[0] += 0.5
        before = [thing.count for thing in things]
        wheel.turn()
        for thing, count in zip(things, before, strict=True):
            if thing.count != count:
                assert 0 <= now[0] - thing.deadline_s <= 2.0
    assert [thing.count for thing in things] == [int(n not in (7, 20)) for n in range(40)]
    now[0] += 100.0
    wheel.turn()
    assert things[20].count == 1
    assert wheel._buckets == {}


def test_no_memory_for_what_a_client_sends_ends_that_client_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    poor, poors_transport = world.connect()
    other, others_transport = world.connect()
    for octets in (b"EHLO c\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n"):
        world.send(poor, octets)
    world.send(poor, b"DATA\r\n")

    def fail(*_: object) -> bytes:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(type(poor._session), "receive", fail)
        world.send(poor, b"x" * 1000)
    assert poors_transport.is_closed
    assert poors_transport.written.endswith(
        b"421 4.3.2 relay.example Error: insufficient system resources\r\n"
    )
    poor.connection_lost(None)
    assert world.listener.ports.room.used == 0
    world.send(other, b"EHLO c\r\nNOOP\r\n"[:8])
    assert b"250" in others_transport.written
    assert not others_transport.is_closed
