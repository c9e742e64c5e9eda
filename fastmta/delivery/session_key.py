"""What sessions may be shared by: their site, and for some ways the next hop as well.

A certificate that was looked at for the next hop's own name proves nothing to another next hop of
the same site. Whether that is so rests on the way alone, and is found out once per site.
"""

from __future__ import annotations

from typing import Final

from fastmta.message import Job
from fastmta.route import Site
from fastmta.route.way import DEFAULT_WAY, TlsLevel, Way
from fastmta.security.peer_name import DOT_NEXTHOP, NEXTHOP

_HOP_NAMES: Final = frozenset((NEXTHOP, DOT_NEXTHOP))
_SITES_MAX: Final = 4096
_known: Final[dict[bytes, tuple[Way, bool, bool]]] = {}  # by the key of the site; bounded


def session_key(site: Site, job: Job) -> bytes:
    """The key of the pool's sessions that may carry `job`."""
    way = site.way
    is_tls_required = job.message.envelope.is_tls_required
    if way is DEFAULT_WAY and not is_tls_required:
        return site.key
    known = _known.get(site.key)
    if known is None or known[0] is not way:
        if len(_known) >= _SITES_MAX:
            _known.clear()
        known = _known[site.key] = (way, _is_by_hop(way, False), _is_by_hop(way, True))
    is_by_hop = known[2] if is_tls_required else known[1]
    return site.key + job.next_hop if is_by_hop else site.key


def _is_by_hop(way: Way, is_tls_required: bool) -> bool:
    tls = way.tls
    is_named = way.credentials or is_tls_required
    return not _HOP_NAMES.isdisjoint(tls.names) or (
        tls.level is TlsLevel.SECURE or (bool(is_named) and tls.level is not TlsLevel.VERIFY)
    )
