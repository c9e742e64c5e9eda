"""The sections about where mail goes: relays, routes, TLS with whom."""

import ipaddress
from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

from .address import Domain, IPAddress, Mailbox, Network, TrustedNetwork
from .credential import Fingerprint
from .key import Key
from .kind import Choice, FilePath, Flag, Listing, Text
from .target import AddressPattern, FallbackHost, RelayHost, RouteTarget, Secret, Url

RELAY_HOSTS_MAX = 16  # as many does one next hop hold
FALLBACKS_MAX = 4
LEVELS = ("none", "may", "encrypt", "fingerprint", "verify", "secure")
FAMILIES = ("any", "ipv4", "ipv6", "ipv4-only", "ipv6-only")
TRUSTING = ("fingerprint", "verify", "secure")  # levels that know who the peer is

Texts: TypeAlias = tuple[str, ...]

# Of relays, and of policies for MX hosts.
CaFile: TypeAlias = Annotated[
    str,
    Key(FilePath(may_be_empty=True), "PEM of the CAs that count; empty: `delivery.ca_file`."),
]
TlsNames: TypeAlias = Annotated[
    Texts,
    Key(
        Listing(Domain(may_cover_subdomains=True)),
        "Names that the certificate may have instead of the host's, for `verify` and `secure`.",
    ),
]
Fingerprints: TypeAlias = Annotated[
    Texts,
    Key(Listing(Fingerprint()), "Certificates or public keys, for level `fingerprint`."),
]


@dataclass(frozen=True, kw_only=True)
class AnyRelay:
    """What the default relay and further ones have in common; each says for itself what no host
    means. Without slots, so that `Relay` can have two bases."""

    host: tuple[str, ...] = ()
    fallback: Annotated[
        Texts,
        Key(
            Listing(FallbackHost(), most=FALLBACKS_MAX),
            "Relays that are tried when the destination cannot be found in DNS, or fails with an "
            "error that is not permanent: names of relays, with their logins, or hosts, without "
            "one.",
        ),
    ] = ()
    username: Annotated[
        str,
        Key(
            Text(), "Whom we log in as; empty: no login (`sendgrid://` and `postmark://` know it)."
        ),
    ] = ""
    password: Annotated[
        str,
        Key(Secret(), "Its password. Better in `password_file`, or in the environment."),
    ] = field(default="", repr=False)
    password_file: Annotated[
        str,
        Key(
            FilePath(may_be_empty=True),
            "File with the password, without the line's end; read again when it changes.",
        ),
    ] = ""
    credentials_file: Annotated[
        str,
        Key(
            FilePath(may_be_empty=True),
            "Logins by sender, lines `user@example.com name:password` or `@example.com "
            "name:password`; other senders have `username`. Passwords are read again when they "
            "change, new senders at a restart. Each login is a site of its own, with "
            "`delivery.site_connections` for itself.",
        ),
    ] = ""
    token_file: Annotated[
        str,
        Key(
            FilePath(may_be_empty=True),
            "File with an OAuth 2 access token (XOAUTH2), which somebody else renews.",
        ),
    ] = ""
    token_url: Annotated[
        str, Key(Url(), "Where OAuth 2 access tokens are fetched, and renewed before they end.")
    ] = ""
    client_id: Annotated[str, Key(Text(), "OAuth 2 client, for `token_url`.")] = ""
    client_secret: Annotated[
        str, Key(Secret(), "Its secret; without a refresh token: the client credentials grant.")
    ] = field(default="", repr=False)
    client_secret_file: Annotated[
        str,
        Key(
            FilePath(may_be_empty=True),
            "File with the secret of the OAuth 2 client, read at the start.",
        ),
    ] = ""
    refresh_token: Annotated[str, Key(Secret(), "OAuth 2 refresh token.")] = field(
        default="", repr=False
    )
    refresh_token_file: Annotated[
        str,
        Key(
            FilePath(may_be_empty=True),
            "File with the refresh token; a new one that the server gives is written to it.",
        ),
    ] = ""
    token_scope: Annotated[str, Key(Text(), "OAuth 2 scope, for `token_url`.")] = ""
    mechanisms: Annotated[
        Texts,
        Key(
            Listing(Choice("PLAIN", "LOGIN", "SCRAM-SHA-256", "XOAUTH2")),
            "Ways of logging in that may be used; empty: the safest that both sides know.",
        ),
    ] = ()
    insecure_auth: Annotated[
        bool,
        Key(Flag(), "Whether the login may go over plain connections and to unproven servers."),
    ] = False
    tls: Annotated[
        str,
        Key(
            Choice("auto", *LEVELS),
            "How much TLS, as `delivery.tls`; `auto`: `secure` with a login, `fingerprint` with "
            "`fingerprints`, else `delivery.tls`. Port 465 speaks TLS from the first octet.",
        ),
    ] = "auto"
    ca_file: CaFile = ""
    tls_names: TlsNames = ()
    fingerprints: Fingerprints = ()
    source: Annotated[
        Texts,
        Key(
            Listing(IPAddress()),
            "Own addresses to connect from, at most one a family; empty: `delivery.source`.",
        ),
    ] = ()
    hostname: Annotated[
        str, Key(Domain(may_be_empty=True), "Our name in EHLO; empty: `hostname`.")
    ] = ""
    bounce_from: Annotated[
        str,
        Key(
            Mailbox(),
            "Sender of bounces, for relays that refuse mail from <>; empty: <>, as it should be.",
        ),
    ] = ""
    family: Annotated[str, Key(Choice("", *FAMILIES), "As `delivery.family`; empty: the same.")] = (
        ""
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Senders:
    """Who may send through us."""

    trusted_networks: Annotated[
        tuple[Network, ...],
        Key(Listing(TrustedNetwork()), "Clients from these networks may send to anyone."),
    ] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
    domains: Annotated[
        tuple[str, ...],
        Key(
            Listing(Domain(may_cover_subdomains=True)),
            "Mail to these domains is taken from anyone; `.example.com` means its subdomains.",
        ),
    ] = ()
    client_fingerprints: Annotated[
        tuple[str, ...],
        Key(
            Listing(Fingerprint()),
            "Clients whose certificate, accepted by `tls.client_ca`, is one of these may send to "
            "anyone.",
        ),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay(AnyRelay, Senders):
    """Who may send through us, and the relay that mail goes to."""

    host: Annotated[
        tuple[str, ...],
        Key(
            Listing(RelayHost(), most=RELAY_HOSTS_MAX),
            "All mail that no `[[route]]` sends elsewhere goes to this relay, or to the first of "
            "several that answers; empty: to the MX hosts of each recipient's domain. Brackets or "
            "an address mean no MX look-up. A relay that cannot be found delays mail; it bounces "
            "none. Presets: `ses://REGION`, `sendgrid://`, `mailgun://`, `postmark://`, "
            "`gmail://`, `m365://`, see outbound.md.",
        ),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedRelay(AnyRelay):
    """One more relay. `to = "<name>"` in a `[[route]]` sends mail to it."""

    host: Annotated[
        tuple[str, ...],
        Key(
            Listing(RelayHost(may_be_socket=True), most=RELAY_HOSTS_MAX),
            "As `relay.host`; empty: the MX hosts of each recipient's domain, by this way (from "
            "another address, say).",
        ),
    ] = ()
    transport: Annotated[
        str, Key(Choice("smtp", "lmtp"), "The protocol; `lmtp` looks for port 24.")
    ] = "smtp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where some mail goes. Rules are looked at in their order; the first that matches decides."""

    recipient: Annotated[
        tuple[str, ...],
        Key(
            Listing(AddressPattern()),
            "Whom the mail is for; a pattern matches the whole address, whatever its case; empty: "
            "anybody.",
        ),
    ] = ()
    sender: Annotated[
        tuple[str, ...],
        Key(
            Listing(AddressPattern(may_be_null=True)),
            "Whom it is from (of the envelope); `<>` is the sender of bounces; empty: anybody.",
        ),
    ] = ()
    to: Annotated[
        str,
        Key(
            RouteTarget(),
            "`relay` is `relay.host`, `mx` the hosts that DNS names; a host is spoken to without "
            "login. `discard:` throws the mail away, `hold:` keeps it for an operator, "
            "`error:` sends it back (5) or delays it (4), `file:` writes it to a directory.",
        ),
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsPolicy:
    """TLS with some of the hosts that DNS names. The first that matches decides."""

    domain: Annotated[
        tuple[str, ...],
        Key(
            Listing(Domain(may_cover_subdomains=True)),
            "Domains of recipients; `.example.com` means its subdomains.",
        ),
    ] = ()
    mx: Annotated[
        tuple[str, ...],
        Key(
            Listing(Domain(may_cover_subdomains=True)),
            "MX hosts. To ask for more than `delivery.tls`, one of a domain's hosts must be among "
            "these, to ask for less, all of them.",
        ),
    ] = ()
    level: Annotated[str, Key(Choice("", *LEVELS), "As `delivery.tls`.")] = ""
    names: TlsNames = ()
    fingerprints: Fingerprints = ()
    ca_file: CaFile = ""
