"""The whole server under a shim on fdatasync: no 250 before the flush, none when it fails."""

from __future__ import annotations

import errno
import time
from pathlib import Path

from tests.support import shim
from tests.support.client import Client, until
from tests.support.daemon import running
from tests.support.receiver import Receiver

DELAY_S = 0.3


def test_no_250_before_the_flush(tmp_path: Path) -> None:
    counts = tmp_path / "counts"
    switch = tmp_path / "slow"
    environment = shim.controls(counts, delay_s=DELAY_S, match="hot", only_while=switch)
    with (
        Receiver() as receiver,
        running(
            tmp_path / "server",
            relay_host=f"[127.0.0.1]:{receiver.port}",
            environment=environment,
        ) as server,
        Client(server.port) as client,
    ):
        switch.touch()
        before = shim.read_counts(counts)
        for _ in range(3):
            client.envelope("a@dest.example")
            client.raw(b"Subject: x\r\n\r\nbody\r\n.\r\n")
            begin_s = time.monotonic()
            assert client.reply().startswith("250 2.0.0 Ok: queued as ")
            assert time.monotonic() - begin_s >= DELAY_S
        assert shim.read_counts(counts).delayed >= before.delayed + 3, "the shim did not fire"
        switch.unlink()
        receiver.wait_for_transactions(3, 15.0)


def test_a_failed_flush_is_451_and_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    counts = tmp_path / "counts"
    switch = tmp_path / "broken"
    environment = shim.controls(counts, error=errno.EIO, match="hot", only_while=switch)
    with (
        Receiver() as receiver,
        running(
            tmp_path / "server",
            relay_host=f"[127.0.0.1]:{receiver.port}",
            environment=environment,
            retry__site_backoff_min_s=0.2,
        ) as server,
    ):
        with Client(server.port) as client:
            assert client.send("before@dest.example").startswith("250")
            receiver.wait_for_transactions(1)
            switch.touch()
            reply = client.send("during@dest.example")
            assert reply == "451 4.3.0 Error: queue file write error"
            assert shim.read_counts(counts).failed > 0, "the shim did not fire"
            switch.unlink()
        until(lambda: "ended with 75" in server.said())
        until(lambda: answers(server.port))
        with Client(server.port) as client:
            assert client.send("after@dest.example").startswith("250")
        receiver.wait_for(
            lambda _: any(
                each.forward_paths == [b"after@dest.example"] for each in receiver.transactions
            ),
            15.0,
        )


def answers(port: int) -> bool:
    """Whether somebody greets at `port`."""
    try:
        with Client(port):
            return True
    except (OSError, AssertionError):
        return False
