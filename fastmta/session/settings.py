"""The numbers and names that a session works with; the daemon makes one from the configuration."""

from dataclasses import dataclass

from fastmta.smtp import limit


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Limits of reliability: each has a reply and a test."""

    hostname: str
    message_octets_max: int = limit.SIZE_OCTETS_MAX
    inline_octets_max: int = 512 * 1024  # a larger content is spilled while it comes in
    recipients_max: int = limit.RECIPIENTS_MAX
    command_octets_max: int = limit.COMMAND_LINE_OCTETS_MAX
    errors_soft: int = limit.ERRORS_SOFT  # from here on each error is answered a second late
    errors_hard: int = limit.ERRORS_HARD
    junk_commands_max: int = limit.JUNK_COMMANDS_MAX  # NOOP, RSET, VRFY, EHLO ... between messages
    messages_max: int = 10_000
    hops_max: int = limit.HOPS_MAX  # Received fields
    header_octets_max: int = 128 * 1024
    header_fields_max: int = 1_000
    line_endings: str = "auto"  # "reject", "normalize", "auto": normalize for trusted clients
    drop_fields: frozenset[bytes] = frozenset((b"bcc", b"resent-bcc"))

    def is_normalizing(self, is_trusted: bool) -> bool:
        """Whether a bare CR or LF in content is repaired rather than refused."""
        return self.line_endings == "normalize" or (self.line_endings == "auto" and is_trusted)
