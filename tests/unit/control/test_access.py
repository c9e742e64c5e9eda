"""Who may ask what: every verb has its right, and every peer is known by the kernel's word."""

from __future__ import annotations

import asyncio
import grp
import json
import os
import pwd
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastmta.config import Config
from fastmta.control import Desk, access
from fastmta.control.access import RIGHTS, Access, Peer, Right, lacking, peer_of, refuse_peer
from fastmta.control.server import CLIENTS_MAX, OTHERS_MAX, OTHERS_PER_USER, Server
from fastmta.control.wire import ErrorCode, Verb
from fastmta.daemon.office import Office
from fastmta.daemon.present import Present

BIN, DAEMON = pwd.getpwnam("bin"), pwd.getpwnam("daemon")
CHANGING = {
    *("content", "hold", "release", "delete", "requeue", "expire", "flush", "reshape"),
    *("reload", "drain", "undrain", "stop"),
}


def office() -> Office:
    nothing = cast(Any, None)
    return Office(Present(Config(), [], nothing, 1, Config), nothing)


def test_every_verb_has_its_right() -> None:
    of_the_supervisor = set(office()._verbs)
    assert set(RIGHTS) == {verb.value for verb in Verb} | of_the_supervisor
    assert {verb for verb, right in RIGHTS.items() if right is Right.ORDER} == CHANGING
    assert Right.NOTHING not in RIGHTS.values()


def test_rights() -> None:
    adm = grp.getgrnam("adm").gr_gid
    found = Access(("bin", "@7777"), (str(DAEMON.pw_uid), "@adm"))
    peers = {
        Peer(0, frozenset()): Right.ORDER,
        Peer(os.geteuid(), frozenset()): Right.ORDER,
        Peer(BIN.pw_uid, frozenset((adm,))): Right.ORDER,  # the greater one
        Peer(DAEMON.pw_uid, frozenset()): Right.LOOK,
        Peer(DAEMON.pw_uid, frozenset((7777,))): Right.ORDER,
        Peer(4242, frozenset((1, adm))): Right.LOOK,
        Peer(4242, frozenset((1,))): Right.NOTHING,
        Peer(7777, frozenset()): Right.NOTHING,  # the number is a group's
    }
    assert {peer: found.right(peer) for peer in peers} == peers
    assert (found.mode, found.unknown) == (0o666, [])


def test_without_names_nobody_else_can_connect() -> None:
    assert Access().mode == 0o600
    nobody = Access(("no-such-user",), ("@no-such-group",))
    assert nobody.mode == 0o600
    assert nobody.unknown == ["no-such-user", "@no-such-group"]
    assert nobody.right(Peer(4242, frozenset((4242,)))) is Right.NOTHING


def test_what_a_reader_lacks() -> None:
    for verb, right in RIGHTS.items():
        assert bool(lacking(verb, Right.LOOK)) == (right is Right.ORDER)
        assert not lacking(verb, Right.ORDER)
    assert lacking("hold", Right.LOOK).startswith("hold: control.readers may only look")


@pytest.mark.parametrize("is_old", [False, True])
def test_a_peer_has_all_its_groups(is_old: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_old:  # a kernel without the option
        monkeypatch.setattr(access, "_SO_PEERGROUPS", 9999)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)
    assert peer.user == os.geteuid()
    assert peer.is_ours
    assert peer.groups >= {os.getegid()}
    if not is_old:
        assert peer.groups == {os.getegid(), *os.getgroups()}


def test_who_has_no_right_is_told() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        refuse_peer(ours, 4242)
        line = json.loads(theirs.recv(1000))
        assert theirs.recv(1000) == b""
    assert line["error"]["code"] == ErrorCode.DENIED.value
    assert line["error"]["text"].startswith("uid 4242 is neither in control.users")


def test_no_reader_takes_the_seats_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who connect at the same moment are counted before they are served."""
    user = 4242
    monkeypatch.setattr("fastmta.control.server.peer_of", lambda _: Peer(user, frozenset()))

    async def run() -> list[int]:
        nonlocal user
        nothing = cast(Any, None)
        clock = SimpleNamespace(wall_ns=lambda: 0, monotonic_s=lambda: 0.0)
        server = Server(Desk([], cast(Any, clock)), {}, asyncio.get_running_loop(), nothing)
        monkeypatch.setattr(server, "right_of", lambda peer: Right.LOOK)
        server.start(str(tmp_path), 0)
        clients: list[socket.socket] = []
        seats = []
        for user in (4242, 4243, 4244, os.geteuid()):
            for _ in range(CLIENTS_MAX):
                client = socket.socket(socket.AF_UNIX)
                client.setblocking(False)
                client.connect(server.path_in(str(tmp_path), 0))
                clients.append(client)
                server._accept()  # before any of them has been greeted
            seats.append(server.clients)
            assert server.clients_of(user) == seats[-1] - sum(seats[-2:-1])
        await asyncio.sleep(0.05)
        assert server.clients == seats[-1]
        for client in clients:
            client.close()
        await asyncio.sleep(0.05)
        assert server.clients == 0
        await server.close()
        return seats

    assert asyncio.run(run()) == [OTHERS_PER_USER, OTHERS_MAX, OTHERS_MAX, CLIENTS_MAX]
