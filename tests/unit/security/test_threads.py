"""The pool for hashes and blocking hooks."""

import threading

from fastmta.security.threads import Failure, Threads
from tests.support.sasl import FakeLoop


def test_work_is_done_beside_the_loop_and_answered_on_it() -> None:
    loop = FakeLoop()
    threads = Threads(loop, "test", 1, 1)
    done: list[object] = []
    assert threads.run(threading.get_ident, done.append)
    assert done == []
    loop.from_thread()
    assert done
    assert done != [threading.get_ident()]
    threads.close()


def test_exceptions_of_every_kind_are_values_and_the_thread_lives_on() -> None:
    loop = FakeLoop()
    threads = Threads(loop, "test", 1, 8)
    done: list[object] = []

    def leave() -> None:
        raise SystemExit(1)

    threads.run(leave, done.append)
    threads.run(lambda: [][0], done.append)
    threads.run(lambda: "alive", done.append)
    for _ in range(3):
        loop.from_thread()
    kinds = [type(one.error) if isinstance(one, Failure) else one for one in done]
    assert kinds == [SystemExit, IndexError, "alive"]
    threads.close()


def test_queue_has_a_cap_and_room_again_afterwards() -> None:
    loop = FakeLoop()
    threads = Threads(loop, "test", 2, 3)
    gate = threading.Event()
    done: list[object] = []
    jobs = [threads.run(lambda: gate.wait(30), done.append) for _ in range(7)]
    assert [job is None for job in jobs] == [False] * 5 + [True] * 2
    gate.set()
    for _ in range(5):
        loop.from_thread()
    assert done == [True] * 5
    assert threads.run(lambda: None, done.append) is not None
    loop.from_thread()
    threads.close()


def test_cancelled_work_is_not_begun_and_not_answered() -> None:
    loop = FakeLoop()
    threads = Threads(loop, "test", 1, 8)
    gate, begun, done = threading.Event(), threading.Event(), []
    running = threads.run(lambda: (begun.set(), gate.wait(30)), done.append)
    calls: list[int] = []
    waiting = threads.run(lambda: calls.append(1), done.append)
    assert running is not None
    assert waiting is not None
    assert begun.wait(30)
    running.cancel()
    waiting.cancel()
    gate.set()
    for _ in range(2):
        loop.from_thread()
    assert (calls, done) == ([], [])
    threads.close()


def test_closed_pool_takes_nothing_and_answers_nothing() -> None:
    loop = FakeLoop()
    threads = Threads(loop, "test", 1, 8)
    gate, begun = threading.Event(), threading.Event()
    done: list[object] = []
    threads.run(lambda: (begun.set(), gate.wait(30)), done.append)
    assert begun.wait(30)
    threads.close()
    gate.set()
    loop.from_thread()
    assert done == []
    assert threads.run(lambda: None, done.append) is None
