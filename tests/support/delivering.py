"""A courier, jobs and sites for tests: hand a message to receivers and get the result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import uvloop

from fastmta.delivery import Courier, DeliveryOptions, TimeLimits
from fastmta.event import Event
from fastmta.message import AttemptResult, ClientIdentity, Envelope, Job, Message
from fastmta.route import Site, Target

CONTENT = b"Received: by relay.example\r\nSubject: test\r\n\r\nfirst line\r\n.second line\r\n"
T = TypeVar("T")


def make_job(
    forward_paths: Sequence[bytes] = (b"one@example.org", b"two@example.org"),
    content: bytes | None = CONTENT,
    *,
    reverse_path: bytes = b"sender@example.com",
    is_8bit: bool = False,
) -> Job:
    """A job for every recipient of a new message."""
    envelope = Envelope(reverse_path, tuple(forward_paths), ClientIdentity(), is_8bit)
    message = Message(b"00000001000000A1", envelope, content or b"", 0)
    message.content = content
    return Job(message, b"smtp:example.org", tuple(range(len(forward_paths))))


def make_site(*ports: int, key: bytes = b"site-of-the-tests", address: str = "127.0.0.1") -> Site:
    """A site whose targets are these ports of the loopback interface."""
    return Site(key, "test", tuple(Target(address, address, port) for port in ports), None)


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
) -> T:
    """Run `scenario` with a courier, on uvloop or asyncio's own loop, and close the courier."""

    async def main() -> T:
        events: list[Event] = []
        courier = Courier(options or fast_options(), events.append, asyncio.get_running_loop())
        try:
            return await scenario(Sending(courier, events))
        finally:
            await courier.close(0.2)
            assert courier.running_count == 0
            assert courier.connection_count == 0

    factory = uvloop.new_event_loop if is_uvloop else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


def fast_options(**changes: object) -> DeliveryOptions:
    """Options with every time limit so short that a test can wait for it."""
    limits = TimeLimits(*[2.0] * len(TimeLimits.__struct_fields__))
    values: dict[str, object] = {"hostname": "relay.example", "time_limits": limits}
    return DeliveryOptions(**(values | changes))  # type: ignore[arg-type]  # it checks
