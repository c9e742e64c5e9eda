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
from typing import Any, NoReturn

from fastmta.control.override import Override, OverrideError, Overrides
from fastmta.control.overridefile import change_overrides
from tests.support.forking import arm, open_trace, serve

NEW = Override(domain=("new.example",), rate="100/min", set_by="somebody", set_at_s=1.0)


def add_new(old: Overrides) -> Overrides:
    """The change that is made."""
    return old.put("new", NEW)


def run_one(order: dict[str, Any]) -> NoReturn:
    """The forked process."""
    fd = open_trace(order)
    arm(order, fd)
    try:
        change_overrides(order["root"], add_new)
        said = "done"
    except OverrideError as error:
        said = str(error)
    os.write(fd, json.dumps(["said", said]).encode() + b"\n")
    os._exit(0)


if __name__ == "__main__":
    serve(run_one)
