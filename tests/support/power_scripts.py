"""Scripts for tests/support/power_child.py: named ones, every short one, and random ones."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

TURN = "fill 3 30000"  # begins at least one segment of 64 KiB

NAMED = {
    "start and stop": "wait 0",
    "accept and deliver": "accept a; deliver a; commit",
    "two at once": "accept a & accept b; deliver a & accept c; deliver b & deliver c",
    "recipients in turn": "accept a 300 3; deliver a 0; defer a 1; fail a 2; deliver a 1",
    "deferred and indexed": "accept a 300 2; defer a; release a; commit; fetch; deliver a; commit",
    "bounced": "accept a 9000; fail a & accept b & accept c; deliver a'; commit",
    "held over a restart": "accept a; hold a; release a; commit; reopen; accept b; deliver b",
    "indexed while changed": "accept a 300 2; commit & defer a 0; commit & deliver a 1; commit",
    "groups of many pages": "accept a 6000 & accept b 50 & accept c 9000; deliver b; deliver a",
    "as large as a segment": "accept a 60000; accept b 60900; accept c 70000; deliver a; fail b",
    "a segment is begun": f"accept a; {TURN}; deliver a; commit",
    "segments used again": f"{TURN}; commit; {TURN}; commit; {TURN}; accept a; {TURN}",
    "freed while written": f"{TURN}; commit & accept a & {TURN}; commit & deliver a & {TURN}",
    "old mail": f"accept a; release a; {TURN}; commit; {TURN}; commit; fetch; deliver a",
    "outcome far from its mail": f"accept a 300 2; {TURN}; deliver a 0; {TURN}; commit; reopen",
    "final far from its mail": f"accept a; {TURN}; fail a; {TURN}; commit; {TURN}; deliver a'",
    "restart with mail": "accept a; accept b; deliver a; reopen; fetch; deliver b; accept c",
    "restart twice": "accept a; reopen; accept b; reopen; accept c; fetch; deliver a & deliver c",
    "index lost": "accept a 300 2; deliver a 0; commit; reopen without-index; fetch; deliver a 1",
    "index lost, segments freed": f"accept a; {TURN}; commit; {TURN}; commit; reopen without-index",
    "by the timers": f"accept a; {TURN}; wait 0.3; deliver a; {TURN}; wait 0.5",
    "a large content": "big a; deliver a; big b & accept c; commit; reopen; fetch; deliver b",
    "large contents given up": "begin_big a & big b; begin_big c; reopen; wait 0.1; begin_big d",
    "trim": f"accept a; release a; {TURN}; trim; fetch; deliver a; {TURN}; trim",
    "trim, outcome at once": f"accept a 300 3; {TURN}; deliver a 0; trim & defer a 1; deliver a",
    "trim while delivered": f"accept a 9000 2; {TURN}; trim & deliver a 0; trim & deliver a 1",
    "trim final mail": f"accept a; {TURN}; trim; fail a; {TURN}; trim; deliver a'; {TURN}; trim",
    "trim, outcomes of cold mail": f"accept a & accept b 300 2; {TURN}; trim; deliver a;"
    f"deliver b 0; {TURN}; {TURN}; trim 0.3; {TURN}; trim 0.2",
    "trim, lose the index": f"accept a; {TURN}; defer a; trim; reopen without-index; fetch; trim",
    "trim, restart": f"accept a; {TURN}; trim; reopen; fetch; deliver a; {TURN}; trim; reopen",
    "trim a large content": f"big a; {TURN}; trim; {TURN}; trim; deliver a; trim",
    "killed while trimming": f"accept a & accept b; {TURN}; trim & deliver a & die 0.02; trim",
    "killed while writing": "accept a; accept b & deliver a & die 0.001; fetch; deliver_all",
    "killed while indexing": "accept a; release a; commit & die 0.002; fetch; deliver_all; commit",
    "killed while starting": f"accept a; {TURN}; commit & die 0.003; accept b & die 0.001; fetch",
    "idle after mail": "accept a; deliver a; accept b; release b; wait 0.5",
}

# What is done with a shard on which the power was lost.
AFTERWARDS = "accept z; fetch; deliver_all & commit; accept y; wait 0.3; reopen; fetch; deliver_all"


class _World:
    """Which verbs make sense now."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}  # name: recipients that are not final, in memory
        self.away: dict[str, int] = {}  # released
        self.on_hold: set[str] = set()  # comes back with no fetch
        self.count = 0

    def accept(self, octets: int, recipients: int) -> str:
        name = f"m{self.count}"
        self.count += 1
        self.held[name] = recipients
        return f"accept {name} {octets} {recipients}"

    def apply(self, word: str, name: str) -> str:
        """A verb for one message in memory."""
        if word in ("deliver", "fail"):
            del self.held[name]
            if word == "fail":
                self.held[f"{name}'"] = 1
        elif word == "hold":
            self.on_hold.add(name)
        elif word == "defer":
            self.on_hold.discard(name)
        elif word == "release":
            self._leave(name)
        return f"{word} {name}"

    def fetch(self) -> str:
        self.held.update(self.away)
        self.away.clear()
        return "fetch"

    def reopen(self, kind: str) -> str:
        for name in list(self.held):
            self._leave(name)
        return f"reopen {kind}"

    def _leave(self, name: str) -> None:
        recipients = self.held.pop(name)
        if name not in self.on_hold:
            self.away[name] = recipients


CHANGES = ("deliver", "defer", "fail", "hold", "release")
WORDS = (*("accept", "deliver", "commit") * 3, *("turn", "trim") * 2, *CHANGES, "fetch")
REOPEN = ("reopen with-index", "reopen without-index")
SHORT = ("accept", "accept large", *CHANGES, "fetch", "commit", "turn", "trim", *REOPEN)


def short_scripts(length: int) -> Iterator[str]:
    """Every script of so many steps that begins with a message and makes sense, in a fixed order.

    A verb for a message is for the oldest one in memory.
    """
    for words in itertools.product(SHORT, repeat=length - 1):
        script = _script(("accept", *words))
        if script is not None:
            yield script


def _script(words: tuple[str, ...]) -> str | None:
    world = _World()
    steps = []
    for before, word in itertools.pairwise(("", *words)):
        first, _, kind = word.partition(" ")
        if first == "accept":
            steps.append(world.accept(40_000 if kind else 300, 2))
        elif first in CHANGES:
            if not world.held:
                return None
            steps.append(world.apply(first, min(world.held)))
        elif first == "fetch":
            if not world.away:
                return None
            steps.append(world.fetch())
        elif first == "reopen":
            if before.startswith("reopen"):
                return None
            steps.append(world.reopen(kind))
        else:
            steps.append(TURN if first == "turn" else first)
    return "; ".join(steps)


def random_script(chance: random.Random, steps: int) -> str:
    """A script of so many steps, with several things under way in each."""
    world = _World()
    script: list[str] = []
    while len(script) < steps:
        if chance.random() < 0.07:
            kind = chance.choice(("with-index", "with-index", "without-index"))
            script += [world.reopen(kind), world.fetch()]
            continue
        there = sorted(world.held)  # what is accepted in this step cannot be changed in it
        verbs = []
        for _ in range(chance.choice((1, 1, 2, 2, 3, 4))):
            verbs.append(_random_verb(world, there, chance))
        script.append(" & ".join(verbs))
    return "; ".join(script)


def _random_verb(world: _World, there: list[str], chance: random.Random) -> str:
    word = chance.choice(WORDS)
    if word == "accept" or (word in CHANGES and not there):
        octets = chance.choice((40, 300, 3900, 4100, 20_000, 55_000))
        return world.accept(octets, chance.choice((1, 1, 2, 3)))
    if word in CHANGES:
        name = there.pop(chance.randrange(len(there)))
        return world.apply(word, name)
    return world.fetch() if word == "fetch" else TURN if word == "turn" else word
