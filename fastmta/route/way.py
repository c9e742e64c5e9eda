"""How mail goes to a site, beside where that is: transport, TLS, credentials, names.

A way is a value. It is part of what makes a site, so sessions that differ in any of it are never
mixed up: `Site.key` covers it.
"""

from __future__ import annotations

import enum

import msgspec


class TlsLevel(enum.IntEnum):
    """How much TLS; the names are Postfix's."""

    NONE = 0  # never
    MAY = 1  # if offered; no certificate is looked at
    ENCRYPT = 2  # or not at all; no certificate is looked at
    FINGERPRINT = 3  # the certificate, or its public key, is one of these
    VERIFY = 4  # a trusted certificate, in the name of the host that was looked up
    SECURE = 5  # a trusted certificate, in the name of the next hop itself: DNS is not trusted


class TlsPolicy(msgspec.Struct, frozen=True, gc=False):
    """What TLS with a peer must be."""

    level: TlsLevel = TlsLevel.MAY
    is_implicit: bool = False  # from the first octet (port 465, RFC 8314 3.3)
    names: tuple[str, ...] = ()  # that a certificate may be in, instead of those of the level
    fingerprints: tuple[str, ...] = ()  # SHA-256 of certificate or public key, lower-case hex
    ca_file: str = ""  # PEM; "": the system's
    server_name: str = ""  # SNI (RFC 6066 3); "": the host
    version_min: str = "1.2"
    ciphers: str = ""  # OpenSSL's list for TLS 1.2; "": its default


class Way(msgspec.Struct, frozen=True, gc=False):
    """One way of handing mail over."""

    name: str = ""  # of the relay in the configuration; "": the default one
    transport: str = "smtp"  # smtp, lmtp; or without a peer: discard, error, hold, file
    tls: TlsPolicy = TlsPolicy()
    credentials: str = ""  # by which delivery asks for them; "": no AUTH
    is_auth_forced: bool = False  # AUTH even without TLS, or with an unverified peer
    hostname: str = ""  # argument of EHLO; "": our own
    sources: tuple[str, ...] = ()  # addresses to connect from, at most one a family; (): default
    bounce_from: bytes = b""  # reverse-path in place of <>, for relays that refuse that
    argument: str = ""  # of the transports without a peer: the reply text, the directory
    is_unfiltered: bool = False  # its addresses are the operator's own: no address filter
    family: str = ""  # "4" or "6": the address family that is tried first, "4only", "6only"
    provider: str = ""  # "ses", "sendgrid" ...: whose replies these are; "": nobody we know


DEFAULT_WAY = Way()
