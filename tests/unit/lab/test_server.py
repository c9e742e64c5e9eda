"""Servers of the laboratory: ports that stay free, and starts that fail say so."""

import socket
from pathlib import Path

import pytest

from fastmta.lab import LabError, Server, ServerOptions, free_port


def test_no_outgoing_connection_gets_a_free_port_by_chance() -> None:
    first, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == len(ports)
    assert max(ports) < max(first, 32_768)


def test_a_port_in_use_is_not_free() -> None:
    taken = free_port()
    with socket.create_server(("127.0.0.1", taken)):
        assert taken not in {free_port() for _ in range(12_000 - 1)}


def test_a_server_whose_port_is_taken_is_not_ready(tmp_path: Path) -> None:
    """The reason has the word: "already in use"."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = Server(ServerOptions(directory=tmp_path, port=taken.getsockname()[1]))
        with pytest.raises(LabError, match=r"cannot listen on .*Address already in use"):
            server.start()
