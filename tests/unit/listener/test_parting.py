"""The end of a connection: our last reply arrives, and nobody keeps us."""

from tests.unit.listener.test_connection import World


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
