"""Plays dialogs of a vector file with the whole server, in clear and within TLS.

`tests/vectors/starttls.toml` says what a case may hold.
"""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fastmta.lab import free_port
from tests.support.client import Client
from tests.support.daemon import Server, running
from tests.support.tls import client_context, issue
from tests.support.wire import VECTORS

LAYERS = ("clear", "encrypt", "starttls", "implicit")
ENDS = ("out", "in", "cut", "alert")
_ALERT = b"\x15"  # RFC 8446 5.1: the type of a record
_NOT_LOGGED_IN = "530 5.7.0 Authentication required"


@dataclass(frozen=True, slots=True)
class Vector:
    """One case on one layer."""

    layer: str
    steps: tuple[tuple[bytes, tuple[str, ...]], ...]  # what is sent at once, and what is answered
    ends: str
    has_handshake: bool


def load_vectors(name: str, *layers: str) -> list[Any]:
    """The cases of a vector file, as test parameters; `layers` where a case names none."""
    table = tomllib.loads((VECTORS / f"{name}.toml").read_text(encoding="utf-8"))
    return [
        pytest.param(_vector(case, layer), id=f"{case['name']}-{layer}")
        for case in table["case"]
        for layer in case.get("layers", layers)
    ]


def _vector(case: dict[str, Any], layer: str) -> Vector:
    known = {"name", "layers", "steps", "ends", "handshake"}
    assert set(case) <= known, f"{case['name']}: {set(case) - known}"
    steps = tuple(
        (step["send"].encode("latin-1"), tuple(step["replies"])) for step in case["steps"]
    )
    vector = Vector(layer, steps, case.get("ends", "out"), case.get("handshake", False))
    assert vector.layer in LAYERS
    assert vector.ends in ENDS
    return vector


class Ground:
    """A server that knows anna with her password, and wants a login of everybody."""

    def __init__(self, server: Server, encrypt: int, implicit: int) -> None:
        self.server = server
        self._ports = {"clear": server.port, "starttls": server.port}
        self._ports |= {"encrypt": encrypt, "implicit": implicit}

    def connect(self, layer: str) -> Client:
        """A client on that layer that has said EHLO."""
        port = self._ports[layer]
        if layer == "implicit":
            return Client(port, tls=client_context())
        client = Client(port)
        if layer == "starttls":
            assert client.start_tls(client_context()).startswith("250")
        return client

    def play(self, vector: Vector) -> None:
        """The steps, the end, and what the session is good for afterwards."""
        with self.connect(vector.layer) as client:
            for octets, replies in vector.steps:
                client.raw(octets)
                for expected in replies:
                    _compare(client.reply(), expected)
            if vector.ends == "cut":
                assert client.is_cut()
            elif vector.ends == "alert":
                assert _rest(client)[:1] in (b"", _ALERT)
            else:
                self._go_on(client, vector)

    def _go_on(self, client: Client, vector: Vector) -> None:
        layer = vector.layer
        if vector.has_handshake:
            client.wrap(client_context())
            assert client.say("MAIL FROM:<a@b.example>").startswith("503 5.5.1"), "all is forgotten"
            assert client.say(client.hello).startswith("250")
        elif layer == "encrypt":
            assert client.start_tls(client_context()).startswith("250")
        if vector.ends == "out":
            assert client.say("MAIL FROM:<a@b.example>") == _NOT_LOGGED_IN
            assert client.log_in("anna", "secret").startswith("235"), "nothing is left of it"
        assert client.say("MAIL FROM:<a@b.example>").startswith("250")


def _compare(reply: str, expected: str) -> None:
    if expected.endswith("..."):
        assert reply.startswith(expected.removesuffix("..."))
    else:
        assert reply == expected


def _rest(client: Client) -> bytes:
    """Everything that comes until the server closes."""
    heard = b""
    with contextlib.suppress(OSError):
        while octets := client.socket.recv(4096):
            heard += octets
    return heard


@contextmanager
def vector_ground(directory: Path) -> Iterator[Ground]:
    """A started server."""
    encrypt, implicit = free_port(), free_port()
    with running(
        directory,
        tls__certificate=issue(directory / "server.pem", "fastmta.test"),
        auth__users=["anna:secret"],
        auth__without_tls=True,
        client_limits__auth_failures=0,
        client_limits__account_failures=0,
        listen__smtp__login="required",
        listen__encrypt__bind=f"127.0.0.1:{encrypt}",
        listen__encrypt__tls="encrypt",
        listen__encrypt__login="required",
        listen__implicit__bind=f"127.0.0.1:{implicit}",
        listen__implicit__tls="implicit",
        listen__implicit__login="required",
    ) as server:
        yield Ground(server, encrypt, implicit)
