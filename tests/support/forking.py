"""A fork server under the fault library: processes that each do one thing while a call fails.

    server = ForkServer("tests.support.file_child", place)     in the test; `close` ends it
    status = server.run(fault.Rule(...), root=...)
    for line in server.said(): ...

    serve(run_one)                                             in the child's module

Everything is imported once and each process is a fork. What it says goes to the file `trace`, one
JSON list a line, between the lines in which the library tells of faults: one order for all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from tests.support import fault

ROOT = Path(__file__).parents[2]
KILLED = 4  # the status of a process that did not end in its time
_POLL_S = 0.002


class ForkServer:
    """The test's side."""

    def __init__(self, module: str, place: Path) -> None:
        self.trace = place / "trace"
        self.page = fault.Page(place / "page")
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **self.page.environment()},
        )

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self.page.close()

    def run(self, rule: fault.Rule, **more: Any) -> int:
        """One process under `rule`, with `more` in its order; its exit status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.trace.unlink(missing_ok=True)
        order = {
            "trace": str(self.trace),
            "page": str(self.page.path),
            "rule": asdict(rule),
            **more,
        }
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        status = json.loads(self._process.stdout.readline())
        assert isinstance(status, int)
        return status

    def said(self) -> list[list[Any]]:
        """What the last one said, without what the library told."""
        lines = self.trace.read_bytes().split(b"\n") if self.trace.exists() else []
        return [json.loads(line) for line in lines if line.startswith(b"[")]


def open_trace(order: dict[str, Any]) -> int:
    """The descriptor of the file in which a process says something."""
    return os.open(order["trace"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def arm(order: dict[str, Any], trace_fd: int) -> None:
    """From now on this process is under the rule of its order."""
    rule = order["rule"]
    rule["operations"] = fault.Operation(rule["operations"])
    rule["action"] = fault.Action(rule["action"])
    fault.Page(Path(order["page"])).arm(fault.Rule(**rule), os.getpid(), trace_fd)


def serve(run_one: Callable[[dict[str, Any]], NoReturn], limit_s: float = 60.0) -> None:
    """The child's side: fork a process for each order; one that takes longer is killed."""
    for line in iter(sys.stdin.readline, ""):
        began_s = time.monotonic()
        pid = os.fork()
        if not pid:
            run_one(json.loads(line))
        print(json.dumps(_status_of(pid, began_s + limit_s)), flush=True)


def _status_of(pid: int, until_s: float) -> int:
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until_s:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            return KILLED
        time.sleep(_POLL_S)
