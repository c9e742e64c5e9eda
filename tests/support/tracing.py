"""A server with a sink behind it, and commands that look at it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from fastmta.cli import main
from fastmta.lab import Server, Sink
from tests.support.client import Client, until
from tests.support.daemon import running


@dataclass
class World:
    """`gone.test` and `full.test` refuse recipients, for good and for now; all others take them."""

    server: Server
    sink: Sink

    def run(self, *words: str, status: int = 0) -> str:
        """A command, in this process; standard output."""
        done = CliRunner().invoke(main, [*words, "-c", str(self.server.file)])
        assert done.exit_code == status, (words, done.output, done.exception)
        return done.stdout

    def trace(self, subject: str, *words: str, status: int = 0) -> Any:
        return json.loads(self.run("trace", subject, *words, "-o", "json", status=status))

    def send(self, *recipients: str, content: str = "Subject: x\r\n\r\nbody\r\n") -> str:
        """The id."""
        with Client(self.server.port) as client:
            return client.send(*recipients, content=content).rpartition(" ")[2]

    def wait_for(self, text: str) -> None:
        """In the log."""
        until(lambda: text in self.server.log_text())

    @contextmanager
    def started(self, *words: str) -> Iterator[Started]:
        """A command as a process of its own, ended by Ctrl-C if it does not end."""
        command = [sys.executable, "-m", "fastmta", *words, "-c", str(self.server.file)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            yield Started(process)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


@dataclass
class Started:
    """A command that runs."""

    process: subprocess.Popen[str]

    def interrupt(self) -> tuple[str, str, int]:
        """Ctrl-C; output, complaints and exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.ended()

    def ended(self) -> tuple[str, str, int]:
        """The same of one that ends by itself."""
        output, complaints = self.process.communicate(timeout=20.0)
        return output, complaints, self.process.returncode


@contextmanager
def world_at(place: Path, workers: int = 2, **settings: Any) -> Iterator[World]:
    """Any: as `running` takes them."""
    slow = {"retry__first_s": 3_000.0, **settings}
    with (
        Sink() as sink,
        running(place, relay_host=f"[127.0.0.1]:{sink.port}", workers=workers, **slow) as server,
    ):
        yield World(server, sink)
