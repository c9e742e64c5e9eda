"""A process in which one write or flush of the log fails, and which copies its shard meanwhile.

    python -m tests.support.flush_child PLACE SWITCH SCENARIO      under the preload shim

SCENARIO is "middle" (the group that fails is not the first of its segment) or "first". The shim is
to fail while the file SWITCH exists. The shard is PLACE/spool; copies and what was promised at each
moment, one JSON document on standard output:

    moments: name of the copy: [[id, [status, ...]], ...] of what was acknowledged and is live then
    refused: ids that got an error
    failed: [path, offset of the group that failed, its octets]
    rescue: path of the segment that took it, "" if none did
    events: all notices
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from fastmta.message import Message, RecipientState
from fastmta.spool import SpoolError, SpoolOptions
from tests.support.client import until
from tests.support.spool import DEFERRED, NOW_NS, Shard, copy_crashed

OPTIONS = SpoolOptions(segment_octets=64 * 1024, clean_s=0.6)


def content_of(id: bytes) -> bytes:
    """What a message of this id holds."""
    return id * 150 + b"\r\n"


class Scene:
    """Drives the shard, and notes what it promises."""

    def __init__(self, place: Path, switch: Path) -> None:
        self.place = place
        self.switch = switch
        self.shard = Shard(place / "spool", OPTIONS)
        self.live: dict[bytes, Message] = {}
        self.refused: list[str] = []
        self.moments: dict[str, list[tuple[str, list[int]]]] = {}
        self.failed: tuple[str, int, int] = ("", 0, 0)
        self.rescue = ""

    def make(self, size: int = 0) -> Message:
        message = self.shard.make(b"a@one.example", b"b@one.example")
        message.content = content_of(message.id) + b"." * size
        message.size_octets = len(message.content)
        return message

    def accepted(self, message: Message, problem: SpoolError | None) -> None:
        if problem is None:
            self.live[message.id] = message
        else:
            self.refused.append(message.id.decode())

    def copy(self, name: str) -> None:
        """Copy the files as they are, and note what must be found in them."""
        copy_crashed(self.shard, self.place / name)
        self.moments[name] = [
            (id.decode(), [self.status(message, index) for index in (0, 1)])
            for id, message in self.live.items()
            if message.pending
        ]

    def status(self, message: Message, index: int) -> int:
        state = message.states.get(index)
        return 0 if state is None else int(state.status)

    def accept(self, *messages: Message) -> None:
        for message, problem in zip(messages, self.shard.accept(*messages), strict=True):
            self.accepted(message, problem)

    def play(self, scenario: str) -> None:
        self.accept(*(self.make() for _ in range(3)))
        if scenario == "first":
            self.accept(self.make(48_000))  # the next group needs another segment
        keeper = self.shard.spool._keeper
        until(lambda: len(keeper._spares) >= 2)  # it flushes nothing while the switch is there
        marked, *_ = self.live.values()
        self.shard.commit()
        writer = self.shard.spool._writer
        anew, told = writer.write_anew, writer._on_group

        def write_anew() -> bool:
            tail = writer.tail
            assert tail.segment is not None
            octets = tail.flying_end - tail.flying_start
            self.failed = (tail.segment.path, tail.flying_start - tail.segment.base, octets)
            self.copy("failed")
            got = anew()
            self.rescue = tail.segment.path if got else ""
            return got

        def on_group(*values: object) -> None:
            self.copy("written")  # and flushed, but nobody knows
            told(*values)  # type: ignore[arg-type]  # passed on
            self.copy("acknowledged")
            writer._on_group = told

        writer.write_anew = write_anew  # type: ignore[method-assign]  # to see the moment
        writer._on_group = on_group
        self.switch.touch()

        def start(done: Callable[..., None]) -> None:
            left = 3

            def one(message: Message, problem: SpoolError | None) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    done()

            def accepted(message: Message, problem: SpoolError | None) -> None:
                self.accepted(message, problem)
                one(message, problem)

            for _ in range(2):
                self.shard.spool.accept(self.make(), accepted)
            states = [RecipientState(0, DEFERRED, 1, NOW_NS, "later")]
            self.shard.spool.record(marked, states, one)

        self.shard.wait(start)
        self.switch.unlink()
        self.copy("told")
        if not self.shard.spool.has_failed:
            assert not self.shard.spool.is_healthy
            self.accept(self.make())
            self.shard.commit()
            self.copy("later")


def main(place: str, switch: str, scenario: str) -> None:
    scene = Scene(Path(place), Path(switch))
    scene.play(scenario)
    found = {
        "moments": scene.moments,
        "refused": scene.refused,
        "failed": scene.failed,
        "rescue": scene.rescue,
        "events": [str(event) for event in scene.shard.events],
    }
    print(json.dumps(found))
    scene.shard.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
