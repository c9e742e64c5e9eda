"""The courier by other ways than plain SMTP to the next hop: LMTP, limits, folding, fallbacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastmta.delivery import DeliveryOptions, load_rules
from fastmta.delivery.ports import CourierPorts
from fastmta.message import AttemptResult, Job, Scope
from fastmta.route import Site, Target
from fastmta.route.way import Way
from tests.support.delivering import (
    FakeContents,
    Sending,
    fast_options,
    make_job,
    make_site,
    run_sending,
)
from tests.support.lmtp_receiver import LmtpReceiver
from tests.support.receiver import EHLO_REPLY, Act, Receiver

LOOPS = pytest.mark.parametrize("is_uvloop", [True, False], ids=["uvloop", "asyncio"])


def kinds(result: AttemptResult) -> list[str]:
    return [outcome.kind.value for outcome in result.outcomes]


def deliver(
    site: Site,
    *jobs: Job,
    options: DeliveryOptions | None = None,
    contents: FakeContents | None = None,
    is_uvloop: bool = True,
) -> list[AttemptResult]:
    """One after the other."""

    async def scenario(sending: Sending) -> list[AttemptResult]:
        return [await sending.send(job, site) for job in jobs]

    return run_sending(scenario, options, is_uvloop=is_uvloop, contents=contents)


@LOOPS
@pytest.mark.parametrize("is_unix", [True, False], ids=["unix", "tcp"])
def test_lmtp(tmp_path: Path, is_unix: bool, is_uvloop: bool) -> None:
    path = str(tmp_path / "lmtp")
    script = {"./2": Act(b"452 4.2.2 Full\r\n")}
    with LmtpReceiver(script, path if is_unix else "127.0.0.1") as receiver:
        target = Target("here.example", path if is_unix else "127.0.0.1", receiver.port)
        site = Site(b"site-of-the-tests", "test", (target,), None, Way(transport="lmtp"))
        job = make_job((b"one@a.example", b"two@a.example", b"three@a.example"))
        results = deliver(site, job, make_job(), is_uvloop=is_uvloop)
        assert receiver.transactions[0].forward_paths == [b"one@a.example", b"three@a.example"]
        assert len(receiver.sessions) == 1
    assert kinds(results[0]) == ["sent", "deferred", "sent"]
    assert kinds(results[1]) == ["sent", "sent"]
    shown = f"here.example[{path}]" if is_unix else f"here.example[127.0.0.1]:{receiver.port}"
    assert results[0].outcomes[0].remote == shown


def test_missing_unix_socket(tmp_path: Path) -> None:
    target = Target("here.example", str(tmp_path / "nothing"), 0)
    site = Site(b"site-of-the-tests", "test", (target,), None, Way(transport="lmtp"))
    results = deliver(site, make_job())
    text = f"connect to here.example[{tmp_path}/nothing]: No such file or directory"
    assert results[0].outcomes[0].text == text


def test_way_s_names_and_addresses() -> None:
    chosen = Way(hostname="out.example", sources=("127.0.0.3",), bounce_from=b"bounces@out.example")
    with Receiver() as receiver:
        site = make_site(receiver.port, way=chosen)
        options = fast_options(source_addresses=("127.0.0.2",))
        deliver(site, make_job(reverse_path=b""), make_job(), options=options)
        assert receiver.sessions[0].commands[0] == b"EHLO out.example"
        assert receiver.sessions[0].peer == "127.0.0.3"
        assert [one.reverse_path for one in receiver.transactions] == [
            b"bounces@out.example",
            b"sender@example.com",
        ]


@pytest.mark.parametrize("is_unfiltered", [True, False])
@pytest.mark.parametrize("is_late", [True, False], ids=["connected", "before"])
def test_address_that_is_forbidden(is_unfiltered: bool, is_late: bool) -> None:
    asked: list[str] = []

    def why_not(address: str) -> str:
        asked.append(address)
        return "" if is_late and len(asked) == 1 else "loopback"

    async def scenario(sending: Sending) -> AttemptResult:
        site = make_site(receiver.port, way=Way(is_unfiltered=is_unfiltered))
        return await sending.send(make_job(), site)

    with Receiver() as receiver:
        result = run_sending(scenario, ports=CourierPorts(why_not=why_not))
        assert bool(receiver.transactions) is is_unfiltered
    assert asked == ([] if is_unfiltered else ["127.0.0.1"] * (1 + is_late))
    assert kinds(result) == (["sent"] if is_unfiltered else ["deferred"]) * 2
    if not is_unfiltered:
        assert (result.outcomes[0].status, result.outcomes[0].scope) == ("4.4.4", Scope.HOST)
        assert "loopback" in result.outcomes[0].text


LIMITED = EHLO_REPLY.replace(b"250 ", b"250-LIMITS RCPTMAX=2 MAILMAX=2\r\n250 ")


def test_recipients_in_parts_over_as_many_sessions_as_it_takes() -> None:
    script = {"EHLO": Act(LIMITED), "RCPT/2": Act(b"450 4.2.0 Later\r\n")}
    with Receiver(script) as receiver:
        job = make_job([b"%d@example.org" % number for number in range(7)])
        results = deliver(make_site(receiver.port), job, make_job())
        assert [len(one.commands) for one in receiver.sessions][:1] == [10]
        counts = [one.commands.count(b"DATA") for one in receiver.sessions]
        assert counts == [2, 2, 1]
        assert all(one.commands[-1] == b"QUIT" for one in receiver.sessions)
    assert kinds(results[0]) == ["sent", "deferred", "sent", "sent", "sent", "deferred", "sent"]
    assert results[0].trouble is None
    assert kinds(results[1]) == ["sent", "deferred"]


def test_session_lost_between_the_parts() -> None:
    script = {"EHLO": Act(LIMITED), "MAIL/2": Act(then="close")}
    with Receiver(script) as receiver:
        job = make_job([b"%d@example.org" % number for number in range(5)])
        results = deliver(make_site(receiver.port), job)
    assert kinds(results[0]) == ["sent", "sent", "deferred", "deferred", "deferred"]


def test_long_lines_are_folded() -> None:
    content = b"Subject: " + b"x" * 2000 + b"\r\n\r\n" + b"." * 1500 + b"\r\n"
    folded = (
        b"Subject: " + b"x" * 989 + b"\r\n " + b"x" * 997 + b"\r\n " + b"x" * 14
        + b"\r\n\r\n" + b"." * 998 + b"\r\n " + b"." * 502 + b"\r\n"
    )  # fmt: skip
    contents = FakeContents(content, 700)
    with Receiver() as receiver:
        site = make_site(receiver.port)
        deliver(site, make_job(content=content), contents.job(), contents=contents)
        assert [one.content for one in receiver.transactions] == [folded, folded]
        deliver(site, make_job(content=content), options=fast_options(line_octets_max=0))
        assert receiver.transactions[-1].content == content


def test_throttled_relay_s_other_host_is_left_alone_but_not_its_fallback() -> None:
    throttled = {".": Act(b"454 Throttling failure: Maximum sending rate exceeded.\r\n")}
    with Receiver(throttled) as first, Receiver() as second, Receiver() as fallback:
        ses = Way(name="ses")
        ports = [(first.port, None), (second.port, None), (fallback.port, Way())]
        targets = [Target("127.0.0.1", "127.0.0.1", port, own) for port, own in ports]
        site = Site(b"site-of-the-tests", "test", tuple(targets[:2]), None, ses)

        async def scenario(sending: Sending) -> list[AttemptResult]:
            with_fallback = Site(b"site-with-another", "test", tuple(targets), None, ses)
            return [await sending.send(make_job(), one) for one in (site, with_fallback)]

        results = run_sending(scenario, ports=CourierPorts(rules=load_rules()))
        assert (len(second.sessions), len(fallback.transactions)) == (0, 1)
    assert [kinds(one) for one in results] == [["deferred"] * 2, ["sent"] * 2]
    assert results[0].outcomes[0].category == "soft.rate"
    assert results[0].trouble is results[0].outcomes[0]
    assert results[1].trouble is None
