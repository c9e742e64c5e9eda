"""A connection with a transport of paper: time limits, progress of content, ends."""

import asyncio
from typing import cast

import pytest

from fastmta.delivery.connection import Connection
from fastmta.delivery.state import State
from fastmta.route import Target
from tests.support.delivering import fast_options
from tests.support.talking import (
    DATA_OK,
    EHLO_PIPELINING,
    GREETING,
    MAIL_OK,
    RCPT_OK,
    make_transaction,
)


class Transport:
    """Remembers what it was told; `unsent` is what its peer has not taken."""

    def __init__(self) -> None:
        self.written = b""
        self.unsent = 0
        self.end = ""

    def writelines(self, parts: list[bytes]) -> None:
        self.written += b"".join(parts)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def close(self) -> None:
        self.end = self.end or "close"

    def abort(self) -> None:
        self.end = "abort"


class Owner:
    """Remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def connection_made(self, connection: Connection) -> None:
        self.heard.append("made")

    def session_ready(self, connection: Connection) -> None:
        self.heard.append("ready")

    def transaction_done(self, connection: Connection) -> None:
        self.heard.append("done")

    def session_over(self, connection: Connection) -> None:
        self.heard.append("over")

    def session_broke(self, connection: Connection, error: Exception) -> None:
        raise error

    def connection_gone(self, connection: Connection) -> None:
        self.heard.append("gone")


def _open() -> tuple[Connection, Transport, Owner]:
    transport, owner = Transport(), Owner()
    connection = Connection(Target("mx.example", "192.0.2.1", 25), fast_options(), owner)
    connection.connection_made(cast(asyncio.BaseTransport, transport))
    return connection, transport, owner


def _in_content() -> tuple[Connection, Transport, Owner]:
    connection, transport, owner = _open()
    connection.data_received(GREETING)
    connection.data_received(EHLO_PIPELINING)
    connection.begin(make_transaction())
    connection.data_received(MAIL_OK + RCPT_OK + RCPT_OK)
    transport.unsent = 1000
    connection.pause_writing()
    connection.data_received(DATA_OK)
    assert connection.dialog.state is State.CONTENT
    return connection, transport, owner


def test_nothing_happens_before_the_deadline() -> None:
    connection, transport, owner = _open()
    connection.look(connection.deadline_s - 0.01)
    assert owner.heard == ["made"]
    assert transport.end == ""


def test_deadline_passes_before_the_greeting() -> None:
    connection, transport, owner = _open()
    connection.look(connection.deadline_s + 0.01)
    assert owner.heard == ["made", "over"]
    assert transport.end == "abort"
    connection.connection_lost(None)
    assert owner.heard == ["made", "over", "gone"]


def test_content_that_moves_slowly_is_not_stuck() -> None:
    connection, transport, owner = _in_content()
    for unsent in (900, 500, 1):
        transport.unsent = unsent
        now_s = connection.deadline_s + 0.01
        connection.look(now_s)
        assert connection.deadline_s == now_s + fast_options().time_limits.block_s
    connection.look(connection.deadline_s + 0.01)
    assert owner.heard[-1] == "done"
    assert transport.end == "abort"
    assert connection.dialog.trouble is not None
    assert connection.dialog.trouble.text.endswith("timed out while sending message body")


def test_refusal_before_the_content_has_left_drops_the_rest_of_it() -> None:
    connection, transport, owner = _in_content()
    connection.data_received(b"552 5.3.4 Too big\r\n")
    assert owner.heard[-1] == "done"
    assert transport.end == "abort"


def test_refusal_after_the_content_has_left_keeps_the_session() -> None:
    connection, transport, owner = _in_content()
    transport.unsent = 0
    connection.resume_writing()
    connection.data_received(b"552 5.3.4 Too big\r\n")
    assert owner.heard[-1] == "done"
    assert transport.end == ""
    assert connection.dialog.state is State.IDLE


@pytest.mark.parametrize("is_idle", [True, False])
def test_end_of_the_stream_is_heard_at_once_by_the_pool(is_idle: bool) -> None:
    connection, _, owner = _open()
    connection.data_received(GREETING)
    connection.data_received(EHLO_PIPELINING)
    connection.is_idle = is_idle
    connection.eof_received()
    assert (owner.heard[-1] == "over") is is_idle


def test_closed_session_whose_transport_does_not_close_is_aborted() -> None:
    connection, transport, owner = _open()
    connection.data_received(b"554 5.0.0 No\r\n")
    assert transport.end == "close"
    connection.look(connection.deadline_s + 0.01)
    assert transport.end == "abort"
    assert owner.heard == ["made", "over"]
