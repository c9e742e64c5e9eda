"""From a recipient's address to its next hop, without a look-up."""

from collections.abc import Sequence

from .hop import PREFIX, parse_address, parse_destination

RELAY_HOSTS_MAX = 16
KNOWN_MAX = 65_536  # domains whose next hop is remembered


class RouteTable:
    """Where mail goes: to the relay hosts, or to its recipient's domain when there are none."""

    __slots__ = ("_known", "_relay")

    def __init__(self, relay_hosts: Sequence[str] = ()) -> None:
        """Several relay hosts are tried in their order.

        Forms: `[host]:port` and `[address]:port` without MX look-up, `host:port` and `host` with
        it. Raises ValueError with a sentence for a human.
        """
        if len(relay_hosts) > RELAY_HOSTS_MAX:
            raise ValueError(f"at most {RELAY_HOSTS_MAX} relay hosts, not {len(relay_hosts)}")
        texts = dict.fromkeys(parse_destination(host).text for host in relay_hosts)
        self._relay = PREFIX + ",".join(texts).encode() if texts else b""
        self._known: dict[bytes, bytes] = {}  # by domain; equal next hops are then one object

    def next_hop(self, forward_path: bytes) -> bytes:
        """The next hop for `forward_path` (canonical, so its domain is in lower case).

        Never raises: a path whose domain cannot name a destination gets the empty next hop
        `smtp:`, which resolves to a permanent problem.
        """
        if self._relay:
            return self._relay
        at = forward_path.rfind(b"@")
        if at < 0:
            return PREFIX
        domain = forward_path[at + 1 :]
        next_hop = self._known.get(domain)
        if next_hop is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            next_hop = self._known[domain] = PREFIX + _destination(domain)
        return next_hop


def _destination(domain: bytes) -> bytes:
    """`domain` itself or its address literal; nothing for what a sender may not choose."""
    if b"[" in domain:
        return _address_literal(domain)
    return b"" if b":" in domain or b"," in domain else domain


def _address_literal(domain: bytes) -> bytes:
    """`[address]` in canonical form, or nothing: a sender may name neither ports nor lists."""
    if domain[:1] != b"[" or domain[-1:] != b"]":
        return b""
    address = parse_address(domain[1:-1].decode("ascii", "replace"))
    if address is None:
        return b""
    return f"[IPv6:{address}]".encode() if ":" in address else f"[{address}]".encode()
