"""The wall clock is set by a day while mail waits: nothing expires, storms, or waits a day."""

from __future__ import annotations

import time
from pathlib import Path
from shutil import rmtree

import pytest

from fastmta.lab import Server
from tests.support.client import Client, until
from tests.support.daemon import running
from tests.support.receiver import Act, Receiver
from tests.support.wallclock import WallClock

DAY_S = 86_400
COUNT = 20
RETRY_S = 1.5
SOON_S = 40.0  # with a stop and a start on a busy machine; mail that minds the clock waits a day
SETTINGS = {
    "retry__first_s": RETRY_S,
    "retry__max_s": RETRY_S,
    "retry__jitter": 0.0,
    "retry__lifetime_s": DAY_S / 24,  # an hour: a step of a day is far beyond it
}


class World:
    """A server whose wall clock we set, and a receiver that defers until it is told otherwise."""

    def __init__(self, server: Server, receiver: Receiver, clock: WallClock) -> None:
        self.server = server
        self.receiver = receiver
        self.clock = clock
        self.ids: list[str] = []

    def send(self) -> None:
        with Client(self.server.port) as client:
            for _ in range(COUNT):
                reply = client.send(f"n{len(self.ids)}@dest.example")
                assert reply.startswith("250")
                self.ids.append(reply.split()[-1])

    def tries(self) -> int:
        """Recipients that the receiver was asked to take."""
        sessions = list(self.receiver.sessions)
        return sum(line.startswith(b"RCPT") for each in sessions for line in list(each.commands))

    def set_clock(self, offset_s: int, step: str, rounds: int, is_stopped: bool) -> None:
        """All have been tried `rounds` times; after the step each is tried when it was due."""
        server, tries = self.server, rounds * COUNT
        until(lambda: server.log_text().count("status=deferred") >= tries)
        since_s = time.monotonic()
        assert self.tries() == tries
        if is_stopped:
            assert server.stop() == 0
            self.clock.set(offset_s)
            server.start()
        else:
            self.clock.set(offset_s)
        until(lambda: f"the clock was set by {step}" in server.log_text())
        until(lambda: self.tries() > tries, SOON_S)
        waited_s = time.monotonic() - since_s
        assert RETRY_S * 0.6 <= waited_s <= SOON_S, "neither at once nor a day later"
        until(lambda: self.tries() >= tries + COUNT, SOON_S)


def deferring_world(script: dict[str, Act]) -> Receiver:
    script["RCPT"] = Act(b"450 4.2.0 later\r\n")
    return Receiver(script)


@pytest.mark.parametrize("is_stopped", [False, True], ids=["running", "stopped"])
def test_a_day_either_way_moves_no_mail(tmp_path: Path, is_stopped: bool) -> None:
    script: dict[str, Act] = {}
    clock = WallClock(tmp_path / "offset")
    with (
        deferring_world(script) as receiver,
        running(
            tmp_path / "server",
            relay_host=f"[127.0.0.1]:{receiver.port}",
            environment=clock.environment(),
            **SETTINGS,
        ) as server,
    ):
        world = World(server, receiver, clock)
        world.send()
        world.set_clock(DAY_S, f"{DAY_S:+d} s", 1, is_stopped)
        world.set_clock(-DAY_S, f"{-2 * DAY_S:+d} s", 2, is_stopped)
        script["RCPT"] = Act()
        receiver.wait_for_transactions(COUNT, SOON_S)
        world.send()
        receiver.wait_for_transactions(2 * COUNT, SOON_S)
        until(lambda: server.log_text().count(": removed") == 2 * COUNT)
        assert len(set(world.ids)) == 2 * COUNT
        assert "expired" not in server.log_text()
        assert len(receiver.transactions) == 2 * COUNT
        set_back = time.gmtime(time.time() - DAY_S)
        last = receiver.transactions[-1].content.decode("ascii")
        assert time.strftime("%d %b %Y", set_back) in last, "Received has the wall clock's date"


def test_ids_are_unique_though_index_and_start_number_are_lost_and_the_clock_is_back(
    tmp_path: Path,
) -> None:
    script: dict[str, Act] = {}
    clock = WallClock(tmp_path / "offset")
    with (
        deferring_world(script) as receiver,
        running(
            tmp_path / "server",
            relay_host=f"[127.0.0.1]:{receiver.port}",
            environment=clock.environment(),
            **SETTINGS,
        ) as server,
    ):
        world = World(server, receiver, clock)
        for lost in ("index", "boot", "clock"):
            world.send()
            server.kill()
            clock.set(-10 * 365 * DAY_S)
            shard = tmp_path / "server" / "spool" / "shard-00"
            if lost == "index":
                rmtree(shard / "index")
            else:
                (shard / lost).unlink()
            server.start()
        world.send()
        assert len(set(world.ids)) == 4 * COUNT
        script["RCPT"] = Act()
        receiver.wait_for(
            lambda _: (
                len({path for each in receiver.transactions for path in each.forward_paths})
                == 4 * COUNT
            ),
            SOON_S,
        )
        assert "expired" not in server.log_text()
