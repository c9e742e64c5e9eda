"""The sections about how much goes where and for whom: limits, providers, tenants, profiles."""

from dataclasses import dataclass
from typing import Annotated

from .address import Domain, Network, TrustedNetwork
from .key import DAY_S, Key
from .kind import Choice, Flag, Integer, Listing, Number, Seconds, Text
from .rate import DomainSelector, Login, RateText, Selector, SenderPattern, SiteSelector
from .relay import Texts

PRIORITIES = ("high", "normal", "bulk")
CONNECTIONS_MAX = 100_000
WEIGHT_MAX = 1000
SELECTORS = ("site", "domain", "provider", "source", "tenant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A name for mail hosts of one receiver, for `provider` in a `[shape.<name>]`. fastmta knows
    the large ones (docs/shaping.md); one that you name yourself comes before them."""

    mx: Annotated[
        Texts,
        Key(
            Listing(Domain(may_cover_subdomains=True)),
            "Hosts, as `mx.example.com` or `.example.com`: a site is the provider's when each of "
            "its MX hosts, or its relay, is one of these.",
        ),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A limit: what it is about (all that is set must match), and how much, over all workers. Each
    combination of values that matches has a counter of its own. See docs/shaping.md."""

    site: Annotated[
        Texts,
        Key(
            Listing(SiteSelector()),
            "Sites by their label, as the log shows it. A limit on connections that names nothing "
            "else takes the place of `delivery.site_connections`.",
        ),
    ] = ()
    domain: Annotated[
        Texts,
        Key(
            Listing(DomainSelector()),
            "Domains of recipients; for mail to a relay its hosts, as `[mail.example]:587`.",
        ),
    ] = ()
    provider: Annotated[
        Texts,
        Key(Listing(Selector()), "Names in `[provider.<name>]`, or of providers that we know."),
    ] = ()
    source: Annotated[
        Texts,
        Key(
            Listing(Choice("default", "*")),
            "What mail goes out from; there is one so far, `default`.",
        ),
    ] = ()
    tenant: Annotated[
        Texts,
        Key(
            Listing(Selector()),
            "Whom mail is counted for: names in `[tenant.<name>]`, logins, addresses of clients.",
        ),
    ] = ()
    rate: Annotated[
        str,
        Key(
            RateText(),
            "Messages per time, by s, min, h or d; `burst` is how many may go at once after a "
            "silence; left out: as many as come in a fifth of a second, at least 1. Empty: no "
            "limit of this kind.",
        ),
    ] = ""
    connections: Annotated[
        int, Key(Integer(0, CONNECTIONS_MAX), "Connections at a time; 0: no limit of this kind.")
    ] = 0
    paused: Annotated[bool, Key(Flag(), "Whether the mail waits. It gets older meanwhile.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Somebody mail is counted for. The first in the file that a message matches is its tenant;
    mail that matches none is that of its login, or of its client's address; what fastmta writes
    itself is that of `fastmta`. Of `clients` and `logins` one is enough, `senders` must match as
    well; if nothing is set: the login of that name."""

    clients: Annotated[
        tuple[Network, ...], Key(Listing(TrustedNetwork()), "Addresses of its clients.")
    ] = ()
    logins: Annotated[Texts, Key(Listing(Login()), "Whom its clients log in as.")] = ()
    senders: Annotated[
        Texts,
        Key(
            Listing(SenderPattern()),
            "Whom its mail is from (of the envelope). Clients may say what they like there: set "
            "`clients` or `logins` as well, where they are not to be believed.",
        ),
    ] = ()
    weight: Annotated[
        int,
        Key(
            Integer(1, WEIGHT_MAX),
            "Its share of each destination beside other tenants of its priority.",
        ),
    ] = 1
    priority: Annotated[
        str,
        Key(
            Choice(*PRIORITIES),
            "Class of its mail: `high` goes first, `bulk` last, and nobody gets nothing.",
        ),
    ] = "normal"
    profile: Annotated[
        str, Key(Text(), "When its mail is tried again: a `[profile.<name>]`; empty: `[retry]`.")
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """When mail of some tenants is tried again. What is not set is as in `[retry]` and `[notify]`,
    whose defaults stand here."""

    first_s: Annotated[float, Key(Seconds(1, DAY_S), "As `retry.first_s`.")] = 300.0
    max_s: Annotated[float, Key(Seconds(1, 7 * DAY_S), "As `retry.max_s`.")] = 4000.0
    jitter: Annotated[float, Key(Number(0, 0.5), "As `retry.jitter`.")] = 0.1
    lifetime_s: Annotated[float, Key(Seconds(1, 100 * DAY_S), "As `retry.lifetime_s`.")] = 5 * DAY_S
    bounce_lifetime_s: Annotated[
        float, Key(Seconds(1, 100 * DAY_S), "As `retry.bounce_lifetime_s`.")
    ] = 5 * DAY_S
    delay_s: Annotated[float, Key(Seconds(0, 30 * DAY_S), "As `notify.delay_s`.")] = 0.0


# Keys of a profile that is not set, and where its value comes from.
INHERITED = {
    "first_s": "retry.first_s",
    "max_s": "retry.max_s",
    "jitter": "retry.jitter",
    "lifetime_s": "retry.lifetime_s",
    "bounce_lifetime_s": "retry.bounce_lifetime_s",
    "delay_s": "notify.delay_s",
}
