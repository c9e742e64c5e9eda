"""bench/receivers.c: sites that are slow, dead by refusal, and dead by silence."""

import contextlib
import errno
import smtplib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.lab.bench.traffic.place import PORT, address_of
from fastmta.lab.bench.traffic.receivers import Receivers, Town
from fastmta.lab.loopback import LabError
from tests.support.native import built

TOWN = Town(sites=6, delays_ms=(0, 60), dead_from=4, arrivals_max=3)


@pytest.fixture
def receivers(tmp_path: Path) -> Iterator[Receivers]:
    built("receivers")
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(Receivers(tmp_path, TOWN))
        except LabError as problem:
            pytest.skip(str(problem))
        yield found


def send(receivers: Receivers, site: int, number: int) -> float:
    """One message over a connection of its own; seconds taken."""
    begin_s = time.monotonic()
    host = address_of(receivers.first, site)
    with smtplib.SMTP(host, PORT, local_hostname="client.test") as client:
        client.sendmail("a@b.test", [f"user{number}@d.test"], "Subject: x\n\n.\nx\n")
    return time.monotonic() - begin_s


def test_each_site_answers_after_its_own_delay(receivers: Receivers) -> None:
    assert send(receivers, 3, 4_000_000_000) > 0.060 * 7  # greeting to QUIT, one by one
    assert send(receivers, 2, 17) < 0.060 * 7
    slow, fast = receivers.arrivals()
    assert (slow.site, slow.number) == (3, 4_000_000_000)
    assert (fast.site, fast.number) == (2, 17)
    assert slow.ended_s - slow.begun_s > 0.060 * 3
    assert slow.ended_s < fast.begun_s < fast.ended_s < time.monotonic()


def test_commands_that_come_together_are_delayed_once(receivers: Receivers) -> None:
    with socket.create_connection((address_of(receivers.first, 1), PORT), timeout=5.0) as client:
        replies = client.makefile("rb")
        assert replies.readline().startswith(b"220")
        begin_s = time.monotonic()
        client.sendall(b"MAIL FROM:<a@b>\r\nRCPT TO:<u1@c>\r\nRCPT TO:<u2@c>\r\nDATA\r\n")
        assert [replies.readline()[:3] for _ in range(4)] == [b"250", b"250", b"250", b"354"]
        assert 0.060 <= time.monotonic() - begin_s < 0.060 * 3
        client.sendall(b"x\r\n.\r\nQUIT\r\n")
        assert replies.readline()[:3] == b"250"
        assert replies.readline()[:3] == b"221"
        assert replies.read() == b""
    (arrival,) = receivers.arrivals()
    assert arrival.number == 2


def test_arrivals_without_room_are_no_figures(receivers: Receivers) -> None:
    for number in range(4):
        send(receivers, 0, number)
    counts = receivers.counts()
    assert (counts.messages, counts.connections, counts.open_most) == (4, 4, 1)
    with pytest.raises(LabError, match="1 arrivals"):
        receivers.arrivals()


def test_dead_sites_refuse_or_stay_silent(receivers: Receivers) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address_of(receivers.first, 4), PORT), timeout=1.0)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            socket.create_connection((address_of(receivers.first, 5), PORT), timeout=0.3)


def test_addresses_that_are_in_use_are_an_error(receivers: Receivers, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with Receivers(other, TOWN) as second:
        assert second.first != receivers.first
    with socket.socket() as taken, pytest.raises(OSError, match="in use") as caught:
        taken.bind((receivers.first, PORT))
    assert caught.value.errno == errno.EADDRINUSE
