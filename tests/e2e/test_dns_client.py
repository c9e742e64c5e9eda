"""The DNS client, the cache and the resolver against a name server on real sockets."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest
import uvloop

from fastmta.delivery.dns import ClientNames, DnsClient, DnsOptions
from fastmta.message import OutcomeKind
from fastmta.route import (
    Answer,
    AnswerKind,
    DnsCache,
    OwnHosts,
    RecordType,
    Resolver,
    ResolverOptions,
    RouteProblem,
    Site,
)
from tests.support.nameserver import Behaviour, NameServer

FAST = DnsOptions(timeout_s=0.5, tries=2)
PATIENT = DnsOptions(timeout_s=15.0, tries=2)  # with a server that has much to say
T = TypeVar("T")


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer() as running:
        yield running


def run(work: Callable[[], Awaitable[T]]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await work()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())


async def ask(client: DnsClient | DnsCache, name: str, rdtype: RecordType) -> Answer:
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    client.query(name, rdtype, future.set_result)
    return await future


def answer_of(
    server: NameServer, name: str, rdtype: RecordType = RecordType.A, options: DnsOptions = FAST
) -> Answer:
    async def work() -> Answer:
        client = DnsClient([server.endpoint], options)
        try:
            return await ask(client, name, rdtype)
        finally:
            await client.close()

    return run(work)


def resolution_of(
    server: NameServer,
    next_hop: bytes,
    options: ResolverOptions | None = None,
    dns: DnsOptions = FAST,
) -> Site | RouteProblem:
    async def work() -> Site | RouteProblem:
        loop = asyncio.get_running_loop()
        client = DnsClient([server.endpoint], dns)
        resolver = Resolver(DnsCache(client, loop.time), loop.time, random.shuffle, options)
        future: asyncio.Future[Site | RouteProblem] = loop.create_future()
        resolver.resolve(next_hop, lambda hop, result: future.set_result(result))
        try:
            return await future
        finally:
            await client.close()

    return run(work)


def test_addresses_over_udp(server: NameServer) -> None:
    server.add("mx.example", "A", "192.0.2.1", "192.0.2.2")
    answer = answer_of(server, "mx.example")
    assert answer.kind is AnswerKind.FOUND
    assert set(answer.values) == {"192.0.2.1", "192.0.2.2"}
    assert server.questions == [("mx.example", "A", "udp")]


def test_truncated_answer_is_asked_again_over_tcp(server: NameServer) -> None:
    server.add("mx.example", "A", "192.0.2.1")
    server.behave("mx.example", Behaviour.TRUNCATED)
    assert answer_of(server, "mx.example").values == ("192.0.2.1",)
    assert [transport for _, _, transport in server.questions] == ["udp", "tcp"]


def test_as_many_exchanges_as_a_message_holds(server: NameServer) -> None:
    count = 2_900
    exchanges = [f"{number} mx{number % 7}.example.com." for number in range(count)]
    server.add("example.com", "MX", *reversed(exchanges))
    answer = answer_of(server, "example.com", RecordType.MX, PATIENT)
    assert answer.kind is AnswerKind.FOUND
    assert answer.exchanges[:2] == ((0, "mx0.example.com"), (1, "mx1.example.com"))
    assert len(answer.exchanges) == 256
    assert server.questions[-1][2] == "tcp"


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour.SILENT,
        Behaviour.SERVFAIL,
        Behaviour.REFUSED,
        Behaviour.WRONG_ID,
        Behaviour.WRONG_QUESTION,
        Behaviour.NOT_A_RESPONSE,
        Behaviour.GARBAGE,
        Behaviour.TRUNCATED_ALWAYS,
        Behaviour.TCP_CUT,
        Behaviour.TCP_SILENT,
    ],
    ids=lambda behaviour: behaviour.name.lower(),
)
def test_failure_after_all_tries(server: NameServer, behaviour: Behaviour) -> None:
    server.add("mx.example", "A", "192.0.2.1")
    server.behave("mx.example", behaviour)
    answer = answer_of(server, "mx.example")
    assert answer.kind is AnswerKind.FAILED
    assert answer.values == ()
    assert answer.text
    assert [transport for _, _, transport in server.questions].count("udp") == FAST.tries


@pytest.mark.parametrize(
    "behaviour",
    [Behaviour.SILENT, Behaviour.SERVFAIL, Behaviour.GARBAGE, Behaviour.FORMERR_ON_EDNS],
    ids=lambda behaviour: behaviour.name.lower(),
)
def test_next_try_succeeds(server: NameServer, behaviour: Behaviour) -> None:
    server.add("mx.example", "A", "192.0.2.1")
    server.behave("mx.example", behaviour, Behaviour.TRUNCATED)
    assert answer_of(server, "mx.example").values == ("192.0.2.1",)


def test_server_without_edns(server: NameServer) -> None:
    server.add("mx.example", "A", "192.0.2.1")
    server.behave(None, Behaviour.FORMERR_ON_EDNS)
    assert answer_of(server, "mx.example").values == ("192.0.2.1",)


def test_forged_answers_are_ignored(server: NameServer) -> None:
    server.add("mx.example", "A", "192.0.2.1")
    server.behave("mx.example", Behaviour.WRONG_ID_FIRST)
    assert answer_of(server, "mx.example").values == ("192.0.2.1",)


def test_dead_server_is_left_for_the_next_and_remembered(server: NameServer) -> None:
    server.add("mx.example", "A", "192.0.2.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unread:
        unread.bind(("127.0.0.1", 0))
        silent: tuple[str, int] = unread.getsockname()

        async def work() -> tuple[Answer, Answer, float]:
            client = DnsClient([silent, server.endpoint], FAST)
            first = await ask(client, "mx.example", RecordType.A)
            start = asyncio.get_running_loop().time()
            second = await ask(client, "mx.example", RecordType.A)
            took_s = asyncio.get_running_loop().time() - start
            await client.close()
            return first, second, took_s

        first, second, took_s = run(work)
    assert first.values == second.values == ("192.0.2.1",)
    assert took_s < FAST.timeout_s


def test_closed_port_fails_at_once() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]

    async def work() -> Answer:
        client = DnsClient([("127.0.0.1", port)], DnsOptions(timeout_s=10))
        return await ask(client, "mx.example", RecordType.A)

    assert run(work).kind is AnswerKind.FAILED


def test_in_flight_is_bounded_and_all_get_their_answer(server: NameServer) -> None:
    for number in range(30):
        server.add(f"mx{number}.example", "A", f"192.0.2.{number + 1}")

    async def work() -> list[Answer]:
        client = DnsClient([server.endpoint], DnsOptions(timeout_s=5, in_flight_max=4))
        asked = [ask(client, f"mx{number}.example", RecordType.A) for number in range(30)]
        gathered = asyncio.gather(*asked)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert client.in_flight_count <= 4
        answers = await gathered
        await client.close()
        return answers

    assert [answer.values for answer in run(work)] == [(f"192.0.2.{n + 1}",) for n in range(30)]


def test_full_wait_queue_and_close_answer_everybody_once(server: NameServer) -> None:
    server.behave(None, Behaviour.SILENT)

    async def work() -> list[Answer]:
        answers: list[Answer] = []
        options = DnsOptions(timeout_s=10, in_flight_max=2, waiting_max=3)
        client = DnsClient([server.endpoint], options)
        for number in range(7):
            client.query(f"mx{number}.example", RecordType.A, answers.append)
        await asyncio.sleep(0.05)
        assert [answer.text for answer in answers] == ["too many queries"] * 2
        await client.close()
        client.query("late.example", RecordType.A, answers.append)
        await asyncio.sleep(0)
        return answers

    answers = run(work)
    assert len(answers) == 8
    assert all(answer.kind is AnswerKind.FAILED for answer in answers)


def test_equal_questions_are_asked_once(server: NameServer) -> None:
    server.add("mx.example", "A", "192.0.2.1")

    async def work() -> list[Answer]:
        loop = asyncio.get_running_loop()
        client = DnsClient([server.endpoint], FAST)
        cache = DnsCache(client, loop.time)
        answers = await asyncio.gather(*(ask(cache, "mx.example", RecordType.A) for _ in range(9)))
        answers.append(await ask(cache, "mx.example", RecordType.A))
        await client.close()
        return answers

    assert {answer.values for answer in run(work)} == {("192.0.2.1",)}
    assert len(server.questions) == 1


def test_mail_domain_to_its_site(server: NameServer) -> None:
    server.add("example.com", "MX", "10 mx1.example.net.", "20 mx2.example.net.")
    server.add("mx1.example.net", "A", "192.0.2.1")
    server.add("mx1.example.net", "AAAA", "2001:db8::1")
    server.add("mx2.example.net", "A", "192.0.2.2")
    site = resolution_of(server, b"smtp:example.com")
    assert isinstance(site, Site)
    assert site.label == "(mx1|mx2).example.net"
    assert {target.address for target in site.targets[:2]} == {"192.0.2.1", "2001:db8::1"}
    assert site.targets[2].host == "mx2.example.net"


@pytest.mark.parametrize("length", [1, 8])
def test_chain_of_aliases(server: NameServer, length: int) -> None:
    server.add("example.com", "MX", "10 alias0.example.")
    for number in range(length):
        server.add(f"alias{number}.example", "CNAME", f"alias{number + 1}.example.")
    server.add(f"alias{length}.example", "A", "192.0.2.1")
    site = resolution_of(server, b"smtp:example.com")
    assert isinstance(site, Site)
    assert [target.host for target in site.targets] == ["alias0.example"]


def test_chain_of_aliases_too_long(server: NameServer) -> None:
    for number in range(9):
        server.add(f"alias{number}.example", "CNAME", f"alias{number + 1}.example.")
    server.add("alias9.example", "MX", "10 mx.example.")
    problem = resolution_of(server, b"smtp:alias0.example")
    assert isinstance(problem, RouteProblem)
    assert (problem.kind, problem.status) == (OutcomeKind.FAILED, "5.4.4")


def test_loop_of_aliases(server: NameServer) -> None:
    server.add("a.example", "CNAME", "b.example.")
    server.add("b.example", "CNAME", "a.example.")
    problem = resolution_of(server, b"smtp:a.example")
    assert isinstance(problem, RouteProblem)
    assert problem.status == "5.4.4"


def test_domain_without_exchange_uses_its_address(server: NameServer) -> None:
    server.add("example.com", "A", "192.0.2.1")
    site = resolution_of(server, b"smtp:example.com")
    assert isinstance(site, Site)
    assert [target.address for target in site.targets] == ["192.0.2.1"]


def test_null_exchange(server: NameServer) -> None:
    server.add("example.com", "MX", "0 .")
    problem = resolution_of(server, b"smtp:example.com")
    assert problem == RouteProblem(
        OutcomeKind.FAILED, "5.1.10", "Domain example.com does not accept mail (nullMX)"
    )


def test_null_exchange_behind_an_alias(server: NameServer) -> None:
    server.add("example.com", "CNAME", "none.example.")
    server.add("none.example", "MX", "0 .")
    problem = resolution_of(server, b"smtp:example.com")
    assert isinstance(problem, RouteProblem)
    assert (problem.kind, problem.status) == (OutcomeKind.FAILED, "5.1.10")


def test_null_exchange_beside_a_real_one_means_nothing(server: NameServer) -> None:
    server.add("example.com", "MX", "0 .", "10 mx.example.")  # RFC 7505 3 forbids it
    server.add("mx.example", "A", "192.0.2.1")
    site = resolution_of(server, b"smtp:example.com")
    assert isinstance(site, Site)
    assert [target.host for target in site.targets] == ["mx.example"]


def test_more_exchanges_than_a_message_can_hold_delay_mail(server: NameServer) -> None:
    server.add("example.com", "MX", *(f"10 mx{number}.example." for number in range(10_000)))
    problem = resolution_of(server, b"smtp:example.com", dns=PATIENT)
    assert isinstance(problem, RouteProblem)
    assert (problem.kind, problem.status) == (OutcomeKind.DEFERRED, "4.4.3")
    assert {transport for _, _, transport in server.questions} == {"udp", "tcp"}


def test_truncated_answers_on_the_whole_way(server: NameServer) -> None:
    server.add("example.com", "MX", "10 mx1.example.", "20 mx2.example.")
    server.add("mx1.example", "A", *(f"192.0.2.{number}" for number in range(1, 100)))
    server.add("mx2.example", "A", "192.0.2.200")
    server.behave(None, Behaviour.TRUNCATED)
    site = resolution_of(server, b"smtp:example.com")
    assert isinstance(site, Site)
    assert site.label == "(mx1|mx2).example"
    asked = [(name, transport) for name, _, transport in server.questions]
    assert asked.count(("mx1.example", "tcp")) == 2


def test_loop_of_aliases_at_an_exchange_leaves_the_others(server: NameServer) -> None:
    server.add("example.com", "MX", "10 a.example.", "20 mx.example.")
    server.add("a.example", "CNAME", "b.example.")
    server.add("b.example", "CNAME", "a.example.")
    server.add("mx.example", "A", "192.0.2.1")
    site = resolution_of(server, b"smtp:example.com")
    assert isinstance(site, Site)
    assert [target.host for target in site.targets] == ["mx.example"]


def test_nothing_but_loops_fails(server: NameServer) -> None:
    server.add("example.com", "MX", "10 a.example.")
    server.add("a.example", "CNAME", "a.example.")
    problem = resolution_of(server, b"smtp:example.com")
    assert isinstance(problem, RouteProblem)
    assert problem.kind is OutcomeKind.FAILED


@pytest.mark.parametrize("behaviour", [Behaviour.SERVFAIL, Behaviour.SILENT, Behaviour.TCP_CUT])
def test_exchange_in_trouble_leaves_the_others(server: NameServer, behaviour: Behaviour) -> None:
    server.add("example.com", "MX", "10 bad.example.", "20 mx.example.")
    server.add("bad.example", "A", "192.0.2.2")
    server.add("mx.example", "A", "192.0.2.1")
    server.behave("bad.example", behaviour)
    site = resolution_of(server, b"smtp:example.com")
    assert isinstance(site, Site)
    assert [target.host for target in site.targets] == ["mx.example"]


def test_only_exchange_in_trouble_delays_mail(server: NameServer) -> None:
    server.add("example.com", "MX", "10 bad.example.")
    server.behave("bad.example", Behaviour.SERVFAIL)
    problem = resolution_of(server, b"smtp:example.com")
    assert isinstance(problem, RouteProblem)
    assert problem.kind is OutcomeKind.DEFERRED


def test_domain_in_trouble_is_not_taken_for_one_without_exchange(server: NameServer) -> None:
    server.add("example.com", "A", "192.0.2.1")
    server.add("example.com", "MX", "10 mx.example.")
    server.behave("example.com", Behaviour.SERVFAIL)
    problem = resolution_of(server, b"smtp:example.com")
    assert isinstance(problem, RouteProblem)
    assert problem.kind is OutcomeKind.DEFERRED


def test_unknown_domain(server: NameServer) -> None:
    problem = resolution_of(server, b"smtp:nowhere.example")
    assert problem == RouteProblem(
        OutcomeKind.FAILED,
        "5.4.4",
        "Host or domain name not found. "
        "Name service error for name=nowhere.example type=MX: Host not found",
    )


@pytest.mark.parametrize("behaviour", [Behaviour.SERVFAIL, Behaviour.SILENT])
def test_name_server_in_trouble_defers(server: NameServer, behaviour: Behaviour) -> None:
    server.behave("example.com", behaviour)
    problem = resolution_of(server, b"smtp:example.com")
    assert problem == RouteProblem(
        OutcomeKind.DEFERRED,
        "4.4.3",
        "Host or domain name not found. "
        "Name service error for name=example.com type=MX: Host not found, try again",
    )


def test_exchange_that_is_ourselves(server: NameServer) -> None:
    server.add("example.com", "MX", "10 mx.example.com.")
    server.add("mx.example.com", "A", "127.0.0.1")
    own = OwnHosts.of(["relay.example"], [("0.0.0.0", 25)])
    problem = resolution_of(server, b"smtp:example.com", ResolverOptions(own=own))
    assert problem == RouteProblem(
        OutcomeKind.FAILED, "5.4.6", "mail for example.com loops back to myself"
    )


@pytest.mark.parametrize(
    ("forward", "expected"), [("192.0.2.9", "client.example"), ("192.0.2.8", "unknown")]
)
def test_client_name_must_lead_back(server: NameServer, forward: str, expected: str) -> None:
    server.add("9.2.0.192.in-addr.arpa", "PTR", "client.example.")
    server.add("client.example", "A", forward)
    assert client_name(server, "192.0.2.9") == expected


def test_client_name_over_ipv6(server: NameServer) -> None:
    nibbles = ".".join("9" + "0" * 23 + "8bd01002")
    server.add(f"{nibbles}.ip6.arpa", "PTR", "client.example.")
    server.add("client.example", "AAAA", "2001:db8::9")
    assert client_name(server, "2001:db8:0::9") == "client.example"


def test_client_without_name(server: NameServer) -> None:
    assert client_name(server, "192.0.2.9") == "unknown"


def client_name(server: NameServer, address: str) -> str:
    async def work() -> str:
        loop = asyncio.get_running_loop()
        client = DnsClient([server.endpoint], FAST)
        future: asyncio.Future[str] = loop.create_future()
        ClientNames(DnsCache(client, loop.time)).client_name(address, future.set_result)
        name = await future
        await client.close()
        return name

    return run(work)
