"""The order in which jobs go."""

from fastmta.message import ClientIdentity, Envelope, Message
from fastmta.message.attempt import Job
from fastmta.scheduler.ready import Ready

ENVELOPE = Envelope(b"s@a.example", (b"r@b.example",), ClientIdentity())


def job(name: bytes, next_hop: bytes = b"smtp:b.example") -> Job:
    return Job(Message(name.rjust(16, b"0"), ENVELOPE, b"", 0), next_hop, (0,))


def filled(fresh: int, backlog: int) -> tuple[Ready, list[Job], list[Job]]:
    ready = Ready()
    fresh_jobs = [job(b"f%d" % n) for n in range(fresh)]
    backlog_jobs = [job(b"b%d" % n) for n in range(backlog)]
    ready.fresh.extend(fresh_jobs)
    ready.backlog.extend(backlog_jobs)
    return ready, fresh_jobs, backlog_jobs


def test_one_of_each_while_there_are_both() -> None:
    ready, (f0, f1, f2, f3), (b0, b1) = filled(4, 2)
    assert [ready.pop() for _ in range(len(ready))] == [f0, b0, f1, b1, f2, f3]


def test_fresh_is_next_when_it_is_preferred() -> None:
    ready, (f0, f1), (b0, b1) = filled(2, 2)
    assert ready.pop() is f0
    ready.prefer_fresh()
    assert [ready.pop() for _ in range(3)] == [f1, b0, b1]


def test_the_last_are_dropped_and_the_first_kept() -> None:
    ready, (f0, f1, f2), (b0, b1) = filled(3, 2)
    assert ready.keep_first(3) == [f2, f1]
    assert list(ready) == [f0, b0, b1]
    assert ready.keep_first(0) == [f0, b1, b0]
    assert len(ready) == 0


def test_remove_finds_a_job_wherever_it_is() -> None:
    ready, (f0, f1), (b0,) = filled(2, 1)
    assert ready.remove(f1)
    assert ready.remove(b0)
    assert not ready.remove(b0)
    assert list(ready) == [f0]


def test_jobs_of_one_next_hop_are_taken_out_in_order() -> None:
    ready, (f0,), (b0,) = filled(1, 1)
    other = job(b"o", b"smtp:c.example")
    ready.fresh.append(other)
    assert ready.take_hop(b"smtp:b.example") == [f0, b0]
    assert list(ready) == [other]
