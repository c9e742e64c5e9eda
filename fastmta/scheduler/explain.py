"""Why is this not moving? One tree, from data: everything that waits, waits on something named.

Each question costs a number of look-ups that does not grow with the queue; those about a name that
many paths may have go over the paths once, and over no mail.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from typing import Final

import msgspec

from fastmta.budget.shape import Shape
from fastmta.message import ClientIdentity, Envelope, Message, RecipientStatus
from fastmta.message.attempt import Job
from fastmta.route.hop import domain_of, owner_of, plain_hop

from .engine import Engine
from .hop import Hop
from .lane import Lane
from .path import Path
from .reason import (
    CLASSES,
    general_reasons,
    hop_reasons,
    in_turn,
    lane_reasons,
    limits,
    path_reasons,
    path_reasons_with,
)
from .retry import NS
from .table import Table
from .waiting import Explanation, Waiting, gather

AT_ONCE = 1_000  # paths that are looked at in one turn
SHOWN_MAX = 20  # of paths of a tenant, of next hops of a domain, of recipients of a message
_NOBODY: Final = ClientIdentity("", "")


class PathView(msgspec.Struct, frozen=True):
    """One line of a list of paths."""

    order: str  # lists are by this
    label: str
    source: str
    provider: str
    state: str
    in_flight: int
    window: int
    window_max: int
    waiting: int
    next_hops: int
    attempts: int  # that have ended since the path is known
    troubles: int  # ... of these with trouble of the site
    why: Explanation


class SiteLoad(msgspec.Struct, frozen=True):
    """How busy the path of a next hop is."""

    provider: str
    in_flight: int
    limit: int
    is_open: bool
    rate_per_s: float  # of what may start; 0: as many as there may be connections


class Explainer:
    """Answers questions about one scheduler; changes nothing."""

    def __init__(self, engine: Engine, table: Table) -> None:
        self._engine = engine
        self._table = table

    # By what is asked for

    def message(self, id: bytes) -> list[Explanation]:
        """Why message `id` does not move, one answer per job in RAM; empty: it is not in RAM."""
        resident = self._table.residence.find(id)
        if resident is None:
            return []
        if isinstance(resident, Job):
            jobs = [resident]
        elif resident.is_claimed and not resident.jobs:
            return [Explanation(Waiting.EXPIRY)]
        else:
            jobs = list(resident.jobs.values())
        found = []
        for job in jobs:
            why, path = self._job(job), self._table.hops[job.next_hop].path
            parts = (why.detail, "" if path is None else _load(path))
            detail = "; ".join(part for part in parts if part)
            found.append(msgspec.structs.replace(why, detail=detail))
        return found

    def recipient(self, message: Message, index: int) -> Explanation:
        """Why recipient `index` of `message`, as the spool knows it, is not delivered."""
        state = message.states.get(index)
        envelope = message.envelope
        path = envelope.forward_paths[index]
        status = RecipientStatus.QUEUED if state is None else state.status
        facts: dict[str, int | str] = {"status": status.name.lower()}
        if state is not None:
            facts["attempts"] = state.attempts
        if status.is_final:
            why = Explanation(Waiting.FINAL, status.name.lower())
        elif status is RecipientStatus.HELD:
            why = Explanation(Waiting.HOLD)
        else:
            due_at_ns = state.due_at_ns if state and status is RecipientStatus.DEFERRED else 0
            why = self._pending(message, index, due_at_ns)
        reply = state.text if state is not None else ""
        return msgspec.structs.replace(
            why, about="recipient", name=_text(path), reply=reply, facts={**facts, **why.facts}
        )

    def routes(self, forward_path: bytes) -> list[bytes]:
        """The next hops in which mail to `forward_path` may wait: that of mail from nobody in
        particular, and those of tenants that have their own; at most SHOWN_MAX."""
        plain = self._engine.ports.next_hop(forward_path, Envelope(b"", (forward_path,), _NOBODY))
        plain = plain_hop(plain)
        found = [plain]
        for next_hop in self._table.hops:
            if next_hop.startswith(plain) and next_hop != plain and plain_hop(next_hop) == plain:
                found.append(next_hop)
                if len(found) == SHOWN_MAX:
                    break
        return found

    def next_hop(self, next_hop: bytes) -> list[Explanation]:
        """Why mail of `next_hop` does not move: in RAM, then in the backlog; empty: unknown."""
        hop = self._table.hops.get(next_hop)
        if hop is None:
            return []
        found = [self._hop(hop)]
        if hop.is_behind or hop.due_at_ns is not None:
            found.append(self._backlog(hop))
        return found

    def domain(self, domain: str) -> list[Explanation]:
        """The next hops of a domain, or of a relay; at most SHOWN_MAX."""
        octets = domain.encode("utf-8", "surrogateescape")
        found: list[Explanation] = []
        for next_hop, hop in self._table.hops.items():
            if octets in next_hop and domain_of(next_hop) == domain:
                found.append(self._domain_hop(hop, domain))
                if len(found) == SHOWN_MAX:
                    break
        return found

    def _domain_hop(self, hop: Hop, domain: str) -> Explanation:
        parts: tuple[Explanation, ...] = ()
        backlog, path = self._backlog(hop), hop.path
        if backlog.waiting is not Waiting.NOTHING:
            parts = (backlog,)
        if path is not None:
            lane = path.gate.lane_at(hop)
            holdup = None if lane is None else lane.holdup
            parts += (*limits(self._engine, path, _subject(path, domain), holdup), self._path(path))
        name = _text(hop.next_hop)
        facts = self._hop_facts(hop)
        return gather("next hop", name, hop_reasons(self._engine, hop), facts=facts, parts=parts)

    def load(self, next_hop: bytes) -> SiteLoad | None:
        """Of the path that mail of `next_hop` takes; None: it has none now."""
        hop = self._table.hops.get(next_hop)
        path = None if hop is None else hop.path
        if path is None:
            return None
        health = path.health
        return SiteLoad(
            path.site.provider, path.in_flight, health.limit, path.is_open, path.gate.rate_per_s
        )

    def site(self, label: str) -> list[Explanation]:
        """The paths to the sites of that label."""
        return [self._path(path) for path in self._table.paths.values() if path.site.label == label]

    def provider(self, name: str) -> list[Explanation]:
        """The paths to sites of that provider, those with most that waits; at most SHOWN_MAX."""
        paths = [path for path in self._table.paths.values() if path.site.provider == name]
        most = heapq.nlargest(SHOWN_MAX, paths, key=lambda path: (len(path.ready), _order(path)))
        return [self._path(path) for path in most]

    def sites(self) -> list[Explanation]:
        """Every path in use."""
        return [self._path(path) for path in self._table.paths.values()]

    def tenant(self, name: str) -> list[Explanation]:
        """The lanes of a tenant, those with most that waits first; at most SHOWN_MAX."""
        lanes = [
            (len(lane), path.site.label, number, path, lane)
            for number, path in enumerate(self._table.paths.values())
            for lane in path.ready.lanes.values()
            if lane.tenant.name == name and (len(lane) or lane.limits.places)
        ]
        most = heapq.nlargest(SHOWN_MAX, lanes, key=lambda found: found[:3])
        found = [self._lane(path, lane) for *_, path, lane in most]
        for next_hop, hop in self._table.hops.items():
            if b" for " not in next_hop or len(found) >= SHOWN_MAX:
                continue  # the quick look first: there may be a hundred thousand
            if owner_of(next_hop) == name:
                backlog = self._backlog(hop)
                if backlog.waiting is not Waiting.NOTHING:
                    found.append(backlog)
        return found

    def paths(self, after: str, limit: int) -> list[PathView]:
        """A page of paths, by label: the first `limit` beyond `after`."""
        ordered = ((_order(path), path) for path in self._table.paths.values())
        found = heapq.nsmallest(limit, (one for one in ordered if one[0] > after))
        behind = self._behind([path for _, path in found])
        return [self._view(order, path, behind.get(path)) for order, path in found]

    def busiest(self, limit: int) -> Iterator[list[PathView]]:
        """The `limit` paths with most under way and ready, the last of what is yielded; before
        it comes nothing, once for every AT_ONCE paths, so that others may have a turn."""
        known = list(self._table.paths.values())
        found: list[tuple[int, str, Path]] = []
        for at in range(0, len(known), AT_ONCE):
            loads = (
                (path.in_flight + len(path.ready), _order(path), path)
                for path in known[at : at + AT_ONCE]
            )
            found = heapq.nlargest(limit, (*found, *loads), key=lambda one: one[:2])
            yield []
        behind = self._behind([path for _, _, path in found])
        yield [self._view(order, path, behind.get(path)) for _, order, path in found]

    def hops_of(self, orders: Collection[str], most: int) -> dict[str, list[bytes]]:
        """The next hops of these paths; empty when there are more than `most`."""
        wanted = {
            path: order for path in self._table.paths.values() if (order := _order(path)) in orders
        }
        if sum(path.hop_count for path in wanted) > most:
            return {}
        found: dict[str, list[bytes]] = {order: [] for order in wanted.values()}
        for next_hop, hop in self._table.hops.items():
            if hop.path in wanted:
                found[wanted[hop.path]].append(next_hop)
        return found

    def _behind(self, paths: Sequence[Path]) -> dict[Path, Hop]:
        """Of each of `paths` the next hop whose mail in the spool is due first."""
        shown = dict.fromkeys(paths)
        behind: dict[Path, Hop] = {}
        for hop in self._table.hops.values():
            path = hop.path
            if path is None or path not in shown or not (hop.is_behind or hop.due_at_ns):
                continue
            known = behind.get(path)
            if known is None or (not hop.is_behind, hop.due_at_ns or 0) < (
                not known.is_behind,
                known.due_at_ns or 0,
            ):
                behind[path] = hop
        return behind

    def next_hops(self) -> list[bytes]:
        """All that are known now."""
        return list(self._table.hops)

    def concerned(self, shape: Shape, next_hops: Sequence[bytes]) -> tuple[set[str], set[str]]:
        """Which of these next hops `shape` is for, and the labels of their sites; without its
        tenants. Ask for some thousands at a time."""
        wanted = msgspec.structs.replace(shape, tenant=())
        labels: set[str] = set()
        names: set[str] = set()
        for next_hop in next_hops:
            hop = self._table.hops.get(next_hop)
            if hop is None or wanted.values(_subject(hop.path, domain_of(next_hop))) is None:
                continue
            names.add(_text(next_hop))
            if hop.path is not None:
                labels.add(hop.path.site.label)
        return labels, names

    # Parts

    def _job(self, job: Job) -> Explanation:
        if job.started_at_s:
            path = self._table.hops[job.next_hop].path
            age_s = self._engine.ports.clock.monotonic_s() - job.started_at_s
            detail = f"for {age_s:.1f} s"
            return Explanation(Waiting.ATTEMPT, detail, children=self._path_parts(path))
        hop = self._table.hops[job.next_hop]
        if hop.path is None:
            return gather("", "", hop_reasons(self._engine, hop), facts=self._hop_facts(hop))
        lane = hop.path.gate.find_lane(job)
        reasons = [*path_reasons(self._engine, hop.path)]
        if lane is not None:
            reasons += lane_reasons(self._engine, hop.path, lane)
            reasons = in_turn(hop.path, lane, job, reasons)
        return gather("", "", reasons, parts=self._path_parts(hop.path))

    def _pending(self, message: Message, index: int, due_at_ns: int) -> Explanation:
        """Neither final nor held: in RAM, or in the backlog."""
        resident = self._table.residence.find(message.id)
        if resident is not None:
            jobs = [resident] if isinstance(resident, Job) else list(resident.jobs.values())
            for job in jobs:
                if index in job.indices:
                    return self._job(job)
            if not isinstance(resident, Job) and resident.is_claimed:
                return Explanation(Waiting.EXPIRY)
        ports = self._engine.ports
        envelope = message.envelope
        hop = self._table.hops.get(ports.next_hop(envelope.forward_paths[index], envelope))
        left_ns = due_at_ns - ports.clock.wall_ns()
        if left_ns > 0:
            until_s = ports.clock.monotonic_s() + left_ns / NS
            reasons = [Explanation(Waiting.DUE, until_s=until_s)]
            if hop is not None:
                reasons += hop_reasons(self._engine, hop)
            return gather("", "", reasons, parts=self._path_parts(hop.path if hop else None))
        backlog = Explanation(Waiting.BACKLOG)
        if hop is None:
            return gather("", "", [*general_reasons(self._engine), backlog])
        reasons = [*hop_reasons(self._engine, hop), backlog]
        return gather("", "", reasons, parts=self._path_parts(hop.path))

    def _hop(self, hop: Hop) -> Explanation:
        name = _text(hop.next_hop)
        if hop.path is not None:
            return self._path(hop.path)
        facts = self._hop_facts(hop)
        return gather("next hop", name, hop_reasons(self._engine, hop), facts=facts)

    def _hop_facts(self, hop: Hop) -> dict[str, int | str]:
        return {"lookup": hop.state.value, "in_memory": hop.held}

    def _backlog(self, hop: Hop) -> Explanation:
        """Of mail that is not in RAM."""
        if hop.is_behind:
            reasons = hop_reasons(self._engine, hop)
            if not reasons:
                return Explanation(Waiting.BACKLOG, about="backlog", name=_text(hop.next_hop))
            return gather("backlog", _text(hop.next_hop), reasons)
        if hop.due_at_ns is None:
            return Explanation(Waiting.NOTHING, about="backlog", name=_text(hop.next_hop))
        clock = self._engine.ports.clock
        until_s = clock.monotonic_s() + max(0, hop.due_at_ns - clock.wall_ns()) / NS
        detail = "the earliest of those that are due later"
        return Explanation(Waiting.DUE, detail, until_s, about="backlog", name=_text(hop.next_hop))

    # Paths

    def _path(self, path: Path) -> Explanation:
        parked = self._parked(path)
        return gather(
            "site",
            path.site.label,
            path_reasons_with(self._engine, path, parked),
            cause=path.health.cause,
            facts=_facts(path),
            parts=(*limits(self._engine, path, _subject(path), path.holdup), *parked),
        )

    def _parked(self, path: Path) -> tuple[Explanation, ...]:
        """Lanes that are held up by something of their own; at most SHOWN_MAX."""
        if not path.ready.parked:
            return ()
        parked = [one for one in path.ready.lanes.values() if one.holdup is not None and len(one)]
        most = heapq.nlargest(SHOWN_MAX, parked, key=len)
        return tuple(
            gather(
                "lane",
                lane.key if isinstance(lane.key, str) else _text(lane.key.partition(b"\0")[0]),
                lane_reasons(self._engine, path, lane),
                facts={"waiting": len(lane), "tenant": lane.tenant.name},
            )
            for lane in most
        )

    def _path_parts(self, path: Path | None) -> tuple[Explanation, ...]:
        return () if path is None else (self._path(path),)

    # Lanes

    def _lane(self, path: Path, lane: Lane) -> Explanation:
        reasons = [*path_reasons(self._engine, path), *lane_reasons(self._engine, path, lane)]
        label = path.site.label
        name = lane.tenant.name
        facts: dict[str, int | str] = {
            "site": label,
            "waiting": len(lane),
            "class": CLASSES[lane.tenant.priority],
            "weight": lane.tenant.weight,
        }
        subject = _subject(path, tenant=name)
        parts = (*limits(self._engine, path, subject, lane.holdup), self._path(path))
        return gather("tenant", name, reasons, facts=facts, parts=parts)

    def _view(self, order: str, path: Path, behind: Hop | None) -> PathView:
        """`behind` has mail in the spool: when nothing is in memory the site waits for that."""
        site, health = path.site, path.health
        reasons = path_reasons_with(self._engine, path, self._parked(path))
        if not reasons and behind is not None and not len(path.ready) and not path.in_flight:
            reasons = [msgspec.structs.replace(self._backlog(behind), about="", name="")]
        return PathView(
            order,
            site.label,
            path.key[0],
            site.provider,
            health.state.value,
            path.in_flight,
            health.limit,
            health.window.limit,
            len(path.ready),
            path.hop_count,
            health.clean_count + health.trouble_count,
            health.trouble_count,
            gather(
                "site",
                site.label,
                reasons,
                cause=health.cause,
            ),
        )


def _order(path: Path) -> str:
    """Of a list: labels may be the same, keys are not."""
    return f"{path.site.label} {path.key[0]} {path.key[1].hex()}"


def _subject(path: Path | None, domain: str = "", tenant: str = "") -> dict[str, str]:
    """As shapes look at it."""
    found = {"domain": domain, "tenant": tenant}
    if path is not None:
        site = path.site
        found.update(site=site.label, provider=site.provider, source=path.key[0])
    return found


def _load(path: Path) -> str:
    health = path.health
    return f"{path.site.label}: {path.in_flight}/{health.limit} under way, {len(path.ready)} wait"


def _facts(path: Path) -> dict[str, int | str]:
    health = path.health
    return {
        "source": path.key[0],
        "provider": path.site.provider,
        "state": health.state.value,
        "in_flight": path.in_flight,
        "window": health.limit,
        "window_max": health.window.limit,
        "waiting": len(path.ready),
        "next_hops": path.hop_count,
    }


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "backslashreplace")
