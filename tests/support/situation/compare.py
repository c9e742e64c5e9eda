"""A log to the lines of each situation, without what differs from run to run."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .table import Situation

_STAMP = re.compile(r"[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} \S+ ")
_TAG = re.compile(r"([A-Za-z/]+)\[[0-9]+\]: (.*)")
_QUEUE_ID = re.compile(r"(?:(?:warning|error): )?(?=[A-Za-z]*[0-9])([0-9A-Za-z]{10,20}): ")
_CLIENT = re.compile(r"\b127\.0\.[1-4]\.([0-9]{1,3})\b")
_DOMAIN = re.compile(r"\bs([0-9]{1,3})\.example\b")
_NOTIFICATION = re.compile(r"notification: ([0-9A-Za-z]+)")
_REPLACED = (
    (re.compile(r"\b127\.0\.([1-4])\.[0-9]{1,3}\b"), r"127.0.\1.1"),
    (_DOMAIN, "s.example"),
    (re.compile(r"delay=[0-9.]+, delays=[0-9./]+"), "delay=0, delays=0/0/0/0"),
    (re.compile(r"message-id=<[0-9A-Za-z]{10,20}@"), "message-id=<QID@"),
    (re.compile(r"message size [0-9]+ "), "message size 1 "),
    (re.compile(r"size=[0-9]+"), "size=1"),
    (re.compile(r"\([0-9]+ bytes\)"), "(1 bytes)"),
    (re.compile(r"(notification|queued as)((?:: )?) [0-9A-Za-z]{10,20}\b"), r"\1\2 QID"),
    (re.compile(r"queued as R[0-9]+\b"), "queued as R"),  # which comes first is chance
    (re.compile(r"notification: [0-9A-Za-z]{10,20}\b"), "notification: QID"),
)


def by_situation(log: str, situations: Sequence[Situation], port: int) -> dict[str, list[str]]:
    """The lines of each situation, sorted; programs answer each other in no fixed order."""
    entries: list[tuple[str, str]] = []
    for line in log.rstrip("\n").split("\n"):
        match = _TAG.match(_STAMP.sub("", line))
        if match:
            entries.append((match[1], match[2]))
    numbers = _numbers_of_ids(entries)
    found: dict[int, list[str]] = {situation.number: [] for situation in situations}
    for program, text in entries:
        queue_id = _QUEUE_ID.match(text)
        number = numbers.get(queue_id[1]) if queue_id else None
        if number is None and (match := _CLIENT.search(text) or _DOMAIN.search(text)):
            number = int(match[1])
        if number in found:
            found[number].append(comparable(f"{program}: {text}", port))
    return {situation.name: sorted(found[situation.number]) for situation in situations}


def _numbers_of_ids(entries: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Which situation a queue id belongs to: that of its client, or of what it tells about."""
    numbers: dict[str, int] = {}
    for _ in range(3):  # a report about a report is the longest chain
        for _, text in entries:
            match = _QUEUE_ID.match(text)
            if not match:
                continue
            place = _CLIENT.search(text) or _DOMAIN.search(text)
            if place:
                numbers.setdefault(match[1], int(place[1]))
            told = _NOTIFICATION.search(text)
            if told and match[1] in numbers:
                numbers.setdefault(told[1], numbers[match[1]])
    return numbers


def comparable(text: str, port: int) -> str:
    """One line or reply."""
    text = replaced(text, port)
    program, _, rest = text.partition(": ")
    match = _QUEUE_ID.match(rest)
    if match:
        rest = rest.replace(f"{match[1]}: ", "QID: ", 1)
    return f"{program}: {rest}" if rest else text


def replaced(text: str, port: int) -> str:
    """`text` without addresses, times and sizes of this run."""
    text = text.replace(f"]:{port}", "]:2526")
    for pattern, replacement in _REPLACED:
        text = pattern.sub(replacement, text)
    return text


def comparable_replies(replies: Sequence[str], port: int) -> list[str]:
    # "(closed)": by whom, and how, is a matter of timing.
    return [replaced(reply, port) for reply in replies if reply != "(closed)"]
