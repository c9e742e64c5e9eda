"""Scripts of dialogs, each run in memory, octet by octet in memory, and over a real socket.

A script is lines: `# comment`, `C: text` (sent with CR LF), `C~ text` (sent raw, with the escapes
of Python), `S: pattern` (the next reply line, `*` matches anything), `S! closed` (it closes),
`as: address` (who the client is; 127.0.0.1 unless said, and only that one over a socket).
"""

from __future__ import annotations

import asyncio
import fnmatch
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

from fastmta.listener import Census, Listener, ListenerSettings
from fastmta.policy import RelayPolicy
from fastmta.session import ContentRoom, Ports, SessionSettings
from tests.support.session import HOSTNAME, ROOM_OCTETS, Dialog, FakeAccept, FakeClock

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.smtp"))
SETTINGS = SessionSettings(
    HOSTNAME,
    message_octets_max=100_000,
    inline_octets_max=10_000,
    header_octets_max=5_000,
    recipients_max=3,
    errors_soft=50,
)
DOMAINS = ["ours.example"]
TIMEOUT_S = 5.0


@dataclass
class Script:
    """The steps of one dialog: octets to send, patterns to expect, None for "closed"."""

    address: str = "127.0.0.1"
    steps: list[tuple[str, bytes | str | None]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Script:
        script = cls()
        for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
            kind, _, text = line.partition(" ")
            if not line or line.startswith("#"):
                continue
            if kind == "C:":
                script.steps.append(("send", text.encode() + b"\r\n"))
            elif kind == "C~":
                raw = re.sub(r"\{(.) \* (\d+)\}", lambda match: match[1] * int(match[2]), text)
                script.steps.append(
                    ("send", raw.encode().decode("unicode_escape").encode("latin-1"))
                )
            elif kind == "S:":
                script.steps.append(("expect", text))
            elif line == "S! closed":
                script.steps.append(("closed", None))
            elif kind == "as:":
                script.address = text
            else:
                raise ValueError(f"{path}:{number}: cannot read {line!r}")
        assert any(kind == "expect" for kind, _ in script.steps), path
        return script


def match(line: str, pattern: object, path: Path) -> None:
    assert isinstance(pattern, str)
    assert fnmatch.fnmatchcase(line, pattern.replace("[", "[[]")), f"{path.name}: {line!r}"


@pytest.mark.parametrize("is_dripping", [False, True], ids=["whole", "octet_by_octet"])
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_in_memory(path: Path, is_dripping: bool) -> None:
    script = Script.read(path)
    dialog = Dialog(script.address, SETTINGS, DOMAINS, FakeAccept(is_prompt=True))
    lines = dialog.lines()
    for kind, value in script.steps:
        if kind == "send":
            assert isinstance(value, bytes)
            # Synchronisation errors depend on what arrives together, so a drip is not the same.
            pieces = [value]
            if is_dripping and "synchronization" not in path.stem:
                pieces = [value[pos : pos + 1] for pos in range(len(value))]
            lines += dialog.send_in_pieces(pieces)
        elif kind == "expect":
            assert lines, f"{path.name}: no reply, expected {value!r}"
            match(lines.pop(0), value, path)
        else:
            assert dialog.session.is_closing
    assert lines == [], "more was said than the script expects"


async def play(script: Script, path: Path) -> None:
    loop = asyncio.get_running_loop()
    policy = RelayPolicy.build(["127.0.0.0/8"], DOMAINS, "origin.example", "postmaster@x.example")
    accept, room = FakeAccept(is_prompt=True), ContentRoom(ROOM_OCTETS)
    ports = Ports(SETTINGS, policy, accept, FakeClock(), [].append, room)

    class NoNames:
        def client_name(self, address: str, done: Callable[[str], None]) -> None:
            done("unknown")

    listener = Listener(ports, ListenerSettings(), NoNames(), Census(), loop)
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    port = listening.getsockname()[1]
    await listener.start([listening])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for kind, value in script.steps:
            if kind == "send":
                assert isinstance(value, bytes)
                writer.write(value)
            elif kind == "expect":
                line = await asyncio.wait_for(reader.readline(), TIMEOUT_S)
                match(line.decode().removesuffix("\r\n"), value, path)
            else:
                assert await asyncio.wait_for(reader.read(), TIMEOUT_S) == b""
    finally:
        writer.close()
        await listener.stop(1.0)
    assert listener.connection_count == 0


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_over_a_socket(path: Path) -> None:
    script = Script.read(path)
    if script.address != "127.0.0.1":
        script.steps = []  # a stranger cannot be played on loopback; memory has shown it
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play(script, path))
