"""How many connections and recipients: ends of sessions, closing on demand, learnt limits."""

import asyncio
import time

import msgspec
import pytest

from fastmta.message import AttemptResult, Scope
from fastmta.route import Site
from tests.support.delivering import Sending, fast_options, make_job, make_site, run_sending
from tests.support.receiver import PLAIN_EHLO_REPLY, Act, Receiver


def _kinds(result: AttemptResult) -> list[str]:
    return [outcome.kind.value for outcome in result.outcomes]


def test_next_session_opens_at_once_when_one_has_served_enough() -> None:
    with Receiver() as receiver:

        async def scenario(sending: Sending) -> float:
            site = make_site(receiver.port)
            begin_s = time.monotonic()
            for _ in range(12):
                result = await sending.send(make_job(), site)
                assert _kinds(result) == ["sent", "sent"]
            return time.monotonic() - begin_s

        duration_s = run_sending(scenario, fast_options(messages_per_session_max=2))
        assert len(receiver.sessions) == 6
    assert duration_s < 0.9, "nothing waits for the clock of the pool, which ticks each 0.5 s"


@pytest.mark.parametrize("limits", [{"messages_per_session_max": 1}, {"idle_s": 0.0}])
def test_never_more_connections_than_attempts(limits: dict[str, object]) -> None:
    slow = {"QUIT": Act(delay_s=0.03)}
    with Receiver(slow) as receiver:

        async def scenario(sending: Sending) -> None:
            site = make_site(receiver.port)

            async def send_some() -> None:
                for _ in range(4):
                    assert _kinds(await sending.send(make_job(), site)) == ["sent", "sent"]
                    assert sending.courier.connection_count <= 3

            await asyncio.gather(*[send_some() for _ in range(3)])

        run_sending(scenario, fast_options(**limits))
        assert len(receiver.sessions) == 12


def test_a_session_is_closed_before_the_next_host_is_asked() -> None:
    later = {"RCPT": Act(b"450 4.2.1 Later\r\n"), "QUIT": Act(delay_s=0.03)}
    with Receiver(later) as first, Receiver({"CONNECT": Act(delay_s=0.03)}) as second:

        async def scenario(sending: Sending) -> AttemptResult:
            site = make_site(first.port, second.port)
            task = asyncio.create_task(sending.send(make_job(), site))
            while not task.done():
                assert sending.courier.connection_count <= 1
                await asyncio.sleep(0.002)
            assert sending.courier.idle_count == 1
            return task.result()

        result = run_sending(scenario)
        assert first.sessions[0].commands[-1] == b"QUIT"
        assert len(second.transactions) == 1
    assert _kinds(result) == ["sent", "sent"]


def test_closing_ends_an_attempt_that_waits_for_a_session_to_leave() -> None:
    with Receiver([{"QUIT": Act(then="hang")}, {}]) as receiver:

        async def scenario(sending: Sending) -> AttemptResult:
            site = make_site(receiver.port)
            await sending.send(make_job(), site)
            waiting = asyncio.create_task(sending.send(make_job(), site))
            await asyncio.sleep(0.05)
            await sending.courier.close(0.1)
            return await waiting

        result = run_sending(scenario, fast_options(messages_per_session_max=1))
        assert len(receiver.sessions) == 1
    assert _kinds(result) == ["deferred", "deferred"]
    assert result.trouble is not None
    assert result.trouble.scope is Scope.EGRESS


def test_server_that_does_not_answer_quit_is_waited_for_no_longer_than_allowed() -> None:
    with Receiver([{"QUIT": Act(then="hang")}, {}]) as receiver:

        async def scenario(sending: Sending) -> None:
            site = make_site(receiver.port)
            for _ in range(2):
                assert _kinds(await sending.send(make_job(), site)) == ["sent", "sent"]
            assert sending.events == []

        limits = msgspec.structs.replace(fast_options().time_limits, quit_s=0.1)
        run_sending(scenario, fast_options(messages_per_session_max=1, time_limits=limits))
        assert len(receiver.sessions) == 2


def test_next_hops_that_share_no_session_share_the_connections_of_their_site(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with TLS that proves the name of one next hop only."""
    monkeypatch.setattr(
        "fastmta.delivery.attempt.session_key",
        lambda site, job: site.key + job.message.envelope.forward_paths[0],
    )
    with Receiver({"QUIT": Act(delay_s=0.02)}) as receiver:

        async def scenario(sending: Sending) -> None:
            site = make_site(receiver.port)
            for path in (b"a@one.example", b"a@two.example", b"a@two.example", b"a@one.example"):
                task = asyncio.create_task(sending.send(make_job((path,)), site))
                while not task.done():
                    assert sending.courier.connection_count <= 1
                    await asyncio.sleep(0.002)
                assert _kinds(task.result()) == ["sent"]

        run_sending(scenario)
        assert len(receiver.sessions) == 3, "what may be shared is"


async def _close_idle(sending: Sending, site: Site) -> bool:
    """Whether `done` was called on a later turn."""
    waiter = asyncio.get_running_loop().create_future()
    sending.courier.close_idle(site, lambda: waiter.set_result(None))
    is_later = not waiter.done()
    await asyncio.wait_for(waiter, 5)
    return is_later


def test_idle_sessions_of_one_site_are_closed_on_demand() -> None:
    with Receiver({"QUIT": Act(delay_s=0.05)}) as receiver, Receiver() as other:

        async def scenario(sending: Sending) -> None:
            site = make_site(receiver.port)
            elsewhere = make_site(other.port, key=b"another site here")
            await asyncio.gather(*[sending.send(make_job(), site) for _ in range(3)])
            await sending.send(make_job(), elsewhere)
            assert sending.courier.idle_count == 4
            assert await _close_idle(sending, site)
            assert sending.courier.connection_count == sending.courier.idle_count == 1
            assert all(session.commands[-1] == b"QUIT" for session in receiver.sessions)
            assert await _close_idle(sending, site), "nothing to close is said later, too"
            assert _kinds(await sending.send(make_job(), site)) == ["sent", "sent"]

        run_sending(scenario)
        assert len(receiver.sessions) == 4
        assert len(other.sessions) == 1


def test_a_busy_session_is_not_closed_on_demand() -> None:
    with Receiver({"./1": Act(delay_s=0.1)}) as receiver:

        async def scenario(sending: Sending) -> None:
            site = make_site(receiver.port)
            busy = asyncio.create_task(sending.send(make_job(), site))
            await asyncio.sleep(0.05)
            assert await _close_idle(sending, site)
            assert sending.courier.connection_count == 1
            assert _kinds(await busy) == ["sent", "sent"]
            assert sending.courier.idle_count == 1

        run_sending(scenario)


def test_closing_on_demand_waits_for_those_that_said_quit_before() -> None:
    with Receiver({"QUIT": Act(delay_s=0.1)}) as receiver:

        async def scenario(sending: Sending) -> None:
            site = make_site(receiver.port)
            await sending.send(make_job(), site)
            assert (sending.courier.idle_count, sending.courier.connection_count) == (0, 1)
            assert await _close_idle(sending, site)
            assert sending.courier.connection_count == 0

        run_sending(scenario, fast_options(messages_per_session_max=1))


@pytest.mark.parametrize("is_pipelining", [True, False], ids=["pipelining", "plain"])
def test_too_many_recipients_go_in_further_transactions_and_that_is_learnt(
    is_pipelining: bool,
) -> None:
    enough = Act(b"452 4.5.3 Too many recipients\r\n")
    script = {"RCPT/3": enough, "RCPT/4": enough, "RCPT/5": enough}
    if not is_pipelining:
        script["EHLO"] = Act(PLAIN_EHLO_REPLY)
    paths = [b"r%d@example.org" % number for number in range(5)]
    with Receiver(script) as receiver:

        async def scenario(sending: Sending) -> list[AttemptResult]:
            site = make_site(receiver.port)
            results = [await sending.send(make_job(paths), site) for _ in range(2)]
            assert sending.events == []
            return results

        results = run_sending(scenario)
        said = [one.forward_paths for one in receiver.transactions]
        assert len(receiver.sessions) == 1
        commands = receiver.sessions[0].commands
    assert said == [paths[:2], paths[2:4], paths[4:]] * 2
    assert sum(command.startswith(b"RCPT") for command in commands) == 5 + 3 + 5
    for result in results:
        assert _kinds(result) == ["sent"] * 5
        assert result.trouble is None


def test_who_takes_no_recipient_at_all_has_no_limit_to_learn() -> None:
    with Receiver({"RCPT": Act(b"452 4.5.3 Too many recipients\r\n")}) as receiver:

        async def scenario(sending: Sending) -> AttemptResult:
            return await sending.send(make_job(), make_site(receiver.port))

        result = run_sending(scenario)
        assert receiver.transactions == []
    assert _kinds(result) == ["deferred", "deferred"]
