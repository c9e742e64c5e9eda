"""The promises of an exchange: one answer, none after cancel, refusals not before their time."""

import pytest

from fastmta.security.step import accepted, challenge, refused, unavailable
from fastmta.security.turn import FLOOR_S, JITTER_S, Turns
from fastmta.smtp.sasl import Done, SaslStep, Verdict
from tests.support.sasl import FakeLoop, Said


class Scripted:
    """Gives `steps`, at once or when `give` is called."""

    def __init__(self, *steps: SaslStep, is_slow: bool = False) -> None:
        self.steps = list(steps)
        self.is_slow = is_slow
        self.done: Done | None = None
        self.cancelled_count = 0

    def step(self, response: bytes | None, done: Done) -> None:
        self.done = done
        if not self.is_slow:
            self.give()

    def give(self) -> None:
        assert self.done is not None
        self.done(self.steps.pop(0))

    def cancel(self) -> None:
        self.cancelled_count += 1


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


def make(loop: FakeLoop, inner: object, chance: float = 0.5) -> tuple[Turns, list[str]]:
    warned: list[str] = []
    return Turns(inner, loop, lambda: chance, warned.append), warned


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_refusal_is_given_after_floor_and_jitter(loop: FakeLoop, chance: float) -> None:
    exchange, _ = make(loop, Scripted(refused("no", "x")), chance)
    said = Said()
    exchange.step(b"", said)
    loop.advance(FLOOR_S + JITTER_S * chance - 0.001)
    assert said == []
    loop.advance(0.002)
    assert (said.one.verdict, loop.timers) == (Verdict.REFUSED, [])


@pytest.mark.parametrize("work_s", [0.0, 0.07, 0.29, 0.4])
def test_time_of_the_work_does_not_show_in_a_refusal(loop: FakeLoop, work_s: float) -> None:
    inner = Scripted(refused("no"), is_slow=True)
    exchange, _ = make(loop, inner, 1.0)
    said = Said()
    began_s = loop.now_s
    exchange.step(b"", said)
    loop.advance(work_s)
    inner.give()
    loop.advance(began_s + FLOOR_S + JITTER_S - loop.now_s + 1e-6)
    assert said.one.verdict is Verdict.REFUSED


def test_refusal_after_long_work_is_given_at_once(loop: FakeLoop) -> None:
    inner, said = Scripted(refused("no"), is_slow=True), Said()
    exchange, _ = make(loop, inner)
    exchange.step(b"", said)
    loop.advance(5)
    inner.give()
    loop.advance(0)
    assert said.one.verdict is Verdict.REFUSED


@pytest.mark.parametrize("step", [accepted("x"), challenge(b"c"), unavailable("down")])
def test_everything_else_is_given_at_once(loop: FakeLoop, step: SaslStep) -> None:
    exchange, _ = make(loop, Scripted(step))
    said = Said()
    exchange.step(b"", said)
    assert said.one == step
    assert loop.timers == []


@pytest.mark.parametrize("step", [accepted("x"), refused("no"), unavailable("down")])
def test_what_has_ended_stays_so(loop: FakeLoop, step: SaslStep) -> None:
    inner, said = Scripted(step, accepted("x")), Said()
    exchange, _ = make(loop, inner)
    exchange.step(b"", said)
    loop.advance(1)
    said.clear()
    exchange.step(b"", said)
    assert said.one.verdict is Verdict.REFUSED
    assert len(inner.steps) == 1


def test_answer_is_given_once(loop: FakeLoop) -> None:
    inner, said = Scripted(accepted("x"), accepted("x"), refused("no"), is_slow=True), Said()
    exchange, _ = make(loop, inner)
    exchange.step(b"", said)
    for _ in range(3):
        inner.give()
    loop.advance(10)
    assert said.one.verdict is Verdict.ACCEPTED


def test_refusal_that_waits_is_not_overtaken(loop: FakeLoop) -> None:
    inner, said = Scripted(refused("no"), accepted("x"), is_slow=True), Said()
    exchange, _ = make(loop, inner)
    exchange.step(b"", said)
    inner.give()
    inner.give()
    loop.advance(10)
    assert said.one.verdict is Verdict.REFUSED


@pytest.mark.parametrize("step", [accepted("x"), challenge(b""), refused("no"), unavailable("?")])
def test_no_answer_after_cancel(loop: FakeLoop, step: SaslStep) -> None:
    inner, said = Scripted(step, is_slow=True), Said()
    exchange, _ = make(loop, inner)
    exchange.step(b"", said)
    exchange.cancel()
    inner.give()
    loop.advance(10)
    assert (said, inner.cancelled_count) == ([], 1)


def test_no_answer_after_cancel_while_a_refusal_waits(loop: FakeLoop) -> None:
    exchange, _ = make(loop, Scripted(refused("no")))
    said = Said()
    exchange.step(b"", said)
    exchange.cancel()
    assert loop.timers == []
    loop.advance(10)
    assert said == []


def test_cancel_before_between_and_after_and_twice(loop: FakeLoop) -> None:
    unused, _ = make(loop, Scripted())
    unused.cancel()
    unused.cancel()
    said = Said()
    unused.step(b"", said)
    assert said.one.verdict is Verdict.REFUSED
    between, _ = make(loop, Scripted(challenge(b"")))
    between.step(b"", said)
    between.cancel()
    ended, _ = make(loop, Scripted(accepted("x")))
    ended.step(b"", said)
    ended.cancel()
    assert len(said) == 2


def test_response_that_is_too_long_never_reaches_the_mechanism(loop: FakeLoop) -> None:
    inner, said = Scripted(challenge(b""), challenge(b"")), Said()
    exchange, _ = make(loop, inner)
    exchange.step(b"x" * 12_288, said)
    assert said.one.verdict is Verdict.CHALLENGE
    exchange.step(b"x" * 12_289, said)
    loop.advance(1)
    assert said.one.reason == "response too long"
    assert len(inner.steps) == 1


def test_defect_is_unavailable_and_told_without_what_it_says(loop: FakeLoop) -> None:
    class Broken:
        def step(self, response: bytes | None, done: Done) -> None:
            raise KeyError("the password is hunter2")

        def cancel(self) -> None:
            pass

    exchange, warned = make(loop, Broken())
    said = Said()
    exchange.step(b"", said)
    assert said.one.verdict is Verdict.UNAVAILABLE
    assert len(warned) == 1
    assert warned[0].startswith("authentication: KeyError at ")
    assert "hunter2" not in warned[0]


def test_reasons_are_fit_for_a_reply() -> None:
    assert refused("a\r\nb\x00\xe9" + "x" * 300).reason == "a??b??" + "x" * 194
