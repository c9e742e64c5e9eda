"""Large contents leave piece by piece, no faster than they are taken, and never half as whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from fastmta.delivery import DeliveryOptions
from fastmta.event import Notice, Severity
from fastmta.message import AttemptResult, Scope
from tests.support.delivering import (
    FakeContents,
    Sending,
    fast_options,
    make_job,
    make_site,
    run_sending,
)
from tests.support.receiver import PLAIN_EHLO_REPLY, Act, Receiver, Script

LINES = b".dot\r\n" + b"x" * 998 + b"\r\n\r\n..\r\n"
WHOLE = b"Subject: large\r\n\r\n" + LINES * 4000
TOLD = "content cannot be read from the queue"
BUFFERED_OCTETS_MAX = 256 * 1024


def kinds(result: AttemptResult) -> list[str]:
    return [outcome.kind.value for outcome in result.outcomes]


def deliver(
    contents: FakeContents,
    script: Script | Sequence[Script] = (),
    options: DeliveryOptions | None = None,
    *,
    is_uvloop: bool = True,
) -> tuple[AttemptResult, Receiver, list[Notice]]:
    """One attempt at one receiver, which accepts the whole content or none."""
    notices: list[Notice] = []

    async def scenario(sending: Sending) -> AttemptResult:
        result = await sending.send(contents.job(), make_site(receiver.port))
        notices.extend(event for event in sending.events if isinstance(event, Notice))
        return result

    with Receiver(script) as receiver:
        result = run_sending(scenario, options, is_uvloop=is_uvloop, contents=contents)
    accepted = [one.content for one in receiver.transactions if one.is_accepted]
    assert accepted == ([contents.octets] if kinds(result) == ["sent", "sent"] else [])
    return result, receiver, notices


@pytest.mark.parametrize("is_uvloop", [True, False], ids=["uvloop", "asyncio"])
@pytest.mark.parametrize("piece_octets", [1, 999, 128 * 1024])
@pytest.mark.parametrize("ehlo", [None, PLAIN_EHLO_REPLY], ids=["pipelining", "plain"])
def test_it_arrives_octet_for_octet(is_uvloop: bool, piece_octets: int, ehlo: bytes | None) -> None:
    octets = WHOLE[:3000] + b"\r\n" if piece_octets == 1 else WHOLE
    contents = FakeContents(octets, piece_octets)
    script = {"EHLO": Act(ehlo)}
    result, receiver, notices = deliver(contents, script, is_uvloop=is_uvloop)
    assert kinds(result) == ["sent", "sent"]
    assert (result.trouble, notices) == (None, [])
    if ehlo is None:
        assert receiver.transactions[0].mail_parameters == b"SIZE=%d" % len(octets)
    assert receiver.sessions[0].commands[-1] == b"QUIT"


def test_the_session_goes_on_with_other_mail() -> None:
    contents = FakeContents(WHOLE)
    with Receiver() as receiver:

        async def scenario(sending: Sending) -> None:
            site = make_site(receiver.port)
            for job in (make_job(), contents.job(), make_job(), contents.job()):
                assert kinds(await sending.send(job, site)) == ["sent", "sent"]

        run_sending(scenario, contents=contents)
        assert len(receiver.sessions) == 1
        assert [len(one.content) > 1000 for one in receiver.transactions] == [False, True] * 2


def test_one_message_to_several_sites_at_once() -> None:
    contents = FakeContents(WHOLE)
    with Receiver() as one, Receiver() as two, Receiver() as three:

        async def scenario(sending: Sending) -> list[AttemptResult]:
            jobs = [
                (contents.job(b"x@example.org"), make_site(receiver.port, key=b"site-%011d" % at))
                for at, receiver in enumerate((one, two, three))
            ]
            return await asyncio.gather(*[sending.send(job, site) for job, site in jobs])

        results = run_sending(scenario, contents=contents)
        assert [kinds(result) for result in results] == [["sent"]] * 3
        for receiver in (one, two, three):
            assert receiver.transactions[0].content == WHOLE


@pytest.mark.parametrize("ending", ["close", "hang"])
def test_an_early_refusal_counts_and_the_rest_is_not_sent(ending: str) -> None:
    contents = FakeContents(WHOLE * 5)
    refusal = Act(b"552 5.3.4 Too much\r\n", then=ending, after_octets=100_000)
    result, receiver, _ = deliver(contents, {"CONTENT": refusal})
    assert kinds(result) == ["bounced", "bounced"]
    assert result.outcomes[0].text.endswith("(in reply to end of DATA command)")
    assert result.trouble is None
    assert contents.octets_read < len(contents.octets)
    assert not receiver.sessions[0].octets.endswith(b"\r\n.\r\n")


def test_an_early_acceptance_is_none() -> None:
    early = Act(b"250 2.0.0 Ok\r\n", then="hang", after_octets=100_000)
    result, _, _ = deliver(FakeContents(WHOLE * 5), {"CONTENT": early})
    assert kinds(result) == ["deferred", "deferred"]
    assert result.trouble is not None


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_connection_lost_in_the_middle(ending: str) -> None:
    cut = Act(then=ending, after_octets=100_000)
    result, _, _ = deliver(FakeContents(WHOLE * 5), {"CONTENT": cut})
    assert kinds(result) == ["deferred", "deferred"]
    assert result.outcomes[0].text.endswith("while sending message body")
    assert result.outcomes[0].scope is Scope.HOST
    assert result.trouble is not None


def test_a_connection_lost_at_the_end_is_in_doubt() -> None:
    result, _, _ = deliver(FakeContents(WHOLE), {".": Act(then="close")})
    assert result.outcomes[0].text.endswith("message may be sent more than once")
    assert result.outcomes[0].scope is Scope.TRANSACTION


def test_what_is_in_doubt_is_not_sent_to_the_next_host() -> None:
    with Receiver({".": Act(then="close")}) as first, Receiver() as second:

        async def scenario(sending: Sending) -> AttemptResult:
            return await sending.send(make_job(), make_site(first.port, second.port))

        result = run_sending(scenario)
        assert second.transactions == []
    assert kinds(result) == ["deferred", "deferred"]
    assert {outcome.category for outcome in result.outcomes} == {"soft.in_doubt"}


def test_a_peer_that_does_not_read_stops_the_reading() -> None:
    """Time limit per block (RFC 5321 4.5.3.2.5), and never more than that much in memory."""
    contents = FakeContents(WHOLE * 5)
    limits = fast_options().time_limits
    options = fast_options(time_limits=type(limits)(block_s=0.3))
    largest = 0

    async def scenario(sending: Sending) -> AttemptResult:
        nonlocal largest
        attempt = asyncio.ensure_future(sending.send(contents.job(), make_site(receiver.port)))
        while not attempt.done():
            for connection in sending.courier._pool.open_connections():
                if connection._transport is not None:
                    largest = max(largest, connection._transport.get_write_buffer_size())
            await asyncio.sleep(0.001)
        return attempt.result()

    with Receiver({"CONTENT": Act(b"", delay_s=1.0)}) as receiver:
        result = run_sending(scenario, options, contents=contents)
    assert kinds(result) == ["deferred", "deferred"]
    assert result.outcomes[0].text.endswith("timed out while sending message body")
    assert contents.octets_read < len(contents.octets) // 2
    assert 0 < largest <= BUFFERED_OCTETS_MAX


def test_a_damaged_content_is_not_taken_to_anybody() -> None:
    contents = FakeContents(WHOLE)
    contents.is_damaged = True
    result, receiver, notices = deliver(contents)
    assert receiver.sessions == []
    assert {(one.kind.value, one.status, one.text) for one in result.outcomes} == {
        ("deferred", "4.3.0", TOLD)
    }
    assert result.outcomes[0].scope is Scope.TRANSACTION
    assert result.trouble is None
    assert [(one.severity, one.queue_id) for one in notices] == [
        (Severity.ERROR, contents.job().message.id)
    ]
    assert "/spool/big/1-x: it is damaged" in notices[0].text


@pytest.mark.parametrize("fails_at", [0, 300_000])
def test_a_content_that_breaks_on_the_way_is_never_ended(fails_at: int) -> None:
    contents = FakeContents(WHOLE)
    contents.fails_at = fails_at
    result, receiver, notices = deliver(contents)
    assert [one.text for one in result.outcomes] == [TOLD, TOLD]
    assert result.outcomes[0].scope is Scope.TRANSACTION
    assert result.trouble is None  # the host is not to blame
    assert "the disk does not give it" in notices[0].text
    assert receiver.transactions == []


@pytest.mark.parametrize("bad", [b"a\rb\r\n", b"a\nb\r\n", b"x" * 300_000])
def test_what_must_not_leave_does_not(bad: bytes) -> None:
    contents = FakeContents(WHOLE + bad + WHOLE)
    result, receiver, notices = deliver(contents)
    assert kinds(result) == ["deferred", "deferred"]
    assert notices[0].severity is Severity.ERROR
    assert bad not in receiver.sessions[0].octets


def test_a_shutdown_does_not_wait_for_a_check() -> None:
    contents = FakeContents(WHOLE)
    contents.is_silent = True

    async def scenario(sending: Sending) -> AttemptResult:
        attempt = asyncio.ensure_future(sending.send(contents.job(), make_site(1)))
        await asyncio.sleep(0.01)
        await sending.courier.close(0.05)
        return await attempt

    result = run_sending(scenario, contents=contents)
    assert {one.text for one in result.outcomes} == {"delivery interrupted by shutdown"}


def test_without_a_way_to_the_contents_it_waits() -> None:
    with Receiver() as receiver:
        result = run_sending(
            lambda sending: sending.send(FakeContents(WHOLE).job(), make_site(receiver.port))
        )
    assert kinds(result) == ["deferred", "deferred"]
