"""Which series an event counts in, and where that stands: the slow half of counting.

The fast half, `Tally`, asks once for each sort of event and remembers the slots. Names that peers
have a say in are bounded here. A destination gets series of its own by volume: half of the places
go to whoever comes, the others are for those of 100 and of 10,000 recipients tried; everybody else
is counted as "other", under the provider. Series are never given up: a counter must not go back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from fastmta.event import (
    BounceQueued,
    ClientConnected,
    ClientDisconnected,
    CommandRefused,
    Event,
    MessageExpired,
    MessageReceived,
    Notice,
    RecipientTried,
    Severity,
)
from fastmta.event.hold import RecipientHeld
from fastmta.event.security import LoginRefused, TlsStarted

from . import family as f
from .block import LOST, SLOTS_MAX, Block
from .family import OTHER, WIDTH, Family, Kind
from .refusal import reason_of

STAGES = ("before", "queue", "connect", "transmit")  # in the order of `delays_s`
_LOOK_AGAIN = 50  # uses of a place until a destination's volume is looked at again
FOR_EVER = -1
_REPLIES_MAX = 16  # of one destination
_CANDIDATES_FACTOR = 4
_CODE = re.compile(r"[2-5][0-9]{2}")
_STATUS = re.compile(r"([245]\.[0-7])\.[0-9]{1,3}")
_NO_CODE = "none"
_RESULTS = {"sent": "delivered"}  # others are called as in the log
_ENDS = {"": "quit", "timeout": "timeout", "too many errors": "errors"}
_NOTIFICATIONS = (("non-delivery", "failure"), ("delay", "delay"), ("status", "success"))
_HOLDERS = re.compile(rb"[a-z]+:(.*?)(?:#.*)?(?: for .*)?", re.DOTALL)

ProviderOf: TypeAlias = Callable[[bytes], str | None]  # of a next hop; None: not known yet
# Slots in which events of one sort count, and how often until it is asked again.
Place: TypeAlias = tuple[tuple[int, ...], int]


class Destinations:
    """Who has series of its own. At most `most` of them, and a few times as many candidates."""

    def __init__(self, most: int, known: Sequence[str] = ()) -> None:
        self.most = most
        self.own = dict.fromkeys(known)
        self._volumes: dict[str, int] = {}

    def admit(self, name: str, count: int) -> bool:
        """`count` more were tried there: whether it has series of its own now."""
        if name in self.own:
            return True
        volumes = self._volumes
        if len(volumes) >= self.most * _CANDIDATES_FACTOR and name not in volumes:
            self._volumes = volumes = {one: had // 2 for one, had in volumes.items() if had > 1}
            if len(volumes) >= self.most * _CANDIDATES_FACTOR:
                return False
        volumes[name] = volume = volumes.get(name, 0) + count
        if volume < self._price():
            return False
        del volumes[name]
        self.own[name] = None
        return True

    def _price(self) -> float:
        used = len(self.own)
        if 2 * used < self.most:
            return 1
        if 4 * used < 3 * self.most:
            return 100
        return 10_000 if used < self.most else float("inf")


class Book:
    """The series of one worker. Loop thread only, like everything that counts."""

    def __init__(
        self, block: Block, destinations_max: int = 100, provider_of: ProviderOf | None = None
    ) -> None:
        self._block = block
        self._provider_of = provider_of
        self._slots: dict[tuple[str, tuple[str, ...]], int] = {}
        self._counts: dict[str, int] = {}
        self._replies: dict[str, int] = {}
        self._end = LOST + 1
        for family, labels, slot in block.read():  # of the worker that was here before
            self._slots[family.name, labels] = slot
            self._counts[family.name] = self._counts.get(family.name, 0) + 1
            self._end = max(self._end, slot + _width(family))
        known = {labels[0] for name, labels in self._slots if name == f.DELIVERIES.name}
        known -= {OTHER}
        self.destinations = Destinations(destinations_max, sorted(known))
        # Next hops that are shown by themselves: destination and provider.
        self.sites: dict[bytes, tuple[str, str]] = {}
        self._sites_max = 2 * destinations_max
        if (f.UNCOUNTED.name, ()) not in self._slots:
            self._slots[f.UNCOUNTED.name, ()] = LOST
            block.append(f.UNCOUNTED, (), LOST)

    def slot(self, family: Family, *labels: str) -> int:
        """Where a series stands; LOST if there is no room for it."""
        key = (family.name, labels)
        slot = self._slots.get(key)
        if slot is not None:
            return slot
        if family.free and self._counts.get(family.name, 0) >= family.most:
            rest = tuple(
                OTHER if name in family.free else label
                for name, label in zip(family.labels, labels, strict=True)
            )
            if rest != labels:
                return self.slot(family, *rest)
        return self._make(family, labels)

    def _make(self, family: Family, labels: tuple[str, ...]) -> int:
        slot = self._end
        if not self._block.append(family, labels, slot):
            return LOST
        self._end += _width(family)
        assert self._end <= SLOTS_MAX
        self._slots[family.name, labels] = slot
        self._counts[family.name] = self._counts.get(family.name, 0) + 1
        return slot

    # What `Tally` asks for.

    def tried(self, event: RecipientTried, code: str, used: int) -> Place:
        """Where an attempt for a recipient counts; `used` more have counted where it said last."""
        provider = self._provider_of(event.next_hop) if self._provider_of else ""
        domain = name_of(event.next_hop)
        is_own = self.destinations.admit(domain, used + 1)
        name, provider_name = domain if is_own else OTHER, provider or ""
        if is_own and (event.next_hop in self.sites or len(self.sites) < self._sites_max):
            self.sites[event.next_hop] = (name, provider_name)
        match = _STATUS.fullmatch(event.status)
        status, status_class = (event.status, match[1]) if match else (OTHER, OTHER)
        result = _RESULTS.get(event.kind, event.kind)
        slots = [
            self.slot(f.DELIVERIES, name, provider_name, result, status_class),
            self._reply_slot(name, code if _CODE.fullmatch(code) else _NO_CODE, status),
        ]
        if event.category:
            slots.append(self.slot(f.TROUBLE, provider_name, event.category))
        is_settled = is_own and provider is not None
        return tuple(slots), FOR_EVER if is_settled else _LOOK_AGAIN

    def _reply_slot(self, name: str, code: str, status: str) -> int:
        labels = (name, code, status)
        if (f.REPLIES.name, labels) not in self._slots:
            count = self._replies.get(name, 0)
            if count >= _REPLIES_MAX:
                return self.slot(f.REPLIES, name, OTHER, OTHER)
            self._replies[name] = count + 1  # bounded, as the names of destinations are
        return self.slot(f.REPLIES, *labels)

    def received(self, event: MessageReceived) -> tuple[int, ...]:
        """Where a message, its recipients and its octets count, in this order."""
        labels = (event.listener, event.tenant)
        families = (f.RECEIVED, f.RECEIVED_RECIPIENTS, f.RECEIVED_BYTES)
        return tuple(self.slot(family, *labels) for family in families)

    def other(self, event: Event) -> int:
        """Where one of the rarer events counts; LOST is no answer, -1 is: nowhere."""
        if isinstance(event, ClientConnected):
            return self.slot(f.CONNECTIONS)
        if isinstance(event, ClientDisconnected):
            return self.slot(f.DISCONNECTS, _ENDS.get(event.reason, "lost"))
        if isinstance(event, CommandRefused):
            return self.slot(f.REJECTED, event.stage, *reason_of(event.reply))
        if isinstance(event, TlsStarted):
            return self.slot(f.TLS_SESSIONS, "in", event.facts.protocol, "", "ok")
        if isinstance(event, LoginRefused):
            return self.slot(f.LOGIN_FAILURES, event.mechanism)
        if isinstance(event, RecipientHeld):
            return self.slot(f.HELD)
        if isinstance(event, MessageExpired):
            return self.slot(f.EXPIRED)
        if isinstance(event, BounceQueued):
            kinds = (word for part, word in _NOTIFICATIONS if part in event.kind)
            return self.slot(f.NOTIFICATIONS, next(kinds, OTHER))
        if isinstance(event, Notice) and event.severity is not Severity.INFO:
            return self.slot(f.NOTICES, event.program, event.severity.name.lower())
        return -1


def name_of(next_hop: bytes) -> str:
    """What a destination is called: a domain, the relays as they are named, or a transport."""
    match = _HOLDERS.fullmatch(next_hop)
    name = match[1] if match else b""
    if not name or next_hop.startswith((b"error:", b"file:")):
        name = next_hop.partition(b":")[0]
    return name.decode("ascii", "replace")


def _width(family: Family) -> int:
    return WIDTH if family.kind is Kind.HISTOGRAM else 1
