"""The front desk: what it says of workers, its pages, and what strangers cannot do to it."""

from __future__ import annotations

import asyncio
import json
import mmap
import socket
import time
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from fastmta.event import ClientConnected, RecipientTried
from fastmta.front import Desk, Server, ServerLimits, judge
from fastmta.front.desk import Answer, DeskOptions, Request
from fastmta.front.health import HUNG_S, STALE_S
from fastmta.journal import family as f
from fastmta.journal.block import BLOCK_OCTETS, Block, State, Word, blocks_of
from fastmta.journal.book import Book
from fastmta.journal.family import BOUND_COUNT
from fastmta.journal.tally import Tally
from tests.support.scrape import parse, total

NOW_NS = 1_000_000_000_000
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def workers(count: int) -> list[Block]:
    """Healthy ones."""
    blocks = blocks_of(memoryview(mmap.mmap(-1, BLOCK_OCTETS * count)), count)
    for number, block in enumerate(blocks):
        block.set(Word.PID, 100 + number)
        block.set(Word.STARTS, 1)
        block.set(Word.STATE, State.READY)
        block.set(Word.BEAT_NS, NOW_NS)
        block.set(Word.IS_HEALTHY, 1)
    return blocks


def desk_of(blocks: list[Block], **options: object) -> Desk:
    return Desk(blocks, lambda: NOW_NS, DeskOptions(**options))


def page(desk: Desk, target: str = "/metrics", authorization: str = "") -> Answer:
    return desk.answer(Request("GET", target, authorization))


def age(block: Block, seconds: float) -> None:
    block.set(Word.BEAT_NS, NOW_NS - int(seconds * 1e9))


@pytest.mark.parametrize(
    ("change", "reason", "is_alive"),
    [
        (lambda block: block.set(Word.PID, 0), "not running", False),
        (lambda block: block.set(Word.STATE, State.STARTING), "starting", True),
        (lambda block: block.set(Word.STATE, State.DRAINING), "stopping", True),
        (lambda block: block.set(Word.IS_HEALTHY, 0), "its spool is unhealthy", True),
        (lambda block: block.set(Word.PRESSURE, 2), "it refuses mail", True),
        (lambda block: age(block, STALE_S + 1), "no sign of life for 4 s", False),
    ],
)
def test_ready_is_only_who_takes_mail(
    change: Callable[[Block], None], reason: str, is_alive: bool
) -> None:
    blocks = workers(2)
    desk = desk_of(blocks)
    assert page(desk, "/readyz").status == 200
    change(blocks[1])
    answer = page(desk, "/readyz")
    told = json.loads(answer.body)
    assert (answer.status, told["status"]) == (503, "not ready")
    assert len(told["reasons"]) == 1
    assert told["reasons"][0].startswith(f"worker 1: {reason}")
    assert judge(blocks, NOW_NS).workers[1].is_alive is is_alive
    samples = parse(page(desk).body.decode())
    assert total(samples, "fastmta_ready") == 0
    assert total(samples, "fastmta_worker_up", worker="1") == is_alive
    assert total(samples, "fastmta_worker_up", worker="0") == 1
    assert page(desk, "/healthz").status == 200, "a restart is for the supervisor to make"


def test_a_restart_helps_only_when_all_stand_still_for_long() -> None:
    blocks = workers(2)
    age(blocks[0], HUNG_S + 1)
    assert page(desk_of(blocks), "/healthz").status == 200
    age(blocks[1], HUNG_S + 1)
    answer = page(desk_of(blocks), "/healthz")
    assert answer.status == 503
    assert len(json.loads(answer.body)["reasons"]) == 2
    blocks[0].set(Word.STATE, State.STARTING)  # a large spool is being recovered
    assert page(desk_of(blocks), "/healthz").status == 200


def test_workers_are_added_up_and_kept_apart() -> None:
    blocks = workers(3)
    for number, block in enumerate(blocks):
        book = Book(block)
        tally = Tally(block, [], book)
        for _ in range(number + 1):
            tally.emit(ClientConnected("c"))
            tally.observe(book.slot(f.LOOP_LAG), 0, 0.002)
        tally.put(book.slot(f.QUEUE_BYTES), 10.5)
        tally.put(book.slot(f.QUEUE_OLDEST), number)
        tally.put(book.slot(f.SITE_LIMIT, "a", ""), float("nan"))
        tally.add(book.slot(f.CPU), 1_500_000_000)
    samples = parse(page(desk_of(blocks, version="1.2")).body.decode())
    assert total(samples, "fastmta_connections_total") == 6
    assert total(samples, "fastmta_queue_bytes") == 31.5
    assert total(samples, "fastmta_queue_oldest_age_seconds") == 2
    assert total(samples, "fastmta_process_cpu_seconds_total", worker="2") == 1.5
    assert total(samples, "fastmta_loop_lag_seconds_count", worker="2") == 3
    assert total(samples, "fastmta_loop_lag_seconds_bucket", worker="2", le="0.0025") == 3
    assert total(samples, "fastmta_loop_lag_seconds_bucket", worker="2", le="0.001") == 0
    assert total(samples, "fastmta_loop_lag_seconds_sum", worker="2") == pytest.approx(0.006)
    assert total(samples, "fastmta_build_info", version="1.2") == 1
    assert not [name for name, _ in samples if "connection_limit" in name], "NaN is no value"


def test_what_a_peer_says_cannot_break_the_page() -> None:
    blocks = workers(1)
    tally = Tally(blocks[0], [], Book(blocks[0], 10, lambda _: 'a"} 1\nx\\'))
    hop = b'smtp:evil"} 1\nfake_metric 7\\'
    tally.emit(RecipientTried(b"", b"", "", (0.0,) * 4, "9\n", "sent", '2"0', next_hop=hop))
    text = page(desk_of(blocks)).body.decode()
    assert "\nfake_metric" not in text
    labels = next(dict(labels) for name, labels in parse(text) if "deliveries" in name)
    assert labels["destination"] == 'evil"} 1?fake_metric 7\\'
    assert labels["provider"] == 'a"} 1?x\\'


def test_a_token_guards_the_metrics_only() -> None:
    desk = desk_of(workers(1), token="s3cret")
    for wrong in ("", "Bearer", "Bearer s3cre", "Bearer s3cret ", "Basic s3cret", "Bearer \udc80"):
        answer = page(desk, authorization=wrong)
        assert answer.status == 401
        assert dict(answer.headers)["WWW-Authenticate"] == "Bearer"
        assert b"s3cret" not in answer.body
    assert page(desk, authorization="bearer s3cret").status == 200
    assert page(desk, "/readyz").status == page(desk, "/healthz").status == 200


def test_names_of_the_exporters() -> None:
    blocks = workers(1)
    tally = Tally(blocks[0], [], Book(blocks[0]))
    for kind in ("sent", "sent", "deferred"):
        tally.emit(RecipientTried(b"", b"", "", (0.0, 0.0, 0.2, 0.0), "2.0.0", kind, "250"))
    samples = parse(page(desk_of(blocks, has_postfix_names=True)).body.decode())
    assert total(samples, "postfix_smtp_messages_processed_total", status="sent") == 2
    stage = {"stage": "connection_setup"}
    assert total(samples, "postfix_smtp_delivery_delay_seconds_count", **stage) == 3
    assert total(samples, "postfix_up") == 1
    assert not [one for one in parse(page(desk_of(blocks)).body.decode()) if "postfix" in one[0]]


def test_words_of_a_histogram_are_as_wide_as_it_says() -> None:
    assert f.WIDTH == BOUND_COUNT + 2


# HTTP.


def serve(
    limits: ServerLimits, talk: Callable[[int, Server], Awaitable[None]], body: bytes = b"ok\n"
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        desk = desk_of(workers(1))

        def answer(request: Request) -> Answer:
            if request.target == "/large":
                return Answer(200, "text/plain", body)
            return desk.answer(request)

        server = Server(answer, loop, limits)
        listening = socket.create_server(("127.0.0.1", 0))
        await server.start(listening)
        try:
            await talk(listening.getsockname()[1], server)
        finally:
            server.close()
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def ask(port: int, *parts: bytes) -> bytes:
    """What comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(0)
    found = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return found


CLOSE = b"Host: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n" + CLOSE, 200),
        (b"HEAD /healthz HTTP/1.1\r\n" + CLOSE, 200),
        (b"GET /healthz?x=1 HTTP/1.0\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n" + CLOSE, 404),
        (b"GET /../../etc/passwd HTTP/1.1\r\n" + CLOSE, 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n" + CLOSE + b"abc", 405),
        (b"DELETE /readyz HTTP/1.1\r\n" + CLOSE, 405),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"EHLO client.example\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n", 400),
        (b"GET /me\x00trics HTTP/1.1\r\n" + CLOSE, 400),
        (b"GET /\xc3\xa9 HTTP/1.1\r\n" + CLOSE, 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n" + bytes(99_999), 413),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9_000, 431),
    ],
)
def test_requests_and_what_is_none(octets: bytes, status: int) -> None:
    async def talk(port: int, server: Server) -> None:
        for parts in ([octets], [octets[:7], octets[7:]]):
            said = await ask(port, *parts)
            assert said.startswith(b"HTTP/1.1 %d " % status), said[:200]
            assert (b"HEAD" in octets) == said.endswith(b"\r\n\r\n")
        await until(lambda: not server.connections)

    serve(ServerLimits(), talk)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def test_a_connection_is_kept_and_requests_may_come_together() -> None:
    async def talk(port: int, server: Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for count in (1, 3):
            writer.write(GET * count)
            for _ in range(count):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 OK\r\n")
                assert await reader.readline() == b'{"status": "ok"}\n'
        assert len(server.connections) == 1
        writer.close()

    serve(ServerLimits(), talk)


def test_who_says_nothing_or_half_of_it_or_no_more_is_cut_off() -> None:
    async def talk(port: int, server: Server) -> None:
        begin_s = time.monotonic()
        said = await asyncio.gather(ask(port), ask(port, GET[:-2]), ask(port, GET))
        assert 0.08 < time.monotonic() - begin_s < 3
        assert said[0] == said[1] == b""
        assert said[2].startswith(b"HTTP/1.1 200 ")
        assert not server.connections

    serve(ServerLimits(request_s=0.1, idle_s=0.1), talk)


def test_who_drips_a_request_is_cut_off() -> None:
    async def talk(port: int, server: Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        count = 0
        while not (reader.at_eof() or writer.is_closing()) and count < 100:
            writer.write(GET[count % 20 : count % 20 + 1])
            count += 1
            await asyncio.sleep(0.02)
        assert count < 50
        assert not server.connections
        writer.transport.abort()

    serve(ServerLimits(request_s=0.2), talk)


def test_who_does_not_read_the_answer_is_cut_off() -> None:
    async def talk(port: int, server: Server) -> None:
        slow = socket.create_connection(("127.0.0.1", port))
        slow.sendall(GET.replace(b"healthz", b"large"))
        await until(lambda: len(server.connections) == 1)
        await until(lambda: not server.connections)
        slow.close()

    serve(ServerLimits(answer_s=0.2), talk, bytes(16 << 20))


def test_who_is_idle_makes_room_and_nobody_else() -> None:
    async def talk(port: int, server: Server) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in idle:
            writer.write(GET)
            await reader.readuntil(b"}\n")
        first, last = idle
        assert (await ask(port, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))) != b""
        assert await first[0].read() == b"", "it had been idle longest"
        busy = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for _, writer in busy:
            writer.write(GET[:5])
        await until(lambda: sum(not one.is_idle for one in server.connections) == 2)
        assert await ask(port, GET) == b"", "everybody is busy"
        for _, writer in (last, first, *busy):
            writer.close()

    serve(ServerLimits(connections=2), talk)
