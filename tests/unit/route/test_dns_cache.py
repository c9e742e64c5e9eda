"""The cache of DNS answers on a clock of the test."""

from __future__ import annotations

import pytest

from fastmta.route import Answer, AnswerKind, DnsCache, RecordType
from fastmta.route.answer import Done, failed

A = RecordType.A


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Upstream:
    """Keeps every question until the test answers it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.open: list[tuple[str, RecordType, Done]] = []
        self.asked: list[str] = []

    def query(self, name: str, rdtype: RecordType, done: Done) -> None:
        self.asked.append(name)
        self.open.append((name, rdtype, done))

    def found(self, *values: str, ttl_s: float = 300.0) -> None:
        self.give(Answer(AnswerKind.FOUND, self.clock.now_s + ttl_s, values=values))

    def alias(self, target: str, ttl_s: float = 300.0) -> None:
        self.give(Answer(AnswerKind.ALIAS, self.clock.now_s + ttl_s, alias=target))

    def none(self, kind: AnswerKind, ttl_s: float = 60.0) -> None:
        self.give(Answer(kind, self.clock.now_s + ttl_s))

    def fail(self) -> None:
        self.give(failed(self.clock.now_s, "SERVFAIL"))

    def give(self, answer: Answer) -> None:
        self.open.pop(0)[2](answer)


class Bench:
    def __init__(self, entries_max: int = 100) -> None:
        self.clock = Clock()
        self.upstream = Upstream(self.clock)
        self.cache = DnsCache(self.upstream, self.clock, entries_max)
        self.answers: list[Answer] = []

    def ask(self, name: str = "mx.example", rdtype: RecordType = A) -> None:
        self.cache.query(name, rdtype, self.answers.append)

    @property
    def last(self) -> Answer:
        return self.answers[-1]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_known_answer_is_given_at_once_until_its_end(bench: Bench) -> None:
    bench.ask()
    bench.upstream.found("192.0.2.1", ttl_s=300)
    bench.clock.now_s += 299.9
    bench.ask()
    assert [answer.values for answer in bench.answers] == [("192.0.2.1",)] * 2
    assert (bench.cache.hit_count, bench.cache.miss_count) == (1, 1)
    bench.clock.now_s += 0.1
    bench.ask()
    assert len(bench.upstream.open) == 1


def test_types_are_kept_apart(bench: Bench) -> None:
    bench.ask()
    bench.upstream.found("192.0.2.1")
    bench.ask(rdtype=RecordType.AAAA)
    assert len(bench.upstream.open) == 1


def test_one_question_for_all_who_wait(bench: Bench) -> None:
    for _ in range(5):
        bench.ask()
    assert bench.upstream.asked == ["mx.example"]
    bench.upstream.found("192.0.2.1")
    assert len(bench.answers) == 5


def test_one_who_raises_does_not_keep_the_others_waiting(bench: Bench) -> None:
    def broken(answer: Answer) -> None:
        raise RuntimeError("broken")

    bench.ask()
    bench.cache.query("mx.example", A, broken)
    bench.ask()
    with pytest.raises(RuntimeError, match="broken"):
        bench.upstream.found("192.0.2.1")
    assert len(bench.answers) == 2


def test_who_asks_again_within_the_answer_is_served(bench: Bench) -> None:
    bench.cache.query("mx.example", A, lambda answer: bench.ask())
    bench.upstream.found("192.0.2.1")
    assert bench.last.values == ("192.0.2.1",)
    assert len(bench.upstream.asked) == 1


def test_second_answer_is_an_error(bench: Bench) -> None:
    bench.ask()
    done = bench.upstream.open[0][2]
    bench.upstream.found("192.0.2.1")
    with pytest.raises(AssertionError, match="second answer"):
        done(failed(0, ""))


@pytest.mark.parametrize("kind", [AnswerKind.NO_NAME, AnswerKind.NO_DATA])
def test_negative_answer_is_kept_for_its_time(bench: Bench, kind: AnswerKind) -> None:
    bench.ask()
    bench.upstream.none(kind, ttl_s=60)
    bench.clock.now_s += 59
    bench.ask()
    assert bench.last.kind is kind
    bench.clock.now_s += 1
    bench.ask()
    assert len(bench.upstream.open) == 1


def test_failure_is_kept_for_a_short_time(bench: Bench) -> None:
    bench.ask()
    bench.upstream.fail()
    bench.ask()
    assert bench.last.kind is AnswerKind.FAILED
    bench.clock.now_s += 30
    bench.ask()
    bench.upstream.found("192.0.2.1")
    assert bench.last.kind is AnswerKind.FOUND


def test_ttl_of_zero_still_serves_one_second_and_a_year_only_a_day(bench: Bench) -> None:
    bench.ask("zero.example")
    bench.upstream.found("192.0.2.1", ttl_s=0)
    assert bench.last.expires_at_s == bench.clock.now_s + 1
    bench.ask("year.example")
    bench.upstream.found("192.0.2.1", ttl_s=365 * 86_400)
    assert bench.last.expires_at_s == bench.clock.now_s + 86_400


@pytest.mark.parametrize("kind", [AnswerKind.FOUND, AnswerKind.NO_DATA])
def test_stale_answer_stands_in_for_a_failure_for_a_day(bench: Bench, kind: AnswerKind) -> None:
    bench.ask()
    bench.upstream.none(kind, ttl_s=60)
    end_s = bench.clock.now_s + 60
    while bench.clock.now_s < end_s + 86_400:
        bench.clock.now_s += 3_000
        if bench.clock.now_s >= end_s + 86_400:
            break
        bench.ask()
        bench.upstream.fail()
        assert bench.last.kind is kind
        assert bench.last.expires_at_s == bench.clock.now_s + 30
    bench.ask()
    bench.upstream.fail()
    assert bench.last.kind is AnswerKind.FAILED


def test_stale_no_such_name_does_not_stand_in(bench: Bench) -> None:
    bench.ask()
    bench.upstream.none(AnswerKind.NO_NAME)
    bench.clock.now_s += 61
    bench.ask()
    bench.upstream.fail()
    assert bench.last.kind is AnswerKind.FAILED


def test_fresh_answer_replaces_a_stale_one(bench: Bench) -> None:
    bench.ask()
    bench.upstream.found("192.0.2.1")
    bench.clock.now_s += 301
    bench.ask()
    bench.upstream.none(AnswerKind.NO_NAME)
    assert bench.last.kind is AnswerKind.NO_NAME


def test_size_is_bounded_and_the_least_used_goes_first() -> None:
    bench = Bench(entries_max=3)
    for name in ("a.example", "b.example", "c.example"):
        bench.ask(name)
        bench.upstream.found("192.0.2.1")
    bench.ask("a.example")
    bench.ask("d.example")
    bench.upstream.found("192.0.2.1")
    assert len(bench.cache) == 3
    bench.ask("a.example")
    assert not bench.upstream.open
    bench.ask("b.example")
    assert len(bench.upstream.open) == 1


def test_alias_is_followed_and_ends_with_its_shortest_part(bench: Bench) -> None:
    bench.ask("a.example")
    bench.upstream.alias("b.example", ttl_s=50)
    bench.upstream.alias("c.example", ttl_s=500)
    assert not bench.answers
    bench.upstream.found("192.0.2.1", ttl_s=300)
    assert bench.last.values == ("192.0.2.1",)
    assert bench.last.expires_at_s == bench.clock.now_s + 50
    bench.ask("a.example")
    assert len(bench.answers) == 2
    assert bench.upstream.asked == ["a.example", "b.example", "c.example"]


def test_loop_of_aliases_ends(bench: Bench) -> None:
    bench.ask("a.example")
    bench.upstream.alias("b.example")
    bench.upstream.alias("a.example")
    assert bench.last.kind is AnswerKind.INVALID
    assert len(bench.upstream.asked) == 2


def test_eight_aliases_are_followed_nine_are_not(bench: Bench) -> None:
    bench.ask("a0.example")
    for number in range(1, 9):
        bench.upstream.alias(f"a{number}.example")
    bench.upstream.found("192.0.2.1")
    assert bench.last.kind is AnswerKind.FOUND
    bench.ask("b0.example")
    for number in range(1, 10):
        bench.upstream.alias(f"b{number}.example")
    assert bench.last.kind is AnswerKind.INVALID


def test_name_that_is_its_own_alias(bench: Bench) -> None:
    bench.ask("a.example")
    bench.upstream.alias("a.example")
    assert bench.last.kind is AnswerKind.INVALID
