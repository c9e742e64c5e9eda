"""A process that works on a shard as a script says, made to be recorded.

    python -m tests.support.power_child ROOT MARKS SEGMENT_OCTETS AGE_S SCRIPT

A script is steps with `;` between them; a step is one or more verbs with `&` between them, which
are under way together; the step ends when all of them have been answered. See `Worker`.

Each line written to MARKS is one JSON list:

    ["open", {id: [[index, status, due], ...]}]   the shard has been opened, and this is in it
    ["try", id, octets, recipients]        a message is handed to accept
    ["accepted", id]                       it is durable
    ["refused", id, why]                   it is not
    ["mark", id, [[index, status, due], ...], dsn id]   these changes are handed to record
    ["marked", id]                         they are durable
    ["die"]                                the recorder ends the process
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from fastmta.message import ContentFile, Message, RecipientState, RecipientStatus
from fastmta.spool import SpoolError, SpoolOptions, ledger
from tests.support.spool import NOW_NS, Shard

DOMAINS = (b"one.example", b"two.example", b"three.example")
HOPS = tuple(b"smtp:" + domain for domain in DOMAINS)
FAR_NS = 2**62


@functools.lru_cache(maxsize=256)
def content_of(id: bytes, octets: int) -> bytes:
    """The content that the message of this id has."""
    return (id * (octets // len(id) + 1))[:octets]


def told_of(states: Iterable[RecipientState]) -> list[tuple[int, int, int]]:
    """States as they stand in marks."""
    return [(state.index, int(state.status), state.due_at_ns) for state in states]


class Worker:
    """One verb, one method; `name` is the script's word for a message."""

    def __init__(self, root: Path, marks: Path, options: SpoolOptions) -> None:
        self.root = root
        self.options = options
        self.messages: dict[str, Message] = {}
        self.recipients: dict[bytes, int] = {}
        self.under_way = 0
        self._marks = os.open(marks, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self._ready: Callable[..., None] | None = None
        self._open()

    def run(self, script: str) -> None:
        for step in script.split(";"):
            word, *rest = step.split()
            if word == "reopen":
                self._reopen(*rest)
            else:
                self.shard.wait(functools.partial(self._start, step))
        self.shard.close()

    def _reopen(self, index: str = "with-index") -> None:
        """Stop and start again; messages are known again after `fetch`."""
        self.shard.close()
        if index == "without-index":
            shutil.rmtree(self.root / "shard-00" / "index")
        self._open()

    def _start(self, step: str, done: Callable[..., None]) -> None:
        self._ready = done
        self.under_way = 1
        for verb in step.split("&"):
            word, *rest = verb.split()
            getattr(self, word.replace("-", "_"))(*rest)
        self._finished()

    def _finished(self, *_: object) -> None:
        self.under_way -= 1
        if not self.under_way and self._ready is not None:
            self._ready()

    def say(self, *values: Any) -> None:
        os.write(self._marks, json.dumps(values).encode() + b"\n")

    def _open(self) -> None:
        self.shard = Shard(self.root, self.options)
        live = {id.decode(): found.states for id, found in self.shard.recovered.items()}
        self.say("open", {id: told_of(states.values()) for id, states in live.items()})

    # Verbs

    def accept(self, name: str, octets: str = "300", recipients: str = "1") -> None:
        """A message of its own content, to so many recipients at different next hops."""
        paths = [b"u@" + domain for domain in DOMAINS[: int(recipients)]]
        message = self._make(name, paths, b"sender@one.example", int(octets))
        self.under_way += 1
        self.shard.spool.accept(message, self._accepted)

    def _make(self, name: str, paths: Sequence[bytes], reverse_path: bytes, octets: int) -> Message:
        message = self.shard.make(*paths, reverse_path=reverse_path)
        message.content = content_of(message.id, octets)
        message.size_octets = octets
        self.messages[name] = message
        self.say("try", message.id.decode(), octets, len(paths))
        return message

    def _accepted(self, message: Message, problem: SpoolError | None) -> None:
        if problem is None:
            self.say("accepted", message.id.decode())
        else:
            self.say("refused", message.id.decode(), str(problem))
        self._finished()

    def big(self, name: str, octets: str = "20000", pieces: str = "3") -> None:
        """A message whose content is a file of its own, written in so many pieces."""
        message = self._make(name, [b"u@one.example"], b"sender@one.example", int(octets))
        content, message.content = message.content, None
        assert content is not None
        self.under_way += 1

        def finished(file: ContentFile | None, problem: OSError | None) -> None:
            if file is None:
                self.say("refused", message.id.decode(), str(problem))
                self._finished()
                return
            message.file = file
            self.shard.spool.accept(message, self._accepted)

        spill = self.shard.spool.begin_big(message.id, lambda: None)
        step = -(-len(content) // int(pieces))
        for at in range(0, len(content), step):
            spill.write(content[at : at + step])
        spill.finish(finished)

    def begin_big(self, name: str, octets: str = "20000") -> None:
        """A content whose end never comes."""
        message = self._make(name, [b"u@one.example"], b"sender@one.example", int(octets))
        self.shard.spool.begin_big(message.id, lambda: None).write(message.content or b"")

    def deliver(self, name: str, index: str = "") -> None:
        """One recipient, or all, has it."""
        self._record(name, RecipientStatus.DELIVERED, index)

    def defer(self, name: str, index: str = "") -> None:
        self._record(name, RecipientStatus.DEFERRED, index)

    def hold(self, name: str, index: str = "") -> None:
        self._record(name, RecipientStatus.HELD, index)

    def fail(self, name: str, index: str = "") -> None:
        """Failed, with a DSN that the script calls `name` and a quotation mark."""
        dsn = self._make(f"{name}'", [b"sender@one.example"], b"", 700)
        self._record(name, RecipientStatus.FAILED, index, dsn)

    def _record(
        self, name: str, status: RecipientStatus, index: str, dsn: Message | None = None
    ) -> None:
        message = self.messages[name]
        count = len(message.envelope.forward_paths)
        indices = [int(index)] if index else range(count)
        changes = [
            RecipientState(at, status, message.attempts_of(at) + 1, NOW_NS + at, "text")
            for at in indices
            if not message.is_final(at)
        ]
        dsn_id = dsn.id.decode() if dsn else None
        self.say("mark", message.id.decode(), told_of(changes), dsn_id)
        self.under_way += 1
        self.shard.spool.record(message, changes, self._recorded, dsn)

    def _recorded(self, message: Message, problem: SpoolError | None) -> None:
        if problem is None:
            self.say("marked", message.id.decode())
        self._finished()

    def deliver_all(self) -> None:
        """Whatever is in memory, from earlier lives too."""
        for message in list(self.shard.spool._ledger.messages.values()):
            self.messages[message.id.decode()] = message
            self.deliver(message.id.decode())

    def release(self, name: str) -> None:
        """Nobody holds it any more: it becomes rows of the index."""
        self.shard.spool.release(self.messages[name])

    def fetch(self) -> None:
        """What the index has comes back to memory."""
        names = {message.id: name for name, message in self.messages.items()}

        def fetched(messages: list[Message], _: int | None) -> None:
            for message in messages:
                if message.id in names:
                    self.messages[names[message.id]] = message
            self._finished()

        for hop in HOPS:
            self.under_way += 1
            self.shard.spool.fetch(hop, FAR_NS, b"", 1000, fetched)

    def commit(self) -> None:
        """The index catches up as far as it may."""
        self.under_way += 1
        clerk = self.shard.spool._clerk

        def answered(*_: object) -> None:
            clerk._tick()
            self._finished()

        self.shard.spool.fetch(b"smtp:nowhere.invalid", NOW_NS, b"", 1, answered)

    def trim(self, seconds: str = "0.1") -> None:
        """Commits, until the trimmer has got on for so long."""
        self.under_way += 1
        end_s = time.monotonic() + float(seconds)

        def turn() -> None:
            self.shard.spool._clerk._tick()
            if time.monotonic() < end_s:
                self.shard.loop.call_later(0.01, turn)
            else:
                self._finished()

        turn()

    def fill(self, count: str, octets: str) -> None:
        """So many messages that are accepted, and delivered at once: the log turns over."""
        for at in range(int(count)):
            name = f"fill {time.monotonic_ns()} {at}"
            message = self._make(name, [b"u@one.example"], b"sender@one.example", int(octets))
            self.under_way += 1

            def accepted(message: Message, problem: SpoolError | None, name: str = name) -> None:
                self._accepted(message, problem)
                self.under_way += 1
                if problem is None:
                    self.deliver(name)
                self._finished()

            self.shard.spool.accept(message, accepted)

    def die(self, seconds: str = "0") -> None:
        """kill -9 by the recorder, with whatever is under way then; the next step is another
        process's."""
        self.under_way += 1
        self.shard.loop.call_later(float(seconds), self.say, "die")

    def wait(self, seconds: str) -> None:
        """Let the timers of the spool run."""
        self.under_way += 1
        self.shard.loop.call_later(float(seconds), self._finished)


def main(root: str, marks: str, segment_octets: str, age_s: str, script: str) -> None:
    ledger.AGE_S = float(age_s)
    trimmer: Any = sys.modules.get("fastmta.spool.trimmer")
    if trimmer is not None:
        trimmer.LIVE_FACTOR, trimmer.SLACK_SEGMENTS = 0.1, 0  # whenever it would give room back
    options = SpoolOptions(segment_octets=int(segment_octets))
    Worker(Path(root), Path(marks), options).run(script)


if __name__ == "__main__":
    main(*sys.argv[1:])
