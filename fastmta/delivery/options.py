"""What an operator may set about outgoing sessions; the defaults are the protocol's."""

from typing import Final

import msgspec

from fastmta.smtp import limit

TICK_S_MIN: Final = 0.01


class TimeLimits(msgspec.Struct, frozen=True):
    """How long each stage of a session may take, in seconds (RFC 5321 4.5.3.2)."""

    connect_s: float = limit.CONNECT_TIMEOUT_S
    greeting_s: float = limit.BANNER_TIMEOUT_S
    helo_s: float = limit.HELO_TIMEOUT_S
    mail_s: float = limit.MAIL_TIMEOUT_S
    rcpt_s: float = limit.RCPT_TIMEOUT_S
    data_s: float = limit.DATA_TIMEOUT_S
    block_s: float = limit.BLOCK_TIMEOUT_S
    end_of_data_s: float = limit.END_OF_DATA_TIMEOUT_S
    quit_s: float = limit.QUIT_TIMEOUT_S
    tls_s: float = limit.TLS_TIMEOUT_S

    @property
    def shortest_s(self) -> float:
        """The shortest of them: the clock that watches them all ticks finer than this."""
        return float(min(getattr(self, name) for name in self.__struct_fields__))


class DeliveryOptions(msgspec.Struct, frozen=True):
    """Settings of one courier."""

    hostname: str  # argument of EHLO
    source_addresses: tuple[str, ...] = ()  # to connect from; the first of the target's family
    idle_s: float = 5.0  # how long an unused session is kept; 0: not at all
    idle_sessions_max: int = 1000  # kept in all; one more says QUIT at once
    sessions_max: int = 0  # busy or idle; above it idle ones say QUIT, oldest first. 0: any number
    session_age_s_max: float = 300.0  # older sessions say QUIT rather than wait for reuse
    messages_per_session_max: int = 1000
    addresses_per_attempt_max: int = 5
    sessions_per_attempt_max: int = 2  # sessions that reached a transaction
    time_limits: TimeLimits = TimeLimits()
    line_octets_max: int = limit.LINE_OCTETS_FOLDED  # without CR LF; 0: no line is folded
    is_tls_told: bool = False  # a Notice for each TLS session, as with smtp_tls_loglevel = 1
    is_chunking: bool = False  # BDAT (RFC 3030) where it is offered; large contents go by DATA

    @property
    def tick_s(self) -> float:
        """Period of the clock that watches every time limit of every session."""
        return max(TICK_S_MIN, min(1.0, self.idle_s / 4, self.time_limits.shortest_s / 4))

    def source_for(self, address: str, sources: tuple[str, ...] = ()) -> str | None:
        """The local address to reach `address` from, of `sources` if there are any, else of ours.

        None: the kernel chooses.
        """
        is_ipv6 = ":" in address
        sources = sources or self.source_addresses
        return next((source for source in sources if (":" in source) is is_ipv6), None)
