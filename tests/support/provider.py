"""A provider that takes mail for many and throttles as Amazon SES does over SMTP.

    side = provider_side(certificates.right, {"AKIA": "secret"})
    with Provider(side, Allowance(rate=5, quota=200, senders=("ours.example",))) as provider:

TLS and AUTH are asked for (530 before). Its texts are those of the provider's documentation. What
is over the rate, or over the quota, is 454 at MAIL or behind the content (`is_late`).
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from tests.support.receiver import Script, Server, Session
from tests.support.tls_receiver import TlsReceiver, TlsServer, TlsSide

OVER_RATE = b"454 Throttling failure: Maximum sending rate exceeded.\r\n"
OVER_QUOTA = b"454 Throttling failure: Daily message quota exceeded.\r\n"
UNVERIFIED = (
    b"554 Message rejected: Email address is not verified. The following identities failed the"
    b" check in region EU-WEST-1: %s\r\n"
)
_WINDOW_S = 1.0


def provider_side(certificate: str, users: Mapping[str, str]) -> TlsSide:
    """TLS and AUTH as the provider wants them."""
    return TlsSide(
        certificate=certificate,
        users=users,
        mechanisms=("PLAIN", "LOGIN"),
        is_tls_required=True,
        is_auth_required=True,
    )


@dataclass(frozen=True)
class Allowance:
    """What one account may send."""

    rate: int = 1000  # messages a second
    quota: int = 1_000_000  # messages a day
    senders: tuple[str, ...] = ()  # verified domains; none: all
    is_late: bool = False  # it says so behind the content


class Provider(TlsReceiver):
    """Counts over all connections; the counts may be looked at by the test."""

    def __init__(
        self, side: TlsSide, allowance: Allowance, address: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.allowance = allowance  # may be replaced meanwhile
        self.accepted_at: list[float] = []  # monotonic time of each message it let through
        self.over_rate_count = 0
        self.over_quota_count = 0
        self._recent: deque[float] = deque()
        self._lock = threading.Lock()
        super().__init__(side, {}, address, port)

    def take(self) -> bytes:
        """One more message: b"", or why not."""
        with self._lock:
            now_s = time.monotonic()
            if len(self.accepted_at) >= self.allowance.quota:
                self.over_quota_count += 1
                return OVER_QUOTA
            while self._recent and self._recent[0] <= now_s - _WINDOW_S:
                self._recent.popleft()
            if len(self._recent) >= self.allowance.rate:
                self.over_rate_count += 1
                return OVER_RATE
            self._recent.append(now_s)
            self.accepted_at.append(now_s)
            return b""

    def busiest_second(self) -> int:
        """The most messages that it took within any second."""
        times = self.accepted_at
        return max(
            (sum(1 for one in times if start <= one < start + _WINDOW_S) for start in times),
            default=0,
        )

    def serve(self, session: Session, connection: socket.socket, script: Script) -> Server:
        return _ProviderServer(self, session, connection, script)


class _ProviderServer(TlsServer):
    """One connection to it."""

    def __init__(
        self, provider: Provider, session: Session, connection: socket.socket, script: Script
    ) -> None:
        super().__init__(provider, session, connection, script)
        self._provider = provider

    def _refusal(self) -> bytes:
        if refusal := super()._refusal():
            return refusal
        return b"" if self._provider.allowance.is_late else self._provider.take()

    def _judge(self, wire_content: bytes) -> None:
        refusal = self._verdict()
        if not refusal:
            super()._judge(wire_content)
            return
        self._keep(wire_content, False)
        self._act(".", refusal)

    def _verdict(self) -> bytes:
        """Whether the sender may send is looked at when the content is there."""
        allowance = self._provider.allowance
        reverse_path = self._reverse_path or b""
        if allowance.senders and reverse_path.rpartition(b"@")[2].decode() not in allowance.senders:
            return UNVERIFIED % reverse_path
        return self._provider.take() if allowance.is_late else b""
