"""What routing found: where mail for a next hop goes, or why it cannot go there."""

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from fastmta.message import OutcomeKind

from .hop import SMTP_PORT
from .way import DEFAULT_WAY, Way

KEY_OCTETS = 16
LABEL_MAX = 200


class Target(msgspec.Struct, frozen=True, gc=False):
    """One address of one MX host (or relay) to connect to."""

    host: str  # lower case, without the final dot; the address itself where no name was given
    address: str  # IPv4 or IPv6 text; an absolute path: a unix socket
    port: int
    way: Way | None = None  # None: the site's; a fallback relay has its own


class Site(msgspec.Struct, frozen=True, gc=False):
    """An MX site: every next hop with the same set of MX hosts shares it, and its limits.

    `targets` are in the order in which they should be tried, at least one. They may differ between
    two sites of one key (shuffling, fresh addresses); the key may not. A way without a peer has
    no target.
    """

    key: bytes  # 16 octets
    label: str  # for humans only: two different keys may have the same label
    targets: tuple[Target, ...]
    expires_at_s: float | None  # monotonic; resolve again after it. None: never
    way: Way = DEFAULT_WAY
    provider: str = ""  # name of who runs all of its MX hosts, if that is known


class RouteProblem(msgspec.Struct, frozen=True, gc=False):
    """Why a next hop has no site now (DEFERRED) or never will (FAILED)."""

    kind: OutcomeKind
    status: str  # RFC 3463
    text: str


def site_key(hosts: Iterable[tuple[str, int]], way: Way = DEFAULT_WAY) -> bytes:
    """Key of the MX site whose set of hosts (name, port) this is.

    Neither preferences nor the order, case or final dot of the names count.
    """
    lines = sorted({f"{_plain(name)}:{port}" for name, port in hosts})
    return _digest("\n".join(lines).encode(), way, b"")


def relay_key(next_hop: bytes, way: Way = DEFAULT_WAY) -> bytes:
    """Key of the site that the relays of `next_hop` make, in their order."""
    return _digest(next_hop, way, b"relay")


def key_with(key: bytes, fallbacks: Sequence[tuple[Sequence[str], Way]]) -> bytes:
    """`key` of a site that also has these fallbacks: destinations, and the way to them."""
    if not fallbacks:
        return key
    octets = key + msgspec.msgpack.encode(fallbacks)
    return hashlib.blake2b(octets, digest_size=KEY_OCTETS, person=b"fallback").digest()


def _digest(octets: bytes, way: Way, person: bytes) -> bytes:
    digest = hashlib.blake2b(octets, digest_size=KEY_OCTETS, person=person)
    if way != DEFAULT_WAY:
        digest.update(b"\0" + msgspec.msgpack.encode(way))
    return digest.digest()


def site_label(hosts: Iterable[tuple[str, int]]) -> str:
    """Name of the site for humans: the hosts' labels column by column, counted from the right.

    `(alt1|alt2)?.mx.example` stands for alt1.mx.example, alt2.mx.example and mx.example: `?` where
    some host has no label. A port other than 25 stands at the end, with the top level. The name is
    in lower case. Give the hosts in a fixed order (preference, name), or one site appears under two
    names.
    """
    names = dict.fromkeys(_name(_plain(name), port) for name, port in hosts)
    rows = [[name] if name[0] in "[/" else name.split(".")[::-1] for name in names]
    columns = []
    for column in range(max(map(len, rows), default=0)):
        found = dict.fromkeys(row[column] for row in rows if column < len(row))
        text = next(iter(found)) if len(found) == 1 else "(" + "|".join(found) + ")"
        columns.append(text + "?" if any(column >= len(row) for row in rows) else text)
    label = ".".join(reversed(columns))
    return label if len(label) <= LABEL_MAX else label[: LABEL_MAX - 3] + "..."


def _plain(host: str) -> str:
    return host if host.startswith("/") else host.lower().removesuffix(".")


def _name(host: str, port: int) -> str:
    if host.startswith("/"):
        return host  # a unix socket
    is_address = ":" in host or host.replace(".", "").isdecimal()
    return (f"[{host}]" if is_address else host) + (f":{port}" if port != SMTP_PORT else "")
