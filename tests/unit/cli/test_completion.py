"""Completion in a real bash, and of names that a server knows."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from fastmta.cli import main
from fastmta.cli.names import NAMES_MAX, WAIT_S, complete_destinations, complete_ids

SCRIPT = """\
source <(fastmta completion bash)
complete -p fastmta
COMP_WORDS=({words}) COMP_CWORD={last}
_fastmta_completion fastmta
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A directory with the command, as an installation has it."""
    path = tmp_path / "fastmta"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -m fastmta "$@"\n')
    path.chmod(0o755)
    return tmp_path


def complete(program: Path, *words: str) -> list[str]:
    """What bash offers for the last of these words."""
    quoted = " ".join(f"'{word}'" for word in ("fastmta", *words))
    found = subprocess.run(
        ["bash", "--norc", "-c", SCRIPT.format(words=quoted, last=len(words))],
        env={"PATH": f"{program}:/usr/bin:/bin", "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (found.stderr, found.returncode) == ("", 0)
    lines = found.stdout.rstrip("\n").split("\n")
    assert "-F _fastmta_completion fastmta" in lines[0]
    return lines[1:]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_and_options(program: Path) -> None:
    assert complete(program, "ex") == ["explain"]
    assert complete(program, "queue", "re") == ["release", "requeue"]
    assert complete(program, "queue", "hold", "--dr") == ["--dry-run"]
    assert complete(program, "completion", "") == ["bash", "zsh", "fish"]


@pytest.mark.parametrize(
    ("shell", "words"),
    [("zsh", "#compdef fastmta"), ("fish", "complete --no-files --command fastmta")],
)
def test_other_shells_have_theirs(shell: str, words: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell], prog_name="fastmta")
    assert result.exit_code == 0
    assert words in result.output
    assert "_FASTMTA_COMPLETE" in result.output


class Workers:
    """Sockets where workers would listen, with one who answers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.asked: list[dict[str, Any]] = []
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(directory / "control-0.sock"))
        self._listening.listen()
        self._thread: threading.Thread | None = None

    def answer(self, result: dict[str, Any] | None) -> None:
        """Answer the next one who asks; None: never."""
        self._thread = threading.Thread(target=self._serve, args=(result,))
        self._thread.start()

    def _serve(self, result: dict[str, Any] | None) -> None:
        connection, _ = self._listening.accept()
        with connection, connection.makefile("rwb") as lines:
            if result is not None:
                lines.write(b'{"protocol": 1, "shards": [0]}\n')
                lines.flush()
                self.asked.append(json.loads(lines.readline()))
                lines.write(json.dumps({"id": 1, "result": result}).encode() + b"\n")
                lines.flush()
            connection.recv(1)

    def close(self) -> None:
        if self._thread is not None:
            self._thread.join(5)
        self._listening.close()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path)
    yield made
    made.close()


def context(workers: Workers) -> click.Context:
    path = workers.directory / "fastmta.toml"
    path.write_text(f'hostname = "a.example"\n[spool]\ndirectory = "{workers.directory}"\n')
    made = click.Context(click.Command("hold"))
    made.params["path"] = str(path)
    return made


ARGUMENT = click.Argument(["ids"])


def test_ids_come_from_the_server(workers: Workers) -> None:
    workers.answer({"messages": [{"id": "2A2"}, {"id": "2A1"}, {"id": "3"}], "next": None})
    assert complete_ids(context(workers), ARGUMENT, "2A") == ["2A1", "2A2"]
    assert workers.asked == [{"id": 1, "verb": "search", "filter": "id:2A*", "limit": NAMES_MAX}]
    assert complete_ids(context(workers), ARGUMENT, "2A*,from:x") == []


def test_destinations_come_from_the_server(workers: Workers) -> None:
    workers.answer({"sites": [{"label": "mx.example"}, {"label": "other.example"}]})
    assert complete_destinations(context(workers), ARGUMENT, "mx") == ["mx.example"]


def test_a_server_that_is_slow_or_gone_gives_no_names(workers: Workers) -> None:
    workers.answer(None)
    begin = time.monotonic()
    assert complete_ids(context(workers), ARGUMENT, "") == []
    assert time.monotonic() - begin < WAIT_S * 3
    gone = context(workers)
    (workers.directory / "control-0.sock").unlink()
    assert complete_ids(gone, ARGUMENT, "") == []
    (workers.directory / "fastmta.toml").write_text("nonsense")
    assert complete_destinations(gone, ARGUMENT, "") == []
