"""The sites of a scenario, their domains, and one address at each domain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from fastmta.message import Envelope
from fastmta.route import Site, Target
from fastmta.route.hop import build_owner

from .receiver import Peer, Replies
from .scenario import Backlog, Scenario, Traffic


def owners(scenario: Scenario) -> Iterable[str]:
    """The tenants whose mail has next hops of its own, as the daemon decides it: those with a
    section, or all, if a configured shape is about others."""
    patterns = {
        one
        for shape in scenario.shape.values()
        if not (shape.from_s or shape.until_s)
        for one in shape.tenant
    }
    if patterns <= scenario.tenant.keys():
        return scenario.tenant
    sources: dict[str, Backlog | Traffic] = {**scenario.backlog, **scenario.traffic}
    return {one.tenant or name: None for name, one in sources.items()}


class Internet:
    """Sites, their domains, and one address at each domain."""

    def __init__(self, scenario: Scenario) -> None:
        self.peers: dict[bytes, Peer] = {}  # by key of the site
        self.peer_of: dict[bytes, Peer] = {}  # by next hop, whoever's mail it is
        self.next_hops: dict[bytes, bytes] = {}  # by forward-path
        self.kind_of: dict[bytes, int] = {}  # by forward-path
        self._owners = {name: build_owner(name) for name in owners(scenario)}
        self._paths: dict[str, list[bytes]] = {}
        for kind, (name, spec) in enumerate(scenario.receiver.items()):
            replies = Replies(name)
            self._paths[name] = []
            for number in range(spec.sites):
                label = name if spec.sites == 1 else f"{name}-{number + 1}"
                site = _site(label, spec.provider)
                peer = Peer(site, kind, spec, replies, f"{scenario.seed}/receiver/{label}")
                self.peers[site.key] = peer
                for place in range(spec.domains):
                    prefix = "" if spec.domains == 1 else f"d{place + 1}."
                    self._add(name, f"{prefix}{label}.example".encode(), peer)

    def _add(self, name: str, domain: bytes, peer: Peer) -> None:
        path, next_hop = b"user@" + domain, b"smtp:" + domain
        self._paths[name].append(path)
        self.next_hops[path] = next_hop
        self.kind_of[path] = peer.kind
        self.peer_of[next_hop] = peer

    def paths_of(self, name: str) -> Sequence[bytes]:
        """The addresses at one kind of receiver."""
        return self._paths[name]

    def next_hop(self, forward_path: bytes, envelope: Envelope) -> bytes:
        """See `Ports`, and `owners`."""
        next_hop = self.next_hops[forward_path]
        owner = self._owners.get(envelope.tenant)
        return next_hop if owner is None else next_hop + owner


def _site(label: str, provider: str) -> Site:
    key = blake2b(label.encode(), digest_size=16).digest()
    targets = (Target(f"mx.{label}.example", "192.0.2.1", 25),)
    return Site(key, label, targets, None, provider=provider)
