"""DNS answers by (name, type): single flight, negative, stale when the name servers fail."""

from collections.abc import Callable
from contextlib import ExitStack

import msgspec

from .answer import (
    ALIASES_MAX,
    FAILURE_TTL_S,
    TTL_MAX_S,
    Answer,
    AnswerKind,
    Done,
    Query,
    RecordType,
)

ENTRIES_MAX = 65_536
STALE_MAX_S = 86_400.0  # how long after its end an answer may stand in (RFC 8767)
TTL_MIN_S = 1.0
_STALE_KINDS = (AnswerKind.FOUND, AnswerKind.NO_DATA, AnswerKind.ALIAS)

_Key = tuple[str, RecordType]


class DnsCache:
    """A `Query` in front of another: answers what it knows at once and follows aliases.

    While a query is under way, others for the same name and type wait for its answer. A failure is
    kept for a short time. Instead of a failure, an answer that was positive or "no data" is given
    until 24 hours after its end; an old "no such name" is not, for it would bounce mail.
    """

    def __init__(
        self, upstream: Query, clock: Callable[[], float], entries_max: int = ENTRIES_MAX
    ) -> None:
        """`clock` is monotonic, in seconds."""
        self._upstream = upstream
        self._clock = clock
        self._entries_max = entries_max
        self._entries: dict[_Key, _Entry] = {}  # least recently used first
        self._waiting: dict[_Key, list[Done]] = {}
        self.hit_count = 0
        self.miss_count = 0
        self.stale_count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def query(self, name: str, rdtype: RecordType, done: Done) -> None:
        """Call `done` once with the answer, at once when it is known. It is never an ALIAS."""
        self.step(name, rdtype, _Chase(self, rdtype, done).take)

    def step(self, name: str, rdtype: RecordType, done: Done) -> None:
        """Like `query` for one name only: the answer may be an ALIAS."""
        key = (name, rdtype)
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._entries[key] = entry  # at the end: most recently used
            if self._clock() < entry.answer.expires_at_s:
                self.hit_count += 1
                done(entry.answer)
                return
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(done)
            return
        self.miss_count += 1
        self._waiting[key] = [done]
        self._upstream.query(name, rdtype, _Fill(self, key).take)

    def fill(self, key: _Key, answer: Answer) -> None:
        """Keep the `answer` that upstream gave, or what it was before, and tell who waits."""
        now_s = self._clock()
        entry = self._entries.pop(key, None)
        if answer.kind is AnswerKind.FAILED and entry is not None and entry.may_stand_in(now_s):
            self.stale_count += 1
            expires_at_s = now_s + FAILURE_TTL_S
            entry.answer = msgspec.structs.replace(entry.answer, expires_at_s=expires_at_s)
        else:
            expires_at_s = min(max(answer.expires_at_s, now_s + TTL_MIN_S), now_s + TTL_MAX_S)
            entry = _Entry(msgspec.structs.replace(answer, expires_at_s=expires_at_s))
        self._entries[key] = entry
        while len(self._entries) > self._entries_max:
            del self._entries[next(iter(self._entries))]
        with ExitStack() as everyone:  # one that raises does not keep the others waiting
            for done in reversed(self._waiting.pop(key)):
                everyone.callback(done, entry.answer)


class _Entry:
    """What is given out, and when it ended by its own time to live."""

    __slots__ = ("answer", "ended_at_s")

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.ended_at_s = answer.expires_at_s

    def may_stand_in(self, now_s: float) -> bool:
        return self.answer.kind in _STALE_KINDS and now_s < self.ended_at_s + STALE_MAX_S


class _Fill:
    """Carries the key to `fill`, and takes care that a second answer is seen as an error."""

    __slots__ = ("_cache", "_key")

    def __init__(self, cache: DnsCache, key: _Key) -> None:
        self._cache: DnsCache | None = cache
        self._key = key

    def take(self, answer: Answer) -> None:
        cache, self._cache = self._cache, None
        if cache is None:
            raise AssertionError(f"a second answer for {self._key}")
        cache.fill(self._key, answer)


class _Chase:
    """One query on its way along aliases that lead out of their answers."""

    __slots__ = ("_cache", "_count", "_done", "_expires_at_s", "_rdtype")

    def __init__(self, cache: DnsCache, rdtype: RecordType, done: Done) -> None:
        self._cache = cache
        self._rdtype = rdtype
        self._done = done
        self._count = 0
        self._expires_at_s = float("inf")

    def take(self, answer: Answer) -> None:
        if answer.kind is AnswerKind.ALIAS:
            self._expires_at_s = min(self._expires_at_s, answer.expires_at_s)
            self._count += 1
            if self._count <= ALIASES_MAX:
                self._cache.step(answer.alias, self._rdtype, self.take)
                return
            answer = Answer(AnswerKind.INVALID, self._expires_at_s, text="too many aliases")
        if self._expires_at_s < answer.expires_at_s:
            answer = msgspec.structs.replace(answer, expires_at_s=self._expires_at_s)
        self._done(answer)
