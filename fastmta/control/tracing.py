"""From what somebody asks for, and the files that there are, to the lines that tell of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from .journald import ID_FIELD, grep_of, journald_lines
from .logjson import LogLine
from .logline import Stamps, parse_line
from .logplace import end_of
from .logsearch import Hit, Matcher, Quest
from .story import Told

SESSION_OCTETS: Final = 256 << 10  # above a line, that are looked through for its TLS session
_ADDRESSES: Final = ("recipient", "original_recipient", "sender")
_ID: Final = re.compile(r"[0-9A-Za-z]{6,20}")


class Subject(NamedTuple):
    """What is asked for: a message by its id, or those that have an address or message-id."""

    id: str
    address: str
    message_id: str


class SubjectError(ValueError):
    """It is none of these."""


class Group(NamedTuple):
    """Files that belong together, the newest first; `source` as in `Told`."""

    source: str
    paths: list[str]


def parse_subject(text: str) -> Subject:
    """What `text` means. `id:`, `address:` and `message-id:` in front leave no choice; without,
    what is no id may be an address, or a name that an alias has, and a message-id. Raises
    SubjectError."""
    kind, colon, rest = text.partition(":")
    kind = kind.lower() if colon else ""
    if kind not in ("id", "message", "address", "recipient", "from", "to", "message-id"):
        kind, rest = "", text
    bare = rest.strip().removeprefix("<").removesuffix(">")
    if not bare or len(bare) > 1_000 or "\n" in bare:
        raise SubjectError("an id, an address or a message-id is wanted")
    if kind in ("id", "message") or (not kind and _ID.fullmatch(bare)):
        if not _ID.fullmatch(bare):
            raise SubjectError(f"{bare!r} is no id of the queue")
        return Subject(bare, "", "")
    if kind == "message-id":
        return Subject("", "", bare)
    return Subject("", bare, "" if kind else bare)


def matcher(subject: Subject) -> Matcher | None:
    """Which lines are of messages that are meant; None: the id says all."""
    if subject.id:
        return None
    wanted = (subject.address or subject.message_id).lower()
    stamps = Stamps(0.0)

    def id_of(octets: bytes) -> bytes:
        line = parse_line(octets, stamps)
        if line is None or not line.id:
            return b""
        return line.id.encode() if is_meant(subject, line) else b""

    return Matcher(wanted.encode("utf-8", "replace"), id_of)


def is_meant(subject: Subject, line: LogLine) -> bool:
    """Whether a line names the address, or the message-id."""
    facts = line.facts
    address, message_id = subject.address.lower(), subject.message_id.lower()
    if address and any(
        address == str(facts[name]).lower() for name in _ADDRESSES if facts.get(name) is not None
    ):
        return True
    named = str(facts.get("message_id") or "").lower()
    return bool(message_id) and named.removeprefix("<").removesuffix(">") == message_id


def gather(
    group: Group,
    subject: Subject,
    ids: Iterable[str],
    limit: int,
    tell: Callable[[str], None],
) -> tuple[list[Told], int]:
    """What a group of files tells of `ids` and of the newest `limit` other messages that are
    meant, in order of time; and how many octets were read for it."""
    quest = Quest(group.paths, tell)
    found = quest.find([id.encode() for id in ids], matcher(subject), limit)
    stamps: dict[int, Stamps] = {}
    lines: list[Told] = []
    last_s = 0.0
    for hit in found:
        if hit.source not in stamps:
            stamps[hit.source] = Stamps(end_of(quest.path_of(hit)))
        line = parse_line(hit.line, stamps[hit.source])
        if line is None:
            continue
        last_s = line.time_s or last_s
        if line.event == "received":
            line.facts["tls"] = _tls_of(quest, hit, line)
        lines.append(Told(line._replace(time_s=last_s), group.source))
    return lines, quest.octets


def gather_journald(
    subject: Subject, ids: Iterable[str], limit: int, tell: Callable[[str], None]
) -> list[Told]:
    """The same of what journald has."""
    wanted = list(dict.fromkeys(ids))
    if not subject.id:
        needle = subject.address or subject.message_id
        found = (line.id for line in journald_lines(grep_of(needle), tell) if
                 line.id and is_meant(subject, line))  # fmt: skip
        wanted = [*wanted, *list(dict.fromkeys(found))[-limit:]]
    matches = [f"{ID_FIELD}={id}" for id in wanted]
    lines = journald_lines(matches, tell) if matches else ()
    return [Told(line, "journald") for line in lines]


def in_order(groups: Sequence[list[Told]]) -> list[Told]:
    """All lines by time, each once: a log and a history may have the same ones."""
    merged = {told.line.text: told for group in reversed(groups) for told in group}
    ordered = [told for group in groups for told in group if merged.get(told.line.text) is told]
    return sorted(ordered, key=lambda told: told.line.time_s)


def _tls_of(quest: Quest, hit: Hit, line: LogLine) -> str | None:
    """The TLS session that a message came in by, if its client had no other session then.

    Its line is above, and names the client but no message.
    """
    client = str(line.facts["client"] or "")
    address = client[client.find("[") + 1 :].removesuffix("]").encode()
    stamps = Stamps(0.0)
    is_open, found = 0, ""
    for octets in quest.before(hit, SESSION_OCTETS).split(b"\n") if address else ():
        above = parse_line(octets, stamps) if address in octets else None
        if above is None or above.facts.get("client") != client:
            continue
        if above.event in ("connect", "disconnect"):
            is_open = max(0, is_open + (1 if above.event == "connect" else -1))
            found = ""
        elif above.event == "tls":
            found = str(above.facts["tls"])
    return found or None if is_open == 1 else None
