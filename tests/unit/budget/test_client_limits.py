"""Limits per client and per account, over the workers that share two tables."""

from ipaddress import ip_network
from typing import Any

import pytest

from fastmta.budget import ClientLimitOptions, ClientLimits, table_octets
from fastmta.smtp.use import Use

SECRET = b"0123456789abcdef"
A, B = "192.0.2.1", "192.0.2.2"


class Clock:
    """Nanoseconds that pass only when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> int:
        return int(self.now_s * 1_000_000_000)


class World:
    """Two workers with the same options, clock and secret."""

    def __init__(self, tally_class: Any, entries: int = 64, **options: Any) -> None:
        self.clock = Clock()
        self.class_ = tally_class
        self.options = ClientLimitOptions(**options)
        self.buffers = [bytearray(table_octets(2, entries)) for _ in range(2)]
        self.first, self.second = self.start(0), self.start(1)

    def start(self, index: int) -> ClientLimits:
        clients, accounts = (self.class_(buffer, 2, index) for buffer in self.buffers)
        return ClientLimits(self.options, clients, accounts, self.clock, SECRET)

    @property
    def is_untouched(self) -> bool:
        return not any(map(any, self.buffers))


@pytest.fixture
def world(tally_class: Any) -> Any:
    return lambda **options: World(tally_class, **options)


def test_defaults_are_those_of_postfix() -> None:
    options = ClientLimitOptions()
    assert (options.connections, options.window_s) == (50, 60)
    assert options.per_client[: Use.AUTH_FAILURE] == (0, 0, 0, 0, 0)
    assert (options.auth_failures, options.failure_window_s) == (10, 600)
    assert (options.account_failures, options.account_window_s) == (20, 3600)
    assert (options.prefix_v4, options.prefix_v6) == (32, 64)


@pytest.mark.parametrize(
    ("use", "option"),
    [
        (Use.CONNECTION, "connection_rate"),
        (Use.MESSAGE, "messages"),
        (Use.RECIPIENT, "recipients"),
        (Use.TLS, "tls_sessions"),
        (Use.AUTH, "auths"),
    ],
)
def test_each_use_has_its_limit_and_touches_no_other(world: Any, use: Use, option: str) -> None:
    made = world(**{option: 2})
    assert made.first.spend(use, A)
    assert made.second.spend(use, A)
    assert not made.first.spend(use, A)
    assert made.first.spend(use, B)
    for other in set(Use) - {use, Use.AUTH_FAILURE}:
        assert all(made.first.spend(other, A) for _ in range(100))
    made.clock.now_s += 59.9
    assert not made.second.spend(use, A)
    made.clock.now_s += 0.1
    assert made.second.spend(use, A, amount=2)
    assert not made.first.spend(use, A)


def test_limit_that_is_off_touches_no_table(world: Any) -> None:
    made = world(connections=0, auth_failures=0, account_failures=0)
    for use in Use:
        assert all(made.first.spend(use, A, "bob") for _ in range(100))
    for _ in range(100):
        assert made.first.enter(A)
    made.first.leave(A)
    assert made.is_untouched


def test_amounts(world: Any) -> None:
    made = world(recipients=10)
    assert made.first.spend(Use.RECIPIENT, A, amount=9)
    assert not made.second.spend(Use.RECIPIENT, A, amount=2)
    assert made.second.spend(Use.RECIPIENT, A, amount=0)  # is there room for one?
    assert made.second.spend(Use.RECIPIENT, A)
    assert not made.second.spend(Use.RECIPIENT, A, amount=0)
    assert made.first.spend(Use.RECIPIENT, A, amount=-4)
    assert not made.second.spend(Use.RECIPIENT, A, amount=5)
    assert made.second.spend(Use.RECIPIENT, A, amount=4)


@pytest.mark.parametrize(
    ("address", "same", "other"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::9", "2001:db8:0:2::1"),
        ("fe80::1%eth0", "fe80::2%eth1", "fe81::1"),
        ("::1", "0:0:0:0:0:0:0:2", "0.0.0.1"),
        ("unknown", "unknown", "x" * 100_000),
    ],
)
def test_client_is_a_network(world: Any, address: str, same: str, other: str) -> None:
    made = world(messages=1)
    assert made.first.spend(Use.MESSAGE, address)
    assert not made.second.spend(Use.MESSAGE, same)
    assert made.second.spend(Use.MESSAGE, other)
    assert not made.first.spend(Use.MESSAGE, other)


def test_prefixes_are_options(world: Any) -> None:
    made = world(messages=1, prefix_v4=24, prefix_v6=48)
    assert made.first.spend(Use.MESSAGE, "192.0.2.1")
    assert not made.first.spend(Use.MESSAGE, "192.0.2.255")
    assert made.first.spend(Use.MESSAGE, "192.0.3.1")
    assert made.first.spend(Use.MESSAGE, "2001:db8::1")
    assert not made.first.spend(Use.MESSAGE, "2001:db8:0:ffff::1")
    assert made.first.spend(Use.MESSAGE, "2001:db8:1::1")


def test_exceptions_have_no_limits_and_touch_no_table(world: Any) -> None:
    networks = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
    made = world(messages=1, connections=1, auth_failures=1, exceptions=networks)
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8:9::1"):
        for _ in range(5):
            assert made.first.spend(Use.MESSAGE, address, "bob")
            assert made.first.spend(Use.AUTH_FAILURE, address)
            assert made.first.enter(address)
        made.first.leave(address)
    assert made.is_untouched
    assert made.first.spend(Use.MESSAGE, "11.0.0.1")
    assert not made.first.spend(Use.MESSAGE, "11.0.0.1")


def test_connections_at_a_time(world: Any) -> None:
    made = world(connections=3)
    assert [made.first.enter(A), made.second.enter(A), made.first.enter(A)] == [True] * 3
    assert not made.first.enter(A)
    assert not made.second.enter(A)
    assert made.second.enter(B)
    made.clock.now_s += 10_000
    assert not made.second.enter(A)
    made.second.leave(A)
    assert made.first.enter(A)
    assert not made.first.enter(A)


def test_dead_worker_s_connections_are_forgotten_by_its_successor(world: Any) -> None:
    made = world(connections=2, messages=2)
    assert made.first.enter(A)
    assert made.second.enter(A)
    assert made.first.spend(Use.MESSAGE, A, amount=2)
    assert not made.second.enter(A)
    made.first = made.start(0)
    assert made.second.enter(A)
    assert not made.first.enter(A)
    assert not made.first.spend(Use.MESSAGE, A)


def test_connections_that_found_no_place_are_not_taken_from_others(world: Any) -> None:
    made = world(entries=8, connections=2)
    others = [f"198.51.100.{number}" for number in range(8)]
    for address in others:
        assert made.first.enter(address)
    assert all(made.first.enter(A) for _ in range(5))  # counted nowhere
    assert made.first.overflow == 5
    made.first.leave(others[0])
    made.clock.now_s += 60
    assert made.first.enter(A)
    assert made.first.enter(A)
    assert not made.first.enter(A)
    for _ in range(5):
        made.first.leave(A)
        assert not made.first.enter(A)  # the two are there still
    made.first.leave(A)
    assert made.first.enter(A)
    assert not made.first.enter(A)
    for address in others[1:]:
        assert made.first.enter(address)
        assert not made.first.enter(address)


def test_failures_of_one_network(world: Any) -> None:
    made = world()
    for number in range(10):
        assert made.first.spend(Use.AUTH_FAILURE, A, amount=0)
        assert made.second.spend(Use.AUTH_FAILURE, A, f"user{number}")
    assert not made.first.spend(Use.AUTH_FAILURE, A, amount=0)
    assert not made.first.spend(Use.AUTH_FAILURE, A, "another", amount=0)
    assert not made.first.spend(Use.AUTH_FAILURE, A, "another")
    assert made.first.spend(Use.AUTH_FAILURE, B, amount=0)
    made.clock.now_s += 599
    assert not made.first.spend(Use.AUTH_FAILURE, A)
    made.clock.now_s += 1
    assert made.first.spend(Use.AUTH_FAILURE, A)


def fail(made: World, address: str, login: str, count: int) -> int:
    """How many of `count` attempts were let through; all of them fail."""
    through = 0
    for _ in range(count):
        if made.first.spend(Use.AUTH_FAILURE, address, login, 0):
            through += 1
            made.second.spend(Use.AUTH_FAILURE, address, login)
    return through


def test_one_network_cannot_lock_an_account_out_for_others(world: Any) -> None:
    made = world(auth_failures=0)
    assert fail(made, A, "bob", 100) == 10
    assert made.first.spend(Use.AUTH_FAILURE, B, "bob", 0)
    assert made.first.spend(Use.AUTH_FAILURE, A, "alice", 0)
    made.clock.now_s += 3600
    assert fail(made, A, "bob", 100) == 10


def test_account_is_guessed_at_so_often_from_however_many_networks(world: Any) -> None:
    made = world(entries=1024)
    names = ("bob", "Bob", "BOB")
    through = sum(fail(made, f"198.51.100.{number}", names[number % 3], 3) for number in range(200))
    assert through == 20
    made.clock.now_s += 3600
    assert fail(made, A, "bob", 1) == 1


def test_failure_is_counted_first_and_given_back_when_it_was_none(world: Any) -> None:
    made = world()
    for _ in range(100):
        assert made.first.spend(Use.AUTH_FAILURE, A, "bob")
        assert made.first.spend(Use.AUTH_FAILURE, A, "bob", -1)
    assert fail(made, A, "bob", 100) == 10


def test_account_failures_count_for_exceptions_too(world: Any) -> None:
    """Such as a web mail host, through which anybody can guess."""
    made = world(exceptions=(ip_network("10.0.0.0/8"),))
    assert fail(made, "10.0.0.1", "bob", 100) == 10
    assert fail(made, "10.0.0.1", "alice", 100) == 10


@pytest.mark.parametrize(
    ("use", "option"), [(Use.MESSAGE, "login_messages"), (Use.RECIPIENT, "login_recipients")]
)
def test_login_has_limits_wherever_it_comes_from(world: Any, use: Use, option: str) -> None:
    made = world(**{option: 2}, exceptions=(ip_network("10.0.0.0/8"),))
    assert made.first.spend(use, A, "bob")
    assert made.second.spend(use, "10.0.0.1", "bob")
    assert not made.first.spend(use, "2001:db8::1", "bob")
    assert made.first.spend(use, A, "alice")
    assert all(made.first.spend(use, A) for _ in range(9))
    made.clock.now_s += 60
    assert made.first.spend(use, A, "bob")


def test_what_the_login_may_not_is_not_counted_for_the_client(world: Any) -> None:
    made = world(messages=3, login_messages=1)
    assert made.first.spend(Use.MESSAGE, A, "bob")
    assert all(not made.first.spend(Use.MESSAGE, A, "bob") for _ in range(9))
    assert made.first.spend(Use.MESSAGE, A, "alice")
    assert made.first.spend(Use.MESSAGE, A)
    assert not made.first.spend(Use.MESSAGE, A)
    assert not made.first.spend(Use.MESSAGE, A, "carol")
    assert made.first.spend(Use.MESSAGE, B, "carol")  # what the client may not is not the login's


def test_made_up_logins_do_not_crowd_out_clients(world: Any) -> None:
    made = world(entries=16, connections=1, auth_failures=0)
    assert made.first.enter(A)
    for number in range(1000):
        made.first.spend(Use.AUTH_FAILURE, A, f"nobody{number}")
    assert made.first.overflow > 0
    assert made.first.enter(B)
    assert not made.second.enter(A)
    assert not made.second.enter(B)


@pytest.mark.parametrize("entries", [64, 256])
def test_made_up_logins_do_not_open_the_accounts(world: Any, entries: int) -> None:
    made = world(entries=entries, auth_failures=0)
    for number in range(4 * entries):
        through = made.first.spend(
            Use.AUTH_FAILURE, f"10.0.{number >> 8}.{number & 255}", f"{number}"
        )
        assert through or made.first.overflow
    assert made.first.overflow > 0
    made.second = made.start(1)
    for account in ("bob", "alice", "carol"):
        through = sum(fail(made, f"198.51.100.{number}", account, 12) for number in range(50))
        assert through <= 20
        assert made.first.is_locked(account, "203.0.113.1") or through == 0
    made.clock.now_s += 3600
    assert fail(made, A, "bob", 100) == 10


def test_full_table_of_clients_does_not_open_the_networks(world: Any) -> None:
    made = world(account_failures=0)
    for number in range(500):
        made.first.enter(f"10.0.{number >> 8}.{number & 255}")
        made.second.enter(f"10.1.{number >> 8}.{number & 255}")
    assert made.first.overflow > 100
    guesses = sum(made.first.spend(Use.AUTH_FAILURE, A, f"user{number}") for number in range(100))
    assert 0 < guesses <= 10
    made.first.spend(Use.AUTH_FAILURE, A, amount=-1)
    assert made.second.spend(Use.AUTH_FAILURE, A)
    assert not made.second.spend(Use.AUTH_FAILURE, A, amount=0)


def test_failures_of_a_network_are_those_of_a_customer(world: Any) -> None:
    made = world(messages=1)
    through = sum(fail(made, f"2001:db8:0:{net:x}::1", f"user{net}", 1) for net in range(256))
    assert through == 10
    assert made.first.spend(Use.AUTH_FAILURE, "2001:db8:0:100::1", amount=0)
    assert made.first.spend(Use.MESSAGE, "2001:db8:0:1::1")
    assert made.first.spend(Use.MESSAGE, "2001:db8:0:2::1")
    wider = world(prefix_v6=48)
    assert fail(wider, "2001:db8::1", "bob", 100) == 10
    assert fail(wider, "2001:db8:0:ffff::1", "alice", 1) == 0


@pytest.mark.parametrize("login", ["\ud800", "x" * 100_000, "\0", "ß", "\U0010ffff"])
def test_any_login_is_a_login(world: Any, login: str) -> None:
    made = world(login_messages=1)
    assert made.first.spend(Use.MESSAGE, A, login)
    assert not made.second.spend(Use.MESSAGE, A, login)
    assert made.first.spend(Use.AUTH_FAILURE, A, login)


def test_what_is_remembered_of_clients_and_logins_is_bounded(world: Any) -> None:
    made = world(messages=1, login_messages=1)
    for number in range(20_000):
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        made.first.spend(Use.MESSAGE, address, f"{'x' * (number % 300)}{number}")
    assert len(made.first._known) <= 4096
    assert len(made.first._logins) <= 4096
    assert max(map(len, made.first._logins)) <= 256
    assert made.first._uncounted == {}


def test_keys_cannot_be_foreseen(world: Any) -> None:
    made = world()
    tables = made.first._clients, made.first._accounts
    other = ClientLimits(made.options, *tables, made.clock, b"another secret!!")
    assert made.first._judge(A) == other._judge(A)
    assert made.first._hash(b"c", b"x") != other._hash(b"c", b"x")
    assert made.first._hash(b"c", b"x") != made.first._hash(b"f", b"x")
    assert made.first._hash(b"c", b"x") == made.second._hash(b"c", b"x")


@pytest.mark.parametrize(
    "options",
    [
        {"window_s": 0},
        {"account_window_s": float("nan")},
        {"failure_window_s": 10**7},
        {"connections": -1},
        {"messages": 2**31},
        {"account_failures": -1},
        {"login_messages": -1},
        {"prefix_v4": 0},
        {"prefix_v4": 33},
        {"prefix_v6": 129},
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"window|limit|prefix"):
        ClientLimitOptions(**options)


def test_short_secret_is_refused(world: Any) -> None:
    made = world()
    tables = made.first._clients, made.first._accounts
    with pytest.raises(ValueError, match="secret"):
        ClientLimits(made.options, *tables, made.clock, b"short")


def test_account_is_locked_for_a_network_then_for_all_and_opens_again(world: Any) -> None:
    made = world()
    assert not made.first.is_locked("bob", A)
    fail(made, A, "bob", 100)
    assert made.second.is_locked("BOB", A), "one network has its share only"
    assert not made.second.is_locked("bob", B)
    assert not made.second.is_locked("alice", A)
    fail(made, B, "bob", 100)
    assert made.second.is_locked("bob", "203.0.113.9")
    made.clock.now_s += 3600
    assert not made.first.is_locked("bob", A)
    assert not world(account_failures=0).first.is_locked("bob", A)
