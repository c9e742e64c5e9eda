"""Counters of one shard, for metrics and for tests that count flushes."""

from collections.abc import Callable

import msgspec


class Statistics(msgspec.Struct):
    """Counted since the shard was opened; every number only grows."""

    accepted: int = 0  # messages made durable
    recorded: int = 0  # calls of record made durable
    groups: int = 0  # of the log; with durability "full" each cost one flush
    octets: int = 0  # written to the log, padding included
    flush_ns: int = 0  # spent in writing and flushing groups
    flush_ns_max: int = 0
    faults: int = 0  # writes and flushes of the log that failed
    elided: int = 0  # messages that were final before they reached the index
    index_commits: int = 0
    index_operations: int = 0
    segments_freed: int = 0
    segments_trimmed: int = 0
    trimmed_octets: int = 0  # written to the cold log
    told: Callable[[int], object] | None = None  # how long each group took, in ns

    def count_group(self, octets: int, flush_ns: int) -> None:
        """One more group."""
        self.groups += 1
        self.octets += octets
        self.flush_ns += flush_ns
        if flush_ns > self.flush_ns_max:
            self.flush_ns_max = flush_ns
        if self.told is not None:
            self.told(flush_ns)
