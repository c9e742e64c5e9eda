"""Sessions of a courier: reuse, idle expiry, dead ones replaced, targets in order, shutdown."""

import asyncio
import socket

import pytest

from fastmta.event import Notice, Severity
from fastmta.message import AttemptResult, Job, Scope
from fastmta.route import Site, Target
from tests.support.delivering import Sending, fast_options, make_job, make_site, run_sending
from tests.support.receiver import PLAIN_EHLO_REPLY, Act, Receiver

LATER = Act(b"450 4.2.1 Later\r\n")
BUSY = Act(b"554 5.3.2 Busy\r\n", then="close")


def _kinds(result: AttemptResult) -> list[str]:
    return [outcome.kind.value for outcome in result.outcomes]


def _closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_session_is_reused_and_says_quit_when_idle_for_long() -> None:
    with Receiver() as receiver:

        async def scenario(sending: Sending) -> list[AttemptResult]:
            site = make_site(receiver.port)
            results = [await sending.send(make_job(), site) for _ in range(3)]
            assert sending.courier.idle_count == sending.courier.connection_count == 1
            while sending.courier.connection_count:
                await asyncio.sleep(0.01)
            assert sending.courier.idle_count == 0
            return results

        results = run_sending(scenario, fast_options(idle_s=0.05))
        receiver.wait_for(lambda one: not one.sessions[0].is_open)
        assert len(receiver.sessions) == 1
        assert receiver.sessions[0].commands[-1] == b"QUIT"
    assert [result.connection_use for result in results] == [1, 2, 3]
    assert results[0].connect_s > 0
    assert results[1].connect_s == results[2].connect_s == 0


def test_session_used_last_is_taken_first() -> None:
    with Receiver() as receiver:

        async def scenario(sending: Sending) -> None:
            site = make_site(receiver.port)
            await asyncio.gather(*[sending.send(make_job(), site) for _ in range(3)])
            assert sending.courier.idle_count == 3
            for _ in range(4):
                await sending.send(make_job(), site)

        run_sending(scenario)
        counts = sorted(session.commands.count(b"DATA") for session in receiver.sessions)
    assert counts == [1, 1, 5]


def test_sessions_of_other_sites_are_not_taken() -> None:
    with Receiver() as receiver:

        async def scenario(sending: Sending) -> None:
            for key in (b"site-number-one-", b"site-number-two-"):
                await sending.send(make_job(), make_site(receiver.port, key=key))

        run_sending(scenario)
        assert len(receiver.sessions) == 2


@pytest.mark.parametrize(
    ("limits", "sessions"),
    [
        ({"messages_per_session_max": 2}, 2),
        ({"session_age_s_max": 0.0}, 3),
        ({"idle_sessions_max": 0}, 3),
        ({"idle_s": 0.0}, 3),
    ],
)
def test_session_that_served_enough_says_quit(limits: dict[str, object], sessions: int) -> None:
    with Receiver() as receiver:

        async def scenario(sending: Sending) -> None:
            for _ in range(3):
                await sending.send(make_job(), make_site(receiver.port))

        run_sending(scenario, fast_options(**limits))
        assert len(receiver.sessions) == sessions
        assert all(session.commands[-1] == b"QUIT" for session in receiver.sessions)


@pytest.mark.parametrize(
    "death",
    [Act(then="close"), Act(then="reset"), Act(b"421 4.4.2 Too long\r\n", then="close")],
    ids=["close", "reset", "421"],
)
@pytest.mark.parametrize("is_pipelining", [True, False], ids=["pipelining", "plain"])
def test_dead_reused_session_is_replaced_silently(death: Act, is_pipelining: bool) -> None:
    dying = {"MAIL/2": death}
    if not is_pipelining:
        dying["EHLO"] = Act(PLAIN_EHLO_REPLY)
    with Receiver([dying, {}]) as receiver:

        async def scenario(sending: Sending) -> list[AttemptResult]:
            site = make_site(receiver.port)
            results = [await sending.send(make_job(), site) for _ in range(2)]
            assert sending.events == []
            return results

        results = run_sending(scenario)
        assert len(receiver.sessions) == 2
        assert len(receiver.transactions) == 2
    for result in results:
        assert _kinds(result) == ["sent", "sent"]
        assert result.trouble is None
        assert result.connection_use == 1


def test_only_one_replacement_per_attempt_and_it_is_no_longer_silent() -> None:
    with Receiver([{"MAIL/2": Act(then="close")}, {"MAIL": Act(then="close")}, {}]) as receiver:

        async def scenario(sending: Sending) -> list[AttemptResult]:
            site = make_site(receiver.port)
            return [await sending.send(make_job(), site) for _ in range(2)]

        _, result = run_sending(scenario)
        assert len(receiver.sessions) == 2
    assert _kinds(result) == ["deferred", "deferred"]
    assert result.trouble is not None


def test_dead_session_does_not_count_among_the_two_of_an_attempt() -> None:
    dying, deferring = {"MAIL/2": Act(then="close")}, {"MAIL": LATER}
    with Receiver([dying, deferring]) as first, Receiver() as second:

        async def scenario(sending: Sending) -> list[AttemptResult]:
            site = make_site(first.port, second.port)
            return [await sending.send(make_job(), site) for _ in range(2)]

        _, result = run_sending(scenario)
        assert len(second.transactions) == 1
    assert _kinds(result) == ["sent", "sent"]


def test_death_after_the_first_answer_is_not_silent() -> None:
    with Receiver({"RCPT/3": Act(then="close"), "EHLO": Act(PLAIN_EHLO_REPLY)}) as receiver:

        async def scenario(sending: Sending) -> list[AttemptResult]:
            site = make_site(receiver.port)
            return [await sending.send(make_job(), site) for _ in range(2)]

        _, result = run_sending(scenario)
        assert len(receiver.sessions) == 1
    assert _kinds(result) == ["deferred", "deferred"]


@pytest.mark.parametrize("farewell", [b"421 4.4.2 Idle too long\r\n", b""])
def test_session_closed_while_idle_leaves_the_pool(farewell: bytes) -> None:
    with Receiver({".": Act(b"250 2.0.0 Ok\r\n"), "CONNECT": Act()}) as receiver:

        async def scenario(sending: Sending) -> None:
            site = make_site(receiver.port)
            await sending.send(make_job(), site)
            assert sending.courier.idle_count == 1
            [one] = receiver._sockets  # the server's own idea
            if farewell:
                one.sendall(farewell)
            else:
                one.shutdown(socket.SHUT_WR)
            while sending.courier.idle_count:
                await asyncio.sleep(0.005)
            assert _kinds(await sending.send(make_job(), site)) == ["sent", "sent"]
            assert sending.events == []

        run_sending(scenario)
        assert len(receiver.sessions) == 2


def test_deferred_recipients_go_on_to_the_next_target() -> None:
    with Receiver({"RCPT/2": LATER}) as first, Receiver() as second:

        async def scenario(sending: Sending) -> AttemptResult:
            result = await sending.send(make_job(), make_site(first.port, second.port))
            [notice] = sending.events
            assert isinstance(notice, Notice)
            assert notice.severity is Severity.INFO
            assert notice.text.endswith("said: 450 4.2.1 Later (in reply to RCPT TO command)")
            return result

        result = run_sending(scenario)
        assert first.transactions[0].forward_paths == [b"one@example.org"]
        assert second.transactions[0].forward_paths == [b"two@example.org"]
    assert _kinds(result) == ["sent", "sent"]
    assert result.outcomes[0].remote.endswith(f":{first.port}")
    assert result.outcomes[1].remote.endswith(f":{second.port}")


def test_refused_recipient_is_final_at_once() -> None:
    with Receiver({"RCPT": Act(b"550 5.1.1 No\r\n")}) as first, Receiver() as second:
        site = make_site(first.port, second.port)
        result = run_sending(lambda sending: sending.send(make_job(), site))
        assert second.sessions == []
    assert _kinds(result) == ["bounced", "bounced"]
    assert result.trouble is None


@pytest.mark.parametrize("count", [1, 2, 3])
def test_two_sessions_per_attempt_at_most(count: int) -> None:
    receivers = [Receiver({"MAIL": LATER}) for _ in range(count)]
    try:
        site = make_site(*[receiver.port for receiver in receivers])
        result = run_sending(lambda sending: sending.send(make_job(), site))
        assert sum(len(receiver.sessions) for receiver in receivers) == min(count, 2)
    finally:
        for receiver in receivers:
            receiver.close()
    assert _kinds(result) == ["deferred", "deferred"]
    assert result.trouble is None


def test_five_addresses_per_attempt_at_most() -> None:
    with Receiver([BUSY_SCRIPT] * 9) as receiver:
        site = make_site(*[receiver.port] * 7)
        result = run_sending(lambda sending: sending.send(make_job(), site))
        assert len(receiver.sessions) == 5
    assert _kinds(result) == ["deferred", "deferred"]
    assert result.trouble is not None
    assert result.trouble.scope is Scope.HOST


BUSY_SCRIPT = {"CONNECT": BUSY}


def test_time_without_a_transaction_is_time_of_connecting_and_counts_once() -> None:
    waited_s = 0.2
    script = {"CONNECT": Act(b"554 5.3.2 Busy\r\n", delay_s=waited_s, then="close")}
    with Receiver(script) as receiver:
        site = make_site(receiver.port)
        result = run_sending(lambda sending: sending.send(make_job(), site))
    assert result.connect_s >= waited_s
    assert result.transmit_s < waited_s / 2


def test_trouble_at_one_target_is_none_when_another_one_serves() -> None:
    with Receiver(BUSY_SCRIPT) as busy, Receiver() as good:
        site = make_site(_closed_port(), busy.port, good.port)

        async def scenario(sending: Sending) -> AttemptResult:
            result = await sending.send(make_job(), site)
            texts = [event.text for event in sending.events if isinstance(event, Notice)]
            assert "Connection refused" in texts[0]
            assert "refused to talk to me: 554 5.3.2 Busy" in texts[1]
            return result

        result = run_sending(scenario)
    assert _kinds(result) == ["sent", "sent"]
    assert result.trouble is None


@pytest.mark.parametrize("is_uvloop", [True, False], ids=["uvloop", "asyncio"])
def test_refused_connection(is_uvloop: bool) -> None:
    port = _closed_port()
    result = run_sending(
        lambda sending: sending.send(make_job(), make_site(port)), is_uvloop=is_uvloop
    )
    assert _kinds(result) == ["deferred", "deferred"]
    text = f"connect to 127.0.0.1[127.0.0.1]:{port}: Connection refused"
    assert {outcome.text for outcome in result.outcomes} == {text}
    assert {outcome.status for outcome in result.outcomes} == {"4.4.1"}
    assert result.trouble is not None
    assert result.outcomes[0].remote == "none"


def test_unroutable_source_address_is_a_connect_failure() -> None:
    with Receiver() as receiver:
        result = run_sending(
            lambda sending: sending.send(make_job(), make_site(receiver.port)),
            fast_options(source_addresses=("192.0.2.55",)),
        )
        assert receiver.sessions == []
    assert result.outcomes[0].text.endswith("Cannot assign requested address")


def test_source_address_is_used() -> None:
    with Receiver() as receiver:
        result = run_sending(
            lambda sending: sending.send(make_job(), make_site(receiver.port)),
            fast_options(source_addresses=("127.0.0.9",)),
        )
        assert receiver.sessions[0].peer == "127.0.0.9"
    assert _kinds(result) == ["sent", "sent"]


@pytest.mark.parametrize("content", [b"lone\nlf\r\n", b"lone\rcr\r\n", b"x\n.\r\n"])
def test_content_with_a_lone_line_end_never_leaves(content: bytes) -> None:
    with Receiver() as receiver:

        async def scenario(sending: Sending) -> AttemptResult:
            result = await sending.send(make_job(content=content), make_site(receiver.port))
            [notice] = sending.events
            assert isinstance(notice, Notice)
            assert notice.severity is Severity.ERROR
            return result

        result = run_sending(scenario)
        assert receiver.sessions == []
    assert _kinds(result) == ["deferred", "deferred"]
    assert result.outcomes[0].scope is Scope.TRANSACTION
    assert result.trouble is None


@pytest.mark.parametrize("is_reused", [False, True])
@pytest.mark.parametrize("fault", ["content", "path", "index"])
def test_failure_of_our_own_defers_and_is_told(fault: str, is_reused: bool) -> None:
    with Receiver() as receiver:

        async def scenario(sending: Sending) -> AttemptResult:
            site = make_site(receiver.port)
            if is_reused:
                await sending.send(make_job(), site)
            job = make_job([b"a\r\nb@c.d"] if fault == "path" else [b"a@b.example"])
            if fault == "content":
                job.message.content = None
            elif fault == "index":
                job.indices = (7,)
            result = await sending.send(job, site)
            [notice] = sending.events
            assert isinstance(notice, Notice)
            assert notice.severity is Severity.ERROR
            assert sending.calls == 1 + is_reused
            assert _kinds(await sending.send(make_job(), site)) == ["sent", "sent"]
            return result

        result = run_sending(scenario)
    assert set(_kinds(result)) == {"deferred"}
    assert result.outcomes[0].status == "4.3.0"
    assert result.trouble is None


def test_done_that_raises_is_told_and_disturbs_nobody() -> None:
    with Receiver() as receiver:

        async def scenario(sending: Sending) -> None:
            called = asyncio.Event()
            told: list[object] = []
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: told.append(context["exception"]))

            def done(job: Job, result: AttemptResult) -> None:
                called.set()
                raise RuntimeError("broken")

            site = make_site(receiver.port)
            sending.courier.start(make_job(), site, done)
            await asyncio.wait_for(called.wait(), 5)
            assert _kinds(await sending.send(make_job(), site)) == ["sent", "sent"]
            [error] = told
            assert isinstance(error, RuntimeError)

        run_sending(scenario)
        assert len(receiver.sessions) == 1


def test_closing_waits_for_the_running_and_breaks_off_the_rest() -> None:
    slow, stuck = {".": Act(delay_s=0.1)}, {".": Act(then="hang")}
    with Receiver([slow, stuck]) as receiver:

        async def scenario(sending: Sending) -> list[AttemptResult]:
            site = make_site(receiver.port)
            tasks = [asyncio.ensure_future(sending.send(make_job(), site)) for _ in range(2)]
            await asyncio.to_thread(receiver.wait_for_transactions, 2)
            await sending.courier.close(0.4)
            late = await sending.send(make_job(), site)
            return [*await asyncio.gather(*tasks), late]

        results = run_sending(scenario)
    kinds = sorted(_kinds(result)[0] for result in results[:2])
    assert kinds == ["deferred", "sent"]
    for result in results:
        if _kinds(result)[0] == "sent":
            assert result.trouble is None
        else:  # nobody's attempt is burnt by it
            assert {outcome.status for outcome in result.outcomes} == {"4.3.2"}
            assert result.trouble is not None
            assert result.trouble.scope is Scope.EGRESS
    assert _kinds(results[2]) == ["deferred", "deferred"]


def test_closing_while_connecting_defers() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]  # the queue is full: SYNs go unanswered
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        target = Target("full.example", address[0], address[1])

        async def scenario(sending: Sending) -> AttemptResult:
            site = Site(b"full", "full", (target,), None)
            task = asyncio.ensure_future(sending.send(make_job(), site))
            await asyncio.sleep(0.02)
            await sending.courier.close(0.02)
            return await task

        result = run_sending(scenario)
        for filler in fillers:
            filler.close()
    assert {outcome.status for outcome in result.outcomes} == {"4.3.2"}


def test_connecting_takes_its_time_limit() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        limits = type(fast_options().time_limits)(connect_s=0.1)
        result = run_sending(
            lambda sending: sending.send(make_job(), make_site(address[1])),
            fast_options(time_limits=limits),
        )
        for filler in fillers:
            filler.close()
    assert result.outcomes[0].text.endswith(": Connection timed out")
    assert result.trouble is not None


def test_many_at_once_each_get_their_own_result() -> None:
    with Receiver({"RCPT/7": Act(b"550 5.1.1 No\r\n")}) as receiver:

        async def scenario(sending: Sending) -> list[AttemptResult]:
            site = make_site(receiver.port)
            jobs = [make_job(content=b"Subject: %d\r\n\r\n" % n) for n in range(100)]
            results: list[AttemptResult] = []
            for start in range(0, 100, 10):
                batch = [sending.send(job, site) for job in jobs[start : start + 10]]
                results += await asyncio.gather(*batch)
            return results

        results = run_sending(scenario)
        outcomes = [outcome for result in results for outcome in result.outcomes]
        sent = sum(outcome.kind.value == "sent" for outcome in outcomes)
        assert sent == sum(len(one.forward_paths) for one in receiver.transactions)
        assert {one.content for one in receiver.transactions} == {
            b"Subject: %d\r\n\r\n" % n for n in range(100)
        }
    assert len(outcomes) == 200
