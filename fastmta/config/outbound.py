"""The sections about delivery: how mail goes out, when again, and how names are looked up."""

from dataclasses import dataclass, field
from typing import Annotated

from .address import Endpoint, IPAddress, Network, Socket, TrustedNetwork
from .key import DAY_S, Key
from .kind import Choice, FilePath, Flag, Integer, Listing, Number, Seconds, Text
from .relay import FAMILIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long to wait for a receiver, step by step (RFC 5321 4.5.3.2)."""

    connect_s: Annotated[float, Key(Seconds(1, 3600), "For the TCP connection.")] = 30.0
    greeting_s: Annotated[float, Key(Seconds(1, 3600), "For the greeting.")] = 300.0
    tls_s: Annotated[float, Key(Seconds(1, 3600), "For the TLS handshake.")] = 60.0
    helo_s: Annotated[float, Key(Seconds(1, 3600), "For the reply to EHLO or HELO.")] = 300.0
    mail_s: Annotated[float, Key(Seconds(1, 3600), "For the reply to MAIL.")] = 300.0
    rcpt_s: Annotated[float, Key(Seconds(1, 3600), "For the reply to RCPT.")] = 300.0
    data_s: Annotated[float, Key(Seconds(1, 3600), "For the reply to DATA.")] = 120.0
    block_s: Annotated[
        float, Key(Seconds(1, 3600), "For the receiver to take more of the content.")
    ] = 180.0
    dot_s: Annotated[float, Key(Seconds(1, 7200), "For the reply to the final dot.")] = 600.0
    quit_s: Annotated[float, Key(Seconds(0.1, 3600), "For the reply to QUIT.")] = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How mail goes out. A site is the set of MX hosts that serve a domain, or a relay."""

    site_connections: Annotated[
        int,
        Key(
            Integer(1, 10_000),
            "Connections to one site at a time, over all workers. A `[shape.<name>]` that sets "
            "`connections` for a `site` alone takes its place there; others hold beside it.",
        ),
    ] = 20
    window_start: Annotated[
        int, Key(Integer(1, 10_000), "Connections to a site that we know nothing of yet.")
    ] = 5
    connections: Annotated[
        int,
        Key(
            Integer(1, 100_000),
            "Connections to all sites together, over all workers, whatever a `[shape.<name>]` "
            "allows.",
        ),
    ] = 500
    addresses: Annotated[
        int,
        Key(
            Integer(1, 50),
            "Addresses of a site that one attempt tries to connect to; the last one may be its "
            "fallback.",
        ),
    ] = 5
    sessions: Annotated[
        int, Key(Integer(1, 50), "Sessions that one attempt opens after a connection was made.")
    ] = 2
    idle_s: Annotated[
        float, Key(Seconds(0, 300), "How long an idle connection is kept for the next message.")
    ] = 5.0
    messages_per_connection: Annotated[
        int, Key(Integer(1, 1_000_000), "Messages over one connection before a new one is made.")
    ] = 1000
    connection_age_s: Annotated[
        float,
        Key(Seconds(0, 86_400), "Age at which a connection is not kept for the next message."),
    ] = 300.0
    source: Annotated[
        tuple[str, ...],
        Key(
            Listing(IPAddress()),
            "Own addresses to connect from, at most one a family; empty: the system's choice.",
        ),
    ] = ()
    family: Annotated[
        str,
        Key(
            Choice(*FAMILIES),
            "Which addresses of a host are tried first, or at all; `any`: both in turn.",
        ),
    ] = "any"
    allow_addresses: Annotated[
        tuple[Network, ...],
        Key(
            Listing(TrustedNetwork()),
            "Networks that a recipient's domain may lead to though they are private, loopback or "
            "our own, which is refused otherwise. Relays and routes to hosts are free to.",
        ),
    ] = ()
    tls: Annotated[
        str,
        Key(
            Choice("none", "may", "encrypt", "verify", "secure"),
            "TLS with receivers: `may` where it is offered, `encrypt` insists on it, `verify` "
            "insists on a trusted certificate of the MX host, `secure` on one of the recipient's "
            "domain itself. Mail that cannot have it waits, and never goes in clear.",
        ),
    ] = "may"
    ca_file: Annotated[
        str,
        Key(FilePath(may_be_empty=True), "PEM of the CAs that count; empty: the system's."),
    ] = ""
    tls_minimum: Annotated[str, Key(Choice("1.2", "1.3"), "The oldest version of TLS.")] = "1.2"
    tls_ciphers: Annotated[
        str, Key(Text(), "OpenSSL's list of ciphers for TLS 1.2; empty: its default.")
    ] = ""
    log_tls: Annotated[
        bool, Key(Flag(), "Whether each TLS session with a receiver is a line in the log.")
    ] = False
    line_octets: Annotated[
        int,
        Key(
            Integer(0, 1024 * 1024),
            "Longer lines of a content are folded, as Postfix does it (which breaks signatures, "
            "where a receiver would refuse or cut them); 0: none is.",
        ),
    ] = 998
    chunking: Annotated[
        bool,
        Key(Flag(), "Whether content goes by BDAT where CHUNKING is offered (RFC 3030)."),
    ] = False
    reply_rules: Annotated[
        str,
        Key(
            FilePath(may_be_empty=True),
            "A file of rules that say what refusals mean, before those that fastmta has "
            "(docs/outbound.md); empty: none.",
        ),
    ] = ""
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When deferred mail is tried again, and when we give up; a `[profile.<name>]` for some
    tenants. How often mail goes to a site at all is limited by a `[shape.<name>]`."""

    first_s: Annotated[
        float, Key(Seconds(1, DAY_S), "Wait after the first failed attempt; it doubles each time.")
    ] = 300.0
    max_s: Annotated[float, Key(Seconds(1, 7 * DAY_S), "Longest wait between attempts.")] = 4000.0
    jitter: Annotated[
        float, Key(Number(0, 0.5), "Fraction by which each wait is lengthened or shortened.")
    ] = 0.1
    lifetime_s: Annotated[
        float,
        Key(Seconds(1, 100 * DAY_S), "Age at which undelivered mail goes back to its sender."),
    ] = 5 * DAY_S
    bounce_lifetime_s: Annotated[
        float, Key(Seconds(1, 100 * DAY_S), "Age at which undelivered bounces are dropped.")
    ] = 5 * DAY_S
    site_backoff_min_s: Annotated[
        float, Key(Seconds(0.1, DAY_S), "First pause of a site that cannot be reached; it doubles.")
    ] = 10.0
    site_backoff_max_s: Annotated[
        float, Key(Seconds(0.1, DAY_S), "Longest pause of a site that cannot be reached.")
    ] = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns:
    """How names are looked up."""

    servers: Annotated[
        tuple[Endpoint, ...],
        Key(
            Listing(Socket(port=53, port_least=1)),
            "Name servers as address or `address:port`; empty: those of /etc/resolv.conf.",
        ),
    ] = ()
    timeout_s: Annotated[float, Key(Seconds(0.1, 60), "For one answer of one server.")] = 2.0
    tries: Annotated[int, Key(Integer(1, 10), "Queries before a look-up counts as failed.")] = 3
