"""Sockets of the service manager, and what is wrong with some."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from fastmta.config import Listen
from fastmta.daemon import inherited
from fastmta.daemon.inherited import share_inherited, take_inherited
from fastmta.daemon.sockets import BadStart, close_sockets, fresh_of, open_sockets


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> int:
    """A number from which a few descriptors are free, in the place of 3."""
    first = 700
    monkeypatch.setattr(inherited, "FIRST_FD", first)
    return first


def environ(count: int, names: str = "", pid: int = 0) -> dict[str, str]:
    found = {"LISTEN_PID": str(pid or os.getpid()), "LISTEN_FDS": str(count)}
    return {**found, "LISTEN_FDNAMES": names} if names else found


def hand(fd: int, opened: socket.socket) -> None:
    os.dup2(opened.fileno(), fd)
    opened.close()


def listening(family: int, address: object) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.bind(address)  # type: ignore[arg-type]  # of either family
    opened.listen()
    return opened


def test_sockets_go_to_their_sections_and_are_shared(handed: int, tmp_path: Path) -> None:
    first = listening(socket.AF_INET, ("127.0.0.1", 0))
    port = first.getsockname()[1]
    hand(handed, first)
    path = str(tmp_path / "sock")
    hand(handed + 1, listening(socket.AF_UNIX, path))
    hand(handed + 2, listening(socket.AF_UNIX, f"\0fastmta-{os.getpid()}"))
    variables = environ(3, "smtp:local:local")
    taken = take_inherited(variables, {"smtp", "local", "other"})
    assert variables == {}
    assert not os.get_inheritable(handed)
    sections = {name: Listen(bind=()) for name in ("smtp", "local", "other")}
    bound = open_sockets(sections, 3, share_inherited(taken, 3))
    assert [(one.name, one.address) for one in bound] == [
        ("smtp", f"127.0.0.1:{port}"),
        ("local", f"unix:{path}"),
        ("local", f"unix:@fastmta-{os.getpid()}"),
    ]
    assert [one.is_local for one in bound] == [False, True, True]
    assert all(len(one.sockets) == 3 and not one.sockets[2].getblocking() for one in bound)
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        accepted, _ = bound[0].sockets[2].accept()
        accepted.close()
    again = open_sockets({"local": Listen(bind=()), "new": Listen(bind=())}, 3, bound)
    assert again == bound[1:]  # at a reload, too
    assert [one.name for one in fresh_of(bound, again)] == ["smtp"]
    close_sockets(bound)
    assert os.path.exists(path)  # it is the manager's


def test_what_is_meant_for_another_process_is_not_ours() -> None:
    for variables in (environ(1, "smtp", pid=1), environ(0), {"LISTEN_FDS": "1"}, {}):
        assert take_inherited(variables, {"smtp"}) == []
        assert variables == {}


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("smpt", "inherited socket 'smpt': there is no [listen.smpt]; set FileDescriptorName="),
        ("", "inherited socket 'unknown': there is no [listen.unknown]"),
    ],
)
def test_a_socket_for_no_section(handed: int, names: str, text: str) -> None:
    hand(handed, listening(socket.AF_INET, ("127.0.0.1", 0)))
    with pytest.raises(BadStart) as caught:
        take_inherited(environ(1, names), {"smtp"})
    assert str(caught.value).startswith(text)
    os.close(handed)


def test_what_does_not_listen(handed: int) -> None:
    hand(handed, socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with pytest.raises(BadStart, match="does not listen for streams"):
        take_inherited(environ(1, "smtp"), {"smtp"})
    hand(handed, socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    with pytest.raises(BadStart, match="does not listen for streams"):
        take_inherited(environ(1, "smtp"), {"smtp"})
    with open("/dev/null", "rb") as file:
        os.dup2(file.fileno(), handed)
    with pytest.raises(BadStart, match=f"descriptor {handed} is no socket"):
        take_inherited(environ(1, "smtp"), {"smtp"})
    os.close(handed)
    with pytest.raises(BadStart, match="more than 1024"):
        take_inherited(environ(10**9, "smtp"), {"smtp"})
