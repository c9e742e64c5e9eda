"""Against Debian's smtp-sink, option by option, we come to the results that Postfix comes to.

The rows of tests/vectors/sink-matrix.json were recorded from Postfix 3.7.11 delivering to smtp-sink
with these options, two recipients each: status, enhanced status code, text (its first 100 octets).
"""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmta.delivery import DeliveryOptions
from fastmta.message import AttemptResult
from tests.support.delivering import Sending, make_job, make_site, run_sending

SINK = shutil.which("smtp-sink") or shutil.which("smtp-sink", path="/usr/sbin")
VECTORS = Path(__file__).parent.parent / "vectors" / "sink-matrix.json"
ROWS: dict[str, list[list[str]]] = json.loads(VECTORS.read_text())["rows"]
TEXT_OCTETS = 100

# Where our result differs, and why. Status word and status code of the first recipient never do.
DIVERGENCES = {
    # A 421 ends the session at once and is told to every open recipient. Postfix reads on and
    # tells the next one about the lost connection that follows (RFC 5321 3.8).
    ("-Q RCPT", 1): [
        "deferred",
        "4.0.0",
        "host 127.0.0.1[127.0.0.1] said: 421 4.0.0 Server closing connection"
        " (in reply to RCPT TO command)",
    ],
    # Postfix sends QUIT in one flight with the dot, and smtp-sink forgets its delayed answer to
    # the dot over it. We wait for the verdict (RFC 2920 3.1: QUIT ends a group, but why risk it).
    ("-W .:2", 0): ["sent", "2.0.0", "250 2.0.0 Ok"],
    ("-W .:2", 1): ["sent", "2.0.0", "250 2.0.0 Ok"],
}

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(SINK is None, reason="needs smtp-sink of Debian's postfix"),
]


def _arguments(row: str) -> list[str]:
    """The row's name to arguments: a word that begins with "-" is an option, the rest its value."""
    arguments: list[str] = []
    for word in row.split(" ") if row != "(none)" else []:
        if word.startswith("-") or arguments[-1].startswith("-"):
            arguments.append(word)
        else:
            arguments[-1] += " " + word
    return arguments


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]


def _await_listening(port: int) -> None:
    """Ask the kernel's table: connecting would be a session that the sink counts."""
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if wanted in Path("/proc/net/tcp").read_text():
            return
        time.sleep(0.01)
    raise AssertionError(f"smtp-sink does not listen on {port}")


@pytest.fixture(scope="module")
def results() -> Iterator[dict[str, AttemptResult]]:
    """Every row at once: some sinks sleep for two seconds."""
    assert SINK is not None
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    sinks: list[subprocess.Popen[bytes]] = []
    ports = dict(zip(ROWS, _free_ports(len(ROWS)), strict=True))
    try:
        for row, port in ports.items():
            command = [SINK, *user, *_arguments(row), f"127.0.0.1:{port}", "16"]
            sinks.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        for port in ports.values():
            _await_listening(port)
        yield run_sending(
            lambda sending: _send_to_all(sending, ports), DeliveryOptions("relay.example")
        )
    finally:
        for sink in sinks:
            sink.kill()
        for sink in sinks:
            sink.wait()


async def _send_to_all(sending: Sending, ports: dict[str, int]) -> dict[str, AttemptResult]:
    jobs = [
        sending.send(make_job(), make_site(port, key=row.encode())) for row, port in ports.items()
    ]
    return dict(zip(ports, await asyncio.gather(*jobs), strict=True))


@pytest.mark.parametrize("row", ROWS)
def test_result_is_that_of_postfix(row: str, results: dict[str, Any]) -> None:
    for index, outcome in enumerate(results[row].outcomes):
        status, code, text = DIVERGENCES.get((row, index), ROWS[row][index])
        assert [outcome.kind.value, outcome.status] == [status, code]
        assert outcome.text[: len(text)] == text
        assert len(outcome.text) == len(text) or len(text) >= TEXT_OCTETS


@pytest.mark.parametrize("row", ROWS)
def test_trouble_is_what_is_the_path_s_fault(row: str, results: dict[str, Any]) -> None:
    """Connect, greeting, EHLO, lost connections and 421; never another reply, never success."""
    text = ROWS[row][0][2]
    is_path_s = text.startswith("lost connection") or "refused to talk" in text or "421 " in text
    assert (results[row].trouble is not None) is is_path_s
