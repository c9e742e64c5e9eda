"""What one client and one account may use up, over all workers.

Limits per client are those of Postfix's anvil: so many per window, which begins with the first
event and then starts over; and so many connections at a time. A client is a network: the address
cut to `prefix_v4` or `prefix_v6` bits.

Refused logins are limited in three ways, because a password is guessed from one network or against
one account: per network; per account; and, per account and network, half of what the account has.
So one network alone can never lock an account out for others, and an account costs an attacker at
most `account_failures` guesses per window from however many networks. There is no growing delay on
top: it would hold our sessions, not the attacker's.

For refused logins an IPv6 network is at least a /56, because that is what one customer of a
provider has: there would be 256 of them with 10 guesses each. They are counted also when a table is
full, then more than there are: see failure.py.

Counting is in two tables, so that made-up login names cannot crowd out the clients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from fastmta.smtp.use import Use

from .failure import failures, spend_failure
from .tally import COUNTED, REFUSED, Tally

ACCOUNT_ENTRIES = 16384  # per worker: two for each account and network where a login was refused

_KNOWN_MAX = 4096  # clients, and accounts, whose keys are remembered
_TEXT_MAX = 256  # of what is remembered
_SECRET_OCTETS_MIN = 16
_FAILURE_PREFIX_V6 = 56
_NS = 1_000_000_000
_AUTH_FAILURE = Use.AUTH_FAILURE

Network = IPv4Network | IPv6Network
# Kinds of keys: what is hashed for one is never the key of another.
_CLIENT, _CLIENT_FAILURES, _LOGIN, _LOGIN_FAILURES, _LOGIN_AT = b"c", b"f", b"l", b"g", b"a"


@dataclass(frozen=True, slots=True)
class ClientLimitOptions:
    """Limits over all workers; 0: no limit."""

    window_s: float = 60.0
    connections: int = 50  # at a time
    connection_rate: int = 0  # this and the following: per client and window
    messages: int = 0
    recipients: int = 0
    tls_sessions: int = 0
    auths: int = 0
    auth_failures: int = 10  # per client and failure_window_s
    failure_window_s: float = 600.0
    account_failures: int = 20  # per account and account_window_s
    account_window_s: float = 3600.0
    login_messages: int = 0  # per login and window_s, also of clients in `exceptions`
    login_recipients: int = 0
    prefix_v4: int = 32
    prefix_v6: int = 64
    exceptions: tuple[Network, ...] = ()  # clients without limits

    def __post_init__(self) -> None:
        windows = (self.window_s, self.failure_window_s, self.account_window_s)
        if not all(0 < window_s <= 10**6 for window_s in windows):
            raise ValueError("a window is longer than nothing")
        if not 0 < self.prefix_v4 <= 32 or not 0 < self.prefix_v6 <= 128:
            raise ValueError("a prefix is 1 to 32 bits (IPv4), 1 to 128 (IPv6)")
        counts = (self.connections, *self.per_client, self.account_failures, *self.per_login)
        if not all(0 <= count < 2**31 for count in counts):
            raise ValueError("a limit is not negative")

    @property
    def per_client(self) -> tuple[int, ...]:
        """Limits by `Use`."""
        rates = (self.connection_rate, self.messages, self.recipients, self.tls_sessions)
        return (*rates, self.auths, self.auth_failures)

    @property
    def per_login(self) -> tuple[int, ...]:
        """Limits by `Use` of what a login uses up."""
        return (0, self.login_messages, self.login_recipients, 0, 0, 0)


class _Client:
    """What is remembered of an address."""

    __slots__ = ("failures", "is_exempt", "key", "network")

    def __init__(self, key: int, failures: int, network: bytes, is_exempt: bool) -> None:
        self.key = key
        self.failures = failures
        self.network = network  # that failures count for
        self.is_exempt = is_exempt


class ClientLimits:
    """Counts for one worker, limits for all of them: the `Quota` of sessions.

    Nothing here raises for what a client sends. A client in the exceptions costs one look into a
    dict, unless it is logged in and there are limits for logins.
    """

    def __init__(
        self,
        options: ClientLimitOptions,
        clients: Tally,
        accounts: Tally,
        now_ns: Callable[[], int],
        secret: bytes,
    ) -> None:
        """`now_ns` and `secret` (random, at least 16 octets) are the same in all workers."""
        if len(secret) < _SECRET_OCTETS_MIN:
            raise ValueError(f"a secret has at least {_SECRET_OCTETS_MIN} octets")
        self.options = options
        self._per_client = options.per_client
        self._per_login = options.per_login
        self._has_limits = any(self._per_client[:_AUTH_FAILURE])
        self._account_at_max = -(-options.account_failures // 2)
        self._window_ns = int(options.window_s * _NS)
        self._failure_window_ns = int(options.failure_window_s * _NS)
        self._account_window_ns = int(options.account_window_s * _NS)
        self._clients = clients
        self._accounts = accounts
        self._now_ns = now_ns
        self._secret = secret[:64]
        self._known: dict[str, _Client] = {}
        self._logins: dict[str, tuple[int, int]] = {}
        # Connections of ours that found no place to be counted in, by key.
        self._uncounted: dict[int, int] = {}

    def spend(self, use: Use, address: str, login: str = "", amount: int = 1) -> bool:
        """Count what the client does, and as whom. False: over the limit, nothing is counted.

        An `amount` of 0 asks whether there is room for one more. Below 0 gives back what was
        counted in this window. A refused login is counted wherever there is room for it, and never
        granted uncounted.
        """
        if use is _AUTH_FAILURE:
            return self._spend_failure(address, login, amount)
        limit = self._per_client[use]
        login_limit = self._per_login[use] if login else 0
        if not limit and not login_limit:
            return True
        client = self._known.get(address) or self._meet(address)
        if client.is_exempt:
            if not login_limit:
                return True
            limit = 0
        now_ns = self._now_ns()
        window_ns = self._window_ns
        if limit and not _count(self._clients, client.key, use, amount, limit, window_ns, now_ns):
            return False
        if login_limit:
            key = self._login(login)[0]
            if not _count(self._accounts, key, use, amount, login_limit, window_ns, now_ns):
                if limit and amount > 0:
                    self._clients.give_back(client.key, use, amount, now_ns)
                return False
        return True

    def _spend_failure(self, address: str, login: str, amount: int) -> bool:
        """One login refused: for the network, for the account at this network, for the account."""
        client = self._known.get(address) or self._meet(address)
        limit = 0 if client.is_exempt else self._per_client[_AUTH_FAILURE]
        account_limit = self.options.account_failures if login else 0
        if not limit and not account_limit:
            return True
        now_ns = self._now_ns()
        has_room = not limit or spend_failure(
            self._clients, client.failures, amount, limit, self._failure_window_ns, now_ns
        )
        if not account_limit:
            return has_room
        window_ns, tally = self._account_window_ns, self._accounts
        at = self._hash(_LOGIN_AT, client.network + _folded(login))
        # An account is never told of more from one network than its share.
        if not spend_failure(tally, at, amount, self._account_at_max, window_ns, now_ns):
            return False
        account = self._login(login)[1]
        return spend_failure(tally, account, amount, account_limit, window_ns, now_ns) and has_room

    def is_locked(self, login: str, address: str) -> bool:
        """Whether an account has had its refused logins, from everywhere or from this network."""
        limit = self.options.account_failures
        if not limit:
            return False
        client = self._known.get(address) or self._meet(address)
        tally, now_ns = self._accounts, self._now_ns()
        at = self._hash(_LOGIN_AT, client.network + _folded(login))
        if failures(tally, at, now_ns) >= self._account_at_max:
            return True
        return failures(tally, self._login(login)[1], now_ns) >= limit

    def is_exempt(self, address: str) -> bool:
        """Whether nothing of this client is counted, unless it logs in or fails to."""
        if not self._has_limits:
            return True
        return (self._known.get(address) or self._meet(address)).is_exempt

    def enter(self, address: str) -> bool:
        """A connection begins; False: the client has enough. Whoever entered leaves once."""
        limit = self.options.connections
        if not limit:
            return True
        client = self._known.get(address) or self._meet(address)
        if client.is_exempt:
            return True
        answer = self._clients.enter(client.key, limit, self._window_ns, self._now_ns())
        if answer == COUNTED:
            return True
        if answer == REFUSED:
            return False
        self._uncounted[client.key] = self._uncounted.get(client.key, 0) + 1
        return True

    def leave(self, address: str) -> None:
        """A connection that entered has ended."""
        if not self.options.connections:
            return
        client = self._known.get(address) or self._meet(address)
        if client.is_exempt:
            return
        if client.key not in self._uncounted:
            self._clients.leave(client.key)
            return
        # Which of its connections is meant does not matter: they count alike.
        left = self._uncounted[client.key] - 1
        if left:
            self._uncounted[client.key] = left
        else:
            del self._uncounted[client.key]

    @property
    def overflow(self) -> int:
        """How often there was no place for a key, because a table was full: raise its entries."""
        return self._clients.overflow + self._accounts.overflow

    # Keys.

    def _meet(self, address: str) -> _Client:
        network, wide, is_exempt = self._judge(address)
        client = _Client(
            self._hash(_CLIENT, network), self._hash(_CLIENT_FAILURES, wide), wide, is_exempt
        )
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known[address] = client
        return client

    def _judge(self, address: str) -> tuple[bytes, bytes, bool]:
        """The networks that an address and its failures count for; whether it is an exception."""
        try:
            ip = ip_address(address.partition("%")[0])
        except ValueError:  # a client without an address, such as a proxy may tell of
            unknown = b"?" + address[:_TEXT_MAX].encode("utf-8", "surrogatepass")
            return unknown, unknown, False
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        is_exempt = any(
            ip in network for network in self.options.exceptions if network.version == ip.version
        )
        if ip.version == 4:
            network = _cut(ip, self.options.prefix_v4)
            return network, network, is_exempt
        bits = self.options.prefix_v6
        return _cut(ip, bits), _cut(ip, min(bits, _FAILURE_PREFIX_V6)), is_exempt

    def _login(self, login: str) -> tuple[int, int]:
        """Keys of what the login uses up and of its failures."""
        known = self._logins.get(login)
        if known is None:
            octets = _folded(login)
            known = self._hash(_LOGIN, octets), self._hash(_LOGIN_FAILURES, octets)
            if len(self._logins) >= _KNOWN_MAX:
                self._logins.clear()
            if len(login) <= _TEXT_MAX:
                self._logins[login] = known
        return known

    def _hash(self, kind: bytes, octets: bytes) -> int:
        """A key that nobody can aim at who does not know the secret; never 0."""
        digest = blake2b(octets, digest_size=8, key=self._secret, person=kind).digest()
        return int.from_bytes(digest, "big") or 1


def _cut(ip: IPv4Address | IPv6Address, bits: int) -> bytes:
    cut = ip.max_prefixlen - bits
    octets = (int(ip) >> cut << cut).to_bytes(ip.max_prefixlen // 8, "big")
    return (b"4" if ip.version == 4 else b"6") + octets


def _folded(login: str) -> bytes:
    """One account is one account, in whatever case it is guessed at."""
    return login.casefold().encode("utf-8", "surrogatepass")


def _count(
    tally: Tally, key: int, use: int, amount: int, limit: int, window_ns: int, now_ns: int
) -> bool:
    """`ClientLimits.spend` of one key."""
    if amount > 0:
        return tally.spend(key, use, amount, limit, window_ns, now_ns)
    if amount == 0:
        return tally.count(key, use, now_ns) < limit
    tally.give_back(key, use, -amount, now_ns)
    return True
