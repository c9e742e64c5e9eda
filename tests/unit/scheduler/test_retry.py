"""The retry schedule."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.event import MessageExpired
from fastmta.message import ClientIdentity, Envelope, Message, RecipientStatus
from fastmta.scheduler import Options, RetryPolicy
from fastmta.scheduler.tenant import Tenant, Tenants
from tests.support.agenda import NS
from tests.support.scheduler_world import DEFERRED, World, answer

DAY_S = 86_400.0
HASTY = b"otp@home.example"
HASTY_POLICY = RetryPolicy(
    first_s=10, max_s=60, jitter=0.0, lifetime_s=900, bounce_lifetime_s=900, warn_s=120
)


def test_doubles_from_300_to_4000_seconds() -> None:
    policy = RetryPolicy()
    delays = [policy.delay_s(attempt, 0.5) for attempt in range(1, 8)]
    assert delays == [300, 600, 1200, 2400, 4000, 4000, 4000]


@pytest.mark.parametrize("attempts", [1, 3, 10, 1_000, 10**9])
def test_jitter_is_at_most_a_tenth(attempts: int) -> None:
    policy = RetryPolicy()
    middle = policy.delay_s(attempts, 0.5)
    assert policy.delay_s(attempts, 0.0) == pytest.approx(0.9 * middle)
    assert middle < policy.delay_s(attempts, 0.999) < 1.1 * middle


@pytest.mark.parametrize(("first_s", "jitter"), [(0, 0.1), (-5, 0.1), (300, 1), (300, -0.1)])
def test_nonsense_is_refused(first_s: float, jitter: float) -> None:
    with pytest.raises(ValueError, match="retry"):
        RetryPolicy(first_s=first_s, jitter=jitter)


def test_bounces_have_a_lifetime_of_their_own() -> None:
    policy = RetryPolicy(lifetime_s=100, bounce_lifetime_s=7)
    for reverse_path, lifetime_s in ((b"a@b.example", 100), (b"", 7)):
        envelope = Envelope(reverse_path, (b"c@d.example",), ClientIdentity())
        assert policy.expires_at_ns(Message(b"1" * 16, envelope, b"", 50)) == 50 + lifetime_s * NS


@given(
    first_s=st.floats(1, 86_400),
    max_s=st.floats(1, 7 * 86_400),
    jitter=st.floats(0, 0.5),
    attempts=st.integers(1, 2_000),
    random=st.floats(0, 1, exclude_max=True),
)
def test_the_wait_after_an_attempt_is_its_step_of_the_ladder(
    first_s: float, max_s: float, jitter: float, attempts: int, random: float
) -> None:
    policy = RetryPolicy(first_s=first_s, max_s=max_s, jitter=jitter)
    step_s = first_s
    for _ in range(min(attempts - 1, 40)):
        step_s *= 2
    step_s = min(step_s, max_s)
    wait_s = policy.delay_s(attempts, random)
    assert step_s * (1 - jitter) * 0.999_999 <= wait_s <= step_s * (1 + jitter) * 1.000_001
    middle = policy.delay_s(attempts, 0.5)
    assert middle == pytest.approx(step_s)
    assert policy.delay_s(attempts + 1, 0.5) >= middle


@settings(max_examples=25)
@given(
    first_s=st.integers(5, 300),
    growth=st.integers(1, 16),
    jitter=st.sampled_from([0.0, 0.1, 0.4]),
    random=st.floats(0, 1, exclude_max=True),
)
def test_attempts_come_when_the_ladder_says(
    first_s: int, growth: int, jitter: float, random: float
) -> None:
    retry = RetryPolicy(first_s=first_s, max_s=first_s * growth, jitter=jitter)
    world = World(Options(retry=retry, sweep_interval_s=3_600.0))
    world.randomness = random
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    world.send(b"a@x.example")
    world.run(20 * first_s * growth)
    starts = [at_s for at_s, _, _ in world.receivers.log]
    assert len(starts) >= 12
    for number in range(1, len(starts)):
        wait_s = starts[number] - starts[number - 1]
        step_s = min(first_s * 2.0 ** (number - 1), first_s * growth)
        assert step_s * (1 - jitter) <= wait_s <= step_s * (1 + jitter) + 0.1


def give_policy(world: World, policy: RetryPolicy, lifetime_s: float | None = None) -> None:
    """Mail from HASTY has that policy; the spool believes in `lifetime_s` instead."""
    hasty = Tenant("hasty", retry=policy)
    others = Tenants()

    def tenant_of(envelope: Envelope) -> Tenant:
        return hasty if envelope.reverse_path == HASTY else others.of(envelope)

    def lifetime_of(envelope: Envelope) -> int:
        if envelope.reverse_path == HASTY and lifetime_s is not None:
            return int(lifetime_s * NS)
        return int((tenant_of(envelope).retry or world.options.retry).lifetime_of(envelope) * NS)

    world.tenant_of = tenant_of
    world.spool.lifetime_of = lifetime_of


def of_two_policies(policy: RetryPolicy = HASTY_POLICY, delay_s: float = 4 * 3_600.0) -> World:
    world = World(Options(delay_s=delay_s, profiles=(policy,)))
    give_policy(world, policy)
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    return world


def test_each_message_is_tried_and_given_up_as_its_policy_says() -> None:
    world = of_two_policies()
    hasty = world.send(b"a@x.example", reverse_path=HASTY)
    patient = world.send(b"b@x.example")
    world.run(3_000)
    waits: dict[bytes, list[float]] = {hasty.id: [], patient.id: []}
    for at_s, id, _ in world.receivers.log:
        waits.setdefault(id, []).append(at_s)
    gaps = [round(b - a) for a, b in zip(waits[hasty.id], waits[hasty.id][1:], strict=False)]
    assert gaps[:5] == [10, 20, 40, 60, 60]
    assert [round(at_s - waits[patient.id][0]) for at_s in waits[patient.id]] == [0, 300, 900, 2100]
    assert world.state(hasty) is RecipientStatus.EXPIRED
    assert world.state(patient) is RecipientStatus.DEFERRED
    assert waits[hasty.id][-1] - waits[hasty.id][0] <= 960
    assert [event.queue_id for event in world.seen(MessageExpired)] == [hasty.id]


def test_a_short_lifetime_ends_before_the_next_attempt() -> None:
    world = of_two_policies(RetryPolicy(first_s=7_200, max_s=7_200, lifetime_s=600))
    message = world.send(b"a@x.example", reverse_path=HASTY)
    world.run(700)
    assert world.state(message) is RecipientStatus.EXPIRED


def test_each_sender_hears_of_a_delay_when_its_policy_says_and_once() -> None:
    world = of_two_policies()
    hasty = [world.send(b"a@x.example", reverse_path=HASTY) for _ in range(5)]
    patient = [world.send(b"b@x.example") for _ in range(5)]
    world.run(300)
    assert {id for id, _ in world.delayed} == {message.id for message in hasty}
    world.run(5 * 3_600)
    told = [id for id, _ in world.delayed]
    assert sorted(told) == sorted(message.id for message in (*hasty, *patient))


def test_a_policy_without_a_warning_warns_nobody() -> None:
    world = of_two_policies(RetryPolicy(warn_s=0.0), delay_s=600.0)
    world.send(b"a@x.example", reverse_path=HASTY)
    other = world.send(b"b@x.example")
    world.run(DAY_S)
    assert [id for id, _ in world.delayed] == [other.id]


def test_rows_from_before_a_policy_grew_longer_wait_for_it() -> None:
    world = of_two_policies()
    message = world.send(b"a@x.example", reverse_path=HASTY)
    give_policy(world, RetryPolicy(lifetime_s=3_600), lifetime_s=900)
    world.run(3_500)
    assert world.state(message) is RecipientStatus.DEFERRED
    world.run(200)
    assert world.state(message) is RecipientStatus.EXPIRED
