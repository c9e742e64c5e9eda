"""Large contents and crashes: nothing acknowledged is lost, and nothing is left behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from fastmta.lab.loopback import wait_until
from fastmta.message import Message, RecipientState
from tests.support.daemon import running
from tests.support.loading import expect
from tests.support.mailbox import Mailbox
from tests.support.spool import DELIVERED, Shard, copy_crashed, delete_index

HOP = b"smtp:one.example"
PIECES = [b"Subject: x\r\n\r\n", b"a" * 300_000, b"c" * 300_000 + b"\r\n"]
WHOLE = b"".join(PIECES)
STEPS = ("opened", "written", "synced", "reference", "half final", "mark", "unlink", "committed")


def names(root: Path) -> list[str]:
    return sorted(os.listdir(root / "shard-00" / "big"))


def thread_is_idle(shard: Shard) -> None:
    """Everything asked of the writing thread has been done."""
    contents = shard.spool.contents
    shard.wait(lambda done: contents.ask(lambda: contents.tell(done)))


def crashed_after(step: str, shard: Shard, target: Path, patch: pytest.MonkeyPatch) -> Path:
    """The shard as a crash right after `step` leaves it; unlinking is the step after the mark."""
    small = shard.accept_new()
    shard.deliver(small)
    message = shard.make(b"a@one.example", b"b@one.example", content=b"")
    spill = shard.spool.begin_big(message.id, lambda: None)
    at = STEPS.index(step)
    spill.write(PIECES[0])
    if at >= 1:
        for piece in PIECES[1:]:
            spill.write(piece)
    thread_is_idle(shard)
    if at >= 2:
        file, problem = shard.wait(spill.finish)
        assert problem is None
        message.content, message.file = None, file  # type: ignore[assignment]  # as told
        message.size_octets = len(WHOLE)
    if at >= 3:
        assert shard.accept(message) == [None]
    if at >= 4:
        finish(shard, message, at, patch)
    if at >= 7:
        shard.commit()
    copy = copy_crashed(shard, target)
    patch.undo()
    if step in ("opened", "written"):
        spill.abandon()
    return copy


def finish(shard: Shard, message: Message, at: int, patch: pytest.MonkeyPatch) -> None:
    """One recipient, or both; from "unlink" on the file is gone, too."""
    if at < STEPS.index("unlink"):
        patch.setattr(os, "unlink", lambda path: None)
    count = 1 if at == STEPS.index("half final") else 2
    changes = [RecipientState(index, DELIVERED, 1) for index in range(count)]
    assert shard.record(message, *changes) is None
    thread_is_idle(shard)


@pytest.mark.parametrize("without_index", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_crash_after_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, without_index: bool
) -> None:
    target = tmp_path / "copy"
    with Shard(tmp_path / "spool") as shard:
        copy = crashed_after(step, shard, target, monkeypatch)
    is_live = step in ("reference", "half final")
    assert len(names(copy)) == (0 if step in ("unlink", "committed") else 1)
    if without_index:
        delete_index(copy)
    for _ in range(2):  # recovering twice gives the same
        with Shard(copy) as again:
            running_id = again.spool.new_id()
            again.store_big(running_id, b"of the running start\r\n")
            again.sweep()
            thread_is_idle(again)
            left = [name for name in names(copy) if not name.endswith(running_id.decode())]
            assert len(names(copy)) == len(left) + 1  # a file of this start is never touched
            assert len(left) == int(is_live)
            messages, _ = again.fetch(HOP)
            assert len(messages) == int(is_live)
            if is_live:
                (message,) = messages
                assert message.file is not None
                assert Path(message.file.path).read_bytes() == WHOLE
                assert message.pending == (2 if step == "reference" else 1)
                again.spool.release(message)


class Senders:
    """Clients that send large messages, each with a key of its own, and note the acknowledged."""

    def __init__(self, port: int, name: str, count: int) -> None:
        self.acknowledged: dict[str, str] = {}  # key: digest of the content
        self._port = port
        self._threads = [
            threading.Thread(target=self._run, args=(f"{name}-{number}",))
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _run(self, name: str) -> None:
        with contextlib.suppress(OSError, EOFError, AssertionError):
            self._talk(name)

    def _talk(self, name: str) -> None:
        with socket.create_connection(("127.0.0.1", self._port), 20.0) as connection:
            replies = connection.makefile("rb")
            expect(replies, b"220")
            connection.sendall(b"EHLO c.example\r\n")
            expect(replies, b"250")
            for number in range(1000):
                key = f"{name}-{number}"
                text = b"X-Key: %s\r\n\r\n" % key.encode() + b"%09d\r\n" % number * 80_000
                connection.sendall(b"MAIL FROM:<s@c.example>\r\nRCPT TO:<r@d.example>\r\nDATA\r\n")
                for code in (b"250", b"250", b"354"):
                    expect(replies, code)
                connection.sendall(text + b".\r\n")
                expect(replies, b"250")
                self.acknowledged[key] = hashlib.sha256(text).hexdigest()


def test_kill_9_while_large_contents_come_in_and_go_out(tmp_path: Path) -> None:
    """Three kills at moments of different depth; then everything acknowledged arrives, whole."""
    acknowledged: dict[str, str] = {}
    digests: dict[str, set[str]] = {}
    with Mailbox() as box:
        relay = f"[127.0.0.1]:{box.port}"
        with running(tmp_path, relay_host=relay, retry__site_backoff_min_s=1) as server:
            for run, moment_s in enumerate((0.15, 0.4, 0.8)):
                senders = Senders(server.port, f"run{run}", 4)
                time.sleep(moment_s)
                server.kill()
                senders.join()
                acknowledged |= senders.acknowledged
                server.start()
            directory = next(tmp_path.rglob("shard-00/big"))
            wait_until(lambda: not os.listdir(directory), 60.0, "delivered or swept contents")
        for received in box.wait(len(acknowledged)):
            head, _, body = received.content.partition(b"X-Key: ")
            assert head.startswith(b"Received: ")
            text = b"X-Key: " + body
            key = body.partition(b"\r\n")[0].decode()
            digests.setdefault(key, set()).add(hashlib.sha256(text).hexdigest())
    assert len(acknowledged) >= 3
    for key, digest in acknowledged.items():
        assert digests.get(key) == {digest}, key
    for key, found in digests.items():  # what was not acknowledged may have arrived: as a whole
        assert len(found) == 1, key
