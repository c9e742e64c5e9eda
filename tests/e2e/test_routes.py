"""The whole server with routes: by recipient and sender, fallbacks, what a new route changes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fastmta.lab import free_port
from tests.support.client import Client, until
from tests.support.daemon import running
from tests.support.receiver import Act, Receiver

FAST = {"retry__first_s": 1.0, "retry__jitter": 0.0, "retry__site_backoff_min_s": 0.2}


def at(receiver: Receiver) -> str:
    return f"[127.0.0.1]:{receiver.port}"


def recipients(receiver: Receiver) -> list[bytes]:
    return sorted(path for each in list(receiver.transactions) for path in each.forward_paths)


def routes(*rules: Mapping[str, str]) -> dict[str, str]:
    """As a container would have them."""
    return {
        f"FASTMTA_ROUTE__{number}__{key.upper()}": value
        for number, rule in enumerate(rules, 1)
        for key, value in rule.items()
    }


@contextmanager
def receivers(count: int) -> Iterator[list[Receiver]]:
    running_ones = [Receiver() for _ in range(count)]
    for one in running_ones:
        one.__enter__()
    try:
        yield running_ones
    finally:
        for one in running_ones:
            one.__exit__(None, None, None)


def test_mail_goes_by_the_first_rule_for_its_recipient_and_sender(tmp_path: Path) -> None:
    with receivers(4) as (main, special, bulk, spare):
        environment = {
            "FASTMTA_RELAYS__BULK__HOST": at(bulk),
            "FASTMTA_RELAYS__BULK__HOSTNAME": "bulk.example",
            "FASTMTA_RELAYS__DEAD__HOST": f"[127.0.0.1]:{free_port()}",
            "FASTMTA_RELAYS__DEAD__FALLBACK": at(spare),
            "FASTMTA_RELAYS__LOST__HOST": "[nowhere.invalid]:25",
            "FASTMTA_RELAYS__LOST__FALLBACK": at(spare),
            **routes(
                {"recipient": "one@special.example, .special.example", "to": at(special)},
                {"recipient": "dead.example", "to": "dead"},
                {"recipient": "lost.example", "to": "lost"},
                {"sender": "news.example", "to": "bulk"},
            ),
        }
        options = {"relay_host": at(main), "environment": environment, **FAST}
        with running(tmp_path, **options) as server:  # type: ignore[arg-type]  # see `running`
            with Client(server.port) as client:
                everybody = ["one@special.example", "two@special.example", "x@sub.special.example",
                             "y@dead.example", "z@lost.example", "w@any.example"]  # fmt: skip
                assert client.send(*everybody).startswith("250")
                news = "letter@news.example"
                assert client.send(
                    "one@special.example", "v@any.example", reverse_path=news
                ).startswith("250")
            until(lambda: server.log_text().count("removed") == 2, 20.0)
        assert recipients(main) == [b"two@special.example", b"w@any.example"]
        assert recipients(special) == [
            b"one@special.example", b"one@special.example", b"x@sub.special.example",
        ]  # fmt: skip
        assert recipients(bulk) == [b"v@any.example"]
        assert recipients(spare) == [b"y@dead.example", b"z@lost.example"]
    assert server.log_text().count("status=sent") == 8


def test_mail_that_waits_goes_by_the_new_routes_after_a_restart(tmp_path: Path) -> None:
    later = {"RCPT": Act(b"450 4.2.0 later\r\n")}
    with Receiver([later] * 50) as old, receivers(1) as (new,):
        with running(tmp_path, relay_host=at(old), **FAST) as server:
            with Client(server.port) as client:
                assert client.send("a@b.example", "c@d.example").startswith("250")
            until(lambda: server.log_text().count("status=deferred") >= 2)
            assert server.stop() == 0
            rules = routes({"recipient": "b.example", "to": at(new)}, {"to": "hold"})
            server.options = replace(
                server.options,
                environment={**rules, "FASTMTA_RELAYS__HOLD__HOST": at(new)},
            )
            server.start()
            until(lambda: "removed" in server.log_text(), 20.0)
        assert recipients(new) == [b"a@b.example", b"c@d.example"]


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_file_of_passwords_that_cannot_be_used_stops_the_start(
    tmp_path: Path, command: str
) -> None:
    senders = tmp_path / "senders"
    senders.write_text("me@x.y s3cret\n")
    path = tmp_path / "fastmta.toml"
    path.write_text(
        f'hostname = "mx.example"\n[spool]\ndirectory = "{tmp_path}/spool"\n[listen.smtp]\n'
        f'bind = "127.0.0.1:0"\n[relay]\nhost = "[a.b]:587"\ncredentials_file = "{senders}"\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "fastmta", command, "-c", str(path)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode not in (0, -9)
    said = done.stdout + done.stderr
    assert f"relay.credentials_file: {senders}:1: after me@x.y name:password must come" in said
    assert "s3cret" not in said
    assert "Traceback" not in said
