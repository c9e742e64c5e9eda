"""The end of a connection: our last reply arrives, and nobody keeps us."""

from fastmta.listener.census import Census
from fastmta.listener.connection import Connection
from fastmta.listener.listener import ListenerSettings
from tests.unit.listener.test_connection import FakeTransport, World


def test_a_client_that_sent_more_than_we_read_still_gets_our_last_reply() -> None:
    world = World()
    connection, transport = world.connect()
    world.send(connection, b"EHLO c\r\n")
    world.send(connection, b"BDAT x\r\n" + b"y" * 1000)
    assert transport.written.endswith(b"501 5.5.4 Syntax: BDAT count [LAST]\r\n")
    assert transport.is_parted, "closing with unread input would reset the connection"
    assert transport.is_reading
    world.send(connection, b"NOOP\r\n" * 1000)
    assert transport.written.endswith(b"LAST]\r\n"), "nothing is answered any more"
    assert not connection.eof_received()


def test_a_client_that_goes_on_sending_behind_our_last_reply_is_cut() -> None:
    world = World()
    connection, transport = world.connect()
    world.send(connection, b"EHLO c\r\nNOOP\r\n")
    assert transport.is_parted
    for _ in range(20):
        world.send(connection, b"x" * 60_000)
    assert transport.is_aborted


def test_a_client_that_keeps_a_parted_connection_is_cut_after_a_while() -> None:
    world = World()
    connection, transport = world.connect()
    world.send(connection, b"EHLO c\r\nNOOP\r\n")
    for _ in range(12):
        world.loop.now_s += 1.0
        world.listener._wheel.turn()
    assert transport.is_aborted


def test_quit_closes_at_once() -> None:
    world = World()
    connection, transport = world.connect()
    world.send(connection, b"QUIT\r\n")
    assert transport.is_closed
    assert not transport.is_parted


def parted(world: World) -> tuple[Connection, FakeTransport]:
    """A client that was told its last reply and does not close."""
    connection, transport = world.connect()
    world.send(connection, b"EHLO c\r\nNOOP\r\n")
    assert transport.is_parted
    return connection, transport


def test_who_only_keeps_us_makes_room_for_the_next_the_longest_first() -> None:
    world = World(census=Census(connections_max=3))
    _, staying = world.connect()
    (first, one), (second, two) = parted(world), parted(world)
    assert world.census.count == 3
    _, three = world.connect()
    assert bytes(three.written).startswith(b"220 ")
    assert (one.is_aborted, two.is_aborted) == (True, False)
    assert world.census.count == 3
    _, four = world.connect()
    assert bytes(four.written).startswith(b"220 ")
    assert two.is_aborted
    assert not staying.is_closed, "a session is not touched"
    for connection in (first, second):
        connection.connection_lost(None)
    assert world.census.count == 3, "they left once"
    _, five = world.connect()
    assert bytes(five.written).startswith(b"421 4.3.2 ")


def test_room_is_made_on_all_listeners_of_a_worker() -> None:
    census = Census(connections_max=1)
    world, other = World(census=census), World(census=census)
    _, transport = parted(world)
    _, late = other.connect()
    assert bytes(late.written).startswith(b"220 ")
    assert transport.is_aborted
    assert world.listener.connection_count == 0


def test_one_that_parted_and_left_is_not_asked_for_room() -> None:
    world = World(census=Census(connections_max=1))
    connection, transport = parted(world)
    connection.connection_lost(None)
    assert world.census.count == 0
    assert not world.census.make_room()
    assert not transport.is_aborted


def test_nobody_is_turned_away_for_those_who_part_while_the_door_is_shut() -> None:
    """Such as a crowd whose time is over."""
    world = World(ListenerSettings(idle_s=5.0), Census(connections_max=4))
    clients = [world.connect() for _ in range(4)]
    _, late = world.connect()
    assert bytes(late.written).startswith(b"421 4.3.2 ")
    world.loop.fire()
    assert world.listener._is_turning_away
    world.loop.now_s += 7.0
    world.listener._wheel.turn()
    assert all(transport.is_parted for _, transport in clients)
    world.loop.fire()
    assert not world.listener._is_turning_away
    assert sum(transport.is_aborted for _, transport in clients) == 1, "not more than needed"


def test_when_we_are_short_of_something_all_who_part_go() -> None:
    world = World()
    clients = [parted(world) for _ in range(3)]
    _, staying = world.connect()
    world.listener.shut(True)
    assert all(transport.is_aborted for _, transport in clients)
    assert not staying.is_closed
    assert world.census.count == 1
