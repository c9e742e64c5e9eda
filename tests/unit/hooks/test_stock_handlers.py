"""Every handler of aiosmtpd.handlers under its own server and under ours."""

import asyncio
import io
import mailbox
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.handlers import AsyncMessage, Debugging, Mailbox, Message, Proxy, Sink

from tests.support.hooking import CONTENT, TRANSACTION, codes, oracle, play, with_hooks
from tests.support.receiver import Act, Receiver

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def event_loop_of_the_test() -> Iterator[None]:
    """AsyncMessage makes one if there is none, and closes it never."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


def without_port(text: str) -> str:
    return re.sub(r"\('127\.0\.0\.1', \d+\)", "PEER", text)


class Parsed(Message):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def handle_message(self, message: Any) -> None:
        self.texts.append(without_port(str(message)))


class AsyncParsed(AsyncMessage):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    async def handle_message(self, message: Any) -> None:
        await asyncio.sleep(0)
        self.texts.append(without_port(str(message)))


def test_debugging_prints_the_same() -> None:
    theirs, ours = Debugging(io.StringIO()), Debugging(io.StringIO())
    expected = oracle(theirs)
    said, world = play(ours)
    assert codes(said) == codes(expected)
    assert without_port(ours.stream.getvalue()) == without_port(theirs.stream.getvalue())
    assert "mail options: ['SIZE=100', 'BODY=8BITMIME']" in ours.stream.getvalue()
    assert len(world.stored) == 1


@pytest.mark.parametrize("mode", ["filter", "sink"])
def test_sink_takes_all(mode: str) -> None:
    said, world = play(Sink(), mode=mode)
    assert codes(said) == codes(oracle(Sink()))
    assert len(world.stored) == (1 if mode == "filter" else 0)


@pytest.mark.parametrize("kind", [Parsed, AsyncParsed])
def test_message_handler_gets_the_same_message(kind: Any) -> None:
    theirs, ours = kind(), kind()
    expected = oracle(theirs)
    said, world = play(ours, mode="sink")
    assert said[-2] == expected[-2] == "250 OK"
    assert ours.texts == theirs.texts
    assert "X-RcptTo: one@example.com, two@example.com" in ours.texts[0]
    assert "Received" not in ours.texts[0]
    assert world.stored == []


def test_mailbox_keeps_the_same_message(tmp_path: Path) -> None:
    kept = []
    for name in ("theirs", "ours"):
        handler = Mailbox(tmp_path / name)
        said = oracle(handler) if name == "theirs" else play(handler, mode="sink")[0]
        assert said[-2] == "250 OK"
        box = mailbox.Maildir(tmp_path / name)
        kept.append([without_port(str(message)) for message in box])
        assert len(kept[-1]) == 1
    assert kept[0] == kept[1]


def test_mailbox_is_made_from_its_name(tmp_path: Path) -> None:
    directory = str(tmp_path / "box")
    target = "aiosmtpd.handlers:Mailbox"
    said, _ = play(None, target=target, arguments=[directory], mode="sink")
    assert said[-2] == "250 OK"
    assert len(mailbox.Maildir(directory)) == 1


def test_proxy_hands_on_the_same_transaction() -> None:
    with Receiver() as receiver:
        oracle(Proxy("127.0.0.1", receiver.port))
        said, world = play(Proxy("127.0.0.1", receiver.port), mode="sink")
        receiver.wait_for_transactions(2)
        theirs, ours = receiver.transactions
    assert said[-2] == "250 OK"
    assert (ours.reverse_path, ours.forward_paths) == (theirs.reverse_path, theirs.forward_paths)
    assert ours.content == theirs.content
    assert b"X-Peer: 127.0.0.1\r\n" in ours.content
    assert world.notes == []


def test_stalled_proxy_holds_up_nobody_else() -> None:
    """Its handle_DATA is a coroutine that blocks; five at once, and each has its own thread."""

    async def scenario(world: Any) -> None:
        sessions = [asyncio.create_task(world.play()) for _ in range(5)]
        while len(receiver.sessions) < 5:
            await asyncio.sleep(0.01)
        for said in await asyncio.gather(*sessions):
            assert said[-2].startswith("451 4.3.0")

    with Receiver({"CONNECT": Act(then="hang")}) as receiver:
        proxy = Proxy("127.0.0.1", receiver.port)
        world = with_hooks(proxy, scenario, mode="sink", timeout_s=0.5)
    assert world.notes == ["127.0.0.1: DATA hook: no answer within 0.5 s"] * 5


def test_message_handler_that_blocks_holds_up_nobody_else() -> None:
    """A subclass of Message is someone's own code, in a coroutine that blocks its loop."""
    gate = threading.Event()
    begun = threading.Semaphore(0)

    class Slow(Parsed):
        def handle_message(self, message: Any) -> None:
            super().handle_message(message)
            if len(self.texts) <= 3:
                begun.release()
                assert gate.wait(10)

    async def scenario(world: Any) -> None:
        slow = [asyncio.create_task(world.play()) for _ in range(3)]
        for _ in slow:
            while not begun.acquire(blocking=False):
                await asyncio.sleep(0.01)
        quick = await asyncio.wait_for(world.play(), 5)
        assert quick[-2] == "250 OK"
        assert not any(task.done() for task in slow)
        gate.set()
        for said in await asyncio.gather(*slow):
            assert said[-2] == "250 OK"

    handler = Slow()
    with_hooks(handler, scenario, mode="sink", timeout_s=10.0)
    assert len(handler.texts) == 4
    assert CONTENT.split(b"\r\n")[0].decode() in handler.texts[0]
    assert TRANSACTION[-1] == b"QUIT"
