"""The supervisor's socket: who may ask, how much, and what becomes of nonsense."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmta.control.access import Access
from fastmta.control.client import Client, ClientError
from fastmta.control.place import PROTOCOL, supervisor_path
from fastmta.daemon import hatch as room
from fastmta.daemon.hatch import Caller, Hatch
from fastmta.daemon.privilege import Identity, acting_as
from tests.support.service import open_place


@pytest.fixture
def hatch(tmp_path: Path) -> Iterator[Hatch]:
    def take(caller: Caller, request: dict[str, Any]) -> None:
        caller.tell({"id": request["id"], "result": request})

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # else deadly when it comes afterwards
    made = Hatch({"protocol": PROTOCOL}, take, Access())
    made.open(str(tmp_path))
    yield made
    made.close()
    while signal.sigtimedwait([signal.SIGIO], 0):
        pass
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGIO])
    signal.signal(signal.SIGIO, before)


def connect(tmp_path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(5)
    client.connect(supervisor_path(str(tmp_path)))
    return client


def test_whatever_happens_wakes_the_supervisor(tmp_path: Path, hatch: Hatch) -> None:
    assert signal.sigtimedwait([signal.SIGIO], 0) is None
    with connect(tmp_path) as client:
        assert signal.sigtimedwait([signal.SIGIO], 5) is not None
        hatch.look()
        assert json.loads(client.recv(1000)) == {"protocol": PROTOCOL}
        while signal.sigtimedwait([signal.SIGIO], 0):
            pass
        client.sendall(b'{"id": 4, "ve')
        assert signal.sigtimedwait([signal.SIGIO], 5) is not None
        hatch.look()
        client.sendall(b'rb": "x"}\n')
        hatch.look()
        assert json.loads(client.recv(1000)) == {"id": 4, "result": {"id": 4, "verb": "x"}}


def test_only_its_owner_can_connect_and_it_leaves_nothing(tmp_path: Path, hatch: Hatch) -> None:
    path = supervisor_path(str(tmp_path))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    hatch.close()
    assert not os.path.exists(path)
    hatch.look()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_others_may_come_after_a_reload(hatch: Hatch) -> None:
    who = pwd.getpwnam("bin")
    other = Identity("bin", who.pw_uid, who.pw_gid, (who.pw_gid,))
    with open_place() as place:
        hatch.close()
        hatch.open(str(place / "run" / "x"), is_shared=True)
        path = supervisor_path(str(place / "run" / "x"))
        (place / "run").chmod(0o755)
        for access, status in ((Access(), 0o600), (Access(("bin",)), 0o666), (Access(), 0o600)):
            hatch.renew(access)
            assert stat.S_IMODE(os.stat(path).st_mode) == status
        for access, word in (
            (Access(("bin",)), b'"protocol"'),
            (Access((), ("daemon",)), b"neither in control.users"),
        ):
            hatch.renew(access)
            with socket.socket(socket.AF_UNIX) as client:
                with acting_as(other):
                    client.connect(path)
                hatch.look()
                assert word in client.recv(1000)


NONSENSE = [b"{\n", b"[]\n", b"\xff\n", b"[" * 60_000 + b"\n", b"x" * (room.LINE_OCTETS_MAX + 1)]


@pytest.mark.parametrize("said", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_ends_the_connection(tmp_path: Path, hatch: Hatch, said: bytes) -> None:
    with connect(tmp_path) as client, connect(tmp_path) as other:
        client.sendall(said)
        hatch.look()
        hatch.look()
        octets = b""
        while data := client.recv(1 << 16):
            octets += data
        assert b"result" not in octets
        other.sendall(b'{"id": 1}\n')
        hatch.look()
        assert b"result" in other.recv(1000)


def test_there_are_not_too_many_and_who_does_not_read_is_let_go(
    tmp_path: Path, hatch: Hatch
) -> None:
    clients = [connect(tmp_path) for _ in range(room.CLIENTS_MAX)]
    hatch.look()
    with connect(tmp_path) as late:
        hatch.look()
        assert late.recv(1000) == b""
    request = json.dumps({"id": 1, "text": "x" * 60_000}).encode() + b"\n"
    for _ in range(8):  # answers that nobody reads
        with contextlib.suppress(OSError):
            clients[0].sendall(request)
        hatch.look()
    for client in clients:
        client.close()
    hatch.look()
    with connect(tmp_path) as again:
        hatch.look()
        assert b"protocol" in again.recv(1000)


def test_a_client_that_gets_no_answer_says_so(tmp_path: Path, hatch: Hatch) -> None:
    with pytest.raises(ClientError, match=r"no answer within 0\.05 s"):
        Client(supervisor_path(str(tmp_path)), 0.05)
