"""What a child with a shard said that it was promised, and whether the recovered shard keeps it.

Lines are JSON lists, in the order in which things happened:

    ["try", id]                 a message is handed to accept, or as a DSN to record
    ["accepted", id]            it is durable
    ["mark", id, [[index, status, due], ...], DSN id or null]   handed to record
    ["marked", id]              they are durable
    ["refused", id, why]        either of them is not
"""

from __future__ import annotations

import json
from pathlib import Path

from fastmta.message import RecipientStatus
from tests.support.spool import Shard
from tests.support.spool_child import DOMAINS, content_of

States = dict[int, tuple[int, int]]  # by recipient: status, due time


def _is_final(states: States, recipients: int) -> bool:
    final = (status for status, _ in states.values() if RecipientStatus(status).is_final)
    return sum(1 for _ in final) == recipients


class Promises:
    """Of each id the marks that are durable and those that may be."""

    def __init__(self) -> None:
        self.accepted: dict[str, States] = {}
        self.tried: set[str] = set()
        self.refused: set[str] = set()  # messages, not marks
        self.marks: dict[str, tuple[States, str | None]] = {}
        self.counts = {"accepted": 0, "marked": 0, "refused": 0}

    def read(self, line: bytes) -> None:
        """Take one line."""
        verb, *rest = json.loads(line)
        if verb == "try":
            self.tried.add(rest[0])
        elif verb == "accepted":
            self.accepted[rest[0]] = {}
            self.counts["accepted"] += 1
        elif verb == "mark":
            states = {index: (status, due) for index, status, due in rest[1]}
            self.marks[rest[0]] = states, rest[2]
        elif verb == "marked":
            states, dsn = self.marks.pop(rest[0])
            # A message from an earlier run is known by now, or was never acknowledged.
            self.accepted.setdefault(rest[0], {}).update(states)
            if dsn is not None:
                self.accepted.setdefault(dsn, {})
            self.counts["marked"] += 1
        elif verb == "refused":
            if rest[0] not in self.accepted:
                self.refused.add(rest[0])
            self.counts["refused"] += 1

    def check(self, shard: Shard) -> set[str]:
        """Compare with the recovered shard, whose state is the truth from now on.

        Returns the refused messages that came back.
        """
        live: dict[str, States] = {}
        for key, found in shard.recovered.items():
            live[key.decode()] = {
                at: (int(s.status), s.due_at_ns) for at, s in found.states.items()
            }
        for id, states in self.accepted.items():
            allowed = [states]
            if id in self.marks:
                allowed.append({**states, **self.marks[id][0]})
            if id in live:
                assert live[id] in allowed, f"{id}: {live[id]} is none of {allowed}"
            else:
                finals = [s for s in allowed if s and _is_final(s, len(s))]
                assert finals, f"{id} was accepted and is lost; its states: {allowed}"
        self._check_reports(live)
        unknown = set(live) - set(self.accepted) - self.tried
        assert not unknown, f"nobody ever sent {unknown}"
        returned = self.refused & set(live)
        self.accepted = live
        self.tried.clear()
        self.refused.clear()
        self.marks.clear()
        return returned

    def _check_reports(self, live: dict[str, States]) -> None:
        """A failure that nobody acknowledged is not there unless its DSN is."""
        for id, (states, dsn) in self.marks.items():
            if dsn is None or not states:
                continue
            has_failure = id not in live or any(live[id].get(at) == s for at, s in states.items())
            if id in self.accepted and has_failure:
                assert dsn in live, f"{id} has failed, and its report {dsn} is lost"


def check_contents(shard: Shard, large: bytes | None = None) -> None:
    """Everything that waits has its content, octet for octet.

    That of its id, or `large`, or in a file twice `large`.
    """
    for domain in DOMAINS:
        messages, _ = shard.fetch(b"smtp:" + domain, 2**62, limit=100_000)
        for message in messages:
            if message.file is None:
                assert message.content in (content_of(message.id), large)
            else:
                assert Path(message.file.path).read_bytes() == 2 * (large or b"")
