"""A courier and scripted receivers: DSN parameters and SMTPUTF8, over sockets."""

from __future__ import annotations

import pytest

from fastmta.event import Notice, Severity
from fastmta.message import AttemptResult, Job
from fastmta.message.envelope import DSNRequest
from tests.support.delivering import (
    CONTENT,
    FakeContents,
    Sending,
    make_job,
    make_site,
    run_sending,
)
from tests.support.receiver import EHLO_REPLY, PLAIN_EHLO_REPLY, Act, Receiver, Script

OFFERS_ALL = EHLO_REPLY.replace(b"250 ENHANCED", b"250-DSN\r\n250-SMTPUTF8\r\n250 ENHANCED")
ALL: Script = {"EHLO": Act(OFFERS_ALL)}
NONE: Script = {}
BARE: Script = {"EHLO": Act(PLAIN_EHLO_REPLY)}
ASCII_PATHS = (b"one@example.org", b"two@example.org")
UTF8_PATH = "jörg@bücher.example".encode()
UTF8_HEADER = "Subject: grüße\r\n".encode()
WITHOUT = pytest.mark.parametrize("script", [NONE, BARE], ids=["pipelining", "plain"])


def kinds(result: AttemptResult) -> list[str]:
    return [outcome.kind.value for outcome in result.outcomes]


def deliver(
    *scripts: Script, job: Job, contents: FakeContents | None = None
) -> tuple[AttemptResult, Receiver, list[Notice]]:
    """One attempt at a site with one target for each script."""
    receivers = [Receiver(script) for script in scripts]
    notices: list[Notice] = []

    async def scenario(sending: Sending) -> AttemptResult:
        result = await sending.send(job, make_site(*(each.port for each in receivers)))
        notices.extend(event for event in sending.events if isinstance(event, Notice))
        return result

    try:
        return run_sending(scenario, contents=contents), receivers[-1], notices
    finally:
        for receiver in receivers:
            receiver.close()


REFUSAL = ("5.6.7", "SMTPUTF8 is required, but was not offered by host 127.0.0.1[127.0.0.1]")
DSN = DSNRequest("FULL", b"QQ314159", ("NEVER", "SUCCESS,DELAY"), (b"rfc822;first+2Bone@x",))


def test_dsn_parameters_arrive() -> None:
    result, receiver, _ = deliver(ALL, job=make_job(dsn=DSN))
    assert kinds(result) == ["sent", "sent"]
    (transaction,) = receiver.transactions
    assert transaction.mail_parameters == b"SIZE=%d RET=FULL ENVID=QQ314159" % len(CONTENT)
    assert transaction.forward_paths == list(ASCII_PATHS)
    assert transaction.rcpt_parameters == [
        b"NOTIFY=NEVER ORCPT=rfc822;first+2Bone@x",
        b"NOTIFY=SUCCESS,DELAY ORCPT=rfc822;two@example.org",
    ]
    assert transaction.content == CONTENT


@WITHOUT
def test_a_server_without_dsn_gets_the_message_all_the_same(script: Script) -> None:
    result, receiver, _ = deliver(script, job=make_job(dsn=DSN, is_utf8=True))
    assert kinds(result) == ["sent", "sent"]
    (transaction,) = receiver.transactions
    assert transaction.rcpt_parameters == [b"", b""]
    assert b"RET" not in transaction.mail_parameters
    assert b"SMTPUTF8" not in transaction.mail_parameters


def test_recipients_deferred_by_the_first_server_keep_their_parameters_at_the_next() -> None:
    first: Script = {**ALL, "RCPT/1": Act(b"450 4.2.1 Later\r\n")}
    result, second, _ = deliver(first, ALL, job=make_job(dsn=DSN))
    assert kinds(result) == ["sent", "sent"]
    (transaction,) = second.transactions
    assert transaction.forward_paths == [b"one@example.org"]
    assert transaction.rcpt_parameters == [b"NOTIFY=NEVER ORCPT=rfc822;first+2Bone@x"]


def test_a_value_that_is_none_never_leaves_and_an_operator_hears_of_it() -> None:
    dsn = DSNRequest(envelope_id=b"x\r\nRCPT TO:<evil@example>")
    result, receiver, notices = deliver(ALL, job=make_job(dsn=dsn))
    assert kinds(result) == ["deferred", "deferred"]
    assert {outcome.status for outcome in result.outcomes} == {"4.3.0"}
    assert [notice.severity for notice in notices] == [Severity.ERROR]
    assert receiver.sessions[0].commands == [b"EHLO relay.example"]


def test_addresses_and_header_beyond_ascii_go_where_smtputf8_is() -> None:
    content = UTF8_HEADER + CONTENT
    job = make_job((UTF8_PATH,), content, reverse_path=UTF8_PATH, is_8bit=True, is_utf8=True)
    result, receiver, _ = deliver(ALL, job=job)
    assert kinds(result) == ["sent"]
    (transaction,) = receiver.transactions
    assert transaction.reverse_path == UTF8_PATH
    assert transaction.forward_paths == [UTF8_PATH]
    assert transaction.mail_parameters == b"SIZE=%d BODY=8BITMIME SMTPUTF8" % len(content)
    assert transaction.content == content


@WITHOUT
@pytest.mark.parametrize(
    ("reverse_path", "content"), [(UTF8_PATH, CONTENT), (b"s@example.com", UTF8_HEADER + CONTENT)]
)
def test_what_all_share_refuses_all_and_the_session_lives(
    script: Script, reverse_path: bytes, content: bytes
) -> None:
    job = make_job(ASCII_PATHS, content, reverse_path=reverse_path, is_utf8=True)
    with Receiver(script) as receiver:

        async def scenario(sending: Sending) -> tuple[AttemptResult, AttemptResult]:
            site = make_site(receiver.port)
            return await sending.send(job, site), await sending.send(make_job(), site)

        refused, other = run_sending(scenario)
        told = [(outcome.status, outcome.text) for outcome in refused.outcomes]
        assert told == [REFUSAL] * 2
        assert kinds(refused) == ["bounced", "bounced"]
        assert refused.trouble is None
        assert kinds(other) == ["sent", "sent"]
        assert other.connection_use == 2
        assert len(receiver.sessions) == 1
        mails = [one for one in receiver.sessions[0].commands if one.startswith(b"MAIL")]
        assert len(mails) == 1
        assert len(receiver.transactions) == 1


@WITHOUT
def test_only_recipients_beyond_ascii_are_refused(script: Script) -> None:
    job = make_job((b"one@example.org", UTF8_PATH, b"two@example.org"), is_utf8=True)
    result, receiver, _ = deliver(script, job=job)
    assert kinds(result) == ["sent", "bounced", "sent"]
    outcome = result.outcomes[1]
    assert (outcome.status, outcome.text) == REFUSAL
    assert receiver.transactions[0].forward_paths == list(ASCII_PATHS)


def test_refused_is_final_though_the_next_server_might_take_it() -> None:
    """What is deferred goes on to the next server; a permanent verdict stands, as in Postfix."""
    first: Script = {"RCPT": Act(b"450 4.2.1 Later\r\n")}
    job = make_job((b"one@example.org", UTF8_PATH), is_utf8=True)
    result, second, _ = deliver(first, ALL, job=job)
    assert kinds(result) == ["sent", "bounced"]
    assert second.transactions[0].forward_paths == [b"one@example.org"]


@pytest.mark.parametrize("offers", [True, False])
@pytest.mark.parametrize("is_ascii", [True, False])
@pytest.mark.parametrize("piece_octets", [7, 128 * 1024])
def test_header_section_of_a_large_content_is_looked_at(
    offers: bool, is_ascii: bool, piece_octets: int
) -> None:
    head = b"Subject: large\r\n" if is_ascii else UTF8_HEADER
    contents = FakeContents(head + b"\r\n" + "größer\r\n".encode() * 500, piece_octets)
    result, receiver, _ = deliver(
        ALL if offers else NONE, job=contents.job(is_utf8=True), contents=contents
    )
    if offers or is_ascii:
        assert kinds(result) == ["sent", "sent"]
        (transaction,) = receiver.transactions
        assert transaction.content == contents.octets
        assert (b"SMTPUTF8" in transaction.mail_parameters) is offers
    else:
        told = [(outcome.status, outcome.text) for outcome in result.outcomes]
        assert told == [REFUSAL] * 2
        assert contents.octets_read <= len(head) + 2 + piece_octets


def test_large_content_that_cannot_be_looked_at_waits() -> None:
    contents = FakeContents(b"Subject: x\r\n" * 10, 8)
    contents.fails_at = 16
    result, receiver, notices = deliver(NONE, job=contents.job(is_utf8=True), contents=contents)
    assert kinds(result) == ["deferred", "deferred"]
    assert result.outcomes[0].text == "content cannot be read from the queue"
    assert receiver.sessions == []
    assert [notice.severity for notice in notices] == [Severity.ERROR]


def test_closing_while_a_large_content_is_looked_at() -> None:
    """`run_sending` sees that the content is closed and that every attempt has ended."""
    contents = FakeContents(b"Subject: x\r\n" * 100_000, 8)
    results: list[AttemptResult] = []
    with Receiver(ALL) as receiver:

        async def scenario(sending: Sending) -> None:
            job = contents.job(is_utf8=True)
            site = make_site(receiver.port)
            sending.courier.start(job, site, lambda _, result: results.append(result))

        run_sending(scenario, contents=contents)
    assert [kinds(result) for result in results] == [["deferred", "deferred"]]
    assert results[0].outcomes[0].text == "delivery interrupted by shutdown"
