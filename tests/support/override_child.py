"""Processes that each change the overrides of a spool while one system call fails.

    python -m tests.support.override_child     under the fault library; one JSON line per process:
    {"root": ..., "trace": ..., "page": ..., "rule": {...}}   on standard input
    status                                                    on standard output

Each is a fork. What `change_overrides` said goes to the file `trace`: ["said", "done"], or
the error.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from fastmta.control.override import Override, OverrideError, Overrides
from fastmta.control.overridefile import change_overrides
from tests.support import fault

NEW = Override(domain=("new.example",), rate="100/min", set_by="somebody", set_at_s=1.0)


def add_new(old: Overrides) -> Overrides:
    """The change that is made."""
    return old.put("new", NEW)


def run_one(order: dict[str, Any]) -> NoReturn:
    """The forked process."""
    fd = os.open(order["trace"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    rule = order["rule"]
    rule["operations"] = fault.Operation(rule["operations"])
    rule["action"] = fault.Action(rule["action"])
    fault.Page(Path(order["page"])).arm(fault.Rule(**rule), os.getpid(), fd)
    try:
        change_overrides(order["root"], add_new)
        said = "done"
    except OverrideError as error:
        said = str(error)
    os.write(fd, json.dumps(["said", said]).encode() + b"\n")
    os._exit(0)


def serve() -> None:
    """Fork a process for each order."""
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            run_one(order)
        _, status = os.waitpid(pid, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


if __name__ == "__main__":
    serve()
