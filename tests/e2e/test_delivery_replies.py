"""A courier against scripted receivers over sockets: odd replies, odd extensions, odd ends."""

import pytest

from fastmta.message import AttemptResult
from tests.support.delivering import (
    CONTENT,
    Sending,
    fast_options,
    make_job,
    make_site,
    run_sending,
)
from tests.support.receiver import PLAIN_EHLO_REPLY, Act, Receiver, Script

LOOPS = pytest.mark.parametrize("is_uvloop", [True, False], ids=["uvloop", "asyncio"])


def _deliver(script: Script, **message: object) -> tuple[AttemptResult, Receiver]:
    """One attempt for two recipients at one receiver."""
    with Receiver(script) as receiver:

        async def scenario(sending: Sending) -> AttemptResult:
            return await sending.send(
                make_job(**message),  # type: ignore[arg-type]  # make_job checks the names
                make_site(receiver.port),
            )

        return run_sending(scenario), receiver


def _kinds(result: AttemptResult) -> list[str]:
    return [outcome.kind.value for outcome in result.outcomes]


@LOOPS
def test_message_arrives_octet_for_octet(is_uvloop: bool) -> None:
    with Receiver() as receiver:
        result = run_sending(
            lambda sending: sending.send(make_job(), make_site(receiver.port)),
            is_uvloop=is_uvloop,
        )
        [transaction] = receiver.transactions
    assert _kinds(result) == ["sent", "sent"]
    assert result.trouble is None
    assert result.connect_s > 0
    assert result.connection_use == 1
    assert result.outcomes[0].remote == f"127.0.0.1[127.0.0.1]:{receiver.port}"
    assert transaction.content == CONTENT
    assert transaction.reverse_path == b"sender@example.com"
    assert transaction.forward_paths == [b"one@example.org", b"two@example.org"]
    assert transaction.mail_parameters == b"SIZE=%d" % len(CONTENT)


@LOOPS
@pytest.mark.parametrize("size", [100_000, 8_000_000])
def test_large_content_arrives_whole_at_a_slow_reader(size: int, is_uvloop: bool) -> None:
    content = (b"." + b"x" * 76 + b"\r\n") * (size // 79)
    with Receiver({"DATA": Act(delay_s=0.05)}) as receiver:
        result = run_sending(
            lambda sending: sending.send(make_job(content=content), make_site(receiver.port)),
            is_uvloop=is_uvloop,
        )
        assert receiver.transactions[0].content == content
    assert _kinds(result) == ["sent", "sent"]


def test_ipv6_receiver() -> None:
    with Receiver(address="::1") as receiver:
        result = run_sending(
            lambda sending: sending.send(make_job(), make_site(receiver.port, address="::1"))
        )
    assert result.outcomes[0].remote == f"::1[::1]:{receiver.port}"
    assert _kinds(result) == ["sent", "sent"]


def test_replies_octet_by_octet_in_several_lines_and_with_lone_lf() -> None:
    drip = 0.001
    result, receiver = _deliver(
        {
            "CONNECT": Act(b"220-receiver\r\n220-says\n220 hello\n", drip_s=drip),
            "EHLO": Act(b"250-receiver\n250-PIPELINING\r\n250 8BITMIME\n", drip_s=drip),
            "MAIL": Act(b"250-2.1.0 Well\r\n250 2.1.0 Ok\r\n", drip_s=drip),
            "RCPT/2": Act(b"550-5.1.1 No\r\n550 5.1.1 user\r\n", drip_s=drip),
            "DATA": Act(b"354 \r\n", drip_s=drip),
            ".": Act(b"250-2.0.0 Yes\n250 2.0.0 indeed\n", drip_s=drip),
        }
    )
    assert _kinds(result) == ["sent", "bounced"]
    assert result.outcomes[0].text == "250-2.0.0 Yes 250 2.0.0 indeed"
    assert "said: 550-5.1.1 No 550 5.1.1 user (in reply to RCPT TO command)" in (
        result.outcomes[1].text
    )
    assert receiver.transactions[0].forward_paths == [b"one@example.org"]


@pytest.mark.parametrize("offers_pipelining", [True, False])
def test_one_flight_only_when_pipelining_is_offered(offers_pipelining: bool) -> None:
    script = {} if offers_pipelining else {"EHLO": Act(PLAIN_EHLO_REPLY)}
    result, receiver = _deliver(script)
    assert _kinds(result) == ["sent", "sent"]
    envelope = [read for read in receiver.sessions[0].reads if b"RCPT" in read]
    assert len(envelope) == (1 if offers_pipelining else 2)


@pytest.mark.parametrize("has_8bitmime", [True, False])
def test_8bit_content_goes_out_as_it_is(has_8bitmime: bool) -> None:
    content = "Subject: ü\r\n\r\nä\r\n".encode()
    script = {} if has_8bitmime else {"EHLO": Act(PLAIN_EHLO_REPLY)}
    result, receiver = _deliver(script, content=content, is_8bit=True)
    assert _kinds(result) == ["sent", "sent"]
    assert receiver.transactions[0].content == content
    assert (b"BODY=8BITMIME" in receiver.transactions[0].mail_parameters) is has_8bitmime


def test_size_too_small_fails_without_a_transaction() -> None:
    result, receiver = _deliver({"EHLO": Act(b"250-receiver\r\n250 SIZE 50\r\n")})
    assert _kinds(result) == ["bounced", "bounced"]
    assert result.outcomes[0].status == "5.3.4"
    assert result.trouble is None
    assert receiver.sessions[0].commands == [b"EHLO relay.example", b"QUIT"]


STAGES = {
    "CONNECT": "receiving the initial server greeting",
    "EHLO": "performing the EHLO handshake",
    "MAIL": "sending MAIL FROM",
    "RCPT": "sending RCPT TO",
    "RCPT/2": "sending RCPT TO",
    "DATA": "sending DATA command",
    ".": "sending end of data -- message may be sent more than once",
}


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("is_pipelining", [True, False], ids=["pipelining", "plain"])
def test_early_close_at_each_stage(stage: str, ending: str, is_pipelining: bool) -> None:
    script = {stage: Act(then=ending)}
    if not is_pipelining:
        script.setdefault("EHLO", Act(PLAIN_EHLO_REPLY))
    result, _ = _deliver(script)
    assert _kinds(result) == ["deferred", "deferred"]
    assert result.trouble is not None
    told = f"lost connection with 127.0.0.1[127.0.0.1] while {STAGES[stage]}"
    if ending == "close":
        assert [outcome.text for outcome in result.outcomes] == [told, told]
        assert {outcome.status for outcome in result.outcomes} == {"4.4.2"}
    else:  # a reset may overtake replies, or even the news that the connection stands
        assert result.outcomes[0].text.startswith(
            ("lost connection with 127.0.0.1[127.0.0.1] while ", "connect to 127.0.0.1[127.0.0.1]:")
        )


@pytest.mark.parametrize("stage", STAGES)
def test_closing_reply_at_each_stage(stage: str) -> None:
    result, _ = _deliver({stage: Act(b"421 4.3.2 Going down\r\n", then="close")})
    assert _kinds(result) == ["deferred", "deferred"]
    assert {outcome.status for outcome in result.outcomes} == {"4.3.2"}
    assert result.trouble is not None
    assert "421 4.3.2 Going down" in result.trouble.text


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "garbage", [b"\x00\xff\r\n", b"x" * 5000, b"25\r\n", b"250-a\r\n251 b\r\n"]
)
def test_garbage_at_each_stage(stage: str, garbage: bytes) -> None:
    result, _ = _deliver({stage: Act(garbage, then="hang")})
    assert _kinds(result) == ["deferred", "deferred"]
    assert {outcome.status for outcome in result.outcomes} == {"4.5.0"}
    assert result.trouble is not None


@pytest.mark.parametrize("stage", STAGES)
def test_silence_at_each_stage(stage: str) -> None:
    limits = fast_options().time_limits
    quick = dict.fromkeys(limits.__struct_fields__, 0.1)
    options = fast_options(time_limits=type(limits)(**quick))
    with Receiver({stage: Act(then="hang")}) as receiver:
        result = run_sending(
            lambda sending: sending.send(make_job(), make_site(receiver.port)), options
        )
    assert _kinds(result) == ["deferred", "deferred"]
    told = f"conversation with 127.0.0.1[127.0.0.1] timed out while {STAGES[stage]}"
    assert result.outcomes[1].text == told
    assert result.trouble is not None


@pytest.mark.parametrize("stage", ["EHLO", "."])
def test_octet_by_octet_wins_no_time(stage: str) -> None:
    """A limit is that of a whole reply, or a reply of 64 KiB could take half a year."""
    limits = fast_options().time_limits
    options = fast_options(time_limits=type(limits)(helo_s=0.3, end_of_data_s=0.3))
    drip = Act(b"250-receiver.example says\r\n" * 6 + b"250 8BITMIME\r\n", drip_s=0.02)
    with Receiver({stage: drip}) as receiver:
        result = run_sending(
            lambda sending: sending.send(make_job(), make_site(receiver.port)), options
        )
    assert _kinds(result) == ["deferred", "deferred"]
    assert f"timed out while {STAGES[stage]}" in result.outcomes[0].text


def test_receiver_that_stops_reading_the_content() -> None:
    limits = fast_options().time_limits
    options = fast_options(time_limits=type(limits)(block_s=0.1))
    with Receiver({"CONTENT": Act(b"", then="", delay_s=0.5)}) as receiver:
        result = run_sending(
            lambda sending: sending.send(
                make_job(content=b"x" * 78 + b"\r\n" * 10_000_000), make_site(receiver.port)
            ),
            options,
        )
    assert _kinds(result) == ["deferred", "deferred"]
    assert result.outcomes[0].text.endswith("timed out while sending message body")


@pytest.mark.parametrize("stage", ["CONTENT", "."])
def test_refusal_amid_the_content_counts(stage: str) -> None:
    refusal = Act(b"552 5.3.4 Too much\r\n", then="close", after_octets=100_000)
    result, _ = _deliver({stage: refusal}, content=(b"x" * 998 + b"\r\n") * 8000)
    assert _kinds(result) == ["bounced", "bounced"]
    assert result.outcomes[0].text.endswith("(in reply to end of DATA command)")
    assert result.trouble is None


def test_more_after_the_verdict_closes_the_session_but_the_verdict_stands() -> None:
    result, receiver = _deliver({".": Act(b"250 2.0.0 Ok\r\n250 2.0.0 Ok again\r\n")})
    assert _kinds(result) == ["sent", "sent"]
    assert b"QUIT" not in receiver.sessions[0].commands


def test_every_recipient_refused_then_reset_before_the_next_message() -> None:
    with Receiver({"RCPT/1": Act(b"550 5.1.1 No\r\n"), "RCPT/2": Act(b"451 4.2.0 Later\r\n")}) as r:

        async def scenario(sending: Sending) -> list[AttemptResult]:
            return [await sending.send(make_job(), make_site(r.port)) for _ in range(2)]

        first, second = run_sending(scenario)
        assert r.sessions[0].commands.count(b"RSET") == 1
    assert _kinds(first) == ["bounced", "deferred"]
    assert _kinds(second) == ["sent", "sent"]
    assert second.connection_use == 2
