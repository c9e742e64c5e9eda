"""What a worker counts beside events: signs of life each half second, gauges each second.

All of it is known already. What the index has counted is asked of its thread, seldom.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Sequence
from functools import partial

from fastmta.delivery.dns import DnsClient
from fastmta.event import Event
from fastmta.journal import family as f
from fastmta.journal.block import Block, State, Word
from fastmta.journal.book import Book
from fastmta.journal.family import Bounds, Family
from fastmta.journal.tally import Tally
from fastmta.listener import Listener
from fastmta.route import DnsCache
from fastmta.spool.census import Census

from .pressure import Pressure
from .shard import Shard

_BEAT_S = 0.5
_GAUGES_EVERY = 2  # beats
_CENSUS_S = 15.0
_CENSUS_SHARE = 0.001  # of the index thread's time
_NS = 1e-9
_PAGE_OCTETS = os.sysconf("SC_PAGE_SIZE")
_PROGRAMS = ("bounce", "master", "qmgr", "smtp", "smtpd", "spool")  # that may log an error
_STATM = "/proc/self/statm"


class Meter:
    """The counting of one worker: made before its journal, started when it serves."""

    def __init__(self, block: Block, destinations: int) -> None:
        self.block = block
        self.book = Book(block, destinations, self._provider_of)
        self._shards: Sequence[Shard] = ()
        self._tally: Tally | None = None
        for program in _PROGRAMS:  # from 0: else nobody would see the first one as an increase
            for severity in ("error", "fatal"):
                self.book.slot(f.NOTICES, program, severity)

    def tap(self, pending: list[Event]) -> Callable[[Event], None]:
        """For the journal: what appends to `pending`, and counts."""
        self._tally = Tally(self.block, pending, self.book)
        return self._tally.emit

    @property
    def tally(self) -> Tally:
        """Once there is a journal."""
        assert self._tally is not None
        return self._tally

    def watch(self, shards: Sequence[Shard]) -> None:
        """These are the worker's: destinations are told apart by what they know."""
        self._shards = shards
        slot, observe = self.book.slot(f.SPOOL_COMMIT), self.tally.observe
        for shard in shards:
            shard.spool.statistics.told = lambda ns: observe(slot, Bounds.SHORT, ns * _NS)

    def note_lag(self, seconds: float) -> None:
        """How late the loop was."""
        self.tally.observe(self.book.slot(f.LOOP_LAG), Bounds.SHORT, seconds)

    def count_tls(self, policy: str, version: str, result: str) -> None:
        """A handshake with a receiver ended."""
        self.tally.add(self.book.slot(f.TLS_SESSIONS, "out", version, policy, result), 1)

    def _provider_of(self, next_hop: bytes) -> str | None:
        for shard in self._shards:
            load = shard.scheduler.explain.load(next_hop)
            if load is not None:
                return load.provider
        return None


class Gauges:
    """Writes what is so at a moment."""

    def __init__(
        self,
        meter: Meter,
        shards: Sequence[Shard],
        pressure: Pressure,
        dns: DnsClient,
        cache: DnsCache,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._meter, self._block = meter, meter.block
        self._put, self._add, self._slot = meter.tally.put, meter.tally.add, meter.book.slot
        self._shards = shards
        self._pressure = pressure
        self._dns, self._cache = dns, cache
        self._loop = loop
        self._listeners: Sequence[Listener] = ()
        self._beats = 0
        self._counted: dict[Family, int] = {}  # counters that others keep, as they were last
        self._census: dict[int, Census] = {}  # by shard
        self._census_at_s = 0.0
        self._is_asking = False
        self._shown: set[tuple[Family, tuple[str, str]]] = set()  # of destinations

    def start(self, listeners: Sequence[Listener]) -> None:
        """The worker serves."""
        self._listeners = listeners
        self._block.set(Word.STATE, State.READY)
        self._beat()

    def drain(self, is_draining: bool) -> None:
        """Whether an operator wants no new mail to be taken."""
        self._block.set(Word.STATE, State.DRAINING if is_draining else State.READY)

    def stop(self) -> None:
        """It drains: it shows signs of life, but wants no mail."""
        self._block.set(Word.STATE, State.DRAINING)

    def _beat(self) -> None:
        self._loop.call_later(_BEAT_S, self._beat)  # first: it goes on whatever happens
        block = self._block
        block.set(Word.BEAT_NS, time.monotonic_ns())
        block.set(Word.PRESSURE, self._pressure.state)
        block.set(Word.IS_HEALTHY, all(shard.spool.is_healthy for shard in self._shards))
        if self._beats % _GAUGES_EVERY == 0:
            self._write()
        self._beats += 1

    def _write(self) -> None:
        self._write_queue()
        self._write_process()
        self._write_sites()
        if not self._is_asking and self._loop.time() >= self._census_at_s:
            self._ask()

    def _write_queue(self) -> None:
        counts = [shard.scheduler.counts for shard in self._shards]
        live = sum(shard.spool.live_count for shard in self._shards)
        active = sum(one.in_flight for one in counts)
        stands = [shard.scheduler.standing.situation for shard in self._shards]
        ready = max(0, sum(len(one.active) for one in stands) - active)
        held = sum(one.held for one in self._census.values())
        scheduled = max(0, live - active - ready - held)
        states = {"active": active, "ready": ready, "held": held, "scheduled": scheduled}
        for state, count in states.items():
            self._put(self._slot(f.QUEUE_MESSAGES, state), count)
        self._gauge(f.QUEUE_BYTES, sum(shard.spool.live_octets for shard in self._shards))
        census = self._census.values()
        self._gauge(f.QUEUE_RECIPIENTS, sum(one.recipients for one in census))
        oldest_ns = min((one.oldest_ns for one in census if one.oldest_ns), default=0)
        age_s = time.time() - oldest_ns * _NS if oldest_ns else 0.0
        self._gauge(f.QUEUE_OLDEST, max(0.0, age_s))

    def _write_process(self) -> None:
        readings = self._pressure.readings
        self._gauge(f.SPOOL_FREE, readings.volume_octets)
        self._gauge(f.SPOOL_FREE_RATIO, readings.volume_free)
        self._gauge(f.DESCRIPTORS, readings.descriptors_used)
        self._gauge(f.CLIENTS, sum(listener.connection_count for listener in self._listeners))
        with open(_STATM, "rb") as file:
            self._gauge(f.MEMORY, int(file.read().split()[1]) * _PAGE_OCTETS)
        self._count(f.CPU, time.process_time_ns())
        self._count(f.DNS_QUERIES, self._dns.query_count)
        self._count(f.DNS_FAILURES, self._dns.failure_count)
        self._count(f.DNS_CACHE_HITS, self._cache.hit_count)
        self._count(f.DNS_CACHE_MISSES, self._cache.miss_count)

    def _write_sites(self) -> None:
        """Of the destinations that have series of their own; those that are idle have no value."""
        found: dict[tuple[Family, tuple[str, str]], float] = {}
        for next_hop, labels in list(self._meter.book.sites.items()):
            waiting = sum(one.waiting.get(next_hop, 0) for one in self._census.values())
            _add(found, (f.SITE_RECIPIENTS, labels), waiting)
            for shard in self._shards:
                load = shard.scheduler.explain.load(next_hop)
                if load is None:
                    continue
                _add(found, (f.SITE_CONNECTIONS, labels), load.in_flight)
                _add(found, (f.SITE_LIMIT, labels), load.limit)
                _add(found, (f.SITE_BACKOFF, labels), not load.is_open)
                if load.rate_per_s:
                    slowest = found.get((f.SITE_RATE, labels), math.inf)
                    found[f.SITE_RATE, labels] = min(slowest, load.rate_per_s)
        for family, labels in self._shown - found.keys():
            self._put(self._slot(family, *labels), math.nan)
        for (family, labels), value in found.items():
            if family is f.SITE_BACKOFF:
                value = min(value, 1.0)
            self._put(self._slot(family, *labels), value)
        self._shown = set(found)

    def _ask(self) -> None:
        """Take a census of each shard."""
        self._is_asking = True
        waiting = {shard.number for shard in self._shards}
        next_hops = tuple(self._meter.book.sites)
        for shard in self._shards:
            shard.spool.search.census(next_hops, partial(self._told, waiting, shard.number))

    def _told(self, waiting: set[int], number: int, census: Census | None) -> None:
        if census is not None:
            self._census[number] = census
            pause_s = max(_CENSUS_S, census.took_s / _CENSUS_SHARE)
            self._census_at_s = max(self._census_at_s, self._loop.time() + pause_s)
        waiting.discard(number)
        self._is_asking = bool(waiting)

    def _gauge(self, family: Family, value: float) -> None:
        self._put(self._slot(family), value)

    def _count(self, family: Family, total: int) -> None:
        """A counter that somebody keeps in this process."""
        had = self._counted.get(family, 0)
        self._counted[family] = total
        self._add(self._slot(family), max(0, total - had))


def _add(
    found: dict[tuple[Family, tuple[str, str]], float],
    key: tuple[Family, tuple[str, str]],
    value: float,
) -> None:
    found[key] = found.get(key, 0.0) + value
