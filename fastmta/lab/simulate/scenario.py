"""What a scenario may say: every key with its kind, default and meaning. `reading.py` reads it."""

import re
from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

from fastmta.budget.rate import Rate, rate_text, read_rate
from fastmta.config.key import DAY_S, Key
from fastmta.config.kind import (
    Choice,
    Flag,
    Integer,
    Kind,
    Listing,
    Number,
    Octets,
    Seconds,
    Text,
    Word,
)
from fastmta.config.kind import plain_text as checked_text

Span: TypeAlias = tuple[float, float]
FOR_EVER_S = 30 * DAY_S
_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)-([0-9]{1,9}(?:\.[0-9]{1,6})?)")


class TimeSpan(Kind):
    """A part of the run."""

    shape = 'seconds from the beginning such as `"600-1200"`'

    def check(self, value: object) -> Span:
        text = checked_text(value)
        match = _SPAN.fullmatch(text)
        if match is None:
            raise ValueError(f'must be two times in seconds such as "600-1200", not "{text}"')
        begin_s, end_s = float(match[1]), float(match[2])
        if begin_s >= end_s:
            raise ValueError(f'must end after it begins, not "{text}"')
        return begin_s, end_s

    def render(self, value: object) -> str:
        assert isinstance(value, tuple)
        return f'"{value[0]:g}-{value[1]:g}"'


class RateText(Kind):
    """So many per time, and how many of them at once."""

    shape = 'rate such as `"100/min, burst 10"`, or `""`'

    def check(self, value: object) -> Rate | None:
        text = checked_text(value)
        return read_rate(text) if text else None

    def render(self, value: object) -> str:
        return f'"{rate_text(value)}"' if isinstance(value, Rate) else '""'


class Weights(Listing):
    """Numbers that stand for things in another list: the same one may come twice."""

    def _checked(self, values: list[object]) -> tuple[object, ...]:
        super()._checked(values)
        return tuple(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduling:
    """How mail goes out; keys of `[delivery]` and `[retry]` with the same names and defaults."""

    connections: Annotated[int, Key(Integer(1, 100_000), "Connections to all sites together.")] = (
        500
    )
    site_connections: Annotated[
        int, Key(Integer(1, 10_000), "Connections to one site at a time.")
    ] = 20
    window_start: Annotated[
        int, Key(Integer(1, 10_000), "Connections to a site that we know nothing of yet.")
    ] = 5
    site_rate_per_s: Annotated[
        float, Key(Number(0, 1e6), "Messages a second to each site; 0: no limit.")
    ] = 0.0
    site_rate_burst: Annotated[
        int, Key(Integer(1, 1_000_000), "Messages of that rate that may go at once.")
    ] = 1
    idle_s: Annotated[
        float, Key(Seconds(0, 300), "How long an idle connection is kept for the next message.")
    ] = 5.0
    messages_per_connection: Annotated[
        int, Key(Integer(1, 1_000_000), "Messages over one connection before a new one is made.")
    ] = 1000
    recipients: Annotated[
        int, Key(Integer(1, 10_000), "Recipients of one message that go together.")
    ] = 50
    ram_messages: Annotated[
        int, Key(Integer(10, 10_000_000), "Messages in RAM, shared by all sites.")
    ] = 4_000
    ram_octets: Annotated[int, Key(Octets(64 * 1024, 1 << 40), "Content of messages in RAM.")] = (
        8 * 1024 * 1024
    )
    first_s: Annotated[
        float, Key(Seconds(1, DAY_S), "Wait after the first failed attempt; it doubles each time.")
    ] = 300.0
    max_s: Annotated[float, Key(Seconds(1, 7 * DAY_S), "Longest wait between attempts.")] = 4000.0
    jitter: Annotated[
        float, Key(Number(0, 0.5), "Fraction by which each wait is lengthened or shortened.")
    ] = 0.1
    lifetime_s: Annotated[float, Key(Seconds(1, 100 * DAY_S), "Age at which mail is given up.")] = (
        5 * DAY_S
    )
    site_backoff_min_s: Annotated[
        float, Key(Seconds(0.1, DAY_S), "First pause of a site that cannot be reached.")
    ] = 10.0
    site_backoff_max_s: Annotated[
        float, Key(Seconds(0.1, DAY_S), "Longest pause of a site that cannot be reached.")
    ] = 300.0


_SHARE = Number(0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """`sites` receivers of one kind. The name is what reports and charts call them."""

    sites: Annotated[int, Key(Integer(1, 100_000), "How many of them there are.")] = 1
    domains: Annotated[int, Key(Integer(1, 10_000), "Recipient domains that share a site.")] = 1
    connect_s: Annotated[
        float, Key(Seconds(0, 3600), "Set-up of a connection, greeting and EHLO included.")
    ] = 0.05
    reply_s: Annotated[
        float, Key(Seconds(0, 3600), "One transaction, from MAIL to the last reply.")
    ] = 0.05
    jitter: Annotated[
        float, Key(_SHARE, "Fraction by which these two differ from case to case.")
    ] = 0.1
    tarpit_s: Annotated[
        float,
        Key(Seconds(0, 3600), "What each other transaction under way adds to the time of one."),
    ] = 0.0
    connections: Annotated[
        int, Key(Integer(0, 100_000), "It greets more of them with 421; 0: it takes any number.")
    ] = 0
    messages_per_connection: Annotated[
        int, Key(Integer(0, 1_000_000), "After so many messages it closes a connection; 0: never.")
    ] = 0
    rate_per_s: Annotated[
        float, Key(Number(0, 1e6), "Messages a second that it takes from us; 0: any number.")
    ] = 0.0
    rate_burst: Annotated[
        float, Key(Number(1, 1e6), "Messages that it takes at once before it counts.")
    ] = 10.0
    over_rate: Annotated[
        str,
        Key(Choice("421", "450"), "What it says to more: go away, or this message later."),
    ] = "421"
    greylist_s: Annotated[
        float, Key(Seconds(0, DAY_S), "It defers each message until so long after its first try.")
    ] = 0.0
    deferred: Annotated[float, Key(_SHARE, "Share of recipients that get a 4xx.")] = 0.0
    failed: Annotated[float, Key(_SHARE, "Share of recipients that get a 5xx.")] = 0.0
    lost: Annotated[float, Key(_SHARE, "Share of transactions in which it hangs up.")] = 0.0
    dead: Annotated[
        str,
        Key(
            Choice("no", "refused", "timeout"),
            "What a connection meets all the time, or, when there are `outages`, in these.",
        ),
    ] = "no"
    timeout_s: Annotated[
        float, Key(Seconds(0.1, 3600), "How long we wait for a connection when it is `timeout`.")
    ] = 30.0
    outages: Annotated[
        tuple[Span, ...], Key(Listing(TimeSpan(), most=100), "When nobody answers there.")
    ] = ()
    provider: Annotated[
        str, Key(Text(), "Who runs it, as shapes call it; empty: nobody in particular.")
    ] = ""
    dns_s: Annotated[float, Key(Seconds(0, 300), "How long a look-up of its domain takes.")] = 0.01
    dns_failures: Annotated[float, Key(_SHARE, "Share of look-ups without an answer.")] = 0.0


_TO = Key(Listing(Word(), least=1, most=100), "Names of receivers.")
_WEIGHTS = Key(
    Weights(Number(0, 1e9), most=100),
    "How much of the mail goes to each of them; empty: by their domains.",
)
_SPREAD = Key(
    Choice("even", "zipf"),
    "Among the domains of each: evenly, or a few get most of it (the n-th gets 1/n of the first).",
)
_TENANT = Key(Text(), "Who sends; empty: a tenant with the name of the section.")
_OCTETS = Key(Octets(1, 1 << 30), "Size of each message.")
_RECIPIENTS = Key(Integer(1, 1_000), "Recipients of each message, drawn one by one.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Mail that arrives during the run."""

    tenant: Annotated[str, _TENANT] = ""
    to: Annotated[tuple[str, ...], _TO] = ()
    weights: Annotated[tuple[float, ...], _WEIGHTS] = ()
    spread: Annotated[str, _SPREAD] = "even"
    rate_per_s: Annotated[float, Key(Number(1e-6, 1e6), "Messages a second.")] = 1.0
    arrival: Annotated[
        str, Key(Choice("random", "steady"), "As by chance (Poisson), or like a clock.")
    ] = "random"
    burst: Annotated[
        int, Key(Integer(1, 10_000_000), "Messages that arrive together; the rate stays.")
    ] = 1
    count: Annotated[
        int, Key(Integer(0, 100_000_000), "Messages after which it ends; 0: when its time is over.")
    ] = 0
    from_s: Annotated[float, Key(Seconds(0, FOR_EVER_S), "When it begins.")] = 0.0
    until_s: Annotated[
        float, Key(Seconds(0, FOR_EVER_S), "When it ends; 0: with `duration_s`.")
    ] = 0.0
    size_octets: Annotated[int, _OCTETS] = 4096
    recipients: Annotated[int, _RECIPIENTS] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Mail that waits in the spool when the server starts."""

    tenant: Annotated[str, _TENANT] = ""
    to: Annotated[tuple[str, ...], _TO] = ()
    weights: Annotated[tuple[float, ...], _WEIGHTS] = ()
    spread: Annotated[str, _SPREAD] = "even"
    count: Annotated[int, Key(Integer(1, 100_000_000), "How many messages.")] = 1000
    age_s: Annotated[
        float, Key(Seconds(0, FOR_EVER_S), "They arrived within so long before the start.")
    ] = 3600.0
    attempts: Annotated[
        int, Key(Integer(0, 100), "Attempts that each had; 0: none was made yet.")
    ] = 1
    due: Annotated[
        str,
        Key(
            Choice("overdue", "soon"),
            "When they are to be tried (again): before the start, or within `first_s` of it.",
        ),
    ] = "overdue"
    size_octets: Annotated[int, _OCTETS] = 4096
    recipients: Annotated[int, _RECIPIENTS] = 1


def _selector(what: str) -> Key:
    return Key(
        Listing(Text(), most=100), f"{what}: `x`, `.x` (what ends so), `*` (each by itself)."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaping:
    """A limit, or a pause, for what the selectors name together; a counter for each combination."""

    site: Annotated[tuple[str, ...], _selector("Sites")] = ()
    domain: Annotated[tuple[str, ...], _selector("Recipient domains")] = ()
    provider: Annotated[tuple[str, ...], _selector("Providers")] = ()
    source: Annotated[tuple[str, ...], _selector("Own addresses")] = ()
    tenant: Annotated[tuple[str, ...], _selector("Tenants")] = ()
    rate: Annotated[Rate | None, Key(RateText(), "Messages per time.")] = None
    connections: Annotated[int, Key(Integer(0, 100_000), "Connections at a time; 0: no limit.")] = 0
    paused: Annotated[bool, Key(Flag(), "Nothing starts.")] = False
    from_s: Annotated[
        float, Key(Seconds(0, FOR_EVER_S), "When an operator sets it; 0: it is configured.")
    ] = 0.0
    until_s: Annotated[
        float, Key(Seconds(0, FOR_EVER_S), "When an operator takes it back; 0: never.")
    ] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """When mail of the tenants that name it is tried again, in place of `[scheduler]`."""

    first_s: Annotated[
        float, Key(Seconds(1, DAY_S), "Wait after the first failed attempt; it doubles each time.")
    ] = 300.0
    max_s: Annotated[float, Key(Seconds(1, 7 * DAY_S), "Longest wait between attempts.")] = 4000.0
    lifetime_s: Annotated[float, Key(Seconds(1, 100 * DAY_S), "Age at which mail is given up.")] = (
        5 * DAY_S
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """How a tenant is treated beside others."""

    weight: Annotated[
        int, Key(Integer(1, 10_000), "Its share of a destination beside others of its priority.")
    ] = 1
    priority: Annotated[str, Key(Choice("high", "normal", "bulk"), "Which mail goes first.")] = (
        "normal"
    )
    profile: Annotated[str, Key(Text(), "Name of its profile; empty: none.")] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A run: who sends what to whom, how long."""

    title: Annotated[str, Key(Text(), "One line for reports and charts.")] = "a simulation"
    seed: Annotated[int, Key(Integer(0, 2**53), "Chance: the same seed gives the same run.")] = 1
    duration_s: Annotated[
        float, Key(Seconds(1, FOR_EVER_S), "How long mail arrives, in simulated time.")
    ] = 600.0
    drain_s: Annotated[
        float,
        Key(Seconds(0, FOR_EVER_S), "How much longer the run may last until all mail is gone."),
    ] = 3600.0
    restarts: Annotated[
        tuple[float, ...],
        Key(Listing(Seconds(0.001, FOR_EVER_S), most=100), "When the server is killed and starts."),
    ] = ()
    dns_ttl_s: Annotated[
        float, Key(Seconds(0, DAY_S), "How long an answer of DNS is good; 0: for ever.")
    ] = 3600.0
    scheduler: Scheduling = field(default_factory=Scheduling)
    shape: dict[str, Shaping] = field(default_factory=dict)
    tenant: dict[str, Sender] = field(default_factory=dict)
    profile: dict[str, Profile] = field(default_factory=dict)
    receiver: dict[str, Receiver] = field(default_factory=dict)
    traffic: dict[str, Traffic] = field(default_factory=dict)
    backlog: dict[str, Backlog] = field(default_factory=dict)
