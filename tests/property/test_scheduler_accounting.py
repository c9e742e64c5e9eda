"""Whatever happens: every recipient is accounted for, once, and no limit is exceeded.

A random history of mail, receivers in every mood, look-ups that fail, marks that take their time,
restarts. Then all receivers heal, and everything that is left must come to its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.budget.rate import Rate
from fastmta.budget.shape import Shape
from fastmta.event import RecipientTried
from fastmta.message import OutcomeKind, RecipientStatus
from fastmta.message.attempt import AttemptResult, Job
from fastmta.route import RouteProblem, Site
from fastmta.scheduler import Options, SiteOptions
from fastmta.scheduler.operation import Answer, Kind, Order
from fastmta.scheduler.tenant import Tenant, TenantRule, Tenants
from tests.support.scheduler_world import (
    DEFERRED,
    DELIVERED,
    FAILED,
    LOST,
    REFUSED,
    World,
    answer,
    deliver_all,
    fail_site,
)

SITES = ("a.example", "b.example", "c.example", "d.example")
CONNECTIONS, SITE_CONNECTIONS = 12, 6
HEAL_S = 30_000.0  # longer than every pause and every retry
HEAL_STEPS_MAX = 30_000  # it comes to rest, and in few steps
BIG_CONNECTIONS = 3
CAP = Shape(name="cap", provider=("big",), connections=BIG_CONNECTIONS)  # never taken away
SHAPES = {
    "none": [],
    "pause a": [Shape(name="p", site=("a.example",), is_paused=True)],
    "pause b": [Shape(name="p", domain=("b.example",), is_paused=True)],
    "pause one": [Shape(name="p", tenant=("one",), is_paused=True)],
    "slow a": [Shape(name="r", site=("a.example",), rate=Rate(2, 1.0, 2))],
    "slow tenants": [Shape(name="r", tenant=("*",), rate=Rate(3, 1.0, 1))],
    "pairs": [Shape(name="c", tenant=("*",), domain=("*",), connections=1)],
    "narrow": [Shape(name="n", site=("c.example",), connections=1)],
    "all": [
        Shape(name="r", provider=("*",), rate=Rate(5, 1.0, 1)),
        Shape(name="t", tenant=("*",), site=("*",), rate=Rate(1, 1.0), connections=2),
    ],
}
TENANTS = Tenants(
    TenantRule(Tenant("one", 3, 0), clients=(ip_network("10.0.0.1"),)),
    TenantRule(Tenant("two", 1, 2), clients=(ip_network("10.0.0.2"),)),
)
OPTIONS = Options(
    shapes=(CAP,),
    connections=CONNECTIONS,
    ram_messages=40,
    recipients_per_job=3,
    site=SiteOptions(connections=SITE_CONNECTIONS),
)
NO_DOMAIN = RouteProblem(OutcomeKind.FAILED, "5.4.4", "no such domain")
NO_ANSWER = RouteProblem(OutcomeKind.DEFERRED, "4.4.3", "no answer")


def mixed(job: Job, site: Site) -> AttemptResult:
    """Each recipient its own answer."""
    kinds = (DELIVERED, DEFERRED, FAILED)
    return AttemptResult([kinds[(index + job.message.id[-1]) % 3] for index in job.indices])


def cut_short(job: Job, site: Site) -> AttemptResult:
    """The first recipient is delivered, then the connection is lost."""
    return AttemptResult([DELIVERED, *[LOST] * (len(job.indices) - 1)], LOST)


MOODS: dict[str, Callable[[Job, Site], AttemptResult]] = {
    "delivers": deliver_all,
    "refuses": fail_site(REFUSED),
    "drops": fail_site(LOST),
    "defers": answer(DEFERRED),
    "fails": answer(FAILED),
    "mixes": mixed,
    "cuts": cut_short,
}
CLIENTS = st.sampled_from(("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"))
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("send"), st.lists(st.sampled_from(SITES), min_size=1, max_size=8), CLIENTS
        ),
        st.tuples(st.just("burst"), st.sampled_from(SITES), CLIENTS),
        st.tuples(st.just("shape"), st.sampled_from(sorted(SHAPES))),
        st.tuples(st.just("mood"), st.sampled_from(SITES), st.sampled_from(sorted(MOODS))),
        st.tuples(st.just("latency"), st.sampled_from(SITES), st.sampled_from((0.01, 1.0, 60.0))),
        st.tuples(st.just("dns"), st.sampled_from(SITES), st.sampled_from(("ok", "no", "gone"))),
        st.tuples(st.just("pass"), st.sampled_from((0.001, 0.1, 5.0, 400.0, 5_000.0))),
        st.tuples(st.just("operate"), st.sampled_from(Kind), st.integers(0, 9), st.booleans()),
        st.tuples(st.just("restart")),
    ),
    max_size=40,
)


def take_step(world: World, step: tuple[object, ...]) -> None:
    """One thing that may happen."""
    match step:
        case ("send", [*sites], str(client)):
            paths = [b"r%d@%b" % (n, str(site).encode()) for n, site in enumerate(sites)]
            world.send(*paths, client=client)
        case ("burst", str(site), str(client)):
            for _ in range(60):
                world.send(b"r@" + site.encode(), client=client)
        case ("shape", str(name)):
            world.scheduler.shape(SHAPES[name])
        case ("mood", str(site), str(mood)):
            world.receivers.behaviours[site] = MOODS[mood]
        case ("latency", str(site), float(latency_s)):
            world.receivers.latency_s[site] = latency_s
        case ("dns", str(site), str(answer_)):
            problem = {"ok": None, "no": NO_ANSWER, "gone": NO_DOMAIN}[answer_]
            world.problems.pop(b"smtp:" + site.encode(), None)
            if problem is not None:
                world.problems[b"smtp:" + site.encode()] = problem
        case ("pass", float(duration_s)):
            world.run(duration_s)
        case ("operate", Kind() as kind, int(part), bool(with_failed)):
            operate(world, kind, part, with_failed)
        case ("restart",):
            world.restart()
        case _:
            raise AssertionError(step)


def operate(world: World, kind: Kind, part: int, with_failed: bool) -> None:
    """An order for some of the mail; whatever is answered as done is so at that moment."""
    ids = [id for id in world.accepted if int(id) % 10 >= part]
    told: set[bytes] = set()

    def check(id: bytes, answer: Answer) -> None:
        assert id not in told
        told.add(id)
        assert answer is not Answer.FAILED
        if answer is not Answer.DONE:
            return
        if kind in (Kind.DELETE, Kind.EXPIRE):
            assert id in world.spool.final
            world.ended[id] = world.agenda.now_s
            return
        stored = world.spool.held.get(id) or world.spool.rows[id]
        count = len(stored.envelope.forward_paths)
        pending = {world.state(stored, n) for n in range(count) if not stored.is_final(n)}
        assert kind is not Kind.HOLD or pending == {RecipientStatus.HELD}
        assert kind is not Kind.RELEASE or RecipientStatus.HELD not in pending

    world.scheduler.operate(Order(kind, with_failed), ids, check)


def heal(world: World) -> None:
    """From now on everything works, and nothing is held."""
    world.run(200.0)  # attempts and records of operations that are under way
    world.scheduler.operate(Order(Kind.RELEASE), list(world.accepted), lambda id, answer: None)
    world.scheduler.shape([])
    world.problems.clear()
    world.receivers.behaviours.clear()
    world.receivers.latency_s.clear()
    world.agenda.run(HEAL_S, HEAL_STEPS_MAX)


def new_world() -> World:
    world = World(OPTIONS, TENANTS)
    world.provider_of.update({"a.example": "big", "d.example": "big"})
    return world


def check_limits(world: World) -> None:
    assert world.receivers.open_most(["a.example", "d.example"]) <= BIG_CONNECTIONS
    assert world.receivers.most_together <= CONNECTIONS
    assert all(most <= SITE_CONNECTIONS for most in world.receivers.most.values())
    # The pool four times over, what can be in flight beside it, and one read for each path.
    assert world.scheduler.counts.ram_jobs <= 4 * 40 + CONNECTIONS + 2 * SITE_CONNECTIONS * 5


@settings(max_examples=120, deadline=None)
@given(STEPS, st.booleans(), st.sampled_from((0.001, 0.5)), st.sampled_from((None, 5.0)))
def test_every_recipient_ends_final_and_nothing_is_held(
    steps: list[tuple[object, ...]], is_dns_slow: bool, record_s: float, ttl_s: float | None
) -> None:
    world = new_world()
    world.resolve_s = 0.2 if is_dns_slow else 0.0
    world.spool.record_s = record_s
    world.ttl_s = ttl_s
    for step in steps:
        take_step(world, step)
        check_limits(world)
    heal(world)
    check_limits(world)
    for message in world.accepted.values():
        if message.id not in world.spool.final and message.id not in world.spool.rows:
            continue  # a notification whose record was lost in a restart: it never existed
        assert message.id in world.spool.final
    for started_at_s, id, _ in world.receivers.log:
        assert started_at_s <= world.ended.get(id, started_at_s), "tried after its end"
    assert world.spool.held == {}
    assert world.spool.rows == {}
    counts = world.scheduler.counts
    assert (counts.in_flight, counts.marks, counts.ram_jobs, counts.ram_octets) == (0, 0, 0, 0)
    assert world.halted == []


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_sums_add_up_without_a_restart(steps: list[tuple[object, ...]]) -> None:
    world = new_world()
    for step in steps:
        if step[0] != "restart":
            take_step(world, step)
    heal(world)
    told = Counter(event.kind for event in world.seen(RecipientTried))
    states = Counter(
        world.spool.final[message.id].states[index].status
        for message in world.accepted.values()
        for index in range(len(message.envelope.forward_paths))
    )
    assert told["sent"] == states[RecipientStatus.DELIVERED]
    failed = states[RecipientStatus.FAILED]
    is_reopened = any(step[0] == "operate" and step[3] for step in steps)
    assert told["bounced"] >= failed if is_reopened else told["bounced"] == failed
    sent = [one for one in world.seen(RecipientTried) if one.kind == "sent"]
    assert len({(one.queue_id, one.forward_path) for one in sent}) == len(sent)
    assert sum(states.values()) == sum(
        len(message.envelope.forward_paths) for message in world.accepted.values()
    )
    assert world.spool.records == world.spool.marks_done


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from((fail_site(REFUSED), fail_site(LOST), answer(DEFERRED))),
    st.sampled_from((0.01, 30.0)),
    st.integers(1, 400),
    st.integers(1, 40),
)
def test_a_bad_site_never_starves_a_good_one(
    behaviour: Callable[[Job, Site], AttemptResult], latency_s: float, bad: int, good: int
) -> None:
    world = World(OPTIONS)
    world.receivers.behaviours["a.example"] = behaviour
    world.receivers.latency_s["a.example"] = latency_s
    for number in range(max(bad, good)):
        if number < bad:
            world.send(b"r@a.example")
        if number < good:
            world.send(b"r@b.example")
    world.run(2.0)
    assert sum(label == "b.example" for _, _, label in world.receivers.log) == good
    delivered = [
        message
        for message in world.accepted.values()
        if message.envelope.forward_paths == (b"r@b.example",)
    ]
    assert all(message.id in world.spool.final for message in delivered)
