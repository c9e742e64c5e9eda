"""The cases: what is sent, over how many sessions, to what kind of receiver."""

from dataclasses import dataclass

KB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One load. `is_wide` raises both servers' limits of connections to one receiver."""

    name: str
    size: int  # octets of payload, the header section not counted
    sessions: int = 20
    is_persistent: bool = True  # smtp-source -d: many messages over one connection
    receiver_delay_ms: int = 0
    flush_delay_ms: int = 0
    is_wide: bool = False
    has_own_source: bool = False  # bench/source.c, not smtp-source
    has_tls: bool = False  # STARTTLS from the source to the server; our own source only
    has_tls_out: bool = False  # STARTTLS from the server to the receiver; our own source only
    has_reuse: bool = False  # Postfix reuses TLS connections, which it does not by default
    target: float = 0.0  # relayed/s over Postfix's that is aimed at; 0: none of its own

    @property
    def needs_shim(self) -> bool:
        return self.flush_delay_ms > 0

    @property
    def title(self) -> str:
        """One line for people."""
        parts = [f"{self.size // KB} KB", f"{self.sessions} sessions"]
        parts.append("persistent" if self.is_persistent else "new connection each")
        if self.has_tls:
            parts.append("STARTTLS in and out" if self.has_tls_out else "STARTTLS")
        elif self.has_tls_out:
            parts.append("STARTTLS out")
        if self.has_reuse:
            parts.append("reused")
        if self.has_own_source:
            parts.append("bench/source.c")
        if self.receiver_delay_ms:
            parts.append(f"receiver +{self.receiver_delay_ms} ms")
        if self.flush_delay_ms:
            parts.append(f"flush +{self.flush_delay_ms} ms")
        return ", ".join(parts)


WIDE_CONNECTIONS = 400  # of the slow receiver: 800 messages/s at half a second each

CASES = (
    Case(name="4k", size=4 * KB),
    Case(name="4k-new", size=4 * KB, is_persistent=False),
    Case(name="1k", size=1 * KB),
    Case(name="10k", size=10 * KB),
    Case(name="100k", size=100 * KB),
    Case(name="4k-100", size=4 * KB, sessions=100),
    Case(name="4k-new-100", size=4 * KB, sessions=100, is_persistent=False),
    Case(name="4k-slow", size=4 * KB, receiver_delay_ms=500, is_wide=True),
    Case(name="4k-flush", size=4 * KB, sessions=100, flush_delay_ms=2),
    Case(name="4k-source", size=4 * KB, has_own_source=True),
    Case(name="4k-source-new", size=4 * KB, has_own_source=True, is_persistent=False),
    Case(name="4k-tls", size=4 * KB, has_own_source=True, has_tls=True, target=5.0),
    Case(
        name="4k-tls-new",
        size=4 * KB,
        has_own_source=True,
        has_tls=True,
        is_persistent=False,
        target=2.0,
    ),
    Case(name="4k-tls-out", size=4 * KB, has_own_source=True, has_tls_out=True, target=5.0),
    Case(
        name="4k-tls-out-reuse",
        size=4 * KB,
        has_own_source=True,
        has_tls_out=True,
        has_reuse=True,
        target=3.0,
    ),
    Case(
        name="4k-tls-both",
        size=4 * KB,
        has_own_source=True,
        has_tls=True,
        has_tls_out=True,
        target=4.0,
    ),
)
BY_NAME = {case.name: case for case in CASES}
DEFAULT_NAMES = ("4k", "4k-new", "1k", "10k", "100k", "4k-100", "4k-slow", "4k-flush")
