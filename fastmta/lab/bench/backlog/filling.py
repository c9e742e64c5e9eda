"""Fills a spool while no server has it open: one `build` process per shard."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ...loopback import LabError
from ..workplace import module
from . import build


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """What the spool is to hold: deferred messages to the domains in turn, all due at once."""

    messages: int
    domains: int
    size: int
    shards: int
    due_at_ns: int
    segment_octets: int = 32 << 20

    def options(self, shard: int) -> list[str]:
        """For the process that fills this shard."""
        values = {
            "messages": self.messages,
            "domains": self.domains,
            "size": self.size,
            "shard": shard,
            "shards": self.shards,
            "due-at-ns": self.due_at_ns,
            "segment-octets": self.segment_octets,
        }
        return [text for name, value in values.items() for text in (f"--{name}", str(value))]


def fill(spool: Path, filling: Filling, stack: ExitStack) -> tuple[float, list[list[str]]]:
    """Make the spool and fill it; seconds, and some ids of each shard.

    The processes are ended by `stack`, should something break. LabError when a message is missing.
    """
    spool.mkdir(parents=True)
    begin_s = time.monotonic()
    running = []
    for shard in range(filling.shards):
        command = [*module(build), str(spool), *filling.options(shard)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        stack.callback(running[-1].kill)
    said = [each.communicate()[0] for each in running]
    taken_s = time.monotonic() - begin_s
    if any(each.returncode for each in running):
        raise LabError("the backlog could not be built")
    found = [json.loads(each) for each in said]
    if sum(each["messages"] for each in found) != filling.messages:
        raise LabError(f"not every message of the backlog was accepted: {found}")
    return taken_s, [each["sample"] for each in found]
