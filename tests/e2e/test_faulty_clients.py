"""Clients that misbehave, against the whole server: they cost a place for a while, not for ever."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support.client import Client, until
from tests.support.daemon import running


def test_a_client_that_does_not_read_is_let_go(tmp_path: Path) -> None:
    with (
        running(tmp_path, relay_host="[127.0.0.1]:9", limits__idle_s=1.0) as server,
        socket.socket() as deaf,
    ):
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        deaf.connect(("127.0.0.1", server.port))
        deaf.settimeout(0.3)
        time.sleep(0.2)
        deaf.sendall(b"EHLO c\r\n")
        time.sleep(0.2)
        blocked = 0
        while blocked < 3:  # until nothing is taken any more
            try:
                deaf.send(b"MAIL FROM:<a@b.example>\r\n" + b"RCPT TO:<c@d.example>\r\n" * 999)
                deaf.send(b"RSET\r\n")
            except TimeoutError:
                blocked += 1
            except OSError:
                break
        until(lambda: "disconnect from" in server.log_text(), 25.0)


def test_a_reply_reaches_a_client_that_has_half_closed(tmp_path: Path) -> None:
    with running(tmp_path, relay_host="[127.0.0.1]:9") as server, Client(server.port) as client:
        client.envelope("a@dest.example")
        client.raw(b"x\r\n.\r\nQUIT\r\n")
        client._socket.shutdown(socket.SHUT_WR)
        assert client.reply().startswith("250 2.0.0 Ok: queued as")
        assert client.reply().startswith("221")
        assert client.reply() == ""


def test_a_stop_refuses_new_clients_while_an_old_one_finishes(tmp_path: Path) -> None:
    with running(tmp_path, relay_host="[127.0.0.1]:9", workers=2) as server:
        with Client(server.port) as client:
            client.envelope("a@dest.example")
            os.kill(server.pid, signal.SIGTERM)
            until(lambda: is_refused(server.port), 5.0)
            client.raw(b"x\r\n.\r\n")
            assert client.reply().startswith("250 2.0.0 Ok: queued as")
        with pytest.raises(ConnectionRefusedError):
            Client(server.port)


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except ConnectionRefusedError:
        return True
    return False
