"""An answer to one DNS query, as the rest of the room sees it; DNS messages end here.

Everything in an answer is hostile input: names that are no host names are dropped, chains and
record counts are bounded, records beside the chain from the question are not looked at.
"""

import enum
import ipaddress
from collections.abc import Callable
from typing import Protocol, TypeAlias

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.PTR
import dns.rrset
import msgspec

from .hop import host_name

RECORDS_MAX = 256  # of one answer; the best of MX, any of the others
ALIASES_MAX = 8  # CNAMEs in a row
TTL_MAX_S = 86_400
NEGATIVE_TTL_MAX_S = 3_600  # RFC 2308 5 allows three hours
NEGATIVE_TTL_DEFAULT_S = 30  # a negative answer without SOA should not be kept (RFC 2308 5)
FAILURE_TTL_S = 30  # RFC 2308 7 allows five minutes


class RecordType(enum.IntEnum):
    """The types that mail needs, with their numbers on the wire."""

    A = 1
    PTR = 12
    MX = 15
    AAAA = 28


class AnswerKind(enum.Enum):
    """What the name server said."""

    FOUND = "found"
    NO_DATA = "no data"  # the name exists, the type does not
    NO_NAME = "no such name"
    ALIAS = "alias"  # the chain leaves this answer: ask again for `alias`
    INVALID = "invalid"  # nothing in it can be used, and asking again will not help
    FAILED = "failed"  # SERVFAIL, timeout, garbage: nothing is known


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The records of one type at one name. Names are lower case without the final dot."""

    kind: AnswerKind
    expires_at_s: float  # monotonic
    exchanges: tuple[tuple[int, str], ...] = ()  # MX: (preference, host) sorted; "" is the root
    values: tuple[str, ...] = ()  # A, AAAA: addresses; PTR: names
    alias: str = ""
    text: str = ""  # why it failed, for a log


Done: TypeAlias = Callable[[Answer], None]


class Query(Protocol):
    """Port: ask for `rdtype` at `name`; `done` is called exactly once, perhaps at once."""

    def query(self, name: str, rdtype: RecordType, done: Done) -> None: ...


def failed(now_s: float, text: str) -> Answer:
    """The answer to a query that got none."""
    return Answer(AnswerKind.FAILED, now_s + FAILURE_TTL_S, text=text)


def read_answer(
    response: dns.message.Message, name: str, rdtype: RecordType, now_s: float
) -> Answer:
    """The answer that `response` gives to the question (`name`, `rdtype`).

    Assumes that the caller has matched id and question. Never raises on what a server can send.
    """
    rcode = response.rcode()
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return failed(now_s, dns.rcode.to_text(rcode))
    owner = dns.name.from_text(name)
    by_name: dict[tuple[dns.name.Name, int], dns.rrset.RRset] = {
        (rrset.name, rrset.rdtype): rrset
        for rrset in response.answer
        if rrset.rdclass == dns.rdataclass.IN and rrset
    }
    ttl_s = float(TTL_MAX_S)
    for followed in range(ALIASES_MAX + 1):
        records = by_name.get((owner, rdtype))
        if records is not None:
            return _found(records, rdtype, now_s, min(ttl_s, records.ttl))
        alias = by_name.get((owner, dns.rdatatype.CNAME))
        if alias is None:
            if followed and rcode == dns.rcode.NOERROR and _soa_ttl_s(response) is None:
                return _alias(owner, now_s + ttl_s)
            return _negative(response, rcode, now_s, ttl_s)
        owner = alias[0].target
        ttl_s = min(ttl_s, alias.ttl)
    return Answer(AnswerKind.INVALID, now_s + NEGATIVE_TTL_DEFAULT_S, text="too many aliases")


def _found(records: dns.rrset.RRset, rdtype: RecordType, now_s: float, ttl_s: float) -> Answer:
    expires_at_s = now_s + ttl_s
    if rdtype is RecordType.MX:
        exchanges = sorted(
            {
                (record.preference, "" if host is None else host)
                for record in records
                if isinstance(record, dns.rdtypes.ANY.MX.MX)
                and ((host := _host(record.exchange)) or record.exchange == dns.name.root)
            }
        )
        if exchanges:
            return Answer(AnswerKind.FOUND, expires_at_s, tuple(exchanges[:RECORDS_MAX]))
    else:
        texts = (_value(record, rdtype) for record in records)
        values = tuple(dict.fromkeys(text for text in texts if text))
        if values:
            return Answer(AnswerKind.FOUND, expires_at_s, values=values[:RECORDS_MAX])
    return Answer(AnswerKind.INVALID, expires_at_s, text="no usable record")


def _value(record: object, rdtype: RecordType) -> str | None:
    if rdtype is RecordType.PTR:
        return _host(record.target) if isinstance(record, dns.rdtypes.ANY.PTR.PTR) else None
    address = str(ipaddress.ip_address(str(record)))
    return address if is_usable_address(address) else None


def is_usable_address(address: str) -> bool:
    """Whether `address`, found in DNS, can belong to one mail server at all."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    if mapped is not None:
        parsed = mapped
    if parsed.is_multicast or parsed.is_unspecified:
        return False
    return not (parsed.version == 4 and (parsed.packed[0] == 0 or parsed.packed[0] >= 240))


def _host(name: dns.name.Name) -> str | None:
    return host_name(name.to_text(omit_final_dot=True))


def _alias(owner: dns.name.Name, expires_at_s: float) -> Answer:
    host = _host(owner)
    if host is None:
        return Answer(AnswerKind.INVALID, expires_at_s, text="alias to a malformed name")
    return Answer(AnswerKind.ALIAS, expires_at_s, alias=host)


def _negative(response: dns.message.Message, rcode: int, now_s: float, ttl_s: float) -> Answer:
    soa_ttl_s = _soa_ttl_s(response)
    limit_s = NEGATIVE_TTL_DEFAULT_S if soa_ttl_s is None else min(soa_ttl_s, NEGATIVE_TTL_MAX_S)
    kind = AnswerKind.NO_NAME if rcode == dns.rcode.NXDOMAIN else AnswerKind.NO_DATA
    return Answer(kind, now_s + min(ttl_s, limit_s))


def _soa_ttl_s(response: dns.message.Message) -> float | None:
    """How long a negative answer may be kept: min(TTL of the SOA, its minimum), RFC 2308 5."""
    for rrset in response.authority:
        if rrset.rdtype == dns.rdatatype.SOA and rrset:
            return float(min(rrset.ttl, rrset[0].minimum))
    return None
