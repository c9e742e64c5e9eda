"""The drop directory as the server opens it."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from fastmta.daemon.clock import QueueClock
from fastmta.daemon.localmail import Preparer, Times
from fastmta.daemon.pickup import Pickup, open_place
from fastmta.drop import DropFile, Facts, Place, Submission
from fastmta.drop.box import Box
from fastmta.event import Event, Notice, Severity
from fastmta.message import Envelope
from fastmta.spool import Spool, SpoolOptions
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


def leave(place: Place) -> None:
    """A message of a local program."""
    file = DropFile(place)
    file.write(Submission(b"joe", [b"ann"]).encode() + b"Subject: x\n\nx\n")
    file.finish()
    file.publish()


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

    def next_hop(_: bytes, __: Envelope) -> bytes:
        return b"smtp:there.test"

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
