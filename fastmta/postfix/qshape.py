"""`qshape`: how old the mail in the queue is, by domain."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Sequence
from typing import NoReturn

from .option import BadOption, Fatal, read_options, run, warn
from .postsuper import OTHER_QUEUES
from .talk import Closed, Down, Place, Queue, Refused, Result, pages

NAME = "qshape"
_STATUS = 1
_USAGE = (
    "usage: qshape [ -s ] [ -p ] [ -m <min_subdomains> ] [ -l ] [ -b <bucket_count> ]"
    " [ -t <bucket_time> ] [ -w <terminal_width> ] [ -N <batch_msg_count> ]"
    " [ -n <batch_top_domains> ] [ -c <config_directory> ] [ <queue_name> ... ]"
)
_QUEUES = ("incoming", "active")
_KNOWN = frozenset(("maildrop", "incoming", "active", "deferred", "hold", *OTHER_QUEUES))
_NS = 1_000_000_000
_WIDTH_LEAST, _DOMAIN_LEAST = 80, 18
_TOP = 20  # domains shown to a terminal
_TOTAL = "TOTAL"


class Shape:
    """Counts by domain: the first is the sum, the others are by age."""

    def __init__(self, *, buckets: int = 10, minutes: int = 5, is_linear: bool = False) -> None:
        self.buckets = buckets
        self.minutes = minutes
        self.is_linear = is_linear
        self.with_parents = False
        self.subdomains_least = 5
        self.width = _WIDTH_LEAST
        self.top = 0
        self.counts: dict[str, list[int]] = {}
        self._subdomains: dict[str, int] = {}

    def add(self, address: str, age_s: float) -> None:
        """Count one address."""
        at = self._bucket(age_s)
        self._count(_TOTAL, at)
        domain = _domain(address)
        is_new = False
        while True:
            was_known = self._count(domain, at)
            if is_new:
                self._subdomains[domain] = self._subdomains.get(domain, 0) + 1
            is_new = not was_known
            parent = domain.removeprefix(".").partition(".")[2]
            if not self.with_parents or "." not in parent:
                return
            domain = f".{parent}"

    def render(self) -> str:
        """The table."""
        totals = self.counts.setdefault(_TOTAL, [0] * (self.buckets + 1))
        heads = self._heads()
        widths = []
        for head, total in zip(heads, totals, strict=True):
            longest = max(len(str(total)), len(head))
            widths.append(longest + 1 if longest > 2 else 3)
        room = max(self.width - sum(widths), _DOMAIN_LEAST)
        lines = [_line("", heads, widths, room)]
        shown = [
            (domain, counts)
            for domain, counts in self.counts.items()
            if not domain.startswith(".")
            or self._subdomains.get(domain, 0) >= self.subdomains_least
        ]
        shown.sort(key=lambda one: (-one[1][0], len(one[0])))
        for domain, counts in shown[: self.top or None]:
            lines.append(_line(domain, [str(count) for count in counts], widths, room))
        return "".join(lines)

    def _heads(self) -> list[str]:
        """`T`, then where each age ends, in minutes; the last one does not."""
        heads, end = ["T"], 0
        for _ in range(1, self.buckets):
            end += end if end and not self.is_linear else self.minutes
            heads.append(str(end))
        return [*heads, f"{end}+"]

    def _count(self, domain: str, at: int) -> bool:
        """Whether it was known before."""
        counts = self.counts.get(domain)
        if counts is None:
            counts = self.counts[domain] = [0] * (self.buckets + 1)
        counts[0] += 1
        counts[at] += 1
        return counts[0] > 1

    def _bucket(self, age_s: float) -> int:
        ages = age_s / (60 * self.minutes)
        if ages < 1:
            return 1
        at = int(ages + 1) if self.is_linear else 2 + int(math.log2(ages))
        return min(at, self.buckets)


def _domain(address: str) -> str:
    """The domain of an address, without odd dots; whole when it has none."""
    if not address:
        return "MAILER-DAEMON"
    domain = address.lower().rpartition("@")[2]
    while ".." in domain:
        domain = domain.replace("..", ".")
    return domain.strip(".") or domain


def _line(domain: str, values: Iterable[str], widths: Sequence[int], room: int) -> str:
    if len(domain) > room:
        begin = ".+" if domain.startswith(".") else "+"
        domain = begin + domain[len(domain) - room + len(begin) :]
    cells = (f"{value:>{width}}" for value, width in zip(values, widths, strict=True))
    return f"{domain:>{room}}{''.join(cells)}\n"


def qshape(arguments: Sequence[str]) -> int:
    """The command. Raises Fatal."""
    try:
        options, names = read_options(arguments, "lhc:psw:b:t:m:n:N:")
    except BadOption as problem:
        warn(NAME, str(problem))
        raise Fatal(_USAGE) from None
    chosen = dict(options)
    if "h" in chosen:
        raise Fatal(_USAGE)
    shape = Shape(
        buckets=_number(chosen.get("b")) or 10,
        minutes=_number(chosen.get("t")) or 5,
        is_linear="l" in chosen,
    )
    shape.with_parents = "p" in chosen
    shape.subdomains_least = _number(chosen.get("m")) or 5
    shape.width = max(_number(chosen.get("w")), _WIDTH_LEAST)
    if sys.stdout.isatty():
        shape.top = _number(chosen.get("n")) or _TOP
    queues = {name.rstrip("/").rpartition("/")[2] for name in names or _QUEUES}
    for name in names:
        if name.rstrip("/").rpartition("/")[2] not in _KNOWN:  # as Perl's File::Find says it
            warn(NAME, f"Can't stat {name}: No such file or directory")
    place = Place(chosen.get("c"))
    queue: Queue
    try:
        queue = place.online(to_list=True)
    except Closed as closed:
        raise Fatal(str(closed)) from None
    except Down:
        if not place.is_owner():
            raise Fatal("Queue report unavailable - mail system is down") from None
        queue = place.offline()
    try:
        _collect(queue, shape, queues, "s" in chosen)
    except Refused as refused:
        raise Fatal(str(refused)) from None
    finally:
        queue.close()
    sys.stdout.write(shape.render())
    return 0


def _collect(queue: Queue, shape: Shape, queues: set[str], is_by_sender: bool) -> None:
    now_ns = time.time_ns()
    for page in pages(queue):
        for message in page:
            if message["queue"] in queues:
                age_s = (now_ns - message["arrived_at_ns"]) / _NS
                for address in _addresses(message, is_by_sender):
                    shape.add(address, age_s)


def _addresses(message: Result, is_by_sender: bool) -> list[str]:
    if is_by_sender:
        return [message["sender"]]
    return [one["recipient"] for one in message["recipients"]]


def _number(text: str | None) -> int:
    """A number of people; 0 when it is none."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else 0


def main() -> NoReturn:
    """Entry point of `qshape`."""
    run(NAME, qshape, _STATUS)


if __name__ == "__main__":
    main()
