"""The transports without a peer, and who gets which attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from fastmta.delivery import Courier
from fastmta.delivery.attempt import Done
from fastmta.delivery.dispatch import Dispatch
from fastmta.delivery.filing import FileAgent
from fastmta.event import Event, Notice, Severity
from fastmta.message import AttemptResult, Job, Outcome, OutcomeKind, Scope
from fastmta.route import Site
from fastmta.route.way import Way
from tests.support.delivering import Sending, make_job


class FakeCourier:
    """Says what it was given."""

    connection_count = 3
    idle_count = 2
    running_count = 0

    def __init__(self) -> None:
        self.sites: list[Site] = []
        self.closed_s: list[float] = []

    def start(self, job: Job, site: Site, done: Done) -> None:
        self.sites.append(site)
        outcome = trouble_free(job)
        asyncio.get_running_loop().call_soon(done, job, outcome)

    async def close(self, deadline_s: float) -> None:
        self.closed_s.append(deadline_s)


def trouble_free(job: Job) -> AttemptResult:
    return AttemptResult([Outcome(OutcomeKind.DELIVERED, "2.0.0", "ok")] * len(job.indices))


def site_of(transport: str, argument: str = "") -> Site:
    way = Way(transport=transport, argument=argument)
    return Site(b"k" * 16, transport, (), None, way)


def run(
    scenario: Callable[[Sending, FakeCourier], Awaitable[None]], events: list[Event] | None = None
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        emitted: list[Event] = [] if events is None else events
        courier = FakeCourier()
        files = FileAgent(emitted.append, loop)
        dispatch = Dispatch(cast(Courier, courier), files, emitted.append, loop)
        assert dispatch.connection_count == 3
        assert dispatch.idle_count == 2
        await scenario(Sending(cast(Courier, dispatch), emitted), courier)
        assert dispatch.running_count == 0
        await dispatch.close(0.5)
        assert courier.closed_s == [0.5]

    asyncio.run(main())


@pytest.mark.parametrize("transport", ["smtp", "lmtp"])
def test_what_has_a_peer_goes_to_the_courier(transport: str) -> None:
    async def scenario(sending: Sending, courier: FakeCourier) -> None:
        site = site_of(transport)
        await sending.send(make_job(), site)
        assert courier.sites == [site]

    run(scenario)


@pytest.mark.parametrize(
    ("transport", "argument", "kind", "status", "text"),
    [
        ("discard", "", OutcomeKind.DELIVERED, "2.0.0", "discarded"),
        ("discard", "test mail", OutcomeKind.DELIVERED, "2.0.0", "test mail"),
        ("error", "5.1.1 nobody here", OutcomeKind.FAILED, "5.1.1", "nobody here"),
        ("error", "4.3.2 not now", OutcomeKind.DEFERRED, "4.3.2", "not now"),
        (
            "error",
            "we do not write to them",
            OutcomeKind.FAILED,
            "5.0.0",
            "we do not write to them",
        ),
        ("error", "2.0.0 fine", OutcomeKind.FAILED, "5.0.0", "2.0.0 fine"),
        (
            "error",
            "4.4.4",
            OutcomeKind.DEFERRED,
            "4.4.4",
            "mail delivery to this destination is suspended",
        ),
        ("error", "", OutcomeKind.FAILED, "5.0.0", "mail delivery to this destination is disabled"),
        ("hold", "", OutcomeKind.HELD, "4.3.2", "held by the configuration"),
        ("hold", "until Monday", OutcomeKind.HELD, "4.3.2", "until Monday"),
    ],
)
def test_a_transport_without_a_peer_answers_for_every_recipient(
    transport: str, argument: str, kind: OutcomeKind, status: str, text: str
) -> None:
    async def scenario(sending: Sending, courier: FakeCourier) -> None:
        result = await sending.send(make_job(), site_of(transport, argument))
        assert len(result.outcomes) == 2
        for outcome in result.outcomes:
            assert (outcome.kind, outcome.status, outcome.text) == (kind, status, text)
            assert outcome.remote == "none"
            assert outcome.scope <= Scope.TRANSACTION
            assert outcome.diagnostic == ""
            assert bool(outcome.category) is (kind is not OutcomeKind.DELIVERED)
        assert result.trouble is None
        assert courier.sites == []

    run(scenario)


def test_files_go_to_the_file_agent(tmp_path: Path) -> None:
    async def scenario(sending: Sending, courier: FakeCourier) -> None:
        result = await sending.send(make_job(), site_of("file", str(tmp_path)))
        assert [one.kind for one in result.outcomes] == [OutcomeKind.DELIVERED] * 2
        assert len(list(tmp_path.iterdir())) == 2

    run(scenario)


def test_an_unknown_transport_waits_and_is_told_loudly() -> None:
    events: list[Event] = []

    async def scenario(sending: Sending, courier: FakeCourier) -> None:
        result = await sending.send(make_job(), site_of("pigeon"))
        assert {one.kind for one in result.outcomes} == {OutcomeKind.DEFERRED}

    run(scenario, events)
    (event,) = events
    assert isinstance(event, Notice)
    assert event.severity is Severity.ERROR
    assert "pigeon" in event.text
