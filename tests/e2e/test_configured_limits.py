"""The whole server with limits of its configuration: a rate, a pause, by tenant."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.client import Client, until
from tests.support.daemon import running
from tests.support.receiver import Receiver

RATE, BURST = 20, 3  # per second
COUNT = 15
LIMITS = {
    "FASTMTA_TENANT__NEWS__SENDERS": "news.example",
    "FASTMTA_SHAPE__NEWS__TENANT": "news",
    "FASTMTA_SHAPE__NEWS__RATE": f"{RATE}/s, burst {BURST}",
    "FASTMTA_TENANT__HELD__SENDERS": "a@held.example",
    "FASTMTA_SHAPE__HELD__TENANT": "held",
    "FASTMTA_SHAPE__HELD__PAUSED": "true",
}


def senders(receiver: Receiver) -> list[bytes]:
    return [each.reverse_path for each in list(receiver.transactions)]


def test_a_limit_holds_for_its_tenant_and_nobody_else(tmp_path: Path) -> None:
    with Receiver() as receiver:
        relay_host = f"[127.0.0.1]:{receiver.port}"
        with running(tmp_path, relay_host=relay_host, environment=LIMITS) as server:
            began_s = time.monotonic()
            with Client(server.port) as client:
                for path in ("a@held.example", *[f"{n}@news.example" for n in range(COUNT)],
                             *[f"{n}@held.example" for n in range(COUNT)]):  # fmt: skip
                    assert client.send("r@d.example", reverse_path=path).startswith("250")
            receiver.wait_for(
                lambda one: sum(path.endswith(b"@held.example") for path in senders(one)) == COUNT,
                20.0,
            )
            early = [path for path in senders(receiver) if path.endswith(b"@news.example")]
            passed_s = time.monotonic() - began_s
            assert len(early) <= BURST + RATE * passed_s  # what is limited stands in nobody's way
            receiver.wait_for_transactions(2 * COUNT, 20.0)
            assert time.monotonic() - began_s >= (COUNT - BURST) / RATE
            until(lambda: server.log_text().count("removed") == 2 * COUNT)
            assert b"a@held.example" not in senders(receiver)
        with running(tmp_path, relay_host=relay_host):  # without them it goes, from another hop
            receiver.wait_for(lambda one: senders(one)[-1] == b"a@held.example", 20.0)
    assert len(senders(receiver)) == 2 * COUNT + 1
