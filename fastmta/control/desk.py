"""What is done for each request: on every shard of this process, in bounded and durable steps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

from fastmta.event import Event, Notice
from fastmta.message import Message
from fastmta.message.situation import NOWHERE, QUEUES, queue_of
from fastmta.scheduler import Clock
from fastmta.scheduler.operation import Answer, Kind, Order, changes_of
from fastmta.spool import SpoolError
from fastmta.spool.filter import Filter, FilterError, parse_filter
from fastmta.spool.search import HopCount, MessageView, Page

from .inquiry import Inquiry
from .listing import Listing
from .override import OverrideError
from .station import Result, Station, Ticket, sound, wait_for
from .telling import reasons_of
from .wire import ErrorCode, Refusal, Request, Verb, text_of

STEP = 500  # messages of one step of an operation
HOPS_SHOWN = 10_000
RECIPIENTS_LISTED = 20  # of each message of a search
UNDER_WAY_SHOWN = 100
FLUSHES_MAX = 4  # that nobody waits for

# What the log says of an operation behind the lines of its messages; not of FLUSH.
_TOTALS = {
    Kind.HOLD: "Placed on hold",
    Kind.RELEASE: "Released from hold",
    Kind.DELETE: "Deleted",
    Kind.REQUEUE: "Requeued",
    Kind.EXPIRE: "Force-expired",
}

Handler: TypeAlias = Callable[[Ticket], Awaitable[Result]]


class Totals:
    """What an operation came to."""

    def __init__(self) -> None:
        self.matched = 0
        self.answers = dict.fromkeys(Answer, 0)
        self.under_way: list[str] = []
        self.woken = 0  # pauses that were ended

    def add(self, answers: dict[bytes, Answer]) -> None:
        """Count a step."""
        for id, answer in answers.items():
            self.answers[answer] += 1
            if answer is Answer.UNDER_WAY and len(self.under_way) < UNDER_WAY_SHOWN:
                self.under_way.append(id.decode())

    def render(self) -> Result:
        """As a client reads it."""
        names = {answer.name.lower(): count for answer, count in self.answers.items()}
        if self.woken:
            names["woken"] = self.woken
        return {"matched": self.matched, **names, "ids_under_way": self.under_way}


class Desk:
    """Answers requests, on the loop."""

    def __init__(
        self,
        stations: Sequence[Station],
        clock: Clock,
        reshape: Callable[[], int] | None = None,
        tell: Callable[[], Result] | None = None,
        emit: Callable[[Event], None] | None = None,
    ) -> None:
        """`reshape` takes up the overrides of the file, and says how many are in force; `tell` says
        how the worker is. None: there is no worker. `emit` hears what operations came to."""
        self.stations = stations
        self._clock = clock
        self._wall_ns = clock.wall_ns
        self._reshape = reshape
        self._tell = tell
        self._emit = emit
        inquiry = Inquiry(stations, clock)
        self._listing = listing = Listing(stations, clock)
        # Those that nobody waits for, and whether they are for all mail.
        self._flushing: dict[asyncio.Task[Result], bool] = {}
        self._verbs: dict[Verb, Handler] = {
            Verb.FIND: self._find,
            Verb.SEARCH: self._search,
            Verb.COUNT: self._count,
            Verb.NEXT_DUE: self._next_due,
            Verb.SUMMARY: self._summary,
            Verb.LIST: listing.list,
            Verb.CENSUS: listing.census,
            Verb.CONTENT: listing.content,
            Verb.EXPLAIN: inquiry.explain,
            Verb.SITES: inquiry.sites,
            Verb.CONCERN: inquiry.concern,
            Verb.RESHAPE: self._reload,
            Verb.STATUS: self._status,
            **{Verb(kind.value): partial(self._operate, kind) for kind in Kind},
            Verb.FLUSH: self._flush,
        }

    def add(self, verbs: Mapping[Verb, Handler]) -> None:
        """Answer these as well: what a server has and a spool alone has not."""
        self._verbs.update(verbs)

    async def answer(self, ticket: Ticket) -> Result:
        """The result of a request, when all that it changed is durable. Raises Refusal."""
        verb = ticket.request.verb
        if verb not in self._verbs:
            raise Refusal(ErrorCode.USAGE, f"{verb.value}: no server runs")
        return await self._verbs[verb](ticket)

    def close(self) -> list[asyncio.Task[Result]]:
        """What goes on though nobody waits for it; to be cancelled."""
        return list(self._flushing)

    # Operations

    async def _operate(self, kind: Kind, ticket: Ticket) -> Result:
        request = ticket.request
        if bool(request.ids) + (request.filter is not None) + request.all != 1:
            raise Refusal(ErrorCode.USAGE, "one of ids, filter and all is wanted")
        if request.with_failed and kind is not Kind.REQUEUE:
            raise Refusal(ErrorCode.USAGE, "only a requeue takes failed recipients")
        order = Order(kind, request.with_failed, request.wait_s)
        result = await self._carry_out(order, ticket)
        if result["done"] and self._emit is not None and kind in _TOTALS:
            messages = "1 message" if result["done"] == 1 else f"{result['done']} messages"
            self._emit(Notice("postsuper", f"{_TOTALS[kind]}: {messages}"))
        return result

    async def _carry_out(self, order: Order, ticket: Ticket) -> Result:
        request = ticket.request
        if request.ids:
            return await self._operate_ids(order, ticket)
        filter = self._parse(request.filter or "")
        now_ns = self._wall_ns()
        if order.with_failed and not filter.statuses:
            filter.with_failed()
        totals = Totals()
        if request.dry_run:
            totals.matched = (await self._listing.count(filter, now_ns, ticket)).messages
            return {**totals.render(), "is_cancelled": ticket.is_cancelled}
        for station in self.stations:
            await self._operate_shard(station, order, (filter, now_ns), ticket, totals)
        return {**totals.render(), "is_cancelled": ticket.is_cancelled}

    async def _operate_shard(
        self,
        station: Station,
        order: Order,
        what: tuple[Filter, int],
        ticket: Ticket,
        totals: Totals,
    ) -> None:
        """One step after the other; each is durable before it is counted."""
        filter, now_ns = what
        search = station.spool.search

        def check(message: Message) -> bool:  # as it stood when it was found
            return search.accepts(there, message, now_ns)

        order = Order(order.kind, order.with_failed, order.wait_s, check)
        end = station.spool.new_id()  # what comes after the order is not meant by it
        after: bytes | None = b""
        while after is not None and after < end and not ticket.is_cancelled:
            there = self._situated(station, filter)
            page = await self._page(station, there, now_ns, after, STEP, True)
            ids = [id for id in page.ids if id < end]
            totals.matched += len(ids)
            if ids:
                totals.add(await self._step(station, order, ids))
                if order.kind is Kind.FLUSH and not ticket.request.all:
                    totals.woken += await self._wake(station, ids)
                await ticket.tell(totals.render())
            after = page.next

    async def _operate_ids(self, order: Order, ticket: Ticket) -> Result:
        totals = Totals()
        would: set[bytes] = set()

        def look(message: Message) -> bool:
            """For a dry run: note what would be done, and do nothing."""
            if changes_of(order, message):
                would.add(message.id)
            return False

        if ticket.request.dry_run:
            order = Order(order.kind, order.with_failed, 0.0, look)
        ids = list(dict.fromkeys(id.encode() for id in ticket.request.ids))
        answers = dict.fromkeys(ids, Answer.UNKNOWN)
        for station in self.stations:
            left = [id for id, answer in answers.items() if answer is Answer.UNKNOWN]
            answers.update(await self._step(station, order, left))
        totals.matched = sum(answer is not Answer.UNKNOWN for answer in answers.values())
        totals.add(answers)
        told = {id.decode(): answer.value for id, answer in answers.items()}
        if ticket.request.dry_run:
            told.update((id.decode(), "would be done") for id in would)
        return {**totals.render(), "ids": told, "is_cancelled": False}

    async def _step(
        self, station: Station, order: Order, ids: Sequence[bytes]
    ) -> dict[bytes, Answer]:
        """Order, and wait until each is answered."""
        answers: dict[bytes, Answer] = {}
        if not ids:
            return answers
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def told(id: bytes, answer: Answer) -> None:
            answers[id] = answer
            if len(answers) == len(ids) and not done.done():
                done.set_result(None)

        station.scheduler.operate(order, ids, told)
        await done
        return answers

    async def _flush(self, ticket: Ticket) -> Result:
        """Make mail due now, and end the pauses after trouble; those of the mail that is meant."""
        request = ticket.request
        woken = 0
        if not request.dry_run:
            for station in self.stations:
                standing = station.scheduler.standing
                if request.all:
                    woken += standing.wake()
                elif request.subject:
                    woken += standing.wake(standing.hops_of(request.subject))
                elif request.ids:
                    woken += await self._wake(station, [id.encode() for id in request.ids])
        if request.is_detached:
            self._flush_apart(request)
            return {**Totals().render(), "is_cancelled": False, "woken": woken}
        result = await self._operate(Kind.FLUSH, ticket)
        return {**result, "woken": woken + result.get("woken", 0)}

    def _flush_apart(self, request: Request) -> None:
        """Go on with it though nobody waits. Raises Refusal: there is too much of that."""
        if request.all and any(self._flushing.values()):
            return  # the same is under way
        if len(self._flushing) >= FLUSHES_MAX:
            text = f"{FLUSHES_MAX} flushes are under way already"
            raise Refusal(ErrorCode.TEMPORARY, text)
        task = asyncio.create_task(self._operate(Kind.FLUSH, Ticket(request, _untold)))
        self._flushing[task] = request.all
        task.add_done_callback(self._flushed)

    def _flushed(self, task: asyncio.Task[Result]) -> None:
        del self._flushing[task]
        if not task.cancelled():
            task.exception()  # nobody waits for that either

    async def _wake(self, station: Station, ids: Sequence[bytes]) -> int:
        """End the pauses that these messages wait for."""
        found = await wait_for(partial(station.spool.search.entries, ids))
        if isinstance(found, SpoolError):
            raise Refusal(ErrorCode.TEMPORARY, str(found))
        names = {one.next_hop for entry in found for one in entry.recipients}
        return station.scheduler.standing.wake(names)

    # Look-ups

    async def _find(self, ticket: Ticket) -> Result:
        """Messages by id, with the reason why each waits."""
        ids = [id.encode() for id in ticket.request.ids]
        found = []
        for station in self.stations:
            search = station.spool.search
            page = await wait_for(partial(search.find, ids))
            for message in sound(page).messages:
                shown = self._render(station, search.view(message), message)
                found.append(shown)
        return {"messages": found}

    async def _search(self, ticket: Ticket) -> Result:
        """One page: of the first shard that has something behind `after`."""
        request = ticket.request
        filter = self._parse(request.filter or "")
        now_ns = self._wall_ns()
        number, _, id = request.after.partition("/")
        first = int(number) if number.isdigit() else 0
        for at, station in enumerate(self.stations):
            if at < first:
                continue
            after: bytes | None = id.encode() if at == first else b""
            while after is not None:
                there = self._situated(station, filter)
                page = await self._page(station, there, now_ns, after, request.limit, False)
                await self._listing.pace.spent(page.spent_s)
                after = page.next
                if page.messages:
                    view = station.spool.search.view
                    shown = [
                        self._render(station, view(message), None, RECIPIENTS_LISTED)
                        for message in page.messages
                    ]
                    behind = f"{at}/{after.decode()}" if after is not None else f"{at + 1}/"
                    is_end = after is None and at + 1 == len(self.stations)
                    return {"messages": shown, "next": None if is_end else behind}
        return {"messages": [], "next": None}

    async def _count(self, ticket: Ticket) -> Result:
        """What waits, by next hop, the largest first."""
        counts: dict[bytes, HopCount] = {}
        next_hop = self._next_hop(ticket) or None
        for station in self.stations:
            found = await wait_for(partial(_count_at, station, next_hop))
            if isinstance(found, SpoolError):
                raise Refusal(ErrorCode.TEMPORARY, str(found))
            for one in found:
                had = counts.get(one.next_hop, HopCount(one.next_hop, 0, 0))
                counts[one.next_hop] = HopCount(
                    one.next_hop, had.messages + one.messages, had.recipients + one.recipients
                )
        ordered = sorted(counts.values(), key=lambda one: (-one.recipients, one.next_hop))
        rows = [
            {
                "next_hop": text_of(one.next_hop),
                "messages": one.messages,
                "recipients": one.recipients,
            }
            for one in ordered[:HOPS_SHOWN]
        ]
        live = sum(station.spool.live_count for station in self.stations)
        return {"live": live, "next_hops": rows, "omitted": max(0, len(ordered) - HOPS_SHOWN)}

    async def _next_due(self, ticket: Ticket) -> Result:
        """When something will be tried next: of all mail, or for one next hop."""
        next_hop = self._next_hop(ticket)
        if not next_hop:
            found = [station.scheduler.next_due_ns for station in self.stations]
        else:
            found = [
                await wait_for(partial(station.spool.search.first_due, next_hop))
                for station in self.stations
            ]
        return {"next_due_ns": min((due for due in found if due is not None), default=None)}

    async def _summary(self, ticket: Ticket) -> Result:
        """The state of each shard in a few numbers."""
        shards = []
        for number, spool, scheduler in self.stations:
            counts = scheduler.counts
            shards.append(
                {
                    "shard": number,
                    "is_healthy": spool.is_healthy,
                    "messages": spool.live_count,
                    "next_due_ns": scheduler.next_due_ns,
                    "next_start_ns": scheduler.standing.outlook.due_ns,
                    "in_flight": counts.in_flight,
                    "in_memory": counts.ram_jobs,
                    "sites": counts.paths,
                    "sites_closed": counts.paths_closed,
                }
            )
        return {"shards": shards}

    async def _status(self, ticket: Ticket) -> Result:
        """How the worker is."""
        if self._tell is None:
            raise Refusal(ErrorCode.USAGE, "no server runs")
        return self._tell()

    async def _reload(self, ticket: Ticket) -> Result:
        """Take up the overrides of the file."""
        if self._reshape is None:
            return {"overrides": 0}  # nobody delivers here
        try:
            return {"overrides": self._reshape()}
        except OverrideError as error:
            raise Refusal(ErrorCode.TEMPORARY, str(error)) from None

    # Parts

    def _next_hop(self, ticket: Ticket) -> bytes:
        """The next hop asked for; empty: none."""
        name = ticket.request.next_hop
        if "\0" in name:
            raise Refusal(ErrorCode.USAGE, "a next hop holds no NUL")
        return name.encode()

    def _parse(self, text: str) -> Filter:
        try:
            return parse_filter(text)
        except FilterError as error:
            raise Refusal(ErrorCode.USAGE, f"filter: {error}") from None

    async def _page(
        self,
        station: Station,
        filter: Filter,
        now_ns: int,
        after: bytes,
        limit: int,
        ids_only: bool,
    ) -> Page:
        search = station.spool.search
        return sound(await wait_for(partial(search.page, filter, now_ns, after, limit, ids_only)))

    def _situated(self, station: Station, filter: Filter) -> Filter:
        return filter.at(station.situation) if filter.needs_situation else filter

    def _render(
        self, station: Station, view: MessageView, message: Message | None, most: int = 1_000
    ) -> Result:
        situation = station.situation
        is_active = view.id in situation.active
        there = NOWHERE if is_active else situation
        seen = [there.of(one.state, one.next_hop) for one in view.recipients]
        shown: Result = {
            "id": view.id.decode(),
            "shard": station.number,
            "queue": QUEUES[queue_of(is_active, (one.status for one in seen))],
            "sender": text_of(view.reverse_path),
            "size_octets": view.size_octets,
            "arrived_at_ns": view.arrived_at_ns,
            "expires_at_ns": view.expires_at_ns,
            "tenant": view.tenant,
            "client": view.client,
            "recipient_count": view.recipient_count,
            "pending": view.pending,
            "recipients": [
                {
                    "recipient": text_of(one.forward_path),
                    "next_hop": text_of(one.next_hop),
                    "status": standing.status.name.lower(),
                    "attempts": one.state.attempts,
                    "due_at_ns": one.state.due_at_ns,
                    "text": standing.text,
                }
                for one, standing in zip(view.recipients[:most], seen, strict=False)
            ],
        }
        if message is not None:
            shown["waits_for"] = reasons_of(station.scheduler.explain, message, self._clock)
        return shown


async def _untold(_: Result) -> None:
    """Nobody waits for it."""


def _count_at(station: Station, next_hop: bytes | None, done: Callable[..., None]) -> None:
    station.spool.search.count(done, next_hop)
