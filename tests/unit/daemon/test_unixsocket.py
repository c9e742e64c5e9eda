"""Listening at a path: mode, stale sockets, sockets in use, and who takes it away."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.config import Endpoint, Listen
from fastmta.daemon import unixsocket
from fastmta.daemon.sockets import BadStart, close_sockets, open_sockets
from fastmta.daemon.unixsocket import open_path, remove_path


@pytest.fixture
def path() -> Iterator[str]:
    """Short enough for a socket, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="fastmta-", dir="/var/tmp") as directory:
        yield f"{directory}/lmtp"


def can_connect(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
        return True


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_mode_whatever_the_umask(path: str, mode: int) -> None:
    mask = os.umask(0o077)
    try:
        opened, identity = open_path(path, mode, 8)
        assert os.umask(0o077) == 0o077, "as it was"
    finally:
        os.umask(mask)
    with opened:
        assert stat.S_IMODE(os.lstat(path).st_mode) == mode
        assert can_connect(path)
        assert not opened.get_inheritable()
        remove_path(path, identity)
    assert not os.path.lexists(path)


def test_a_stale_socket_is_replaced(path: str) -> None:
    first, identity = open_path(path, 0o600, 8)
    first.close()
    second, other = open_path(path, 0o600, 8)
    with second:
        assert other != identity or can_connect(path)
        assert can_connect(path)


@pytest.mark.parametrize("backlog", [8, 0])
def test_a_socket_in_use_stays(path: str, backlog: int) -> None:
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
        other.bind(path)
        other.listen(backlog)
        waiting.setblocking(False)
        waiting.connect(path)  # with a backlog of 0 the queue is full by that
        with pytest.raises(OSError, match="somebody listens there"):
            open_path(path, 0o600, 8)
        other.accept()[0].close()
        assert can_connect(path), "still theirs"


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_stays(path: str, kind: str) -> None:
    if kind == "file":
        Path(path).write_text("precious")
    elif kind == "directory":
        os.mkdir(path)
    else:
        os.symlink("/nonexistent", path)
    before = os.lstat(path)
    with pytest.raises(OSError, match="something else than a socket"):
        open_path(path, 0o600, 8)
    assert os.lstat(path) == before


def test_another_socket_is_not_taken_away(path: str) -> None:
    opened, identity = open_path(path, 0o600, 8)
    with opened, socket.socket(socket.AF_UNIX) as other:
        os.rename(path, f"{path}.old")
        other.bind(path)
        remove_path(path, identity)
        assert os.path.lexists(path)
    os.unlink(path)
    remove_path(path, identity)  # nothing is there
    os.rename(f"{path}.old", path)
    remove_path(path, identity)
    assert not os.path.lexists(path)


def test_two_that_start_at_the_same_time(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one begins while the first has found a stale socket, and must not go on."""
    stale, _ = open_path(path, 0o600, 8)
    stale.close()
    remove = unixsocket._remove_stale

    def meanwhile(place: str) -> None:
        monkeypatch.setattr(unixsocket, "_remove_stale", remove)
        with pytest.raises(BlockingIOError):
            open_path(path, 0o600, 8)
        remove(place)

    monkeypatch.setattr(unixsocket, "_remove_stale", meanwhile)
    opened, _ = open_path(path, 0o600, 8)
    with opened:
        assert can_connect(path)


@pytest.mark.parametrize("name", ["listen", "chmod"])
def test_failure_leaves_nothing(path: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if name == "listen":

        class Deaf(socket.socket):
            listen = fail

        monkeypatch.setattr(unixsocket.socket, "socket", Deaf)
    else:
        monkeypatch.setattr(unixsocket.os, name, fail)
    with pytest.raises(OSError, match="No space"):
        open_path(path, 0o600, 8)
    assert os.listdir(os.path.dirname(path)) == []


def test_workers_share_one_queue(path: str) -> None:
    listen = Listen(bind=(Endpoint(path, 0),), kind="lmtp", socket_mode="0600")
    (bound,) = open_sockets({"local": listen}, 3)
    assert (bound.name, bound.address, bound.is_local) == ("local", f"unix:{path}", True)
    assert len({each.fileno() for each in bound.sockets}) == 3
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        accepted, _ = bound.sockets[2].accept()
        accepted.close()
        with pytest.raises(BlockingIOError):
            bound.sockets[0].accept()
    close_sockets([bound])
    assert not os.path.lexists(path)


def test_a_start_that_fails_takes_its_sockets_away(path: str) -> None:
    binds = (Endpoint(path, 0), Endpoint(f"{path}/no/such", 0))
    listen = Listen(bind=binds, kind="lmtp")
    with pytest.raises(BadStart) as problem:
        open_sockets({"local": listen}, 2)
    assert str(problem.value).startswith(f"listen.local: cannot listen on unix:{path}/no/such: ")
    assert not os.path.lexists(path)
