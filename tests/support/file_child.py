"""Processes that each deliver one message to a directory while one system call fails.

    python -m tests.support.file_child       under the fault library; one JSON line per process:
    {"root": ..., "trace": ..., "page": ..., "rule": {...}, "is_large": ...}  on standard input
    status                                                                    on standard output

Each process is a fork, so that one costs hundredths of a second. What came of it goes to the file
`trace`: ["outcome", index, kind, text] for each recipient, then ["descriptors", [path, ...]] that
were left open, ["crash", text] for what may not happen.
"""

from __future__ import annotations

import asyncio
import json
import os
import traceback
from typing import Any, NoReturn

from fastmta.delivery.filing import FileAgent
from fastmta.event import Notice
from fastmta.message import AttemptResult, Job
from fastmta.route import Site
from fastmta.route.way import Way
from tests.support.delivering import FakeContents, make_job
from tests.support.forking import arm, open_trace, serve

CONTENT = b"Subject: x\r\n\r\n" + b"a line of it\r\n" * 300
LARGE = FakeContents(CONTENT, piece_octets=2500)


async def deliver(root: str, *, is_large: bool) -> tuple[AttemptResult, list[Any]]:
    """One attempt."""
    loop = asyncio.get_running_loop()
    events: list[Any] = []
    agent = FileAgent(events.append, loop, LARGE, threads=2)
    job = LARGE.job() if is_large else make_job(content=CONTENT)
    site = Site(b"f" * 16, "file", (), None, Way(transport="file", argument=root))
    future: asyncio.Future[AttemptResult] = loop.create_future()

    def done(_: Job, result: AttemptResult) -> None:
        future.set_result(result)

    agent.start(job, site, done)
    result = await asyncio.wait_for(future, 5)
    await agent.close(1.0)
    return result, events


def open_paths() -> list[str]:
    """What is open below the directory."""
    paths = []
    for fd in range(64):
        try:
            paths.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    return paths


def run_one(order: dict[str, Any]) -> NoReturn:
    """The forked process."""
    fd = open_trace(order)

    def say(*values: Any) -> None:
        os.write(fd, json.dumps(values).encode() + b"\n")

    arm(order, fd)
    try:
        result, events = asyncio.run(deliver(order["root"], is_large=order["is_large"]))
        for index, outcome in enumerate(result.outcomes):
            say("outcome", index, outcome.kind.value, outcome.text)
        for event in events:
            if isinstance(event, Notice):
                say("crash", event.text)
        say("trouble", result.trouble is not None)
        say("descriptors", [path for path in open_paths() if path.startswith(order["root"])])
    except BaseException:
        say("crash", traceback.format_exc())
    os._exit(0)


if __name__ == "__main__":
    serve(run_one)
