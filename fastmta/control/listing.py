"""Lists of mail, page by page, and the content of a message, piece by piece.

Reading is the index thread's; the loop puts at most a page of LIMIT_MAX messages, or a piece of
content, into words at a time.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Sequence
from functools import partial

from fastmta.message import ContentFile, Envelope, Message, RecipientStatus
from fastmta.message.situation import NOWHERE, QUEUES, Situation, Standing, queue_of
from fastmta.scheduler import Clock
from fastmta.spool import SpoolError
from fastmta.spool.entry import Entry, RecipientEntry
from fastmta.spool.filter import Filter, FilterError, parse_filter
from fastmta.spool.reckoning import Reckoning, Slice
from fastmta.spool.search import Page

from .pace import Pace
from .station import Result, Station, Ticket, sound, wait_for
from .wire import ErrorCode, Refusal, text_of

PIECE_OCTETS = 128 * 1024
RECIPIENTS_PER_PAGE = 2_000  # a page ends behind the message that has the last of these
ENTRIES_AT_ONCE = 50  # messages of a page whose rows are read in one turn of the index thread
IN_MEMORY_AT_ONCE = 200  # messages in memory that are counted in one turn of the loop
AGES_S = (300, 600, 1_200, 2_400, 4_800, 9_600, 19_200, 38_400, 76_800)  # as qshape has them
_NS = 1_000_000_000
_ENTRY_S = 60e-6  # what a message in a list takes, besides finding it
_PENDING = (RecipientStatus.QUEUED, RecipientStatus.DEFERRED, RecipientStatus.HELD)


class Listing:
    """Answers, on the loop; changes nothing."""

    def __init__(self, stations: Sequence[Station], clock: Clock) -> None:
        self._stations = stations
        self._clock = clock
        self.pace = Pace(stations)

    async def list(self, ticket: Ticket) -> Result:
        """One page of one shard, by id, which is by arrival: `after` is `SHARD/ID`; `newest`:
        from the end on, and before that id."""
        request = ticket.request
        number, _, id = request.after.partition("/")
        station = self._station(number)
        filter = _parsed(request.filter or "")
        if filter.needs_situation:
            filter = filter.at(station.situation)
        start = partial(
            station.spool.search.page,
            filter,
            self._clock.wall_ns(),
            id.encode(),
            request.limit,
            True,
            is_backward=request.newest,
        )
        page: Page = sound(await wait_for(start))
        entries = await _entries(station, page.ids)
        await self.pace.spent(page.spent_s + len(entries) * _ENTRY_S)
        messages: list[Result] = []
        recipients = 0
        behind = page.next
        situation = station.situation
        for entry in entries:
            if recipients >= RECIPIENTS_PER_PAGE:
                behind = messages[-1]["id"].encode()
                break
            messages.append(_shown(station.number, entry, situation))
            recipients += len(entry.recipients)
        following = None if behind is None else f"{station.number}/{behind.decode()}"
        return {"messages": messages, "next": following}

    async def census(self, ticket: Ticket) -> Result:
        """What the mail that a filter means comes to, on all shards."""
        filter = _parsed(ticket.request.filter or "")
        now_ns = self._clock.wall_ns()
        census = await self.count(filter, now_ns, ticket)
        oldest = dict(zip(QUEUES, census.oldest_ns, strict=True))
        counts = {status.name.lower(): census.recipients[status] for status in _PENDING}
        ages = zip([*AGES_S, None], census.ages, strict=True)
        return {
            "messages": census.messages,
            "octets": census.octets,
            "queues": dict(zip(QUEUES, census.queues, strict=True)),
            "recipients": counts,
            "ages": [{"below_s": below_s, "messages": count} for below_s, count in ages],
            "oldest_arrived_at_ns": min((at for at in oldest.values() if at), default=None),
            "oldest_by_queue_ns": {queue: at for queue, at in oldest.items() if at},
            "now_ns": now_ns,
        }

    async def count(self, filter: Filter, now_ns: int, ticket: Ticket) -> Reckoning:
        """Slice by slice; what is in memory a few at a time."""
        census = Reckoning([*(now_ns - age_s * _NS for age_s in AGES_S), 0])
        for station in self._stations:
            search, there = station.spool.search, filter.at(station.situation)
            after: bytes | None = b""
            while after is not None and not ticket.is_cancelled:
                slice: Slice = await wait_for(partial(search.reckon, there, now_ns, after, census))
                if slice.error is not None:
                    raise Refusal(ErrorCode.TEMPORARY, str(slice.error))
                for number, message in enumerate(slice.messages, 1):
                    if message.pending and search.accepts(there, message, now_ns):
                        search.reckon_in(message, there, census)
                    if number % IN_MEMORY_AT_ONCE == 0:
                        await asyncio.sleep(0)
                await self.pace.spent(slice.spent_s)
                after = slice.next
        return census

    async def content(self, ticket: Ticket) -> Result:
        """One message: its content as progress, in pieces; its envelope as the result."""
        if len(ticket.request.ids) != 1:
            raise Refusal(ErrorCode.USAGE, "one id is wanted")
        id = ticket.request.ids[0].encode()
        for station in self._stations:
            found: Message | SpoolError | None = await wait_for(
                partial(station.spool.search.read, id)
            )
            if isinstance(found, SpoolError):
                raise Refusal(ErrorCode.TEMPORARY, str(found))
            if found is None:
                continue
            if found.file is not None:
                await _tell_file(station, found.file, ticket)
            elif found.content is not None:
                await _tell_octets(found.content, ticket)
            else:
                raise Refusal(ErrorCode.TEMPORARY, "its record cannot be read")
            queue = ""
            for entry in await _entries(station, [id]):
                queue = _shown(station.number, entry, station.situation)["queue"]
            return {"message": {"queue": queue, **_envelope(station, found)}}
        return {"message": None}

    def _station(self, number: str) -> Station:
        for station in self._stations:
            if number == str(station.number):
                return station
        raise Refusal(ErrorCode.USAGE, f"shard {number!r} is not served here: give `SHARD/ID`")


def _shown(shard: int, entry: Entry, situation: Situation) -> Result:
    """One message as lists show it."""
    is_active = entry.id in situation.active
    there = NOWHERE if is_active else situation
    seen = [there.of(one.state, one.next_hop) for one in entry.recipients]
    return {
        "id": entry.id.decode(),
        "shard": shard,
        "queue": QUEUES[queue_of(is_active, (one.status for one in seen))],
        "arrived_at_ns": entry.arrived_at_ns,
        "expires_at_ns": entry.expires_at_ns,
        "size_octets": entry.size_octets,
        "sender": text_of(entry.reverse_path),
        "tenant": entry.tenant,
        "recipient_count": entry.recipient_count,
        "pending": entry.pending,
        "recipients": list(map(_recipient, entry.recipients, seen)),
    }


def _recipient(one: RecipientEntry, seen: Standing) -> Result:
    state = one.state
    return {
        "recipient": text_of(one.forward_path),
        "next_hop": text_of(one.next_hop),
        "status": seen.status.name.lower(),
        "attempts": 0 if state is None else state.attempts,
        "due_at_ns": 0 if state is None else state.due_at_ns,
        "text": seen.text,
    }


async def _entries(station: Station, ids: Sequence[bytes]) -> list[Entry]:
    """A few at a time: the index thread and the loop take turns in Python."""
    entries: list[Entry] = []
    for at in range(0, len(ids), ENTRIES_AT_ONCE):
        some = ids[at : at + ENTRIES_AT_ONCE]
        found: list[Entry] | SpoolError = await wait_for(
            partial(station.spool.search.entries, some)
        )
        if isinstance(found, SpoolError):
            raise Refusal(ErrorCode.TEMPORARY, str(found))
        entries += found
    return entries


async def _tell_octets(content: bytes, ticket: Ticket) -> None:
    for pos in range(0, len(content), PIECE_OCTETS):
        if ticket.is_cancelled:
            return
        await ticket.tell(_piece(content[pos : pos + PIECE_OCTETS]))


async def _tell_file(station: Station, file: ContentFile, ticket: Ticket) -> None:
    """A large content is checked as a whole before its first octet is told."""

    def opening(done: Callable[..., None]) -> None:
        station.spool.contents.open(file, lambda *answer: done(answer))

    source, problem = await wait_for(opening)
    if source is None:
        raise Refusal(ErrorCode.TEMPORARY, str(problem))
    try:
        stream = source.stream()
        while not ticket.is_cancelled:
            octets, problem = await wait_for(lambda done: stream.read(lambda *answer: done(answer)))
            if problem is not None:
                raise Refusal(ErrorCode.TEMPORARY, str(problem))
            if not octets:
                return
            await ticket.tell(_piece(octets))
    finally:
        source.close()


def _piece(octets: bytes) -> Result:
    return {"content": base64.b64encode(octets).decode()}


def _envelope(station: Station, message: Message) -> Result:
    envelope: Envelope = message.envelope
    client, dsn = envelope.client, envelope.dsn
    recipients = []
    for index, path in enumerate(envelope.forward_paths):
        state = message.states.get(index)
        status = RecipientStatus.QUEUED if state is None else state.status
        original = b"" if dsn is None else dsn.original_recipient_of(index)
        notify = "" if dsn is None else dsn.notify_of(index)
        recipients.append(
            {
                "recipient": text_of(path),
                "status": status.name.lower(),
                "is_final": status.is_final,
                "original": text_of(original),
                "original_path": text_of(envelope.original_path_of(index)),
                "notify": notify,
            }
        )
    return {
        "id": message.id.decode(),
        "shard": station.number,
        "arrived_at_ns": message.arrived_at_ns,
        "size_octets": message.size_octets,
        "sender": text_of(envelope.reverse_path),
        "tenant": envelope.tenant,
        "recipients": recipients,
        "is_8bit": envelope.is_8bit,
        "is_utf8": envelope.is_utf8,
        "client": {
            "name": client.name,
            "address": client.address,
            "helo": text_of(client.helo),
            "protocol": client.protocol,
            "login": client.login,
        },
        "returned": "" if dsn is None else dsn.returned,
        "envelope_id": "" if dsn is None else text_of(dsn.envelope_id),
    }


def _parsed(text: str) -> Filter:
    try:
        return parse_filter(text)
    except FilterError as error:
        raise Refusal(ErrorCode.USAGE, f"filter: {error}") from None
