"""The filter language: which messages of the queue are meant.

    expression   term *( blank term )        a message is meant that satisfies every term
    term         field ":" pattern [ "," pattern ... ]      one of them
                 field ( "<" / ">" ) value
    pattern      text with "*" for any number of characters; "..." around one with blanks or commas

    id:3G0*               the queue id
    from:@shop.example    the reverse-path; "<>" is the null one; a leading "@" means "*@"
    tenant:acme           who the mail is counted for
    age>2h  age<30m       since it was accepted; s, m, h or d
    arrived>2026-11-23    when it was accepted, UTC; also 2026-11-23T08:30, or @ and Unix seconds
    size>1M               octets of content; k, M, G are powers of 1,024
    queue:deferred        active, incoming, deferred or hold, as `fastmta.message.situation` says

    of a recipient that is not final, and one recipient must satisfy all of these:
    to:*@gmail.com        the forward-path; a leading "@" means "*@"
    domain:gmail.com      its domain
    dest:gmail.com        its next hop: the domain, or the relay
    status:deferred       queued, deferred, held; or failed, which other recipients may be
    code:4.7.*            the enhanced status code of the last reply, or its three digits

Letters of addresses, domains and tenants are compared without case.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypeAlias

from fastmta.message import Envelope, Message, RecipientState, RecipientStatus
from fastmta.message.situation import NOWHERE, QUEUES, Situation, queue_of

EXPRESSION_CHARACTERS_MAX = 4096
TERMS_MAX = 32

_TERM = re.compile(r"(?P<field>[A-Za-z_]*)(?P<sign>[:<>]?)")
_VALUE = re.compile(r'(?P<value>(?:"[^"]*"|[^\s"])*)')
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_OCTETS = {"": 1, "k": 1 << 10, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
# The reply in the text of an outcome, as deliveries write it: `host x[y] said: 450 4.2.0 later`.
_REPLY = re.compile(r": ([2-5][0-9]{2})(?:[ -](?:([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9.]))?|\Z)")
_STATUS = {
    "queued": RecipientStatus.QUEUED,
    "deferred": RecipientStatus.DEFERRED,
    "held": RecipientStatus.HELD,
    "failed": RecipientStatus.FAILED,
}
_LAST_MOVING = RecipientStatus.DEFERRED
NS = 1_000_000_000

NextHop: TypeAlias = Callable[[bytes, Envelope], bytes]
_OWNER = b" for "  # of a next hop: whose mail alone waits for it
_WAY = b"#"  # of a next hop: which relay's login and TLS, behind the host as lists show it


class FilterError(ValueError):
    """An expression that means nothing; `column` counts from 1."""

    def __init__(self, column: int, text: str) -> None:
        super().__init__(f"column {column}: {text}")
        self.column = column


class Limits(NamedTuple):
    """A half-open range of numbers; ends that are None are open."""

    above: int | None = None
    below: int | None = None

    def has(self, number: int) -> bool:
        """Whether `number` is within."""
        return (self.above is None or number > self.above) and (
            self.below is None or number < self.below
        )

    def narrowed(self, sign: str, number: int) -> Limits:
        """Within another end as well."""
        if sign == ">":
            return Limits(number if self.above is None else max(self.above, number), self.below)
        return Limits(self.above, number if self.below is None else min(self.below, number))


class Filter:
    """A parsed expression. One without terms means everything."""

    def __init__(self) -> None:
        self.text = ""
        self.ids: list[re.Pattern[bytes]] = []
        self.senders: list[re.Pattern[bytes]] = []
        self.tenants: list[re.Pattern[bytes]] = []
        self.recipients: list[re.Pattern[bytes]] = []
        self.domains: list[re.Pattern[bytes]] = []
        self.next_hops: list[re.Pattern[bytes]] = []
        self.codes: list[re.Pattern[bytes]] = []
        self.globs: list[tuple[str, list[bytes]]] = []  # all of these as they were written
        self.statuses: frozenset[RecipientStatus] = frozenset()
        self.queues: frozenset[int] = frozenset()
        self.situation = NOWHERE
        self.age_ns = Limits()
        self.arrived_at_ns = Limits()
        self.size_octets = Limits()

    @property
    def needs_states(self) -> bool:
        """Whether the recipients' states decide."""
        return bool(self.statuses or self.codes or self.queues or self.needs_recipients)

    @property
    def needs_situation(self) -> bool:
        """Whether it matters what is under way, and where nothing goes."""
        return bool(self.statuses or self.codes or self.queues)

    @property
    def needs_recipients(self) -> bool:
        """Whether their addresses decide."""
        return bool(self.recipients or self.domains or self.next_hops)

    @property
    def needs_envelope(self) -> bool:
        """Whether something decides that only the message's record has."""
        return bool(self.senders or self.tenants or self.needs_recipients)

    def at(self, situation: Situation) -> Filter:
        """The same, for mail that stands like that."""
        found = copy.copy(self)
        found.situation = situation
        return found

    def situation_of(self, id: bytes) -> Situation:
        """That of the recipients of one message."""
        return NOWHERE if id in self.situation.active else self.situation

    def with_failed(self) -> None:
        """Recipients that have failed are meant as well."""
        self.statuses = frozenset(_STATUS.values())

    def accepts_row(self, id: bytes, arrived_at_ns: int, size_octets: int, now_ns: int) -> bool:
        """Whether a message with these may be meant."""
        return (
            all(pattern.fullmatch(id) for pattern in self.ids)
            and self.age_ns.has(now_ns - arrived_at_ns)
            and self.arrived_at_ns.has(arrived_at_ns)
            and self.size_octets.has(size_octets)
        )

    def accepts(self, message: Message, now_ns: int, next_hop: NextHop) -> bool:
        """Whether `message` is meant, as it is now. Needs no content."""
        envelope = message.envelope
        if not self.accepts_row(message.id, message.arrived_at_ns, message.size_octets, now_ns):
            return False
        sender = envelope.reverse_path or b"<>"
        tenant = envelope.tenant.encode("utf-8", "surrogatepass")
        if not all(pattern.fullmatch(sender) for pattern in self.senders):
            return False
        if not all(pattern.fullmatch(tenant) for pattern in self.tenants):
            return False
        if not self.needs_states:
            return True
        situation = self.situation_of(message.id)
        places = [
            (state, next_hop(path, envelope) if _needs_hop(situation, state) else b"")
            for index, path in enumerate(envelope.forward_paths)
            for state in (message.states.get(index),)
        ]
        if not self.accepts_queue(message.id, places):
            return False
        return any(
            self.accepts_state(situation, *place) and self._accepts_path(path, envelope, next_hop)
            for path, place in zip(envelope.forward_paths, places, strict=True)
        )

    def accepts_queue(
        self, id: bytes, places: Iterable[tuple[RecipientState | None, bytes]]
    ) -> bool:
        """Whether a message with recipients in these states, for these next hops, may be meant."""
        if not self.queues:
            return True
        is_active = id in self.situation.active
        statuses = (self.situation.of(*place).status for place in places)
        return queue_of(is_active, statuses) in self.queues

    def accepts_state(
        self, situation: Situation, state: RecipientState | None, next_hop: bytes
    ) -> bool:
        """Whether a recipient in this state, for that next hop, may be meant."""
        status, text, code = situation.of(state, next_hop)
        if not (status in self.statuses if self.statuses else not status.is_final):
            return False
        return not self.codes or self._accepts_code(text, code)

    def _accepts_code(self, text: str, code: str) -> bool:
        match = _REPLY.search(text)
        found = [] if match is None else [one.encode() for one in match.groups() if one]
        if code:
            found.append(code.encode())
        return all(any(pattern.fullmatch(one) for one in found) for pattern in self.codes)

    def _accepts_path(self, path: bytes, envelope: Envelope, next_hop: NextHop) -> bool:
        domain = path[path.rfind(b"@") + 1 :]
        if not all(pattern.fullmatch(path) for pattern in self.recipients):
            return False
        if not all(pattern.fullmatch(domain) for pattern in self.domains):
            return False
        if not self.next_hops:
            return True
        hop = next_hop(path, envelope)
        plain = hop.partition(_OWNER)[0]
        place = plain.partition(b":")[2]
        names = (hop, plain, place, place.partition(_WAY)[0])
        return all(any(each.fullmatch(name) for name in names) for each in self.next_hops)


def _needs_hop(situation: Situation, state: RecipientState | None) -> bool:
    return bool(situation.suspended) and (state is None or state.status <= _LAST_MOVING)


def parse_filter(text: str) -> Filter:
    """The filter that `text` stands for. Raises FilterError."""
    if len(text) > EXPRESSION_CHARACTERS_MAX:
        raise FilterError(EXPRESSION_CHARACTERS_MAX, "the expression is too long")
    found = Filter()
    found.text = text.strip()
    pos, count = 0, 0
    while (pos := _skip_blanks(text, pos)) < len(text):
        count += 1
        if count > TERMS_MAX:
            raise FilterError(pos + 1, f"more than {TERMS_MAX} terms")
        term = _TERM.match(text, pos)
        assert term is not None
        field, sign = term["field"].lower(), term["sign"]
        if field not in _FIELDS:
            raise FilterError(pos + 1, f"a field is expected: {', '.join(sorted(_FIELDS))}")
        set_field, signs = _FIELDS[field]
        if not sign or sign not in signs:
            wanted = " or ".join(f'"{one}"' for one in signs)
            raise FilterError(term.end("field") + 1, f"{wanted} is expected behind {field}")
        value = _VALUE.match(text, term.end())
        assert value is not None
        if value.end() < len(text) and text[value.end()] == '"':
            raise FilterError(value.end() + 1, 'the closing " is missing')
        if not value["value"]:
            raise FilterError(term.end() + 1, f"a value is expected behind {field}{sign}")
        set_field(found, sign, value["value"], term.end() + 1)
        pos = value.end()
    return found


def _skip_blanks(text: str, pos: int) -> int:
    while pos < len(text) and text[pos].isspace():
        pos += 1
    return pos


def _patterns(value: str) -> list[str]:
    """The patterns of a list; commas between quotation marks are part of one."""
    found = [""]
    is_quoted = False
    for character in value:
        if character == '"':
            is_quoted = not is_quoted
        elif character == "," and not is_quoted:
            found.append("")
        else:
            found[-1] += character
    return found


def _compile(patterns: Sequence[str], flags: re.RegexFlag = re.IGNORECASE) -> re.Pattern[bytes]:
    parts = b"|".join(_translate(one.encode("utf-8", "surrogateescape")) for one in patterns)
    return re.compile(parts, flags | re.DOTALL)


def _translate(pattern: bytes) -> bytes:
    """As a regular expression whose time grows no faster than the text's length."""
    first, *rest = map(re.escape, pattern.split(b"*"))
    if not rest:
        return first
    *middle, last = rest
    return first + b"".join(b"(?>.*?%b)" % one for one in middle if one) + b".*" + last


def _set_ids(found: Filter, sign: str, value: str, column: int) -> None:
    found.ids.append(_compile(_noted(found, "id", _patterns(value)), re.RegexFlag(0)))


def _set_senders(found: Filter, sign: str, value: str, column: int) -> None:
    found.senders.append(_compile(_noted(found, "from", _addresses(value))))


def _set_recipients(found: Filter, sign: str, value: str, column: int) -> None:
    found.recipients.append(_compile(_noted(found, "to", _addresses(value))))


def _addresses(value: str) -> list[str]:
    return ["*" + one if one.startswith("@") else one for one in _patterns(value)]


def _set_tenants(found: Filter, sign: str, value: str, column: int) -> None:
    found.tenants.append(_compile(_noted(found, "tenant", _patterns(value))))


def _set_domains(found: Filter, sign: str, value: str, column: int) -> None:
    names = [one.removeprefix("@") for one in _patterns(value)]
    found.domains.append(_compile(_noted(found, "domain", names)))


def _set_next_hops(found: Filter, sign: str, value: str, column: int) -> None:
    found.next_hops.append(_compile(_noted(found, "dest", _patterns(value))))


def _set_codes(found: Filter, sign: str, value: str, column: int) -> None:
    found.codes.append(_compile(_noted(found, "code", _patterns(value))))


def _noted(found: Filter, field: str, patterns: list[str]) -> list[str]:
    octets = [one.encode("utf-8", "surrogateescape") for one in patterns]
    found.globs.append((field, octets))
    return patterns


def _set_statuses(found: Filter, sign: str, value: str, column: int) -> None:
    names = [one.lower() for one in _patterns(value)]
    unknown = [name for name in names if name not in _STATUS]
    if unknown:
        raise FilterError(column, f"{unknown[0]!r} is no status: {', '.join(_STATUS)}")
    statuses = frozenset(_STATUS[name] for name in names)
    found.statuses = found.statuses & statuses if found.statuses else statuses
    if not found.statuses:
        raise FilterError(column, "no recipient has two states")


def _set_queues(found: Filter, sign: str, value: str, column: int) -> None:
    names = [one.lower() for one in _patterns(value)]
    unknown = [name for name in names if name not in QUEUES]
    if unknown:
        raise FilterError(column, f"{unknown[0]!r} is no queue: {', '.join(QUEUES)}")
    queues = frozenset(QUEUES.index(name) for name in names)
    found.queues = found.queues & queues if found.queues else queues
    if not found.queues:
        raise FilterError(column, "no message is in two queues")


def _set_age(found: Filter, sign: str, value: str, column: int) -> None:
    amount_s = _amount(value, _SECONDS, column, "an age like 90s, 30m, 2h or 5d is expected")
    found.age_ns = found.age_ns.narrowed(sign, int(amount_s * NS))


def _set_size(found: Filter, sign: str, value: str, column: int) -> None:
    octets = _amount(value, _OCTETS, column, "a size like 500, 20k or 1.5M is expected")
    found.size_octets = found.size_octets.narrowed(sign, int(octets))


def _amount(value: str, units: dict[str, int], column: int, text: str) -> float:
    match = _AMOUNT.fullmatch(value)
    if match is None or match[2] not in units:
        raise FilterError(column, text)
    return float(match[1]) * units[match[2]]


def _set_arrived(found: Filter, sign: str, value: str, column: int) -> None:
    try:
        if value.startswith("@"):
            moment_ns = int(float(value[1:]) * NS)
        else:
            moment = datetime.fromisoformat(value.replace('"', ""))
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            moment_ns = int(moment.timestamp()) * NS
    except (ValueError, OverflowError):
        text = "a time like 2026-11-23, 2026-11-23T08:30 or @1795000000 is expected"
        raise FilterError(column, text) from None
    found.arrived_at_ns = found.arrived_at_ns.narrowed(sign, moment_ns)


_Setter: TypeAlias = Callable[[Filter, str, str, int], None]
_FIELDS: dict[str, tuple[_Setter, str]] = {
    "id": (_set_ids, ":"),
    "from": (_set_senders, ":"),
    "to": (_set_recipients, ":"),
    "domain": (_set_domains, ":"),
    "dest": (_set_next_hops, ":"),
    "tenant": (_set_tenants, ":"),
    "status": (_set_statuses, ":"),
    "queue": (_set_queues, ":"),
    "code": (_set_codes, ":"),
    "age": (_set_age, "<>"),
    "arrived": (_set_arrived, "<>"),
    "size": (_set_size, "<>"),
}
