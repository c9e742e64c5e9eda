"""Sessions that idle: kept for their site, but not beside as many busy ones as there may be."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastmta.delivery.options import DeliveryOptions
from fastmta.delivery.pool import Pool


class Session:
    """As much of a connection as a pool looks at."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_idle = False
        self.site_key = self.session_key = b""
        self.deadline_s = self.opened_s = 0.0
        self.use_count = 1
        self.dialog: Any = type("Dialog", (), {"messages_max": 0})
        self.has_quit = False

    def quit(self) -> None:
        self.has_quit = True


@pytest.fixture
def loop() -> Any:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def pool_of(loop: asyncio.AbstractEventLoop, sessions_max: int) -> Any:
    return Pool(DeliveryOptions("h.example", sessions_max=sessions_max), loop)


def opened(pool: Any, name: str) -> Any:
    session = Session(name)
    pool.add(session)
    return session


def test_the_session_that_idles_longest_makes_room(loop: asyncio.AbstractEventLoop) -> None:
    pool = pool_of(loop, 2)
    first, second, third = (opened(pool, name) for name in "abc")
    pool.put(b"a", b"a", first, 1.0)
    assert not first.has_quit, "the only idle one may stay: it is what is served next"
    pool.put(b"b", b"b", second, 2.0)
    assert first.has_quit
    assert not second.has_quit
    assert pool.idle_count == 1
    pool.forget(first)
    assert pool.take(b"b", b"b") is second
    pool.put(b"b", b"b", second, 3.0)
    pool.put(b"c", b"c", third, 4.0)
    assert not second.has_quit, "two are allowed"
    assert (len(pool), pool.idle_count) == (2, 2)


def test_a_session_that_was_used_meanwhile_is_young_again(loop: asyncio.AbstractEventLoop) -> None:
    pool = pool_of(loop, 2)
    first, second = opened(pool, "a"), opened(pool, "b")
    pool.put(b"a", b"a", first, 1.0)
    pool.put(b"b", b"b", second, 2.0)
    assert pool.take(b"a", b"a") is first
    pool.put(b"a", b"a", first, 3.0)
    third = opened(pool, "c")
    pool.put(b"c", b"c", third, 4.0)
    assert second.has_quit
    assert not first.has_quit


def test_without_a_limit_all_stay(loop: asyncio.AbstractEventLoop) -> None:
    pool = pool_of(loop, 0)
    sessions = [opened(pool, str(number)) for number in range(50)]
    for number, session in enumerate(sessions):
        pool.put(b"%d" % number, b"", session, 1.0)
    assert pool.idle_count == 50
    pool.quit_idle()
    assert pool.idle_count == 0
    assert all(session.has_quit for session in sessions)


def test_a_session_of_another_next_hop_makes_room(loop: asyncio.AbstractEventLoop) -> None:
    pool = pool_of(loop, 0)
    first, second, other = opened(pool, "a"), opened(pool, "b"), opened(pool, "other")
    pool.put(b"site", b"site one", first, 1.0)
    pool.put(b"site", b"site two", second, 2.0)
    pool.put(b"elsewhere", b"elsewhere", other, 2.0)
    assert pool.take(b"site", b"site one") is first, "though it is not the latest"
    pool.put(b"site", b"site one", first, 3.0)
    assert pool.take(b"site", b"site three") is None
    assert pool.may_open(b"site")
    assert pool.make_room(b"site")
    assert (second.has_quit, first.has_quit, other.has_quit) == (True, False, False)
    assert not pool.may_open(b"site")
    went_on: list[bool] = []
    pool.wait(b"site", lambda: went_on.append(True))
    pool.forget(second)
    assert went_on
    closed: list[bool] = []
    pool.close_idle(b"site", lambda: closed.append(True))
    assert first.has_quit
    assert pool.idle_count == 1
    pool.forget(first)
    loop.run_until_complete(asyncio.sleep(0))
    assert closed
