"""The whole server when it is short of something: what new clients hear, and what goes on."""

from __future__ import annotations

import select
from pathlib import Path

from tests.support import shim
from tests.support.client import Client, until
from tests.support.daemon import running
from tests.support.receiver import Receiver


def greeting(port: int) -> str:
    with Client(port, greets=False) as client:
        return client.reply()


def is_silent(client: Client) -> bool:
    """Whether nothing has come so far."""
    return not select.select([client.socket], [], [], 0.1)[0]


def test_too_much_memory_in_use_is_421_from_the_start(tmp_path: Path) -> None:
    with running(tmp_path, pressure__memory_octets="1 MiB") as server:
        reply = greeting(server.port)
        assert reply == "421 4.3.2 fastmta.test Error: insufficient system resources"
        until(lambda: "pressure is black: " in server.log_text())
        said = "% of the memory is in use; new connections are answered 421"
        assert said in server.log_text()


def test_a_flush_that_does_not_end_stops_intake_but_not_what_was_begun(tmp_path: Path) -> None:
    counts, switch = tmp_path / "counts", tmp_path / "slow"
    environment = shim.controls(counts, delay_s=60.0, match="hot", only_while=switch)
    with (
        Receiver() as receiver,
        running(
            tmp_path / "server",
            relay_host=f"[127.0.0.1]:{receiver.port}",
            environment=environment,
            pressure__flush_s=[0.5, 0.7, 1.0],
            pressure__calm_s=0.5,
        ) as server,
        Client(server.port) as late,
        Client(server.port) as begun,
        Client(server.port) as idle,
    ):
        begun.envelope("b@dest.example")
        switch.touch()
        late.envelope("a@dest.example")
        late.raw(b"Subject: x\r\n\r\nbody\r\n.\r\n")
        until(lambda: "pressure is black: a flush of the log takes" in server.log_text())
        assert greeting(server.port).startswith("421 4.3.2 ")
        assert idle.say("MAIL FROM:<c@source.example>").startswith("452 4.3.1 ")
        begun.raw(b"Subject: x\r\n\r\nbody\r\n.\r\n")
        assert is_silent(late)
        assert is_silent(begun)
        switch.unlink()
        assert late.reply().startswith("250"), "it was waiting for that flush"
        assert begun.reply().startswith("250"), "begun before, so it may end"
        receiver.wait_for_transactions(2, 15.0)
        until(lambda: "pressure is green: " in server.log_text(), 40.0)
        assert greeting(server.port).startswith("220 ")
