"""The whole server under a shim on flushes and writes: no 250 before the flush, whatever fails."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

from tests.support import shim
from tests.support.client import Client, until
from tests.support.daemon import running
from tests.support.receiver import Receiver

DELAY_S = 0.3
CLEAN_S = 1.5
FIRST_SEGMENT = "/hot/0000000000000001.seg"


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


@pytest.mark.parametrize(
    ("is_writing", "error"), [(False, errno.EIO), (False, errno.ENOSPC), (True, errno.ENOSPC)]
)
def test_one_failure_costs_a_pause_and_nothing_else(
    tmp_path: Path, is_writing: bool, error: int
) -> None:
    counts = tmp_path / "counts"
    switch = tmp_path / "broken"
    environment = shim.controls(
        counts, error=error, is_writing=is_writing, match=FIRST_SEGMENT, only_while=switch
    )
    with (
        Receiver() as receiver,
        running(
            tmp_path / "server",
            relay_host=f"[127.0.0.1]:{receiver.port}",
            environment=environment,
            spool__clean_s=CLEAN_S,
        ) as server,
        Client(server.port) as client,
    ):
        workers = server.workers()
        assert client.send("before@dest.example").startswith("250")
        receiver.wait_for_transactions(1)
        switch.touch()  # this file fails from now on
        begin_s = time.monotonic()
        assert client.send("during@dest.example").startswith("250 2.0.0 Ok: queued as ")
        assert shim.read_counts(counts).failed == 1, "one failure, and no second try"
        assert client.say("MAIL FROM:<sender@source.example>").startswith("451 4.3.0")
        time.sleep(CLEAN_S / 2)
        assert len(receiver.transactions) == 1, "it was delivered in the pause"
        until(lambda: answers(server.port))
        assert time.monotonic() - begin_s >= CLEAN_S
        with Client(server.port) as again:
            assert again.send("after@dest.example").startswith("250")
        receiver.wait_for_transactions(3, 15.0)
        assert server.workers() == workers
        assert shim.read_counts(counts).failed == 1
    to = sorted(recipients(receiver))
    assert to == ["after@dest.example", "before@dest.example", "during@dest.example"]
    log = server.log_text() + server.said()
    assert "could not be written or flushed" in log
    assert f"no error for {CLEAN_S:g} s: taking mail and delivering again" in log


def test_what_was_acknowledged_survives_a_disk_that_fails_for_good(tmp_path: Path) -> None:
    counts = tmp_path / "counts"
    switch = tmp_path / "broken"
    environment = shim.controls(counts, error=errno.EIO, match="hot", only_while=switch)
    with Receiver() as away:
        port = away.port
    with running(
        tmp_path / "server",
        relay_host=f"[127.0.0.1]:{port}",
        environment=environment,
        retry__site_backoff_min_s=0.2,
        retry__site_backoff_max_s=0.5,
    ) as server:
        wanted = [f"kept{number}@dest.example" for number in range(5)]
        with Client(server.port) as client:
            for path in wanted:
                assert client.send(path).startswith("250")
            switch.touch()
            reply = client.send("refused@dest.example")
            assert reply == "451 4.3.0 Error: queue file write error"
        until(lambda: "ended with 75" in server.said())
        time.sleep(0.5)  # it cannot start either
        switch.unlink()
        with Receiver(port=port) as receiver:
            receiver.wait_for(lambda _: set(wanted) <= set(recipients(receiver)), 30.0)
            with Client(server.port) as client:
                assert client.send("after@dest.example").startswith("250")
            receiver.wait_for(lambda _: "after@dest.example" in recipients(receiver))
        delivered = recipients(receiver)
    assert all(delivered.count(path) == 1 for path in wanted)
    assert delivered.count("refused@dest.example") <= 1


def recipients(receiver: Receiver) -> list[str]:
    """To whom mail has come, once for each time."""
    return [each.forward_paths[0].decode() for each in receiver.transactions]


def answers(port: int) -> bool:
    """Whether somebody who takes mail greets at `port`."""
    try:
        with Client(port, greets=False) as client:
            return client.reply().startswith("220")
    except OSError:
        return False
