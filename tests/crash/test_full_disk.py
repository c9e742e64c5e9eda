"""A volume that another process fills to 100 %: intake stops, the queue drains, nothing is lost."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from fastmta.lab import Server
from tests.support.client import Client, until
from tests.support.daemon import running
from tests.support.receiver import Act, Receiver
from tests.support.volume import fill, free_octets, volume

MIB = 1 << 20
MESSAGES = 300
BODY = "Subject: x\r\n\r\n" + ("x" * 70 + "\r\n") * 40
LATER = Act(b"450 4.2.0 later\r\n")
SETTINGS = {
    "spool__segment_octets": "1 MiB",
    "limits__message_octets": "256 KiB",
    "retry__first_s": 1.0,
    "retry__max_s": 2.0,
    "retry__jitter": 0.0,
    "retry__site_backoff_min_s": 0.2,
    "pressure__calm_s": 1.0,
}


def refused_at_mail(client: Client) -> bool:
    reply = client.say("MAIL FROM:<a@source.example>")
    if reply.startswith("250"):
        assert client.say("RSET").startswith("250")
        return False
    assert reply == "452 4.3.1 Insufficient system storage"
    return True


def greeting(port: int) -> str:
    with Client(port, greets=False) as client:
        return client.reply()


def send_deferred(server: Server, first: int) -> set[bytes]:
    with Client(server.port) as client:
        for number in range(first, first + MESSAGES):
            assert client.send(f"n{number}@dest.example", content=BODY).startswith("250")
    until(lambda: server.log_text().count("status=deferred") >= first + MESSAGES)
    return {b"n%d@dest.example" % number for number in range(first, first + MESSAGES)}


def fill_and_drain(
    world: tuple[Server, Receiver, dict[str, Act], Path], turn: int, is_restarted: bool
) -> None:
    """One turn: deferred mail, a volume that somebody fills, receivers that are back."""
    server, receiver, script, place = world
    script["RCPT"] = LATER
    sent = send_deferred(server, turn * MESSAGES)
    with Client(server.port) as client:
        assert not refused_at_mail(client)
        begin_s = time.monotonic()
        ballast = fill(place)
        assert free_octets(place) == 0
        until(lambda: refused_at_mail(client), 5.0)
        assert time.monotonic() - begin_s < 1.5, "within a second of the watermark"
    assert greeting(server.port).startswith("421 4.3.2 ")
    if is_restarted:
        server.kill()
        server.start()
        assert greeting(server.port).startswith("421 4.3.2 ")
    script["RCPT"] = Act()
    gone = turn * MESSAGES + MESSAGES
    receiver.wait_for_transactions(gone, 20.0)
    until(lambda: server.log_text().count(": removed") >= gone)
    assert free_octets(place) < MIB, "what drained it was not room that came back"
    assert sent <= {path for each in receiver.transactions for path in each.forward_paths}
    ballast.unlink()
    until(lambda: greeting(server.port).startswith("220"), 5.0)
    with Client(server.port) as client:
        until(lambda: not refused_at_mail(client), 5.0)


@pytest.mark.parametrize("is_restarted", [False, True], ids=["running", "killed-while-full"])
def test_a_disk_that_another_process_fills_still_drains(tmp_path: Path, is_restarted: bool) -> None:
    script = {"RCPT": LATER}
    with (
        volume(tmp_path) as place,
        Receiver(script) as receiver,
        running(
            tmp_path / "server",
            relay_host=f"[127.0.0.1]:{receiver.port}",
            spool__directory=str(place / "spool"),
            **SETTINGS,
        ) as server,
    ):
        for turn in range(2):
            fill_and_drain((server, receiver, script, place), turn, is_restarted)
        assert len(receiver.transactions) == 2 * MESSAGES, "nothing twice"
        log = server.log_text()
        assert "pressure is black: 0.0% of the volume is free" in log
        assert "pressure is green: " in log
        assert not list(place.glob("spool/shard-00/index.bad-*")), "the index never failed"


def test_no_spool_can_begin_on_a_full_volume_but_waits_for_room(tmp_path: Path) -> None:
    output = tmp_path / "server" / "output"

    def make_room() -> None:
        until(lambda: output.exists() and "No space left on device" in output.read_text(), 60.0)
        ballast.unlink()

    with volume(tmp_path, 64 * MIB) as place, Receiver() as receiver:
        ballast = fill(place)
        room = threading.Thread(target=make_room)
        room.start()
        try:
            with running(
                tmp_path / "server",
                relay_host=f"[127.0.0.1]:{receiver.port}",
                spool__directory=str(place / "spool"),
                **SETTINGS,
            ) as server:
                assert not ballast.exists(), "it waited for room"
                # A busy disk or loop may be a want of its own for a moment.
                until(lambda: greeting(server.port).startswith("220"))
                with Client(server.port) as client:
                    until(lambda: not refused_at_mail(client))
                with Client(server.port) as client:
                    assert client.send("a@dest.example").startswith("250")
                receiver.wait_for_transactions(1, 10.0)
        finally:
            room.join()
