"""Many sessions against us and each of the other servers; what differs and has no name."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..daemon import Server, running
from .contents import behind_our_field, is_clean
from .message import Stored
from .play import Difference, Pair, Record, play
from .recorder import Recorder
from .script import Script
from .servers import OURS, AiosmtpdOracle, TwoSidesOfTls, postfix_oracle
from .side import Answer
from .table import Table

_AT_A_TIME = 16
_ARRIVAL_S = 60.0
_STRAY_MAX = 600  # characters that are shown of a message
_SHOWN_MAX = 8


class Oracle(Protocol):
    """A server that ours is compared with."""

    port: int

    def stored(self, queue_id: str) -> Stored: ...
    def ids(self) -> set[str]: ...


@dataclass(slots=True)
class Outcome:
    """What a comparison with one server came to."""

    server: str
    sessions: int = 0
    replies: int = 0
    messages: int = 0
    named: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)  # each with what is needed to see it again

    def facts(self) -> dict[str, int]:
        """For whoever sums up runs."""
        counts = {"sessions": self.sessions, "replies": self.replies, "messages": self.messages}
        counts |= {f"class {name}": count for name, count in self.named.items()}
        return {f"{self.server} {key}": count for key, count in counts.items()}


class Trial:
    """Servers of one configuration, and the comparison of sessions played to them."""

    def __init__(self, directory: Path, table: Table) -> None:
        self._directory = directory
        self._table = table
        self._tls = TwoSidesOfTls(directory)
        self._told: set[str] = set()  # ids of ours that somebody was told

    def run(self, scripts: Sequence[Script]) -> list[Outcome]:
        """Start everything, play all scripts, compare, stop everything."""
        return asyncio.run(self._run(scripts))

    async def _run(self, scripts: Sequence[Script]) -> list[Outcome]:
        recorder = Recorder()
        await recorder.start()
        aiosmtpd = AiosmtpdOracle(self._tls)
        await aiosmtpd.start()
        stack = ExitStack()
        try:
            hop = f"[127.0.0.1]:{recorder.port}"
            ours = running(self._directory / "ours", relay_host=hop, **OURS)
            server = await asyncio.to_thread(stack.enter_context, ours)
            theirs = postfix_oracle(self._tls)
            postfix = await asyncio.to_thread(stack.enter_context, theirs)
            plain = [script.plain() for script in scripts]
            outcomes = [
                await self._compare("postfix", postfix, server, scripts, recorder),
                await self._compare("aiosmtpd", aiosmtpd, server, plain, recorder),
            ]
        finally:
            await asyncio.to_thread(stack.close)
            aiosmtpd.close()
            await recorder.close()
        return outcomes

    async def _compare(
        self,
        name: str,
        oracle: Oracle,
        server: Server,
        scripts: Sequence[Script],
        recorder: Recorder,
    ) -> Outcome:
        before = set(recorder.messages)
        ports = (server.port, oracle.port)
        limit = asyncio.Semaphore(_AT_A_TIME)

        async def one(script: Script) -> Record:
            async with limit:
                return await play(script, ports, self._tls.client)

        records = await asyncio.gather(*map(one, scripts))
        wanted = {pair.our_id for record in records for pair in record.pairs}
        deadline = time.monotonic() + _ARRIVAL_S
        while not wanted <= recorder.messages.keys() and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        outcome = Outcome(name, len(records))
        for record in records:
            outcome.replies += record.replies
            for pair in record.pairs:
                outcome.messages += 1
                self._compare_stored(record, pair, recorder, oracle, outcome)
        self._told |= wanted.union(*(record.lone_ids for record in records))
        # What was told while another oracle played may arrive as late as now.
        strays = set(recorder.messages) - before - self._told
        strays = {id for id in strays if not _is_report(recorder.messages[id])}
        _add_strays("we", strays, outcome)
        outcome.problems += [f"{id}: {recorder.messages[id]!r}"[:_STRAY_MAX] for id in strays]
        told = {pair.their_id for record in records for pair in record.pairs}
        told.update(*(record.their_lone_ids for record in records))
        _add_strays("they", oracle.ids() - told, outcome)
        await self._name(records, ports, outcome)
        return outcome

    def _compare_stored(
        self, record: Record, pair: Pair, recorder: Recorder, oracle: Oracle, outcome: Outcome
    ) -> None:
        """One message: arrived once, as it was sent, and the same on both sides."""
        arrived = recorder.messages.get(pair.our_id, [])
        where = f"session {record.script.seed}, message {pair.our_id}"
        if len(arrived) != 1:
            outcome.problems.append(f"{where}: delivered {len(arrived)} times")
            return
        ours, theirs = arrived[0], oracle.stored(pair.their_id)
        if is_clean(pair.content) and ours.content != behind_our_field(pair.content):
            text = f"sent {pair.content!r}, ours {ours.content!r}"
            outcome.problems.append(f"{where}: we have changed it: {text}")
        if ours.envelope != theirs.envelope:
            text = f"{ours.envelope}, they {theirs.envelope}"
            outcome.problems.append(f"{where}: envelopes: we {text}")
        if ours.content != theirs.content:
            shown = Answer(250, repr(ours.content)), Answer(250, repr(theirs.content))
            difference = Difference("stored", pair.content, *shown, pair.is_trusted)
            record.differences.append(difference)

    async def _name(
        self, records: Iterable[Record], ports: tuple[int, int], outcome: Outcome
    ) -> None:
        """Count the differences that have a name; of each kind without one, show the first."""
        kinds: dict[tuple[str, int, int], list[tuple[Record, Difference]]] = {}
        for record in records:
            for difference in record.differences:
                name = self._table.name_of(outcome.server, difference)
                if name:
                    outcome.named[name] += 1
                else:
                    kinds.setdefault(difference.kind, []).append((record, difference))
        for kind, found in kinds.items():
            record, difference = found[0]
            seeds = [record.script.seed for record, _ in found[:_SHOWN_MAX]]
            outcome.problems.append(f"{len(found)} times, seeds {seeds}: {difference}")
            if len(outcome.problems) <= _SHOWN_MAX and difference.verb != "stored":
                small = await self._shrink(record, kind, ports)
                outcome.problems[-1] += "\n" + "\n".join(small.transcript)

    async def _shrink(
        self, record: Record, kind: tuple[str, int, int], ports: tuple[int, int]
    ) -> Record:
        """The shortest beginning that still shows it, without the steps that it does not need."""

        async def shows(script: Script) -> Record | None:
            again = await play(script, ports, self._tls.client)
            return again if any(one.kind == kind for one in again.differences) else None

        script = record.script
        for count in range(len(script.steps)):
            again = await shows(script.prefix(count + 1))
            if again:
                record = again
                break
        for index in reversed(range(len(record.script.steps))):
            record = await shows(record.script.without(index)) or record
        return record


def _is_report(arrived: Sequence[Stored]) -> bool:
    """Whether we made it: a report of success (RFC 3461 4.1), or a notice to the postmaster."""
    return all(b"\nAuto-Submitted: auto-" in one.content for one in arrived)


def _add_strays(who: str, ids: set[str], outcome: Outcome) -> None:
    """Messages that nobody was told about: content taken for commands, or the other way round."""
    if ids:
        outcome.problems.append(f"{who} have messages that were not acknowledged: {sorted(ids)}")
