"""Everything around the two servers: receiver, name server, builders, sources, memory samples."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ... import process
from ...loopback import HOST, LabError, free_port, is_listening, wait_until
from ...server import Server, ServerOptions
from ..native import compile_native
from ..shim import SharedPage
from ..standing import Standing
from ..workplace import Setting, module
from . import lookup, nameserver, source
from .filling import Filling, fill

MX_HOSTS = [f"127.25.0.{number}" for number in range(1, 255)]  # the first that is free is taken
MX_PORT = 25
SESSIONS = 20
LOOPBACK = "127.0.0.0/8"  # which no name in DNS may lead to, unless it is allowed
_START_S = 10.0
_SAMPLE_S = 0.2
_MB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What was asked for."""

    directory: Path
    messages: int
    domains: int
    sites: int  # MX hosts that the domains share; 0: each has its own
    size: int
    workers: int
    segment_octets: int = 32 << 20


class Field(Standing):
    """A context manager: the receiver and the name server run while it is open."""

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.scale = scale
        self._dns_port = free_port()
        self.page: SharedPage

    def stand(self) -> None:
        scale = self.scale
        host = free_mx_host()
        program = compile_native("sink", scale.directory / "sink")
        self.page = SharedPage(scale.directory / "delivered")
        self._stack.callback(self.page.close)
        self._run([str(program), f"{host}:{MX_PORT}", "0", str(self.page.path)])
        wait_until(lambda: is_listening(MX_PORT, host), _START_S, "the receiver")
        self._run([*module(nameserver), str(self._dns_port), host, str(scale.sites)])

    def _run(self, command: Sequence[str]) -> None:
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._stack.callback(running.wait)
        self._stack.callback(running.kill)

    @property
    def delivered(self) -> int:
        """Messages that the receiver has taken so far."""
        return self.page.read(0)

    def server(self, name: str, settings: Mapping[str, Setting] | None = None) -> Server:
        """A server with a spool of its own; it is stopped with the field if it still runs."""
        server = Server(
            ServerOptions(
                directory=self.scale.directory / name,
                workers=self.scale.workers,
                settings={
                    "dns.servers": [f"{HOST}:{self._dns_port}"],
                    "delivery.allow_addresses": [LOOPBACK],
                    **(settings or {}),
                },
            )
        )
        self._stack.callback(server.kill)
        return server

    def build(self, spool: Path, due_at_ns: int) -> tuple[float, list[list[str]]]:
        """Build the backlog; seconds, and some ids of each shard."""
        scale = self.scale
        filling = Filling(
            messages=scale.messages,
            domains=scale.domains,
            size=scale.size,
            shards=scale.workers,
            due_at_ns=due_at_ns,
            segment_octets=scale.segment_octets,
        )
        return fill(spool, filling, self._stack)

    def send(self, server: Server, count: int, domains: int, first: int = 0) -> float:
        """Send fresh mail; seconds until the last 250."""
        values = (server.port, count, SESSIONS, domains, first, self.scale.size)
        limit_s = 60 + count / 50
        done = subprocess.run(
            [*module(source), *map(str, values)], capture_output=True, timeout=limit_s, check=False
        )
        if done.returncode:
            raise LabError(f"the source failed: {done.stderr.decode(errors='replace')[-500:]}")
        return float(done.stdout)

    def look_up(self, spool: Path, shard: int, ids: Sequence[str]) -> dict[str, list[float]]:
        """Milliseconds of look-ups, by kind; no server may have the spool open."""
        command = [*module(lookup), str(spool), str(shard), str(self.scale.domains), *ids]
        done = subprocess.run(command, capture_output=True, timeout=600, check=False)
        if done.returncode:
            raise LabError(f"look-ups failed: {done.stderr.decode(errors='replace')[-800:]}")
        times: dict[str, list[float]] = json.loads(done.stdout)["times_ms"]
        return times


def free_mx_host() -> str:
    """An address of loopback whose port 25 nobody has. LabError: there is none, or we may not."""
    reason = ""
    for host in MX_HOSTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, MX_PORT))
            except OSError as problem:
                reason = str(problem.strerror)
                continue
            return host
    text = "port 25 of loopback cannot be taken, where mail to domains goes"
    raise LabError(f"{text}; run it as root ({reason})")


def anonymous_mb(pid: int) -> float:
    """Anonymous memory of a process; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().split("\n"):
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024 / _MB
    except OSError:
        return 0.0
    return 0.0


class MemoryWatch:
    """The most anonymous memory that any worker of a server had while the context was open."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most_mb = 0.0

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        pids: list[int] = []
        while not self._over.wait(_SAMPLE_S):
            if not pids or not all(os.path.exists(f"/proc/{pid}") for pid in pids):
                pids = self._server.workers() if self._server.pid else []
            self.most_mb = max([self.most_mb, *map(anonymous_mb, pids)])


def disk_octets(directory: Path) -> int:
    """Blocks that the files below a directory have."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())


def cpu_s(server: Server) -> float:
    """CPU of a server's process tree so far."""
    return process.tree_cpu_s(server.pid)
