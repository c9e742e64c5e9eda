"""A courier, jobs and sites for tests: hand a message to receivers and get the result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import uvloop

from fastmta.delivery import Courier, DeliveryOptions, TimeLimits
from fastmta.delivery.ports import NO_PORTS, CourierPorts
from fastmta.event import Event
from fastmta.message import AttemptResult, ClientIdentity, ContentFile, Envelope, Job, Message
from fastmta.message.envelope import DSNRequest
from fastmta.route import Site, Target
from fastmta.route.way import DEFAULT_WAY, Way

CONTENT = b"Received: by relay.example\r\nSubject: test\r\n\r\nfirst line\r\n.second line\r\n"
T = TypeVar("T")


def make_job(
    forward_paths: Sequence[bytes] = (b"one@example.org", b"two@example.org"),
    content: bytes | None = CONTENT,
    *,
    reverse_path: bytes = b"sender@example.com",
    is_8bit: bool = False,
    is_utf8: bool = False,
    dsn: DSNRequest | None = None,
    is_tls_required: bool = False,
    is_probe: bool = False,
) -> Job:
    """A job for every recipient of a new message."""
    paths = tuple(forward_paths)
    client = ClientIdentity()
    envelope = Envelope(
        reverse_path, paths, client, is_8bit, "", is_utf8, dsn, is_tls_required, is_probe
    )
    message = Message(b"00000001000000A1", envelope, content or b"", 0)
    message.content = content
    return Job(message, b"smtp:example.org", tuple(range(len(forward_paths))))


def make_site(
    *ports: int,
    key: bytes = b"site-of-the-tests",
    address: str = "127.0.0.1",
    host: str = "",
    way: Way = DEFAULT_WAY,
) -> Site:
    """A site whose targets are these ports of the loopback interface."""
    targets = tuple(Target(host or address, address, port) for port in ports)
    return Site(key, "test", targets, None, way)


class FakeStream:
    """One reading of a content; fails with `error` once `fails_at` octets were handed out."""

    def __init__(self, contents: FakeContents, octets: bytes) -> None:
        self._contents = contents
        self._octets = octets
        self._offset = 0
        self._is_reading = False

    def read(self, done: Callable[[bytes, Exception | None], None]) -> None:
        assert not self._is_reading, "a read while another one is under way"
        self._is_reading = True
        asyncio.get_running_loop().call_soon(self._answer, done)

    def _answer(self, done: Callable[[bytes, Exception | None], None]) -> None:
        contents = self._contents
        self._is_reading = False
        if 0 <= contents.fails_at <= self._offset:
            done(b"", contents.error)
            return
        piece = self._octets[self._offset : self._offset + contents.piece_octets]
        self._offset += len(piece)
        contents.octets_read += len(piece)
        done(piece, None)


class FakeSource:
    """A content in memory."""

    def __init__(self, contents: FakeContents, octets: bytes) -> None:
        self._contents = contents
        self._octets = octets

    def stream(self) -> FakeStream:
        return FakeStream(self._contents, self._octets)

    def close(self) -> None:
        self._contents.open_count -= 1


class FakeContents:
    """Large contents by path, as the courier asks for them."""

    def __init__(self, octets: bytes, piece_octets: int = 128 * 1024) -> None:
        self.octets = octets
        self.piece_octets = piece_octets
        self.is_damaged = False
        self.is_silent = False  # never answers
        self.fails_at = -1
        self.error = OSError("the disk does not give it")
        self.octets_read = 0
        self.open_count = 0

    def open(
        self, file: ContentFile, done: Callable[[FakeSource | None, Exception | None], None]
    ) -> None:
        if self.is_silent:
            return
        loop = asyncio.get_running_loop()
        if self.is_damaged:
            loop.call_soon(done, None, ValueError(f"{file.path}: it is damaged"))
            return
        self.open_count += 1
        loop.call_soon(done, FakeSource(self, self.octets), None)

    def job(self, *forward_paths: bytes, is_utf8: bool = False) -> Job:
        """A job for a message with this content."""
        paths = forward_paths or (b"one@example.org", b"two@example.org")
        job = make_job(paths, None, is_utf8=is_utf8)
        job.message.file = ContentFile("/spool/big/1-x", len(self.octets), 0, 1)
        job.message.size_octets = len(self.octets)
        return job


class Sending:
    """A courier whose results can be awaited."""

    def __init__(self, courier: Courier, events: list[Event]) -> None:
        self.courier = courier
        self.events = events  # what the courier emitted
        self.calls = 0  # of done

    async def send(self, job: Job, site: Site) -> AttemptResult:
        """One attempt; every recipient has an outcome afterwards."""
        waiter: asyncio.Future[AttemptResult] = asyncio.get_running_loop().create_future()
        is_started = False

        def done(finished: Job, result: AttemptResult) -> None:
            assert finished is job
            assert is_started, "done was called from within start"
            self.calls += 1
            waiter.set_result(result)

        self.courier.start(job, site, done)
        is_started = True
        result = await asyncio.wait_for(waiter, 10)
        assert len(result.outcomes) == len(job.indices)
        return result


def run_sending(
    scenario: Callable[[Sending], Awaitable[T]],
    options: DeliveryOptions | None = None,
    *,
    is_uvloop: bool = True,
    contents: FakeContents | None = None,
    ports: CourierPorts = NO_PORTS,
) -> T:
    """Run `scenario` with a courier, on uvloop or asyncio's own loop, and close the courier."""

    async def main() -> T:
        events: list[Event] = []
        loop = asyncio.get_running_loop()
        courier = Courier(options or fast_options(), events.append, loop, contents, ports)
        try:
            return await scenario(Sending(courier, events))
        finally:
            await courier.close(0.2)
            assert courier.running_count == 0
            assert courier.connection_count == 0
            assert contents is None or contents.open_count == 0

    factory = uvloop.new_event_loop if is_uvloop else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


def fast_options(**changes: object) -> DeliveryOptions:
    """Options with every time limit so short that a test can wait for it."""
    limits = TimeLimits(*[2.0] * len(TimeLimits.__struct_fields__))
    values: dict[str, object] = {"hostname": "relay.example", "time_limits": limits}
    return DeliveryOptions(**(values | changes))  # type: ignore[arg-type]  # it checks
