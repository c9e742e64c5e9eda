"""A provider that takes so many messages a second and refuses the rest as a signal."""

from __future__ import annotations

from collections import Counter

from fastmta.delivery.classify import load_rules
from fastmta.delivery.rule import parse_example
from fastmta.message import AttemptResult, Job, Outcome
from fastmta.route import Site
from tests.support.scheduler_world import DELIVERED, World

COUNT = 1000
RATE = 14.0  # a second, as SES begins with
THROTTLED = "454 Throttling failure: Maximum sending rate exceeded."


def test_a_throttle_finds_the_rate_and_burns_next_to_no_attempt() -> None:
    reply = parse_example(THROTTLED).reply
    verdict = load_rules().classify(reply, "end of DATA command", "ses")
    assert verdict.is_signal
    refused = Outcome(
        verdict.kind,
        verdict.status_of(reply),
        reply.text,
        verdict.scope,
        "ses[192.0.2.1]:587",
        reply.text,
        verdict.category.value,
    )
    world = World()
    tokens, filled_s = RATE, world.agenda.now_s
    answers: Counter[bool] = Counter()

    def take(job: Job, site: Site) -> AttemptResult:
        nonlocal tokens, filled_s
        now_s = world.agenda.now_s
        tokens, filled_s = min(RATE, tokens + (now_s - filled_s) * RATE), now_s
        is_taken = tokens >= 1.0
        answers[is_taken] += 1
        tokens -= is_taken
        return AttemptResult([DELIVERED]) if is_taken else AttemptResult([refused], refused)

    world.receivers.behaviours["ses.example"] = take
    world.receivers.latency_s["ses.example"] = 0.1
    messages = [world.send(b"user%d@ses.example" % at) for at in range(COUNT)]
    world.run(COUNT / RATE * 1.2)
    assert len(world.spool.final) >= COUNT * 0.99
    world.run(600)
    attempts = Counter(world.spool.final[message.id].states[0].attempts for message in messages)
    assert attempts[1] >= COUNT * 0.99
    assert answers[False] > 0
