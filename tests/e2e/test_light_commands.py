"""Commands that talk to a running server start quickly: they import none of what it is made of."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Server, running

HEAVY = (
    "aiosmtpd", "asyncio", "cryptography", "dns", "lmdb", "multiprocessing", "ssl", "uvloop",
    "fastmta.daemon", "fastmta.lab", "fastmta.scheduler", "fastmta.spool",
)  # fmt: skip
MODULES_MAX = 260  # 40 of them are there before a program begins
PROBE = """\
import sys
from fastmta.cli import main
try:
    main(sys.argv[1:], prog_name="fastmta")
except SystemExit as end:
    sys.stderr.write("\\n".join(["", f"exit {end.code or 0}", *sys.modules]))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("light")) as started:
        yield started


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("status", 0),
        ("healthcheck", 0),
        ("queue count", 0),
        ("queue hold --all", 1),
        ("queue show 2A", 1),
        ("explain a@b.example", 1),
        ("dest list", 0),
        ("dest pause x.example --yes", 0),
        ("trace nobody@x.example", 1),
        ("top --once", 0),
        ("queue list", 0),
        ("queue summary", 0),
    ],
)
def test_an_online_command_imports_nothing_heavy(server: Server, command: str, status: int) -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROBE, *command.split(), "-c", str(server.file)],
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        timeout=30,
    )
    names = found.stderr.rpartition("\nexit ")[2].split("\n")
    assert names[0] == str(status), found
    assert [name for name in HEAVY if name in names] == []
    assert len(names) <= MODULES_MAX
