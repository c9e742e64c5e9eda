"""Whose sessions may carry whose mail: what was verified for one next hop serves no other."""

from __future__ import annotations

import msgspec
import pytest

from fastmta.delivery.session_key import session_key
from fastmta.message import Job
from fastmta.route import Site
from fastmta.route.way import DEFAULT_WAY, TlsLevel, TlsPolicy, Way
from tests.support.delivering import make_job, make_site

NEXT_HOPS = (b"smtp:one.example", b"smtp:two.example")


def keys_of(site: Site, is_tls_required: bool = False) -> set[bytes]:
    """Of mail for two next hops that are both at `site`."""
    keys = set()
    for next_hop in NEXT_HOPS:
        job = make_job()
        envelope = msgspec.structs.replace(job.message.envelope, is_tls_required=is_tls_required)
        job.message.envelope = envelope
        keys.add(session_key(site, Job(job.message, next_hop, job.indices)))
    return keys


@pytest.mark.parametrize("names", [("nexthop",), ("mx.example", "dot-nexthop")])
@pytest.mark.parametrize("level", [TlsLevel.VERIFY, TlsLevel.SECURE])
def test_what_was_verified_for_one_next_hop_serves_no_other(
    level: TlsLevel, names: tuple[str, ...]
) -> None:
    assert len(keys_of(make_site(1, way=Way(tls=TlsPolicy(level, names=names))))) == 2


@pytest.mark.parametrize(
    ("way", "count", "with_requiretls"),
    [
        (DEFAULT_WAY, 1, 2),
        (Way(tls=TlsPolicy(TlsLevel.NONE)), 1, 2),
        (Way(tls=TlsPolicy(TlsLevel.ENCRYPT)), 1, 2),
        (Way(tls=TlsPolicy(TlsLevel.VERIFY)), 1, 1),
        (Way(tls=TlsPolicy(TlsLevel.SECURE)), 2, 2),
        (Way(tls=TlsPolicy(TlsLevel.VERIFY), credentials="relay"), 1, 1),
        (Way(tls=TlsPolicy(TlsLevel.FINGERPRINT), credentials="relay"), 2, 2),
    ],
)
def test_next_hops_of_a_site_that_share_sessions(
    way: Way, count: int, with_requiretls: int
) -> None:
    site = make_site(1, way=way)
    assert len(keys_of(site)) == count
    assert len(keys_of(site, is_tls_required=True)) == with_requiretls
    assert len(keys_of(site)) == count  # whatever was asked before


def test_another_way_to_the_same_key_is_looked_at_anew() -> None:
    for level in (TlsLevel.MAY, TlsLevel.SECURE, TlsLevel.MAY):
        expected = 2 if level is TlsLevel.SECURE else 1
        assert len(keys_of(make_site(1, way=Way(tls=TlsPolicy(level))))) == expected
