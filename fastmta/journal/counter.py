"""What one worker has done since it started, counted from its events."""

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Counters:
    """Each only grows. Recipients are counted once per attempt, messages once in their life."""

    connections: int = 0  # accepted
    connections_lost: int = 0  # ended without QUIT
    rejected: int = 0  # commands and contents refused
    tls_sessions: int = 0  # handshakes with clients that were completed
    logins_refused: int = 0  # AUTH commands
    accepted: int = 0  # messages answered 250
    recipients: int = 0  # of messages that became active, again after a restart
    content_octets: int = 0  # likewise
    delivered: int = 0  # recipients
    deferred: int = 0  # attempts that will be repeated
    bounced: int = 0  # recipients
    held: int = 0  # recipients that their route puts on hold
    expired: int = 0  # messages
    removed: int = 0  # messages that need nothing more
    notifications: int = 0  # delivery status notifications queued
    warnings: int = 0  # notices of warning or worse

    def snapshot(self) -> dict[str, int]:
        """The counts of this moment, by name."""
        return asdict(self)
