"""Clients of unix sockets: processes of this machine, which the socket's mode has let in.

As at Postfix each is `localhost[127.0.0.1]`. It is trusted whatever networks are, its name needs no
look-up, and nothing of it is counted but logins. Who a front end says it speaks for is judged as
everywhere else.
"""

from __future__ import annotations

from collections.abc import Callable

from fastmta.budget import ClientLimits
from fastmta.listener.door import LOCAL_PEER
from fastmta.policy import RelayPolicy
from fastmta.policy.relay import RelayRights
from fastmta.smtp.use import Use

from .names import TrustedNames

_ADDRESS = LOCAL_PEER[0]
_NAME = "localhost"


class LocalPolicy:
    """The `Policy` of a listener at a unix socket."""

    def __init__(self, policy: RelayPolicy) -> None:
        self._policy = policy
        self._local = RelayRights(policy, True, False)

    def admit(self, address: str, login: str = "", fingerprint: str = "") -> RelayRights:
        """Rights of a client."""
        rights = self._policy.admit(address, login, fingerprint)
        return self._local if address == _ADDRESS and not rights.is_known else rights


class LocalNames:
    """Its `Names`."""

    def __init__(self, names: TrustedNames) -> None:
        self._names = names

    def client_name(self, address: str, done: Callable[[str], None]) -> None:
        """Call `done` once with the name or "unknown"."""
        if address == _ADDRESS:
            done(_NAME)
        else:
            self._names.client_name(address, done)


class LocalQuota:
    """Its `Quota`."""

    def __init__(self, limits: ClientLimits) -> None:
        self._limits = limits

    def is_exempt(self, address: str) -> bool:
        """Whether nothing of this client is counted, unless it logs in."""
        return address == _ADDRESS or self._limits.is_exempt(address)

    def spend(self, use: Use, address: str, login: str = "", amount: int = 1) -> bool:
        """Count; False: over the limit."""
        if address == _ADDRESS and not login and use is not Use.AUTH_FAILURE:
            return True
        return self._limits.spend(use, address, login, amount)

    def is_locked(self, login: str, address: str) -> bool:
        """Whether an account has had its refused logins."""
        return self._limits.is_locked(login, address)
