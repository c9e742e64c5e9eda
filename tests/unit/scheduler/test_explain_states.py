"""No state exists that `explain` cannot name: a scheduler is brought into each, and asked.

Each scene says which member of `Waiting` it is about. What the other enumerations of states have is
met on the way, and counted at the end: a new state without a scene fails here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import pytest

from fastmta.budget.meter import Holdup
from fastmta.budget.rate import Rate
from fastmta.budget.shape import Shape
from fastmta.message import Message, OutcomeKind, RecipientState, RecipientStatus
from fastmta.route import RouteProblem
from fastmta.scheduler import Explanation, Options, SiteOptions, Waiting
from fastmta.scheduler.health import PathState
from fastmta.scheduler.hop import HopState
from fastmta.scheduler.routing import LOOKUPS_MAX
from fastmta.scheduler.waiting import NEXT, gather, of_holdup
from tests.support.scheduler_world import DEFERRED, REFUSED, World, answer, fail_site

X = b"smtp:x.example"
HOUR_S = 3_600.0


@dataclass
class Scene:
    """A scheduler in some state, and what is asked about."""

    world: World
    message: Message
    index: int = 0

    def explain(self) -> Explanation:
        return self.world.scheduler.explain.recipient(self.stored, self.index)

    @property
    def stored(self) -> Message:
        """As the spool has it."""
        spool, id = self.world.spool, self.message.id
        found = spool.final.get(id) or spool.held.get(id) or spool.rows.get(id)
        assert found is not None
        return found


def busy(world: World, *labels: str) -> None:
    """Attempts there take long."""
    for label in labels:
        world.receivers.latency_s[label] = HOUR_S


def attempt() -> Scene:
    world = World()
    busy(world, "x.example")
    return Scene(world, world.send(b"a@x.example"))


def window() -> Scene:
    world = World(Options(site=SiteOptions(connections=2, window_start=2)))
    busy(world, "x.example")
    return Scene(world, [world.send(b"a@x.example") for _ in range(3)][-1])


def slot() -> Scene:
    world = World(Options(connections=1))
    busy(world, "y.example")
    world.send(b"a@y.example")
    return Scene(world, world.send(b"a@x.example"))


def rate() -> Scene:
    world = World(Options(shapes=(Shape(name="r", site=("*",), rate=Rate(1, 60.0)),)))
    world.send(b"a@x.example")
    return Scene(world, world.send(b"a@x.example"))


def rate_of_a_tenant() -> Scene:
    world = World(Options(shapes=(Shape(name="r", tenant=("*",), rate=Rate(1, 60.0)),)))
    world.send(b"a@x.example", client="10.0.0.1")
    return Scene(world, world.send(b"a@x.example", client="10.0.0.1"))


def place() -> Scene:
    shape = Shape(name="c", provider=("big",), connections=1)
    world = World(Options(shapes=(shape,)))
    world.provider_of = {"x.example": "big", "y.example": "big"}
    busy(world, "y.example")
    world.send(b"a@y.example")
    return Scene(world, world.send(b"a@x.example"))


def place_of_a_tenant() -> Scene:
    world = World(Options(shapes=(Shape(name="c", tenant=("*",), connections=1),)))
    busy(world, "x.example", "y.example")
    world.send(b"a@y.example", client="10.0.0.1")
    return Scene(world, world.send(b"a@x.example", client="10.0.0.1"))


def share() -> Scene:
    world = World(Options(site=SiteOptions(connections=1, window_start=1)))
    busy(world, "x.example")
    world.send(b"a@x.example", client="10.0.0.1")
    world.send(b"a@x.example", client="10.0.0.1")
    return Scene(world, world.send(b"a@x.example", client="10.0.0.2"))


def paused_site() -> Scene:
    world = World()
    world.scheduler.shape([Shape(name="pause", site=("x.example",), is_paused=True)])
    return Scene(world, world.send(b"a@x.example"))


def paused_domain() -> Scene:
    world = World()
    world.scheduler.shape([Shape(name="pause", domain=("x.example",), is_paused=True)])
    return Scene(world, world.send(b"a@x.example"))


def paused_tenant() -> Scene:
    world = World()
    world.scheduler.shape([Shape(name="pause", tenant=("10.0.0.1",), is_paused=True)])
    return Scene(world, world.send(b"a@x.example", client="10.0.0.1"))


def pause_of_all() -> Scene:
    world = World()
    world.scheduler.pause("the spool is not healthy")
    return Scene(world, world.send(b"a@x.example"))


def stop() -> Scene:
    world = World()
    message = world.store(b"a@x.example")
    world.scheduler.drain(lambda: None)
    return Scene(world, message)


def look_up() -> Scene:
    world = World()
    world.resolve_s = 10.0
    return Scene(world, world.send(b"a@x.example"))


def look_up_in_line() -> Scene:
    world = World()
    world.resolve_s = 100.0
    for number in range(LOOKUPS_MAX):
        world.store(b"a@d%03d.example" % number)
    message = world.store(b"a@x.example")
    world.restart()
    world.run(1)
    return Scene(world, message)


def failed_look_up() -> Scene:
    world = World()
    world.problems[X] = RouteProblem(OutcomeKind.DEFERRED, "4.4.3", "no answer")
    message = world.send(b"a@x.example")
    world.run(1)
    return Scene(world, message)


def site_pause() -> Scene:
    world = World()
    world.receivers.behaviours["x.example"] = fail_site(REFUSED)
    message = world.send(b"a@x.example")
    world.run(1)
    return Scene(world, message)


def probe() -> Scene:
    scene = site_pause()
    world = scene.world
    second = world.send(b"a@x.example")
    busy(world, "x.example")
    world.run(20)
    whys = {one.id: world.scheduler.explain.recipient(one, 0) for one in (scene.message, second)}
    (id,) = (id for id, why in whys.items() if why.waiting is not Waiting.ATTEMPT)
    return Scene(world, scene.message if id == scene.message.id else second)


def due() -> Scene:
    world = World()
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    message = world.send(b"a@x.example")
    world.run(1)
    return Scene(world, message)


def backlog() -> Scene:
    world = World()
    return Scene(world, world.store(b"a@x.example"))


def hold() -> Scene:
    world = World()
    message = world.store(b"a@x.example")
    message.states[0] = RecipientState(0, RecipientStatus.HELD, 1, 0, "placed on hold")
    return Scene(world, message)


def final() -> Scene:
    world = World()
    message = world.send(b"a@x.example")
    world.run(1)
    return Scene(world, message)


def expiry() -> Scene:
    world = World()
    world.receivers.behaviours["x.example"] = fail_site(REFUSED)
    message = world.send(b"a@x.example", age_s=5 * 86_400 - 100)
    world.run(60)
    world.spool.record_s = 1_000.0
    world.run(100)
    return Scene(world, message)


SCENES: dict[str, tuple[Callable[[], Scene], Waiting]] = {
    "attempt": (attempt, Waiting.ATTEMPT),
    "window": (window, Waiting.WINDOW),
    "slot": (slot, Waiting.SLOT),
    "rate": (rate, Waiting.RATE),
    "rate of a tenant": (rate_of_a_tenant, Waiting.RATE),
    "place": (place, Waiting.PLACE),
    "place of a tenant": (place_of_a_tenant, Waiting.PLACE),
    "share": (share, Waiting.SHARE),
    "paused site": (paused_site, Waiting.PAUSED),
    "paused domain": (paused_domain, Waiting.PAUSED),
    "paused tenant": (paused_tenant, Waiting.PAUSED),
    "pause of all": (pause_of_all, Waiting.PAUSE),
    "stop": (stop, Waiting.STOP),
    "look-up": (look_up, Waiting.LOOKUP),
    "look-up in line": (look_up_in_line, Waiting.LOOKUP),
    "failed look-up": (failed_look_up, Waiting.LOOKUP_PAUSE),
    "site pause": (site_pause, Waiting.SITE_PAUSE),
    "probe": (probe, Waiting.PROBE),
    "due": (due, Waiting.DUE),
    "backlog": (backlog, Waiting.BACKLOG),
    "hold": (hold, Waiting.HOLD),
    "final": (final, Waiting.FINAL),
    "expiry": (expiry, Waiting.EXPIRY),
}
# Not a state of mail: of a path, or of a limit that a broker leases.
ELSEWHERE = {Waiting.NOTHING, Waiting.LEASE}


def every(explanation: Explanation) -> Iterator[Explanation]:
    yield explanation
    for child in explanation.children:
        yield from every(child)


@pytest.mark.parametrize("name", list(SCENES))
def test_scene(name: str) -> None:
    make, waiting = SCENES[name]
    why = make().explain()
    assert waiting in {one.waiting for one in every(why)}, why
    if waiting is not Waiting.SHARE:  # that is what a full window adds
        assert why.waiting is waiting, why
    assert why.about == "recipient"
    for one in every(why):
        assert NEXT[one.waiting]


def test_every_way_to_wait_has_a_scene() -> None:
    assert {waiting for _, waiting in SCENES.values()} | ELSEWHERE == set(Waiting)
    assert set(NEXT) == set(Waiting)


def test_every_state_of_a_path_and_of_a_next_hop_is_met() -> None:
    paths: set[str] = set()
    hops: set[str] = set()
    for make, _ in SCENES.values():
        world = make().world
        for view in world.scheduler.explain.paths("", 100):
            paths.add(view.state)
            is_nothing = view.why.waiting is Waiting.NOTHING
            assert not (is_nothing and view.waiting)
            assert not (is_nothing and view.in_flight >= view.window)
        for one in world.scheduler.explain.domain("x.example"):
            hops.add(str(one.facts["lookup"]))
    assert paths == {state.value for state in PathState}
    assert hops | {HopState.UNRESOLVED.value} == {state.value for state in HopState}


def test_every_status_of_a_recipient_is_named() -> None:
    world = World()
    message = world.store(*(b"a%d@x.example" % status for status in RecipientStatus))
    due_at_ns = world.agenda.wall_ns() + 10**12
    for status in RecipientStatus:
        message.states[status] = RecipientState(int(status), status, 1, due_at_ns, "said")
    found = {
        status: world.scheduler.explain.recipient(message, status) for status in RecipientStatus
    }
    for status, why in found.items():
        assert why.facts["status"] == status.name.lower()
        assert (why.waiting is Waiting.FINAL) is status.is_final
        assert why.reply == "said"
    assert found[RecipientStatus.DEFERRED].until_s == world.agenda.now_s + 1_000
    assert found[RecipientStatus.HELD].waiting is Waiting.HOLD
    assert found[RecipientStatus.QUEUED].waiting is Waiting.BACKLOG


@pytest.mark.parametrize(
    ("kind", "waiting"),
    [
        ("rate", Waiting.RATE),
        ("connections", Waiting.PLACE),
        ("lease", Waiting.LEASE),
        ("pause", Waiting.PAUSED),
    ],
)
def test_every_kind_of_holdup_is_named(kind: str, waiting: Waiting) -> None:
    why = of_holdup(Holdup(kind, "a name", "a detail", float("inf"), 3))
    assert why == Explanation(waiting, "a name: a detail, 3 in line")
    assert of_holdup(Holdup(kind, "n", "d", 7.0, 0)).until_s == 7.0


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("limit site:mx.x tenant:a(site=mx.x, tenant=a)", "limit site:mx.x tenant:a"),
        ("limit site:* tenant:a(site=mx.x, tenant=a)", "limit site:* tenant:a(site=mx.x)"),
        ("big(provider=b)", "big(provider=b)"),
        ("limit site:(a|b).x", "limit site:(a|b).x"),
    ],
)
def test_a_counter_does_not_repeat_the_name_of_its_shape(name: str, shown: str) -> None:
    assert of_holdup(Holdup("rate", name, "1/min")).detail == f"{shown}: 1/min"


def test_a_path_that_nothing_holds_up_says_so() -> None:
    scene = final()
    (site,) = scene.world.scheduler.explain.site("x.example")
    assert (site.waiting, site.about, site.name) == (Waiting.NOTHING, "site", "x.example")
    assert scene.world.scheduler.explain.site("never.example") == []


def test_the_last_of_several_ends_counts_and_a_person_most() -> None:
    early, late = Explanation(Waiting.RATE, "r", 5.0), Explanation(Waiting.SITE_PAUSE, "s", 9.0)
    full = Explanation(Waiting.WINDOW, "w")
    paused = Explanation(Waiting.PAUSED, "p")
    both = gather("site", "x", [early, full, late])
    assert (both.waiting, both.until_s, both.children) == (Waiting.SITE_PAUSE, 9.0, (early, full))
    assert gather("site", "x", [early, late, paused]).waiting is Waiting.PAUSED
    ends = msgspec.structs.replace(paused, until_s=7.0)
    assert gather("site", "x", [ends, late]).until_s == 9.0
    assert gather("site", "x", [full, Explanation(Waiting.SHARE)]).waiting is Waiting.WINDOW
    assert gather("site", "x", []).waiting is Waiting.NOTHING


def test_a_pause_of_an_operator_has_its_name_its_maker_and_its_end() -> None:
    world = World()
    until_ns = world.agenda.wall_ns() + 60 * 10**9
    note = "set by root at 2026-11-25 20:00 UTC"
    shape = Shape(name="pause x", site=("x.example",), is_paused=True, until_ns=until_ns, note=note)
    world.scheduler.shape([shape])
    world.send(b"a@x.example")
    (site,) = world.scheduler.explain.site("x.example")
    assert (site.waiting, site.until_s) == (Waiting.PAUSED, world.agenda.now_s + 60)
    assert site.detail == f"pause x, {note}"


def test_tenants_domains_providers_and_pages() -> None:
    world = World(Options(connections=1))
    world.provider_of = {"x.example": "big"}
    busy(world, "x.example")
    for label in ("x", "y", "z"):
        for _ in range(2):
            world.send(b"a@%s.example" % label.encode(), client="10.0.0.1")
    explain = world.scheduler.explain
    lanes = explain.tenant("10.0.0.1")
    assert [one.facts["waiting"] for one in lanes] == [2, 2, 1]
    assert explain.tenant("10.0.0.9") == []
    (hop,) = explain.domain("y.example")
    assert (hop.name, hop.waiting) == ("smtp:y.example", Waiting.SLOT)
    assert [one.name for one in explain.provider("big")] == ["x.example"]
    first = explain.paths("", 2)
    assert [one.label for one in first] == ["x.example", "y.example"]
    assert [one.label for one in explain.paths(first[-1].order, 2)] == ["z.example"]
    known = explain.next_hops()
    shape = Shape(name="s", domain=(".example",))
    assert explain.concerned(shape, known) == (
        {"x.example", "y.example", "z.example"},
        {"smtp:x.example", "smtp:y.example", "smtp:z.example"},
    )
    of_tenant = Shape(name="s", tenant=("t",))
    assert explain.concerned(of_tenant, known) == explain.concerned(shape, known)
    assert explain.concerned(Shape(name="s", provider=("big",)), [*known, b"smtp:gone"]) == (
        {"x.example"},
        {"smtp:x.example"},
    )


def test_which_limit_binds_and_which_never_can() -> None:
    world = World(
        Options(
            site=SiteOptions(connections=10),
            shapes=(
                Shape(name="wide", provider=("*",), connections=4),
                Shape(name="narrow", provider=("*",), site=("*",), connections=5),
                Shape(name="slow", site=("*",), rate=Rate(1, 60.0)),
                Shape(name="fast", site=("*",), source=("*",), rate=Rate(100, 60.0, 3)),
            ),
        ),
    )
    world.provider_of = {"x.example": "big"}
    for _ in range(2):
        world.send(b"a@x.example")
    (site,) = world.scheduler.explain.site("x.example")
    said = {one.name: one.detail for one in site.children if one.about == "limit"}
    assert said == {
        "wide": "4 connections",
        "narrow": "5 connections; it can never bind: wide allows no more than 4 connections",
        "slow": "1/min; it binds now",
        "fast": "100/min, burst 3; it can never bind: slow allows no more than 1/min",
        "the default of a site": "10 connections",
        "all sites together": "500 connections",
    }
