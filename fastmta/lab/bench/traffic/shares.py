"""The command `fastmta bench shares`: mail beside a slow site's queue, and beside a flood."""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ...loopback import LabError
from ...server import Server
from .. import workplace
from ..table import Row, at_most, render, stated
from .client import Client, Pace, Sent
from .field import SITE_CONNECTIONS, SIZE, Field
from .receivers import Town
from .waiting import Waiting, by_number, waiting_of

NAME = "shares"
START_MS = 100.0
FACTOR = 2.0
QUIET, BESIDE = "quiet", "beside"
_LOUD, _GOOD = "127.0.0.2", "127.0.0.3"  # the clients, who are counted by their addresses
_FIRST = 1_000_000  # number of the first fresh recipient; those of the backlog are below
_STEP = 1_000_000
_LOUD_FIRST = 3_000_000_000
_ARRIVE_S = 30.0

Found = dict[str, dict[str, list[Waiting]]]  # by part, quiet or beside


def run_shares(arguments: Sequence[str]) -> int:
    """Measure, print, write; 1 with a sentence on standard error when that cannot be done."""
    chosen = parse(arguments)
    return workplace.work(NAME, chosen, lambda directory: _measure(chosen, directory))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = workplace.parser_of(
        NAME, "Fresh mail beside the long queue of a slow site, and one client beside another's."
    )
    add = parser.add_argument
    add("parts", nargs="*", metavar="PART", help="slow, tenants (both)")
    add("--backlog", type=int, default=100_000, help="messages for the slow site (100,000)")
    add("--slow-ms", type=int, default=200, help="of each reply of the slow site (200)")
    add("--healthy", type=int, default=10, help="other sites, 1 to 15 (10)")
    add("--count", type=int, default=400, help="fresh messages of a round (400)")
    add("--rate", type=float, default=20.0, help="of them a second (20)")
    add("--tenant-ms", type=int, default=50, help="of each reply of the tenants' site (50)")
    add("--load", type=float, default=1.5, help="of both tenants / what the site can take (1.5)")
    add("--share", type=float, default=0.95, help="of it that the loud one sends (0.95)")
    add("--tenant-count", type=int, default=300, help="messages of the other one (300)")
    add("--settle", type=float, default=5.0, help="seconds before anything is timed (5)")
    add("--workers", type=int, default=0, help="of the server (0: one per core)")
    add("--pairs", type=int, default=3, help="rounds, each quiet and beside (3)")
    chosen = parser.parse_args(arguments)
    chosen.parts = chosen.parts or ["slow", "tenants"]
    if not set(chosen.parts) <= {"slow", "tenants"}:
        parser.error("the parts are slow and tenants")
    if not 1 <= chosen.healthy <= 15 or min(chosen.count, chosen.tenant_count, chosen.pairs) < 1:
        parser.error("1 to 15 healthy sites, at least one message and one round")
    if not 0 < chosen.share < 1 or min(chosen.load, chosen.rate) <= 0 or chosen.tenant_ms < 1:
        parser.error("a share between 0 and 1, some load, some messages a second, 1 ms at least")
    if not 1 <= chosen.backlog < _FIRST or chosen.count * chosen.pairs > _STEP // 2:
        parser.error("at most 999,999 messages in the backlog, and 500,000 fresh ones")
    chosen.workers = chosen.workers or len(os.sched_getaffinity(0))
    return chosen


def _measure(chosen: argparse.Namespace, directory: Path) -> int:
    facts = workplace.facts_of(directory, chosen)
    found: Found = {}
    if "slow" in chosen.parts:
        found["slow"] = _slow(directory / "slow", chosen)
    if "tenants" in chosen.parts:
        found["tenants"] = {QUIET: [], BESIDE: []}
        for number in range(chosen.pairs):
            for kind in (QUIET, BESIDE) if number % 2 == 0 else (BESIDE, QUIET):
                one = _tenants(directory / "run", chosen, is_quiet=kind == QUIET)
                found["tenants"][kind].append(one)
                _tell(f"{number + 1}/{chosen.pairs} tenants {kind}", one)
    rows = judge(found)
    print(workplace.render_facts(facts))
    print(render(rows))
    values = {
        part: {kind: [asdict(one) for one in many] for kind, many in kinds.items()}
        for part, kinds in found.items()
    }
    workplace.write_figures(NAME, chosen, {**facts, "verdicts": rows, "parts": values})
    return 0


def _slow(directory: Path, chosen: argparse.Namespace) -> dict[str, list[Waiting]]:
    """Fresh mail to healthy sites: on a server with the long queue, and on one without."""
    sites = 1 + chosen.healthy
    town = Town(
        sites=sites,
        delays_ms=(chosen.slow_ms, *[0] * chosen.healthy),
        arrivals_max=chosen.backlog + 2 * chosen.pairs * chosen.count,
    )
    found: dict[str, list[Waiting]] = {QUIET: [], BESIDE: []}
    with Field(directory, town, sites) as field:
        settings = workplace.settings_of(chosen)
        servers = {kind: field.server(kind, chosen.workers, settings) for kind in found}
        taken_s = field.fill(servers[BESIDE], chosen.backlog, domains=1)
        workplace.say(f"{chosen.backlog} messages for the slow site queued in {taken_s:.0f} s")
        for server in servers.values():
            server.start()
        time.sleep(chosen.settle)
        number = _FIRST
        for turn in range(chosen.pairs):
            for kind in (QUIET, BESIDE) if turn % 2 == 0 else (BESIDE, QUIET):
                one = _fresh(field, servers[kind], number, chosen)
                number += chosen.count
                found[kind].append(one)
                _tell(f"{turn + 1}/{chosen.pairs} slow {kind}", one)
        left = chosen.backlog - sum(each.site == 0 for each in field.receivers.arrivals())
        if left <= 0:
            raise LabError("the slow site's queue was over too early: choose a larger --backlog")
        for server in servers.values():
            server.kill()
    shutil.rmtree(directory)
    return found


def _fresh(field: Field, server: Server, first: int, chosen: argparse.Namespace) -> Waiting:
    healthy = tuple(range(1, field.domains))
    pace = _pace(server, _GOOD, chosen.rate, chosen.count, first, healthy)
    return _arrived(field, Client(pace).finish())


def _tenants(directory: Path, chosen: argparse.Namespace, *, is_quiet: bool) -> Waiting:
    """The mail of one client, with or without that of another to the same site."""
    town = Town(sites=1, delays_ms=(chosen.tenant_ms,))
    capacity = SITE_CONNECTIONS / (town.flights * town.delay_s(0))
    good, loud = (chosen.load * capacity * share for share in (1 - chosen.share, chosen.share))
    count = chosen.tenant_count + int(good * chosen.settle)  # the first ones open its connections
    good_s = count / good
    with Field(directory, town, 1) as field:
        server = field.server("server", chosen.workers, workplace.settings_of(chosen))
        server.start()
        flood = None
        if not is_quiet:
            flood = Client(
                _pace(server, _LOUD, loud, int(loud * (good_s + chosen.settle)), _LOUD_FIRST)
            )
        try:
            time.sleep(chosen.settle)
            sent = Client(_pace(server, _GOOD, good, count, _FIRST)).finish()
            waiting = _arrived(field, sent[count - chosen.tenant_count :])
        finally:
            if flood:
                flood.kill()
        server.kill()
    shutil.rmtree(directory)
    return waiting


def _pace(
    server: Server,
    origin: str,
    rate: float,
    count: int,
    first: int,
    domains: tuple[int, ...] = (0,),
) -> Pace:
    return Pace(
        port=server.port,
        origin=origin,
        rate=rate,
        count=count,
        first=first,
        size=SIZE,
        domains=domains,
    )


def _arrived(field: Field, sent: Sequence[Sent]) -> Waiting:
    """When all of it has arrived, or after a while. LabError: not all of it."""
    numbers = {each.number for each in sent}
    deadline_s = time.monotonic() + _ARRIVE_S
    while True:
        arrived = by_number(field.receivers.arrivals())
        if numbers <= arrived.keys() or time.monotonic() > deadline_s:
            return waiting_of(sent, arrived, field.town)
        time.sleep(0.2)


def _tell(what: str, one: Waiting) -> None:
    workplace.say(
        f"{what}: MAIL {one.start_p50_ms:.1f} ms after the 250, p99 {one.start_p99_ms:.1f}; "
        f"delivered after {one.end_p50_ms:.1f} ms, p99 {one.end_p99_ms:.1f}; "
        f"{one.others_per_s:.0f}/s of others meanwhile"
    )


def judge(found: Found) -> list[Row]:
    """Each figure beside its target."""
    rows: list[Row] = []
    form = "{:.1f}"
    for part, kinds in found.items():
        for kind, many in kinds.items():
            title = f"{part}, {kind}"
            start = [one.start_p99_ms for one in many]
            what = f"{title}: 250 to MAIL, p99 ms"
            is_target = part == "slow" and kind == BESIDE
            rows.append(
                at_most(what, start, START_MS, form) if is_target else stated(what, start, form)
            )
            rows += [
                stated(f"{title}: 250 to MAIL, most ms", [one.start_max_ms for one in many]),
                stated(
                    f"{title}: end of data to MAIL, p99 ms",
                    [one.whole_start_p99_ms for one in many],
                ),
                stated(f"{title}: 250 to the receiver's, p50 ms", [one.end_p50_ms for one in many]),
                stated(f"{title}: 250 to the receiver's, p99 ms", [one.end_p99_ms for one in many]),
                stated(f"{title}: end of data to 250, p99 ms", [one.accept_p99_ms for one in many]),
                stated(f"{title}: other messages/s meanwhile", [one.others_per_s for one in many]),
            ]
    tenants = found.get("tenants", {})
    pairs = zip(tenants.get(BESIDE, []), tenants.get(QUIET, []), strict=True)
    ratios = [beside.end_p99_ms / max(quiet.end_p99_ms, 0.001) for beside, quiet in pairs]
    if ratios:
        rows.append(at_most("tenants: p99 to the receiver's 250, beside / quiet", ratios, FACTOR))
    return rows
