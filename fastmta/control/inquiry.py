"""Questions about one worker: why something does not move, which sites there are, who is meant.

Each is a bounded number of look-ups: ids and next hops through the index, at most ROWS_MAX of their
rows; sites and tenants in RAM.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from fastmta.message import Message, RecipientState
from fastmta.message.situation import NOWHERE, Situation
from fastmta.scheduler import Clock, Explanation, Waiting
from fastmta.scheduler.explain import PathView
from fastmta.spool import SpoolError
from fastmta.spool.census import Census
from fastmta.spool.filter import FilterError, parse_filter
from fastmta.spool.search import HopCount, Page

from .override import Override, OverrideError, parse_selector
from .station import Result, Station, Ticket, sound, wait_for
from .telling import describe, node
from .wire import ErrorCode, Refusal, hop_text, text_of

ROWS_MAX = 200  # of a next hop that are looked at for a recipient
MESSAGES_SHOWN = 20  # of a recipient
RECIPIENTS_SHOWN = 20  # of a message
HOPS_AT_ONCE = 500  # looked at in one turn of the loop
NAMES_MAX = 1_000  # of those who are concerned; beyond them there is only a count
COUNTED_MAX = 2_000  # next hops whose mail is counted for a list of the busiest sites
HELD_PAGES = 5  # looked at for held mail, which waits for no next hop
_ID: Final = re.compile(r"[0-9A-Za-z]{16}")


class Inquiry:
    """Answers, on the loop; changes nothing."""

    def __init__(self, stations: Sequence[Station], clock: Clock) -> None:
        self._stations = stations
        self._clock = clock

    async def explain(self, ticket: Ticket) -> Result:
        """Why the subject does not move: all that it can mean and that is known here."""
        subject = ticket.request.subject
        kind, _, name = subject.partition(":")
        if kind == "message" or _ID.fullmatch(subject):
            found = await self._messages([(name if kind == "message" else subject).encode()])
        elif kind == "recipient" or ("@" in subject and not kind.startswith("tenant")):
            found = await self._recipient(name if kind == "recipient" else subject)
        else:
            found = await self._name(subject)
        notes = [*self._notes(), *(one["note"] for one in found if "note" in one)]
        return {"explanations": [one for one in found if "note" not in one], "notes": notes}

    async def sites(self, ticket: Ticket) -> Result:
        """One page of paths, by label; `next` is where the next one begins. With the subject
        `busy`: those with most to do, in one page."""
        request = ticket.request
        if request.subject == "busy":
            return await self._busy(request.limit)
        rows: list[tuple[str, Result]] = []
        is_more = False
        for station in self._stations:
            views = station.scheduler.explain.paths(request.after, request.limit)
            is_more = is_more or len(views) == request.limit
            for view in views:
                shown = describe(view, self._clock)
                rows.append((view.order, {"shard": station.number, **shown}))
        rows.sort(key=lambda row: row[0])
        kept = rows[: request.limit]
        # Paths of one order in several shards are on one page: `next` is the order.
        while kept and len(rows) > len(kept) and rows[len(kept)][0] == kept[-1][0]:
            kept.append(rows[len(kept)])
        is_more = is_more or len(rows) > len(kept)
        return {
            "sites": [row for _, row in kept],
            "next": kept[-1][0] if is_more and kept else None,
        }

    async def _busy(self, limit: int) -> Result:
        sites: list[Result] = []
        for station in self._stations:
            views: list[PathView] = []
            for found in station.scheduler.explain.busiest(limit):
                views = found
                await asyncio.sleep(0)  # mail goes on between
            scheduled = await _scheduled(station, views)
            sites += [
                {
                    "shard": station.number,
                    **describe(one, self._clock),
                    "scheduled": scheduled.get(one.order),
                }
                for one in views
            ]
        return {"sites": sites, "next": None}

    async def concern(self, ticket: Ticket) -> Result:
        """How many paths and next hops in use an override of this selector is for."""
        shape = selected(ticket.request.subject).shape("asked for")
        sites: set[str] = set()
        next_hops: set[str] = set()
        for station in self._stations:
            explain = station.scheduler.explain
            known = explain.next_hops()
            for at in range(0, len(known), HOPS_AT_ONCE):
                labels, names = explain.concerned(shape, known[at : at + HOPS_AT_ONCE])
                sites |= labels
                next_hops |= names
                await asyncio.sleep(0)  # mail goes on between
        return {
            "sites": len(sites),
            "next_hops": len(next_hops),
            "site_names": sorted(sites)[:NAMES_MAX],
            "next_hop_names": sorted(next_hops)[:NAMES_MAX],
        }

    # What is asked for

    async def _messages(self, ids: list[bytes]) -> list[Result]:
        found = []
        for station in self._stations:
            page: Page = await wait_for(partial(station.spool.search.find, ids))
            found += [self._message(station, message) for message in sound(page).messages]
        return found

    def _message(self, station: Station, message: Message, only: bytes = b"") -> Result:
        """One message, its recipients below it: those that wait first."""
        view = station.spool.search.view(message)
        explain = station.scheduler.explain
        paths = message.envelope.forward_paths
        indices = sorted(
            (index for index, path in enumerate(paths) if not only or path.lower() == only),
            key=message.is_final,
        )
        there = NOWHERE if message.id in station.situation.active else station.situation
        parts = [
            _as_it_stands(explain.recipient(message, index), message.states.get(index), hop, there)
            for index in indices[:RECIPIENTS_SHOWN]
            for hop in (one.next_hop for one in view.recipients[index : index + 1])
        ]
        main = min(parts, key=_urgency, default=Explanation(Waiting.FINAL))
        facts: dict[str, int | str] = {
            "sender": text_of(view.reverse_path),
            "client": view.client,
            "tenant": view.tenant,
            "size_octets": view.size_octets,
            "arrived_at": view.arrived_at_ns // 10**9,
            "expires_at": view.expires_at_ns // 10**9,
            "recipients": view.recipient_count,
            "pending": view.pending,
            "omitted": max(0, len(indices) - RECIPIENTS_SHOWN),
        }
        whole = Explanation(
            main.waiting,
            main.detail,
            main.until_s,
            main.cause,
            "message",
            view.id.decode(),
            main.reply,
            facts,
            tuple(parts),
        )
        return self._nodes(station, [whole])[0]

    async def _recipient(self, address: str) -> list[Result]:
        """Mail that waits for one address."""
        path = address.encode("utf-8", "surrogateescape").lower()
        if not path or b"\0" in path:
            raise Refusal(ErrorCode.USAGE, "an address has characters, and no NUL")
        found: list[Result] = []
        for station in self._stations:
            search, explain = station.spool.search, station.scheduler.explain
            next_hops = explain.routes(path)
            messages: list[Message] = []
            for next_hop in next_hops:
                ids, is_whole = await _sample(station, next_hop)
                page: Page = await wait_for(partial(search.find, ids))
                messages += [one for one in sound(page).messages if _waits_for(one, path)]
                if not is_whole:
                    name = hop_text(text_of(next_hop))
                    text = f"only the {ROWS_MAX} messages due first for {name}"
                    found.append({"note": f"shard {station.number}: {text} were read"})
            if not messages:
                messages = await self._held(station, address)
            found += [self._message(station, one, path) for one in messages[:MESSAGES_SHOWN]]
            if not messages:
                parts = [part for hop in next_hops for part in explain.next_hop(hop)]
                found += self._nodes(station, _once(parts))
        return found

    async def _held(self, station: Station, address: str) -> list[Message]:
        """Held mail waits for no next hop: the first pages are looked through."""
        try:
            filter = parse_filter(f'to:"{address}" status:held')
        except FilterError:
            return []
        after = b""
        for _ in range(HELD_PAGES):
            start = partial(station.spool.search.page, filter, self._clock.wall_ns(), after,
                            MESSAGES_SHOWN, False)  # fmt: skip
            page: Page = sound(await wait_for(start))
            if page.messages or page.next is None:
                return page.messages
            after = page.next
        return []

    async def _name(self, subject: str) -> list[Result]:
        """A site, a domain, a relay, a tenant: whatever is known by that name."""
        try:
            kind, name = parse_selector(subject)
        except OverrideError as error:
            raise Refusal(ErrorCode.USAGE, str(error)) from None
        found: list[Result] = []
        for station in self._stations:
            nodes = self._nodes(station, self._named(station, subject, kind, name))
            for one in nodes:
                if one["about"] == "next hop":
                    one["facts"]["queued"] = await _count(station, one["name"].encode())
            found += nodes
        return found

    def _named(self, station: Station, subject: str, kind: str, name: str) -> list[Explanation]:
        found: list[Explanation] = []
        explain = station.scheduler.explain
        if kind in ("", "site"):
            found += explain.site(name)
        if kind in ("", "domain"):
            found += explain.domain(name)
        if kind in ("", "tenant"):
            found += explain.tenant(subject if not kind else name)
        if kind == "provider":
            found += explain.provider(name)
        return found

    def _nodes(self, station: Station, found: Sequence[Explanation]) -> list[Result]:
        return [{"shard": station.number, **node(one, self._clock)} for one in found]

    def _notes(self) -> list[str]:
        """What holds up everything of a shard and is not the scheduler's to know."""
        notes = []
        for number, spool, _ in self._stations:
            if not spool.is_healthy:
                notes.append(f"shard {number}: the spool is not healthy, nothing is delivered")
            if not spool.is_indexed:
                text = "the index is being rebuilt, what is not in memory waits for that"
                notes.append(f"shard {number}: {text}")
        return notes


def selected(text: str) -> Override:
    """An override for the selectors `domain:x.example`, `tenant:acme`, one a line. Raises
    Refusal."""
    values: dict[str, Any] = {}  # Any: the type of the fields
    for part in text.split("\n"):
        try:
            kind, value = parse_selector(part)
        except OverrideError as error:
            raise Refusal(ErrorCode.USAGE, str(error)) from None
        if not kind or kind in values:
            raise Refusal(ErrorCode.USAGE, f"{part!r} is no selector")
        values[kind] = (value,)
    return Override(is_paused=True, **values)


async def _sample(station: Station, next_hop: bytes) -> tuple[list[bytes], bool]:
    def start(done: Any) -> None:  # Any: two arguments become one
        station.spool.search.sample(next_hop, ROWS_MAX, lambda *found: done(found))

    found: tuple[list[bytes], bool] = await wait_for(start)
    return found


async def _count(station: Station, next_hop: bytes) -> int:
    """Messages that wait for it, in memory or not."""

    def start(done: Callable[[object], None]) -> None:
        station.spool.search.count(done, next_hop)

    found: list[HopCount] | SpoolError = await wait_for(start)
    if isinstance(found, SpoolError):
        raise Refusal(ErrorCode.TEMPORARY, str(found))
    return sum(one.messages for one in found)


def _once(found: list[Explanation]) -> list[Explanation]:
    """Several next hops may have one path: that is shown, and counted, once."""
    return list({(one.about, one.name, str(one.facts)): one for one in found}.values())


def _waits_for(message: Message, path: bytes) -> bool:
    """Whether a recipient of that address is not final."""
    paths = message.envelope.forward_paths
    return any(one.lower() == path and not message.is_final(at) for at, one in enumerate(paths))


def _as_it_stands(
    one: Explanation, state: RecipientState | None, next_hop: bytes, situation: Situation
) -> Explanation:
    """With the status that lists show."""
    status = situation.of(state, next_hop).status.name.lower()
    return msgspec.structs.replace(one, facts={**one.facts, "status": status})


async def _scheduled(station: Station, views: Sequence[PathView]) -> dict[str, int]:
    """About how many recipients wait in the spool, by path; nothing when that are too many next
    hops to count."""
    hops = station.scheduler.explain.hops_of({one.order for one in views}, COUNTED_MAX)
    names = [name for found in hops.values() for name in found]
    census: Census | None = None
    if names:
        census = await wait_for(partial(station.spool.search.census, names))
    if census is None:
        return {}
    in_memory = {one.order: one.in_flight + one.waiting for one in views}
    return {
        order: max(0, sum(census.waiting.get(name, 0) for name in found) - in_memory[order])
        for order, found in hops.items()
    }


def _urgency(explanation: Explanation) -> tuple[bool, bool, float]:
    """Of several recipients: what moves next says most about the message."""
    is_final = explanation.waiting is Waiting.FINAL
    return is_final, explanation.waiting is Waiting.HOLD, explanation.until_s
