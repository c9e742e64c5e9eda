"""The reports that came back to senders, as lines that can be compared.

What they consist of is shown by place ("head", "text", "status", "returned"), fields by name and
value, and the order of the fields besides. The sentences of the text are not: they are each
server's own, and shown as "...".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence

from tests.support.receiver import Receiver

from .compare import replaced
from .table import Situation

_DATE = re.compile(r"[A-Z][a-z]{2}, [ 0-9]?[0-9] [A-Z][a-z]{2} [0-9: ]{13} [+-][0-9]{4} \([A-Z]+\)")
_QUEUE_ID = re.compile(r"\b(?=[A-Za-z]*[0-9])[0-9A-Za-z]{12,20}\b")
_BOUNDARY = re.compile(r"QID\.[0-9]+/")
_BOUNDARY_PARAMETER = re.compile(r'boundary="([^"]+)"')
_FOLD = re.compile(r"\n[ \t]+")


def by_situation(
    receivers: Sequence[Receiver], situations: Sequence[Situation], port: int
) -> dict[str, list[str]]:
    """What was reported in each situation, sorted; reports come in no fixed order."""
    names = {host: one.name for one in situations for host in one.hosts}
    found: dict[str, list[str]] = {one.name: [] for one in situations}
    for receiver in receivers:
        for one in receiver.transactions:
            if one.is_accepted and not one.reverse_path and b"multipart/report" in one.content:
                found[names[receiver.address]] += shown(one.content, port)
    return {name: sorted(lines) for name, lines in found.items()}


def shown(content: bytes, port: int) -> list[str]:
    """One report."""
    text = content.decode("utf-8", "replace").replace("\r\n", "\n")
    head, parts = _split(text)
    lines = [*_fields("head", head), f"parts: {len(parts)}"]
    contents = []
    for place, part in zip(("text", "status", "returned"), parts, strict=True):
        fields, _, body = part.partition("\n\n")
        lines += _fields(f"{place} part", fields)
        if "\nContent-Transfer-Encoding: base64" in fields:
            body = base64.b64decode(body).decode("utf-8", "replace").replace("\r\n", "\n")
        contents.append(body)
    lines += _text(contents[0])
    for group in contents[1].rstrip("\n").split("\n\n"):
        lines += _fields("status", group)
    fields, _, body = contents[2].partition("\n\n")
    lines += _fields("returned", fields)
    lines.append(f"returned body: {len(body.strip())} characters")
    return [_comparable(line, port) for line in lines]


def _split(text: str) -> tuple[str, list[str]]:
    """The header section and the parts."""
    head, _, body = text.partition("\n\n")
    boundary = _BOUNDARY_PARAMETER.search(head)
    assert boundary, head
    first, *parts = body.split(f"--{boundary[1]}\n")
    assert len(parts) == 3, first
    last, end, _ = parts[2].partition(f"--{boundary[1]}--\n")
    assert end, last
    return head, [*parts[:2], last]


def _fields(place: str, section: str) -> Iterator[str]:
    lines = [line for line in _FOLD.sub(" ", section).split("\n") if line]
    yield f"{place} fields: {' '.join(line.partition(':')[0] for line in lines)}"
    for line in lines:
        yield f"{place}: {line}"


def _text(text: str) -> Iterator[str]:
    """Its paragraphs, numbered; some of its own words are one."""
    shown: list[str] = []
    for paragraph in text.strip("\n").split("\n\n"):
        line = " ".join(line.strip() for line in paragraph.split("\n"))
        if not line.startswith(("<", "This is the mail system at host ")):
            line = "..."
        if shown[-1:] != ["..."] or line != "...":
            shown.append(line)
    return (f"text {number}: {line}" for number, line in enumerate(shown, 1))


def _comparable(line: str, port: int) -> str:
    line = _QUEUE_ID.sub("QID", _DATE.sub("DATE", line))
    return replaced(_BOUNDARY.sub("QID.TIME/", line), port)
