"""fastmta as a process of its own: configuration in a directory, loopback ports, its log."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import process
from .loopback import HOST, LabError, free_port

_BROKER = "fastmta-broker"
_FRONT = "fastmta-front"
_START_S = 30.0
_STOP_S = 60.0
_KILL_S = 10.0
_READY = b"fastmta: ready, "  # not just the word: "Address already in use" has it, too
_Value = str | int | float | bool | Sequence[str] | Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What a run of the server needs; `settings` are `section.key` to value and win."""

    directory: Path  # configuration, spool, log and output live below
    port: int = 0  # 0 takes a free one
    relay_host: str = ""  # like [127.0.0.1]:2526; empty: MX
    workers: int = 1
    settings: Mapping[str, _Value] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


class Server:
    """One `fastmta run`. Its output goes to `output`, its mail log to `log`."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.port = options.port or free_port()
        self.directory = options.directory
        self.file = self.directory / "fastmta.toml"
        self.log = self.directory / "mail.log"
        self.output = self.directory / "output"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the supervisor, the root of the tree; 0 when it does not run."""
        return self._process.pid if self._process else 0

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def workers(self) -> list[int]:
        """Process ids below the supervisor, but for those of broker and front desk."""
        others = (self.pid, self.broker, self.front)
        return [pid for pid in process.tree(self.pid) if pid not in others]

    @property
    def broker(self) -> int:
        """Process id of the broker of limits over workers; 0: there is none now."""
        return self._named(_BROKER)

    @property
    def front(self) -> int:
        """Process id of the front desk; 0: there is none now."""
        return self._named(_FRONT)

    def _named(self, name: str) -> int:
        below = process.tree(self.pid)
        return next((pid for pid in below if process.name(pid) == name), 0)

    def start(self) -> None:
        """Write the configuration, start, and return when it says that it is ready."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.file.write_text(self.configuration())
        begin = self.output.stat().st_size if self.output.exists() else 0
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("FASTMTA_")
        }
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fastmta", "run", "-c", str(self.file)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment, **self.options.environment},
            )
        deadline = time.monotonic() + _START_S
        while not self._is_ready(begin):
            if self._process.poll() is not None:
                raise LabError(f"fastmta ended with {self._process.returncode}: {self.said()}")
            if time.monotonic() > deadline:
                self.kill()
                raise LabError(f"fastmta was not ready after {_START_S:g} s: {self.said()}")
            time.sleep(0.01)

    def stop(self, timeout_s: float = _STOP_S) -> int:
        """SIGTERM, and wait; the exit status. LabError, after a kill, when it does not end."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LabError(f"fastmta did not stop within {timeout_s:g} s") from None
        self._process = None
        return status

    def kill(self) -> None:
        """SIGKILL to the supervisor and everything below it, by process id; all are gone then."""
        if self._process is None:
            return
        root = self._process.pid
        members = sorted(process.tree(root), key=lambda pid: pid != root)  # it would start new ones
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it ended by itself
        self._process.wait()
        self._process = None
        deadline = time.monotonic() + _KILL_S
        while any(process.is_running(pid) for pid in members) and time.monotonic() < deadline:
            time.sleep(0.002)

    def said(self) -> str:
        """What it wrote to its standard output and error."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def configuration(self) -> str:
        """The file it is started with."""
        options = self.options
        settings: dict[str, _Value] = {
            "hostname": "fastmta.test",
            "spool.directory": str(self.directory / "spool"),
            "listen.smtp.bind": f"{HOST}:{self.port}",
            "relay.trusted_networks": ["127.0.0.0/8"],
            "journal.file": str(self.log),
            "workers.count": options.workers,
        }
        if options.relay_host:
            settings["relay.host"] = options.relay_host
        settings.update(options.settings)
        lines = []
        for name, value in settings.items():  # dotted keys, so that no order of tables matters
            lines.append(f"{name} = {_render(value)}\n")
        return "".join(lines)

    def _is_ready(self, begin: int) -> bool:
        with self.output.open("rb") as output:
            output.seek(begin)
            return any(line.startswith(_READY) for line in output.read().split(b"\n")[:-1])


def _render(value: _Value) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return "[" + ", ".join(_render(one) for one in value) + "]"
