"""PTR look-ups of clients: off for trusted networks."""

from collections.abc import Callable

from fastmta.delivery.dns import ClientNames
from fastmta.policy import RelayPolicy


class TrustedNames:
    """Verified names, but "unknown" at once for clients that are trusted anyway."""

    def __init__(self, policy: RelayPolicy, names: ClientNames) -> None:
        self._policy = policy
        self._names = names

    def client_name(self, address: str, done: Callable[[str], None]) -> None:
        """Call `done` once with the name or "unknown"."""
        if self._policy.admit(address).is_trusted:
            done("unknown")
        else:
            self._names.client_name(address, done)
