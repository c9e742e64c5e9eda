"""The drop directory as the server opens it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import itertools
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec

import pytest

from fastmta.daemon.acceptor import Acceptor, Fate
from fastmta.daemon.clock import QueueClock
from fastmta.daemon.localmail import Prepared, Preparer, Times
from fastmta.daemon.pickup import Pickup, open_place
from fastmta.drop import DropFile, Facts, Place, Submission
from fastmta.drop.box import Box
from fastmta.event import Event, Notice, Severity
from fastmta.message import Envelope
from fastmta.spool import Spool, SpoolFull, SpoolOptions
from tests.support.pickup_child import Gate, Stub, make_config


def test_a_full_disk_does_not_keep_claims_from_being_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Place, __: Facts) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    config = make_config(str(tmp_path))
    with monkeypatch.context() as full:
        full.setattr(Place, "write_facts", fail)
        with pytest.raises(OSError, match="No space"):
            open_place(config)  # nobody ever left mail there
    assert open_place(config).read_facts().hostname == "mail.test"
    monkeypatch.setattr(Place, "write_facts", fail)
    assert open_place(config).read_facts().hostname == "mail.test"


def leave(place: Place, subject: str = "x", verp: bytes = b"", recipients: int = 1) -> None:
    """A message of a local program."""
    file = DropFile(place)
    submission = Submission(b"joe", [b"ann%d" % number for number in range(recipients)])
    if verp:
        submission.options[b"verp"] = verp
    content = f"Subject: {subject}\n\nend of {subject}\n".encode()
    file.write(submission.encode() + content)
    file.finish()
    file.publish()


P = ParamSpec("P")


def in_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that awaits something."""

    @functools.wraps(test)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        asyncio.run(test(*arguments, **named))

    return run


def fail_read_only(*_: Any) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/drop")


def next_hop(_: bytes, __: Envelope) -> bytes:
    return b"smtp:there.test"


class World:
    """A pickup over a real spool; `delivered` has the subjects that went out."""

    def __init__(self, root: Path) -> None:
        self.config = make_config(str(root))
        self.place = Place(str(root / "drop"))
        self.events: list[Event] = []
        self.delivered: list[str] = []
        self.spool: Spool
        self.stub: Stub
        self.pickup: Pickup

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Pickup]:
        """From a start to a clean stop."""
        options = SpoolOptions(segment_octets=1 << 20)
        self.spool = Spool.open(self.config.spool.directory, options, next_hop, self.events.append)
        self.stub = Stub(self.spool, self._say)
        loop = asyncio.get_running_loop()
        shard: Any = self.stub  # what is used of a shard is there
        emit = self.events.append
        self.pickup = Pickup(self.config, shard, Gate(), QueueClock(), loop, emit)
        self.spool.attach(loop)
        if not self.stub.is_held:
            self.stub.take_up()
        self.pickup.start()
        try:
            yield self.pickup
        finally:
            await self.pickup.close()
            await self.spool.close()

    def _say(self, what: str, subject: str, *_: object) -> None:
        if what == "delivered":
            self.delivered.append(subject)

    def notices(self) -> list[str]:
        found = [one for one in self.events if isinstance(one, Notice)]
        return [one.text for one in found if one.program == "pickup"]

    def claimed(self) -> list[str]:
        return os.listdir(self.place.claimed)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for name in ("LOOK_S", "AGAIN_S"):
        monkeypatch.setattr(f"fastmta.daemon.pickup.{name}", 0.01)
    return World(tmp_path)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def crash_before_removal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spool has a message, and so has the drop directory."""
    with monkeypatch.context() as patch:
        patch.setattr(Box, "remove", fail_read_only)
        async with world.open() as pickup:
            await until(lambda: world.spool.live_count)
            await asyncio.sleep(0.05)
            assert pickup._task is not None
            pickup._task.cancel()
    assert world.delivered == []
    assert len(world.claimed()) == 1


@pytest.mark.parametrize("trouble", ["remove", "claims"])
@in_a_loop
async def test_nothing_goes_out_twice_after_a_start_on_a_volume_that_is_read_only(
    world: World, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    open_place(world.config)
    leave(world.place, "once")
    await crash_before_removal(world, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr("fastmta.daemon.pickup.open_place", fail_read_only)
        patch.setattr(Box, trouble, fail_read_only)  # it cannot be removed, or not even be seen
        async with world.open():
            await asyncio.sleep(0.2)
            assert world.stub.is_held
            assert world.delivered == []
            assert any(
                text.startswith("nothing of this queue is delivered: some of it may be in the drop")
                for text in world.notices()
            )
            assert any("no mail of the sendmail command" in text for text in world.notices())
            patch.undo()
            await until(lambda: world.delivered)
            leave(world.place, "new")
            await until(lambda: len(world.delivered) == 2)
    assert world.delivered == ["once", "new"]
    assert world.claimed() == []
    assert world.notices()[-1].endswith("is in use again")


@in_a_loop
async def test_without_claims_a_volume_that_is_read_only_holds_nothing_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmta.daemon.pickup.open_place", fail_read_only)
    async with world.open():
        await asyncio.sleep(0.05)
        assert not world.stub.is_held
    assert world.notices() == [
        "no mail of the sendmail command is taken up: /drop: Read-only file system"
    ]


@in_a_loop
async def test_a_full_spool_in_the_middle_of_a_file_of_several_messages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that it has go out, and the others later: each once, other mail meanwhile."""
    monkeypatch.setattr("fastmta.daemon.localmail.PORTION", 2)
    open_place(world.config)
    leave(world.place, "parts", b"+=", 5)
    accept, calls = Acceptor.accept, itertools.count()

    async def accept_some(self: Acceptor, prepared: Prepared) -> Fate:
        if prepared.letter.submission.options and next(calls) in (1, 2, 4):
            self._trouble(SpoolFull("no room"))
            return Fate.AGAIN
        return await accept(self, prepared)

    monkeypatch.setattr(Acceptor, "accept", accept_some)
    async with world.open():
        await until(lambda: world.delivered)
        leave(world.place, "between")
        await until(lambda: len(world.delivered) == 6)
        await until(lambda: not world.claimed())
    wanted = [f"parts to joe+ann{number}@mail.test" for number in range(5)]
    assert sorted(world.delivered) == ["between", *wanted]


@in_a_loop
async def test_what_is_wrong_with_a_content_is_found_in_any_of_its_messages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_place(world.config)
    monkeypatch.setattr("fastmta.daemon.localmail.PORTION", 2)
    file = DropFile(world.place)
    file.write(Submission(b"joe", [b"a"] * 250).encode() + b"Subject: parts\n\n")
    file.write(b"x\n" * 300_000 + b"y\0\n" + b"x\n" * 300_000)
    file.finish()
    file.publish()
    async with world.open():
        leave(world.place, "behind")
        await until(lambda: world.delivered and os.listdir(world.place.quarantine))
        await until(lambda: not world.claimed())
    assert world.delivered == ["behind"]
    (notice,) = world.notices()
    assert notice.endswith(": its content has a NUL; it is in quarantine")


@in_a_loop
async def test_a_file_that_cannot_be_read_does_not_stop_others_that_make_several(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = open_place(world.config)
    part, failing = Preparer.part, list[bytes]()

    def fail_first(self: Preparer, id: bytes, *arguments: Any) -> Any:  # Any: as it is
        failing.extend([] if failing else [id])
        if id in failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return part(self, id, *arguments)

    monkeypatch.setattr(Preparer, "part", fail_first)
    leave(world.place, "one", b"+=", 2)
    leave(world.place, "two", b"+=", 2)
    async with world.open():
        await until(lambda: len(world.delivered) == 2)
        assert len(world.claimed()) == 1
        os.unlink(os.path.join(place.claimed, failing[0].decode()))  # somebody takes it away
        monkeypatch.undo()
        await until(lambda: world.pickup._several == [])
        leave(world.place, "three", b"+=", 2)
        await until(lambda: len(world.delivered) == 4)
    assert world.claimed() == []


@in_a_loop
async def test_a_file_of_which_the_spool_takes_nothing_does_not_stop_others_that_make_several(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_place(world.config)
    accept, first = Acceptor.accept, list[bytes]()

    async def refuse_first(self: Acceptor, prepared: Prepared) -> Fate:
        first.extend([] if first else [prepared.letter.id])
        if prepared.letter.id in first:
            self._trouble(SpoolFull("larger than a segment"))
            return Fate.AGAIN
        return await accept(self, prepared)

    monkeypatch.setattr(Acceptor, "accept", refuse_first)
    leave(world.place, "one", b"+=", 2)
    leave(world.place, "two", b"+=", 2)
    async with world.open():
        await until(lambda: len(world.delivered) == 2)
        first[:] = [b"none"]
        await until(lambda: len(world.delivered) == 4)
        await until(lambda: not world.claimed())
    assert world.delivered == ["two", "two", "one", "one"]


def test_files_with_long_heads_or_large_contents_do_not_all_go_into_memory(tmp_path: Path) -> None:
    config = make_config(str(tmp_path))
    place = open_place(config)
    said: list[str] = []
    box = Box(place, 1 << 20, 1 << 16, lambda name, user, why: said.append(why))
    preparer = Preparer(config, box, said.append)
    for name in (b"many", b"large"):
        for _ in range(20):
            file = DropFile(place)
            recipients = [b"a%04d@%b.test" % (one, b"x" * 1900) for one in range(100)]
            if name == b"large":
                file.write(Submission(b"joe", [b"ann"]).encode() + b"\n" + b"x\n" * 100_000)
            else:
                submission = Submission(b"joe", recipients)
                for index in range(100):
                    submission.its[index, b"its-orcpt"] = b"x" * 2048
                    submission.its[index, b"its-notify"] = b"x" * 2048
                file.write(submission.encode() + b"\nx\n")
            file.finish()
            file.publish()
    ids = [b"ABCDEFGHIJ1234%02d" % number for number in range(40)]
    claimed = box.claim(list(zip(box.look(0), ids, strict=True)))
    sizes = []
    while claimed:
        made, claimed, _ = preparer.prepare(claimed, Times(b"date", 1, 1))
        sizes.append(len(made))
        for prepared in made:
            prepared.letter.close()
    assert sum(sizes) == 40
    assert max(sizes) <= 15
    assert said == []


def test_a_defect_about_one_file_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(str(tmp_path))
    place = open_place(config)
    said: list[str] = []
    box = Box(place, 1 << 20, 1 << 20, lambda name, user, why: said.append(why))
    preparer = Preparer(config, box, said.append)
    for _ in range(3):
        leave(place)
    make, calls = preparer._message, iter(range(3))

    def fail_once(*arguments: Any) -> Any:  # Any: as it is
        if next(calls) == 1:
            raise ValueError("of ours")
        return make(*arguments)

    monkeypatch.setattr(preparer, "_message", fail_once)
    ids = [b"ABCDEFGHIJ12345%d" % number for number in range(3)]
    claimed = box.claim(list(zip(box.look(0), ids, strict=True)))
    made, rest, _ = preparer.prepare(claimed, Times(b"date", 1, 1))
    assert [one.message.id for one in made] == [ids[0], ids[2]]
    assert rest == []
    assert os.listdir(place.quarantine) == [ids[1].decode()]
    assert said == ["internal error: ValueError('of ours'); it is in quarantine"]


def test_a_pickup_that_has_to_end_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []

    async def fail(_: Pickup) -> bool:
        raise ValueError("of ours")

    async def run() -> None:
        config = make_config(str(tmp_path))
        options = SpoolOptions(segment_octets=1 << 20)
        spool = Spool.open(config.spool.directory, options, next_hop, events.append)
        loop = asyncio.get_running_loop()
        shard: Any = Stub(spool, lambda *_: None)  # what is used of a shard is there
        pickup = Pickup(config, shard, Gate(), QueueClock(), loop, events.append)
        spool.attach(loop)
        pickup.start()
        await asyncio.sleep(0.05)
        await pickup.close()
        await spool.close()

    monkeypatch.setattr(Pickup, "_turn", fail)
    asyncio.run(run())
    said = [one for one in events if isinstance(one, Notice) and one.program == "pickup"]
    assert [one.severity for one in said] == [Severity.ERROR]
    assert said[0].text.startswith("internal error: ValueError('of ours'); mail of local programs")
