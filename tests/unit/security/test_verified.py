"""The memory of logins that were right."""

from fastmta.security import verified as room
from fastmta.security.verified import TTL_S, Verified


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def make() -> tuple[Verified, Clock]:
    clock = Clock()
    return Verified(b"s" * 32, clock), clock


def test_login_is_known_for_a_while() -> None:
    verified, clock = make()
    assert not verified.has("a", "b", 0)
    verified.add("a", "b", 0)
    assert verified.has("a", "b", 0)
    clock.now_s += TTL_S - 0.1
    assert verified.has("a", "b", 0)
    clock.now_s += 0.2
    assert not verified.has("a", "b", 0)
    assert len(verified) == 0


def test_where_the_name_ends_matters() -> None:
    verified, _ = make()
    verified.add("ab", "c", 0)
    assert not verified.has("a", "bc", 0)
    assert not verified.has("ab", "C", 0)
    assert not verified.has("", "abc", 0)


def test_changed_users_make_it_forget() -> None:
    verified, _ = make()
    verified.add("a", "b", 0)
    assert not verified.has("a", "b", 1)
    assert not verified.has("a", "b", 0)


def test_login_checked_against_users_of_before_is_not_remembered() -> None:
    verified, _ = make()
    verified.add("x", "y", 2)
    verified.add("a", "b", 1)
    assert not verified.has("a", "b", 1)
    verified.add("x", "y", 2)
    verified.add("a", "b", 1)
    assert not verified.has("a", "b", 2)
    assert verified.has("x", "y", 2)


def test_it_holds_so_many_and_forgets_the_oldest() -> None:
    verified, _ = make()
    for number in range(room.ENTRIES_MAX + 5):
        verified.add(f"user{number}", "b", 0)
    assert len(verified) == room.ENTRIES_MAX
    assert not verified.has("user4", "b", 0)
    assert verified.has("user5", "b", 0)
    assert verified.has(f"user{room.ENTRIES_MAX + 4}", "b", 0)


def test_no_password_is_held() -> None:
    verified, _ = make()
    verified.add("alice", "hunter2", 0)
    assert "hunter2" not in repr(vars(verified))
    assert "alice" not in repr(vars(verified))
