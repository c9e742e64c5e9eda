"""TLS contexts of our client: made of a policy's options, shared by peers that have the same."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
from collections import OrderedDict
from typing import Final

import msgspec

from .certificate import TlsProblem, load_authorities
from .context import VERSIONS, Stamp, stamp_of
from .peer_name import DOT_NEXTHOP, HOSTNAME, NEXTHOP, make_names, to_address, to_name

LEVELS: Final = ("may", "encrypt", "fingerprint", "verify", "secure")  # weakest first
_CONTEXTS_MAX: Final = 64  # as many as an operator may have CA files and cipher lists
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_LEGACY_SERVER_CONNECT: Final = 0x4  # has a name in the ssl module since Python 3.12


class ClientTlsOptions(msgspec.Struct, frozen=True):
    """What TLS with a peer must be. A value: peers with equal options share contexts."""

    level: str = "may"  # of LEVELS
    names: tuple[str, ...] = ()  # as `make_names` takes them; (): those of the level
    fingerprints: tuple[str, ...] = ()  # SHA-256 of certificate or public key, in hex
    ca_file: str = ""  # PEM; "": the system's
    server_name: str = ""  # SNI (RFC 6066 3); "": the host
    version_min: str = "1.2"  # or "1.3"
    ciphers: str = ""  # OpenSSL's list for TLS 1.2; "": its default

    @property
    def is_chain_required(self) -> bool:
        """Whether OpenSSL ends the handshake when it cannot verify the chain."""
        return self.level in ("verify", "secure")

    @property
    def wanted_names(self) -> tuple[str, ...]:
        """Those of the policy, or of its level.

        Only `verify` trusts a name that came out of DNS. Below it no name is required, and what
        is asked for is who should get our credentials: DNS has no say in that.
        """
        if self.names:
            return self.names
        return (HOSTNAME,) if self.level == "verify" else (NEXTHOP, DOT_NEXTHOP)


def normal_fingerprints(options: ClientTlsOptions) -> frozenset[str]:
    """In lower case without colons. Raises TlsProblem."""
    found = frozenset(one.replace(":", "").lower() for one in options.fingerprints)
    for one in found:
        if _FINGERPRINT.fullmatch(one) is None:
            raise TlsProblem(f"TLS fingerprint {one[:100]!r} is not SHA-256 in hex")
    if options.level == "fingerprint" and not found:
        raise TlsProblem("TLS level fingerprint, but there are no fingerprints")
    return found


def check_client_tls(options: ClientTlsOptions) -> None:
    """Raises TlsProblem for options that no session could be begun with."""
    if options.level not in LEVELS:
        raise TlsProblem(f"TLS level {options.level!r} is not known: {', '.join(LEVELS)}")
    normal_fingerprints(options)
    make_names(options.names, "host.invalid", ("host.invalid",))
    if options.server_name and not to_address(options.server_name):
        to_name(options.server_name)
    make_context(options)


def make_context(options: ClientTlsOptions) -> ssl.SSLContext:
    """A context for one peer or many. Raises TlsProblem."""
    version = VERSIONS.get(options.version_min)
    if version is None:
        raise TlsProblem(f"TLS version {options.version_min!r} is not known: 1.2 or 1.3")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # several names may be good: `peer_name` judges them
    context.verify_mode = ssl.CERT_REQUIRED if options.is_chain_required else ssl.CERT_NONE
    context.minimum_version = version
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    ciphers = options.ciphers
    if options.level == "may":
        # The next choice is no TLS at all, so weak keys and old servers are better (RFC 7435 3).
        context.options |= _LEGACY_SERVER_CONNECT
        ciphers = ciphers or "DEFAULT:@SECLEVEL=0"
    try:
        context.set_ciphers(ciphers or "DEFAULT")
    except ssl.SSLError as error:
        raise TlsProblem(f"TLS ciphers {options.ciphers!r}: OpenSSL knows none") from error
    # Also where no chain is required: OpenSSL looks at it all the same, and `opinion` takes the
    # authorities from here.
    if options.ca_file:
        load_authorities(context, options.ca_file, "CA certificates")
    else:
        context.load_default_certs()
    return context


class Contexts:
    """Contexts by what makes a difference to them, made again when their CA file has changed.

    `get` is called from the loop, `prepare` from any thread: to read the system's authorities takes
    tens of milliseconds, in which OpenSSL lets the loop go on.
    """

    def __init__(self) -> None:
        self._contexts: OrderedDict[tuple[object, ...], tuple[ssl.SSLContext, Stamp]]
        self._contexts = OrderedDict()
        self._system_file = ssl.get_default_verify_paths().cafile or ""
        self._making = threading.Lock()

    def is_ready(self, options: ClientTlsOptions) -> bool:
        """Whether `get` has nothing to read."""
        return self._known(self._key(options), self._stamp(options)) is not None

    def prepare(self, options: ClientTlsOptions) -> None:
        """Make what `get` gives; what is wrong with it `get` says."""
        with contextlib.suppress(TlsProblem):
            self.get(options)

    def get(self, options: ClientTlsOptions) -> ssl.SSLContext:
        """Raises TlsProblem, when the file cannot be read any more and none was made of it."""
        key, stamp = self._key(options), self._stamp(options)
        known = self._known(key, stamp)
        if known is not None:
            with contextlib.suppress(KeyError):  # another thread has just dropped it
                self._contexts.move_to_end(key)
            return known
        with self._making:
            known = self._known(key, stamp)  # others may have wanted the same
            return self._make(options, key, stamp) if known is None else known

    def _make(
        self, options: ClientTlsOptions, key: tuple[object, ...], stamp: Stamp
    ) -> ssl.SSLContext:
        known = self._contexts.get(key)
        try:
            context = make_context(options)
        except TlsProblem:
            if known is None:
                raise
            context = known[0]  # half written, perhaps: the next stamp will tell
        if known is None and len(self._contexts) >= _CONTEXTS_MAX:
            self._contexts.popitem(last=False)
        self._contexts[key] = (context, stamp)
        return context

    def _key(self, options: ClientTlsOptions) -> tuple[object, ...]:
        level = options.level if options.level == "may" else options.is_chain_required
        return level, options.ca_file, options.version_min, options.ciphers

    def _stamp(self, options: ClientTlsOptions) -> Stamp:
        path = options.ca_file or self._system_file
        return stamp_of(path) if path else None

    def _known(self, key: tuple[object, ...], stamp: Stamp) -> ssl.SSLContext | None:
        known = self._contexts.get(key)
        return known[0] if known is not None and (known[1] == stamp or stamp is None) else None
