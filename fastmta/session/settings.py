"""The numbers and names that a session works with; the daemon makes one from the configuration."""

import ipaddress
from dataclasses import dataclass, field

from fastmta.smtp import limit


class Networks(tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]):
    """Clients by address. A tuple, so that asking whether there are any takes no frame."""

    __slots__ = ()

    def __contains__(self, address: object) -> bool:
        """Whether `address` (text, v4-mapped ones already normalised) is in one of them."""
        assert isinstance(address, str)
        if not self:
            return False
        ip = ipaddress.ip_address(address.partition("%")[0])
        return any(ip.version == each.version and ip in each for each in self)


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Limits of reliability: each has a reply and a test."""

    hostname: str
    message_octets_max: int = limit.SIZE_OCTETS_MAX
    inline_octets_max: int = 512 * 1024  # a larger content is spilled while it comes in
    spill_octets: int = 512 * 1024  # a larger one that a hook had to see whole is spilled behind it
    recipients_max: int = limit.RECIPIENTS_MAX
    command_octets_max: int = limit.COMMAND_LINE_OCTETS_MAX
    errors_soft: int = limit.ERRORS_SOFT  # from here on each error is answered a second late
    errors_hard: int = limit.ERRORS_HARD
    junk_commands_max: int = limit.JUNK_COMMANDS_MAX  # NOOP, RSET, VRFY, EHLO ... between messages
    messages_max: int = 10_000
    auth_failures_max: int = limit.AUTH_FAILURES_MAX
    hops_max: int = limit.HOPS_MAX  # Received fields
    header_octets_max: int = 128 * 1024
    header_fields_max: int = 1_000
    line_endings: str = "auto"  # "reject", "normalize", "auto": normalize for trusted clients
    drop_fields: frozenset[bytes] = frozenset((b"bcc", b"resent-bcc"))
    # What the listener is called, and for.
    listener: str = ""
    service: str = ""  # before `smtpd` in the log: "submission" for postfix/submission/smtpd
    is_lmtp: bool = False  # RFC 2033
    is_adding_fields: bool = False  # RFC 6409 8: missing Date, Message-ID and From
    is_login_required: bool = False  # RFC 6409 4.3
    has_tls: bool = False  # TLS is on offer, or there from the first octet
    is_tls_required: bool = False  # nothing but EHLO, STARTTLS, NOOP and QUIT before it
    has_auth: bool = False
    is_naming_login: bool = False  # in the Received field
    xclient: Networks = field(default_factory=Networks)  # who may say XCLIENT
    xforward: Networks = field(default_factory=Networks)
    discarded: frozenset[str] = frozenset()  # EHLO keywords that are not offered

    def is_normalizing(self, is_trusted: bool) -> bool:
        """Whether a bare CR or LF in content is repaired rather than refused."""
        return self.line_endings == "normalize" or (self.line_endings == "auto" and is_trusted)
