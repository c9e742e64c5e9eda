"""What the index holds about one message. Key and value layouts are drawn in ext/spool/row.pyx."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, NamedTuple, TypeAlias

import msgspec

from fastmta.message import Envelope, Message, RecipientState, RecipientStatus

from ._row import expiry_key, hop_key, pack_message, recipient_key, tenant_key
from .codec import encode, is_final
from .option import SpoolOptions

KEY_OCTETS_MAX = 511  # LMDB's limit
NAME_OCTETS_MAX = KEY_OCTETS_MAX - 1 - 8 - 16  # of a next hop or tenant within a key
RECORD_OCTETS_TYPICAL = 256  # of a message besides its content: headers, envelope, padding
_NAME_OCTETS_KEPT = 400  # of a longer one, in front of its digest

NextHop: TypeAlias = Callable[[bytes, Envelope], bytes]  # of a forward-path in its envelope
Pair: TypeAlias = tuple[bytes, bytes]


class RecipientRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Value of a `recipient` row; by position, new fields at the end."""

    next_hop: bytes  # empty: no hop row, because the recipient is final or held
    due_at_ns: Annotated[int, msgspec.Meta(ge=0)]
    state: RecipientState | None = None  # None: queued, no attempt yet
    forward_path: bytes = b""


decode_recipient = msgspec.msgpack.Decoder(RecipientRow).decode


class Keys(NamedTuple):
    """The keys that a message has in the index besides its own, to take them back."""

    recipient_count: int
    hops: frozenset[bytes]
    expiry: bytes
    tenant: bytes


class Rows(NamedTuple):
    """All rows of one live message."""

    message: Pair
    recipients: list[Pair]
    hops: dict[bytes, bytes]
    keys: Keys


def name_in_key(name: bytes) -> bytes:
    """`name` as it stands in a key: long ones are cut and end with a digest."""
    if b"\0" in name:
        raise ValueError("a next hop or tenant holds no NUL")
    if len(name) <= NAME_OCTETS_MAX:
        return name
    return name[:_NAME_OCTETS_KEPT] + b"#" + hashlib.sha256(name).hexdigest().encode()


def tenant_key_of(envelope: Envelope, id: bytes) -> bytes:
    """Key of the `tenant` row; empty when the mail is counted for nobody."""
    if not envelope.tenant:
        return b""
    tenant = envelope.tenant.encode("utf-8", "surrogatepass").replace(b"\0", b"?")
    return tenant_key(name_in_key(tenant), id)


def log_octets(message: Message) -> int:
    """What the message takes in the log, near enough to see how full a segment is."""
    return RECORD_OCTETS_TYPICAL + (message.size_octets if message.file is None else 0)


def due_of(message: Message, state: RecipientState | None) -> int:
    """When a recipient that is not final is due: since it is here, unless it is deferred.

    So mail that is tried again has its place among mail that just came, and neither starves.
    """
    if state is not None and state.status is RecipientStatus.DEFERRED:
        return state.due_at_ns
    return message.arrived_at_ns


class RowMaker:
    """Makes the rows of messages; knows routing and lifetimes."""

    def __init__(self, next_hop: NextHop, lifetime_of: Callable[[Envelope], float]) -> None:
        self._next_hop = next_hop
        self._lifetime_of = lifetime_of

    @classmethod
    def of(cls, next_hop: NextHop, options: SpoolOptions) -> RowMaker:
        """As `options` want rows."""

        def lifetime_s(envelope: Envelope) -> float:
            return options.lifetime_s if envelope.reverse_path else options.bounce_lifetime_s

        return cls(next_hop, options.lifetime_of or lifetime_s)

    def become(self, other: RowMaker) -> None:
        """Make rows as the other one does. Those that were made are to be made again."""
        self._next_hop, self._lifetime_of = other._next_hop, other._lifetime_of

    @property
    def next_hop(self) -> NextHop:
        """Where mail for a forward-path of an envelope goes."""
        return self._next_hop

    def expires_at_ns(self, message: Message) -> int:
        """End of the message's lifetime."""
        return message.arrived_at_ns + int(self._lifetime_of(message.envelope) * 1e9)

    def due_at_ns(self, message: Message, next_hop: bytes) -> int:
        """The earliest due time of the recipients that go to `next_hop`; 0 when there is none."""
        states, envelope = message.states, message.envelope
        due = (
            due_of(message, states.get(index))
            for index, path in enumerate(envelope.forward_paths)
            if self._next_hop(path, envelope) == next_hop and not is_final(states.get(index))
        )
        return min(due, default=0)

    def make(self, message: Message, applied: int) -> Rows:
        """The rows of a live message whose records below `applied` are in its states."""
        id, states, envelope = message.id, message.states, message.envelope
        recipients: list[Pair] = []
        due: dict[tuple[bytes, int], int] = {}
        for index, path in enumerate(envelope.forward_paths):
            state = states.get(index)
            hop, due_at_ns = b"", 0
            if not (is_final(state) or (state and state.status is RecipientStatus.HELD)):
                hop, due_at_ns = place = self._next_hop(path, envelope), due_of(message, state)
                due[place] = due.get(place, 0) + 1
            row = RecipientRow(hop, due_at_ns, state, path)
            recipients.append((recipient_key(id, index), encode(row)))
        hops: dict[bytes, bytes] = {}
        for (hop, due_at_ns), count in due.items():
            name = name_in_key(hop)
            value = count.to_bytes(4, "big")
            hops[hop_key(name, due_at_ns, id)] = value if name == hop else value + hop
        expires = self.expires_at_ns(message)
        keys = Keys(
            len(envelope.forward_paths),
            frozenset(hops),
            expiry_key(expires, id) if hops else b"",  # held mail does not expire
            tenant_key_of(envelope, id),
        )
        value = pack_message(
            message.position,
            message.size_octets,
            applied,
            message.arrived_at_ns,
            expires,
            keys.recipient_count,
            message.pending,
            log_octets(message),
            envelope.reverse_path,
            envelope.tenant.encode("utf-8", "surrogatepass"),
        )
        return Rows((id, value), recipients, hops, keys)


class Move(NamedTuple):
    """A message has a new place: its record was copied to the cold log."""

    id: bytes
    old: int  # positions
    new: int
    octets: int  # of the record


class Batch:
    """What one commit of the index changes: first moves, then deletes, then puts."""

    __slots__ = (
        "checkpoint",
        "cold_end",
        "counted",
        "deletes",
        "freeable",
        "freeable_cold",
        "moves",
        "puts",
    )

    def __init__(self, checkpoint: int) -> None:
        self.checkpoint = checkpoint
        self.cold_end = 0  # of the cold log, durable; 0: as before
        self.freeable = 0  # oldest segments that nobody needs once this is committed
        self.freeable_cold = 0
        self.moves: list[Move] = []
        # Messages that enter (1) or leave (-1) the index: their position and octets.
        self.counted: list[tuple[int, int, int]] = []
        self.puts: dict[str, list[Pair]] = {
            "message": [],
            "recipient": [],
            "hop": [],
            "expiry": [],
            "tenant": [],
        }
        self.deletes: dict[str, list[bytes]] = {name: [] for name in self.puts}

    @property
    def operations(self) -> int:
        """Keys written or deleted."""
        return sum(map(len, self.puts.values())) + sum(map(len, self.deletes.values()))

    def put(self, rows: Rows, old: Keys | None, position: int, octets: int) -> None:
        """Write a message's rows in place of those it had (None: it had none)."""
        keys, puts = rows.keys, self.puts
        if old is None:
            self.counted.append((1, position, octets))
        puts["message"].append(rows.message)
        puts["recipient"].extend(rows.recipients)
        puts["hop"].extend(rows.hops.items())
        if keys.expiry:
            puts["expiry"].append((keys.expiry, b""))
        if keys.tenant:
            puts["tenant"].append((keys.tenant, b""))
        if old is not None:
            self.deletes["hop"].extend(old.hops - keys.hops)
            if old.expiry and old.expiry != keys.expiry:
                self.deletes["expiry"].append(old.expiry)
            if old.tenant and old.tenant != keys.tenant:
                self.deletes["tenant"].append(old.tenant)

    def delete(self, id: bytes, old: Keys, position: int, octets: int) -> None:
        """Remove a message that is final."""
        deletes = self.deletes
        self.counted.append((-1, position, octets))
        deletes["message"].append(id)
        deletes["recipient"].extend(
            recipient_key(id, index) for index in range(old.recipient_count)
        )
        deletes["hop"].extend(old.hops)
        if old.expiry:
            deletes["expiry"].append(old.expiry)
        if old.tenant:
            deletes["tenant"].append(old.tenant)
