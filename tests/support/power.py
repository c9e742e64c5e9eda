"""Power loss by replay: run a script under the recorder, rebuild states of the disk, recover each.

    recording = record(place, script)
    result = replay(recording, place, random.Random(1), per_point=4, states=40)

For a crash after each of the chosen events every promise made until then is held against what
recovery finds. States that are octet for octet the same are recovered once. A `Violation` says
which state broke which promise, and what had happened until then.
"""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, TypeAlias
from unittest import mock

from fastmta.event import Notice, Severity
from fastmta.message import RecipientStatus
from fastmta.spool import SpoolOptions, layout, reserve
from tests.support.crash_states import Choice, crash_choices
from tests.support.disk import Disk, Files, State
from tests.support.power_child import DOMAINS, FAR_NS, HOPS, content_of
from tests.support.recording import MAPPED, Event, Kind, controls, read_events
from tests.support.spool import Shard, copy_crashed, delete_index

ROOT = Path(__file__).parents[2]
SPOOL = "spool"  # the shard's root, below the recorded directory
SEGMENT_OCTETS = 64 * 1024
RESERVE_OCTETS = 256 * 1024  # of an index: each is made in memory, and filled with zeros there
TRAIL = 40  # events shown before a crash that broke a promise
CHILD_S = 60.0
CLOCK_SET_BACK = SimpleNamespace(time_ns=lambda: 1)

States: TypeAlias = dict[int, tuple[int, int]]  # by recipient: status, due time


class Violation(AssertionError):
    """A promise was broken, or recovery went wrong."""


class Mail:
    """What was promised about one message."""

    def __init__(self, octets: int, recipients: int) -> None:
        self.octets = octets
        self.recipients = recipients
        self.is_accepted = False
        self.is_gone = False  # refused, or a recovery did not find it
        self.states: States = {}  # acknowledged
        self.due_dsn: list[str] = []  # of what is acknowledged
        self.flying: list[tuple[States, str | None]] = []  # handed over, oldest first

    def is_final(self, states: States) -> bool:
        """Whether nothing is left to do."""
        final = [status for status, _ in states.values() if RecipientStatus(status).is_final]
        return len(final) == self.recipients

    def all_states(self) -> list[States]:
        """The acknowledged states, then one change more at a time."""
        return [states for states, _ in self.histories()]

    def histories(self) -> Iterator[tuple[States, list[str]]]:
        """What may be durable: the acknowledged states, then one change more at a time; with the
        DSNs that must be there then."""
        states, dsns = dict(self.states), list(self.due_dsn)
        yield dict(states), list(dsns)
        for changes, dsn in self.flying:
            states.update(changes)
            if dsn is not None:
                dsns.append(dsn)
            yield dict(states), list(dsns)


class Promises:
    """All that the child was promised so far."""

    def __init__(self) -> None:
        self.mail: dict[str, Mail] = {}

    def read(self, line: bytes) -> None:
        """The next mark."""
        verb, *rest = json.loads(line)
        if verb == "open":
            self._opened(rest[0])
        elif verb == "try":
            self.mail[rest[0]] = Mail(rest[1], rest[2])
        elif verb == "accepted":
            self.mail[rest[0]].is_accepted = True
        elif verb == "refused":
            self.mail[rest[0]].is_gone = True
        elif verb == "mark":
            changes = {index: (status, due) for index, status, due in rest[1]}
            self.mail[rest[0]].flying.append((changes, rest[2]))
        elif verb == "marked":
            mail = self.mail[rest[0]]
            changes, dsn = mail.flying.pop(0)
            mail.states.update(changes)
            if dsn is not None:
                self.mail[dsn].is_accepted = True
                mail.due_dsn.append(dsn)

    def _opened(self, live: dict[str, list[tuple[int, int, int]]]) -> None:
        """What was under way at the end of the last life is decided now, for ever."""
        for id, mail in self.mail.items():
            told = live.get(id)
            if told is None:
                if mail.is_accepted and not any(map(mail.is_final, mail.all_states())):
                    raise Violation(f"{id} is lost after a restart")
                mail.is_gone = True
                continue
            mail.is_accepted = True
            mail.states = {index: (status, due) for index, status, due in told}
            mail.due_dsn, mail.flying = [], []
        unknown = live.keys() - self.mail.keys()
        if unknown:
            raise Violation(f"nobody ever sent {unknown}")

    def check(self, found: Recovered) -> None:
        """Raise Violation unless `found` keeps every promise."""
        if found.next_id in self.mail:
            raise Violation(f"the queue id {found.next_id} is given a second time")
        for id in found.live:
            if id not in self.mail:
                raise Violation(f"nobody ever sent {id}")
        for id, mail in self.mail.items():
            live = found.live.get(id)
            histories = list(mail.histories())
            if live is None:
                if mail.is_gone or not mail.is_accepted:
                    continue
                fitting = [dsns for states, dsns in histories if mail.is_final(states)]
                if not fitting:
                    raise Violation(f"{id} was accepted and is lost; its states: {mail.states}")
            else:
                if mail.is_gone:
                    raise Violation(f"{id} was refused, or is gone, and came back")
                fitting = [dsns for states, dsns in histories if states == live.states]
                if not fitting:
                    allowed = mail.all_states()
                    raise Violation(f"{id} has states {live.states}; promised: {allowed}")
                if mail.is_final(live.states):
                    raise Violation(f"{id} is final and live: {live.states}")
                if live.content != content_of(id.encode(), mail.octets):
                    raise Violation(f"the content of {id} is not what was sent")
            for dsn in fitting[0]:
                gone = self.mail[dsn]
                is_done = gone.is_gone or any(map(gone.is_final, gone.all_states()))
                if dsn not in found.live and not is_done:
                    raise Violation(f"{id} has failed and its DSN {dsn} is lost")


class Live(NamedTuple):
    """One message that recovery found."""

    states: States
    content: bytes | None


class Recovered(NamedTuple):
    """What recovery made of a state."""

    live: dict[str, Live]
    next_id: str  # the first that is given out, without the index and the clock set back


class Recording(NamedTuple):
    """One run of a script."""

    script: str
    events: list[Event]
    before: Disk  # what it held at first
    promises: Promises  # and what had been promised by then


class Result(NamedTuple):
    """What a replay did."""

    states: int  # different ones, each recovered
    crashes: int  # moments
    checks: int  # promises of a moment held against a state
    kinds: Counter[str]  # different states by class


def record(
    place: Path,
    script: str,
    *,
    seed: int = 0,
    delay_us: int = 1200,
    age_s: float = 0.0,
    before: Path | None = None,
    promises: Promises | None = None,
) -> Recording:
    """Run `script` in a child on a shard in `place`, and read what it did to the disk.

    A step with `die` ends a child, and the next step is the first of another. Raises AssertionError
    when the recorder missed anything: the last state must be the files.
    """
    root, marks = place / "recorded", place / "marks"
    if before is None:
        root.mkdir(parents=True)
    else:
        shutil.copytree(before, root)
    disk = Disk()
    disk.load(root)
    start = copy.deepcopy(disk)
    events: list[Event] = []
    for life, part in enumerate(_lives(script)):
        log = place / f"log-{life}"
        child = subprocess.run(
            [
                *(sys.executable, "-m", "tests.support.power_child", str(root / SPOOL), str(marks)),
                *(str(SEGMENT_OCTETS), str(age_s), part),
            ],
            env={**os.environ, **controls(root, log, marks, delay_us=delay_us, seed=seed + life)},
            cwd=ROOT,
            timeout=CHILD_S,
            check=False,
        )
        assert child.returncode == (-signal.SIGKILL if "die" in part else 0), child.returncode
        for event in read_events(log):
            events.append(event)
            disk.apply(event)
        assert _is_same(disk.build(disk.pending).files, root), "something escaped the recorder"
    return Recording(script, events, start, promises or Promises())


def _lives(script: str) -> list[str]:
    """The script cut behind each step that ends its process."""
    lives: list[list[str]] = [[]]
    for step in script.split(";"):
        lives[-1].append(step)
        if "die" in step:
            lives.append([])
    return [";".join(steps) for steps in lives if steps]


def _is_same(files: Files, root: Path) -> bool:
    """But for what is mapped."""
    there: Files = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        there[name] = None if path.is_dir() else path.read_bytes()
    both = files.keys() & there.keys()
    different = [name for name in both if files[name] != there[name]]
    return files.keys() == there.keys() and all(Path(n).name in MAPPED for n in different)


def unpack(state: State, target: Path) -> Path:
    """Write the files of a state; the root of its spool."""
    target.mkdir()
    for name, octets in sorted(state.files.items(), key=lambda item: item[0]):
        if octets is None:
            (target / name).mkdir(mode=0o700)
        else:
            (target / name).write_bytes(octets)
    return target / SPOOL


class Recoverer:
    """Recovers states, each once."""

    def __init__(self, place: Path) -> None:
        self.known: dict[bytes, Recovered] = {}
        self._place = place
        self._options = SpoolOptions(segment_octets=SEGMENT_OCTETS)

    def recover(self, state: State) -> tuple[Recovered, bool]:
        """What recovery finds, and whether this state is new. Raises Violation."""
        known = self.known.get(state.digest)
        if known is not None:
            return known, False
        shutil.rmtree(self._place, ignore_errors=True)
        self._place.mkdir(parents=True)
        with mock.patch.object(reserve, "RESERVE_OCTETS", RESERVE_OCTETS):
            found = self._recover(state)
        self.known[state.digest] = found
        return found, True

    def _recover(self, state: State) -> Recovered:
        first, again = self._place / "first", self._place / "again"
        root = unpack(state, first)
        with self._open(root) as shard:
            dump = shard.dump()
            live = self._look(shard)
            # Either the power goes again right after the start, or there is a clean end.
            is_crash = bool(state.digest[0] & 1)
            if is_crash:
                copy_crashed(shard, again)
        self._check_files(root, live)
        with self._open(again if is_crash else root) as shard:
            if shard.dump() != dump:
                raise Violation("a second recovery gives another state")
        bare = unpack(state, self._place / "bare")
        if (bare / "shard-00" / "index").exists():
            delete_index(bare)
        with mock.patch.object(layout, "time", CLOCK_SET_BACK):
            shard = self._open(bare)
        with shard:
            if shard.dump() != dump:
                raise Violation("the index rebuilt from the logs alone is another one")
            message = shard.accept_new()
            shard.deliver(message)
        return Recovered(live, message.id.decode())

    def _open(self, root: Path) -> Shard:
        shard = Shard(root, self._options)
        bad = [
            event
            for event in shard.events
            if isinstance(event, Notice) and event.severity in (Severity.ERROR, Severity.FATAL)
        ]
        if bad:
            shard.close()
            raise Violation(f"a loss of power was taken for damage: {bad[0].text}")
        return shard

    def _look(self, shard: Shard) -> dict[str, Live]:
        live = {}
        for hop in HOPS:
            shard.fetch(hop, FAR_NS)
        for id, indexed in shard.index().items():
            states = {at: (int(s.status), s.due_at_ns) for at, s in indexed.states.items()}
            held = shard.spool._ledger.messages.get(id)
            if held is None:  # on hold: no next hop has it
                held = shard.spool._indexer._load(indexed).message
            content = None if held is None else held.content
            if held is not None and held.file is not None:
                content = Path(held.file.path).read_bytes()
            live[id.decode()] = Live(states, content)
        shard.sweep()
        return live

    def _check_files(self, root: Path, live: dict[str, Live]) -> None:
        shard = root / "shard-00"
        for path in (shard / "big").iterdir():
            if path.name.partition("-")[2] not in live:
                raise Violation(f"{path.name} is left over in big/")
        for path in (shard / "quarantine").iterdir():
            raise Violation(f"a loss of power was taken for damage: {path.name} in quarantine")
        for path in shard.rglob("*.new"):
            raise Violation(f"{path.relative_to(shard)} is left over for ever")


def replay(
    recording: Recording,
    place: Path,
    chance: random.Random,
    *,
    states: int,
    per_moment: int = 4,
) -> Result:
    """Crash at moments spread over the whole recording until `states` different ones are recovered.

    Every moment gives S1, S2 and a sample of the other classes. Raises Violation.
    """
    disk = copy.deepcopy(recording.before)
    moments = _moments(recording.events, chance, max(1, states // 3))
    promises = copy.deepcopy(recording.promises)
    recoverer = Recoverer(place / "state")
    checks = crashes = 0
    kinds: Counter[str] = Counter()
    for at, event in enumerate(recording.events):
        disk.apply(event)
        if event.kind is Kind.MARK:
            promises.read(event.data)
        if at not in moments:
            continue
        crashes += 1
        for choice in _sample(disk, chance, per_moment):
            try:
                found, is_new = recoverer.recover(disk.build(choice.changes))
                promises.check(found)
            except Exception as problem:
                raise Violation(_trail(recording, at, disk, choice, problem)) from problem
            checks += 1
            kinds[choice.label[:2]] += is_new
    shutil.rmtree(place / "state", ignore_errors=True)
    return Result(len(recoverer.known), crashes, checks, kinds)


def second_run(
    recording: Recording, place: Path, script: str, chance: random.Random, *, seed: int
) -> Recording:
    """Lose the power once somewhere in `recording`, and record `script` on what is left then."""
    disk = copy.deepcopy(recording.before)
    promises = copy.deepcopy(recording.promises)
    for event in recording.events[: chance.randrange(len(recording.events)) + 1]:
        disk.apply(event)
        if event.kind is Kind.MARK:
            promises.read(event.data)
    choice = chance.choice(_sample(disk, chance, 6))
    left = place / "left"
    place.mkdir()
    unpack(disk.build(choice.changes), left)
    return record(place, script, seed=seed, before=left, promises=promises)


def _moments(events: list[Event], chance: random.Random, count: int) -> set[int]:
    """When to crash: after every kind of event, twice as likely where something became durable or
    was acknowledged."""
    weights = {
        at: 2 if event.kind in (Kind.SYNC_END, Kind.MARK) else 1
        for at, event in enumerate(events)
        if event.kind is not Kind.ROOT
    }
    order = sorted(weights, key=lambda at: chance.random() ** (1 / weights[at]), reverse=True)
    return {*order[:count], len(events) - 1}


def _sample(disk: Disk, chance: random.Random, count: int) -> list[Choice]:
    """S1, S2, and of the other classes, each as likely as any, `count` at most."""
    choices = crash_choices(disk, chance)
    chosen = choices.pop("S1") + choices.pop("S2", [])
    kinds = sorted(choices)
    for _ in range(count if kinds else 0):
        chosen.append(chance.choice(choices[chance.choice(kinds)]))
    return chosen


def _trail(recording: Recording, at: int, disk: Disk, choice: Choice, problem: Exception) -> str:
    kept = {change.number for change in choice.changes}
    lines = [f"{type(problem).__name__}: {problem}", f"script: {recording.script}"]
    lines.append(f"power lost after event {at}, state {choice.label}")
    lines.append("what was pending (+ survived, - did not):")
    lines += [f"  {'+' if o.number in kept else '-'} {o}" for o in disk.relevant()]
    lines.append("the last events:")
    names = _names(recording)
    for number, event in enumerate(recording.events[: at + 1]):
        if number > at - TRAIL:
            where = names.get(event.node, "") if event.kind is not Kind.MARK else ""
            lines.append(f"  {number} [{event.thread}] {event} {where}")
    return "\n".join(lines)


def _names(recording: Recording) -> dict[int, str]:
    return {
        event.node: event.name
        for event in recording.events
        if event.kind in (Kind.CREATE, Kind.MKDIR)
    }


__all__ = ["DOMAINS", "Recording", "Result", "Violation", "record", "replay", "second_run"]
