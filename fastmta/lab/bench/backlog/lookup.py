"""Look-ups in a spool that no server has open: how long each takes; a process of its own.

    python -m fastmta.lab.bench.backlog.lookup DIRECTORY SHARD DOMAINS ID...

Prints a line of JSON: seconds that opening took, and milliseconds of each look-up by kind.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import uvloop

from fastmta.event import Event
from fastmta.message import ClientIdentity, Envelope
from fastmta.route import RouteTable
from fastmta.spool import Spool, SpoolOptions

from .build import domain_of

TIMES = 100  # of each kind, at most
_ANSWER_S = 60.0


async def _ask(start: Callable[[Callable[..., None]], None]) -> tuple[object, float]:
    """Call `start(done)`; what `done` was called with, and milliseconds until then."""
    answered: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    begin_s = time.perf_counter()
    start(answered.set_result)
    value = await asyncio.wait_for(answered, _ANSWER_S)
    return value, (time.perf_counter() - begin_s) * 1e3


async def _look(directory: str, shard: int, domains: int, ids: Sequence[str]) -> dict[str, object]:
    next_hop = RouteTable().next_hop
    begin_s = time.monotonic()
    spool = Spool.open(directory, SpoolOptions(shard=shard), next_hop, _ignore)
    spool.attach(asyncio.get_running_loop())
    opened_s = time.monotonic() - begin_s
    search = spool.search
    times: dict[str, list[float]] = {"by id": [], "count": [], "next due": []}
    for id in ids[:TIMES]:
        found, taken_ms = await _ask(partial(search.take, (id.encode(),), False))
        assert isinstance(found, list)
        if len(found) != 1:
            raise SystemExit(f"message {id} is not there")
        spool.release(found[0])
        times["by id"].append(taken_ms)
    for number in range(0, domains, max(1, domains // TIMES)):
        path = b"x@" + domain_of(number).encode()
        hop = next_hop(path, Envelope(b"", (path,), ClientIdentity()))
        times["count"].append((await _ask(partial(search.count, next_hop=hop)))[1])
        times["next due"].append((await _ask(partial(search.first_due, hop)))[1])
    await spool.close()
    return {"opened_s": opened_s, "times_ms": times}


def _ignore(_: Event) -> None:
    """Nobody reads notices here."""


def main(arguments: Sequence[str]) -> int:
    """Look up, print."""
    directory, shard, domains, *ids = arguments
    print(json.dumps(uvloop.run(_look(directory, int(shard), int(domains), ids))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
