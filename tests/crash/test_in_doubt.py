"""kill -9 of a server with a slow receiver: every duplicate was listed, and can be prevented."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

import pytest

from fastmta.lab import Server, ServerOptions
from tests.support.daemon import DEFAULTS
from tests.support.loading import Load
from tests.support.receiver import Act, Receiver

KILLS = 3
SETTLE_S = 20.0
DOT_S = 0.02  # the receiver has the message for so long before it says 250


def queue_id(content: bytes) -> str:
    found = re.search(rb"\bid ([0-9A-Za-z]{12,20})\b", content.partition(b"\r\n\r\n")[0])
    assert found is not None, content[:300]
    return found[1].decode()


def listed(server: Server) -> dict[str, str]:
    """Ids in doubt, and why, of all starts so far."""
    found = {}
    for path in (server.directory / "spool").glob("shard-*/in-doubt-*.txt"):
        for line in path.read_text().split("\n"):
            if line:
                id, _, why = line.partition(" ")
                found[id] = why
    return found


def run(directory: Path, policy: str) -> tuple[Counter[str], dict[str, str], int, str]:
    """How often the receiver got each queue id; what was listed; acknowledged; the log."""
    # What is sent is in the list of transactions right before the reply is.
    slow = {".": Act(delay_s=DOT_S)}
    with Receiver(slow) as receiver:
        server = Server(
            ServerOptions(
                directory=directory,
                relay_host=f"[127.0.0.1]:{receiver.port}",
                workers=1,
                settings={**DEFAULTS, "spool.in_doubt": policy, "retry.site_backoff_min_s": 0.2},
            )
        )
        server.start()
        load = Load(server, clients=1, seed=11)
        for _ in range(KILLS):
            time.sleep(0.7)
            server.kill()
            server.start()
        time.sleep(0.3)
        history = load.stop()
        until_s = time.monotonic() + SETTLE_S
        seen = 0
        while time.monotonic() < until_s:
            before, seen = seen, len(receiver.transactions)
            if before == seen and seen >= len(history.acknowledged) - len(listed(server)):
                break
            time.sleep(0.5)
        assert server.stop() == 0
        ids = Counter(queue_id(each.content) for each in list(receiver.transactions))
        return ids, listed(server), len(history.acknowledged), server.log_text()


def test_every_duplicate_is_listed(tmp_path: Path) -> None:
    ids, doubtful, acknowledged, log = run(tmp_path, "redeliver")
    duplicates = {id for id, count in ids.items() if count > 1}
    assert duplicates, "nothing was delivered twice: this run proves nothing"
    assert duplicates <= set(doubtful)
    assert {doubtful[id].partition(" ")[0] for id in duplicates} <= {"an", "it"}
    assert len(ids) >= acknowledged
    assert all(f"{id}: in doubt: " in log for id in duplicates)
    assert "messages are in doubt since the last end" in log
    # What was listed was bounded by what was in flight: 20 to the site, and one group.
    assert len(doubtful) <= KILLS * (20 + 20)


def test_hold_prevents_every_duplicate(tmp_path: Path) -> None:
    ids, doubtful, acknowledged, log = run(tmp_path, "hold")
    assert doubtful, "nothing was in doubt: this run proves nothing"
    assert [id for id, count in ids.items() if count > 1] == []
    assert len(set(ids) | set(doubtful)) >= acknowledged
    held = [line for line in log.split("\n") if "placed on hold" in line]
    assert len(held) == len(doubtful)


@pytest.mark.parametrize("policy", ["redeliver", "hold"])
def test_a_clean_stop_leaves_nothing_in_doubt(tmp_path: Path, policy: str) -> None:
    with Receiver() as receiver:
        server = Server(
            ServerOptions(
                directory=tmp_path,
                relay_host=f"[127.0.0.1]:{receiver.port}",
                workers=1,
                settings={**DEFAULTS, "spool.in_doubt": policy},
            )
        )
        server.start()
        load = Load(server, seed=3)
        time.sleep(0.5)
        load.stop()
        assert server.stop() == 0
        server.start()
        assert server.stop() == 0
        assert listed(server) == {}
        assert "in doubt" not in server.log_text()
