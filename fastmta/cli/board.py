"""What `fastmta top` shows: figures over time, and how they look on a screen. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Result: TypeAlias = dict[str, Any]  # Any: what JSON knows
POINTS: Final = 60
RATES: Final = (  # label, and the counter that it is of
    ("in", "accepted"),
    ("out", "delivered"),
    ("deferred", "deferred"),
    ("bounced", "bounced"),
)
BARS: Final = "▁▂▃▄▅▆▇█"
WIDE: Final = 110  # columns from which on there is room for all that is known of a site
PLAIN_BARS: Final = "_.-=+*%#"
_TOTALS: Final = (
    *(("in", "accepted"), ("out", "delivered"), ("deferred", "deferred"), ("bounced", "bounced")),
    *(("removed", "removed"), ("refused", "rejected"), ("clients", "connections")),
)
_UNIT: Final = 1_000


@dataclass(frozen=True)
class Sample:
    """What was read off the workers at one moment."""

    at_s: float  # monotonic
    workers: Sequence[Result]  # answers of the verb `counters`
    shards: Sequence[Result]  # of `summary`
    sites: Sequence[Result]  # of `sites`, merged
    next_hops: Sequence[Result] = ()  # of `count`, merged; only where they are shown


@dataclass
class View:
    """What somebody wants to see."""

    sort: str = "busy"
    filter: str = ""
    is_by_next_hop: bool = False
    chosen: int = 0
    message: str = ""  # at the foot: a question, or what was done
    bars: str = BARS
    hostname: str = ""
    is_plain: bool = False  # nobody chooses anything


SORTS: Final[dict[str, Callable[[Result], tuple[Any, ...]]]] = {  # Any: numbers and texts
    "busy": lambda row: (-(row["in_flight"] + row["waiting"]), row["label"]),
    "name": lambda row: (row["label"],),
    "state": lambda row: (_state(row) == "open", _state(row), row["label"]),
    "next": lambda row: (row["next_attempt"] or float("inf"), row["label"]),
}


@dataclass
class Board:
    """Rates of the last minute, totals, and the newest sample."""

    sample: Sample | None = None
    rates: dict[str, deque[float]] = field(
        default_factory=lambda: {name: deque([0.0] * POINTS, POINTS) for _, name in RATES}
    )
    _past: dict[str, deque[tuple[float, int, int]]] = field(default_factory=dict)  # of sites

    def add(self, sample: Sample | None) -> None:
        """The next sample; None: nobody answered."""
        before, self.sample = self.sample, sample
        if sample is None:
            return
        self._judge(sample)
        was: dict[tuple[int, int], Result] = {}
        for one in before.workers if before else ():
            was[_key(one)] = one["counters"]
        length_s = sample.at_s - before.at_s if before else 0.0
        for _, name in RATES:
            grown = 0
            for one in sample.workers:
                # A worker that is new has counted from 0, unless we are new ourselves.
                fresh: Result = {name: 0} if before else one["counters"]
                old = was.get(_key(one), fresh)
                grown += max(0, one["counters"][name] - old[name])
            if before is not None:
                self.rates[name].append(grown / length_s if length_s > 0 else 0.0)

    def _judge(self, sample: Sample) -> None:
        """Give each site its rate since the last sample, and how many of the attempts of the last
        minute met no trouble of it."""
        past, self._past = self._past, {}
        for site in sample.sites:
            now = (sample.at_s, site.get("attempts", 0), site.get("troubles", 0))
            order = str(site.get("order", site["label"]))
            known = self._past[order] = past.get(order, deque(maxlen=POINTS))
            if known and now[1] < known[-1][1]:
                known.clear()  # of another process
            known.append(now)
            first, last = known[0], known[-2] if len(known) > 1 else now
            length_s = now[0] - last[0]
            site["rate_per_s"] = round((now[1] - last[1]) / length_s, 3) if length_s > 0 else 0.0
            ended = now[1] - first[1]
            site["ok_share"] = round(1 - (now[2] - first[2]) / ended, 4) if ended else None

    def total(self, name: str) -> int:
        """A counter over all workers."""
        return sum(one["counters"][name] for one in self.sample.workers) if self.sample else 0

    def rows(self, view: View) -> list[Result]:
        """The destinations that are shown, in order."""
        if self.sample is None:
            return []
        wanted = view.filter.lower()
        if view.is_by_next_hop:
            return [one for one in self.sample.next_hops if wanted in one["next_hop"].lower()]
        found = [one for one in self.sample.sites if wanted in one["label"].lower()]
        return sorted(found, key=SORTS[view.sort])


def _key(worker: Result) -> tuple[int, int]:
    return worker["worker"], worker["pid"]


def document(board: Board) -> Result:
    """The newest sample as docs/json.md has it."""
    sample = board.sample
    assert sample is not None
    return {
        "rates": {name: round(board.rates[name][-1], 3) for _, name in RATES},
        "totals": {name: board.total(name) for _, name in _TOTALS},
        "workers": list(sample.workers),
        "shards": list(sample.shards),
        "sites": list(sample.sites),
    }


def screen(board: Board, view: View, size: tuple[int, int], clock: str) -> list[str]:
    """The lines of a screen of (columns, rows); at most that many, none longer."""
    columns, height = size
    lines = list(_head(board, view, columns, clock))
    body = list(_body(board, view, columns, max(0, height - len(lines) - 1)))
    shown = [*lines, *body][: height - 1]
    if view.is_plain:
        return [_fit(line, columns).rstrip() for line in shown]
    shown += [""] * (height - 1 - len(shown))
    return [_fit(line, columns) for line in [*shown, view.message or _keys(view)]]


def _fit(line: str, columns: int) -> str:
    return line if len(line) <= columns else line[: max(0, columns - 1)] + ">"


def _head(board: Board, view: View, columns: int, clock: str) -> Iterator[str]:
    sample = board.sample
    front = f"fastmta top  {view.hostname}"
    yield f"{front}{clock:>{max(1, columns - len(front))}}"
    if sample is None:
        yield "no server answers"
        return
    width = max(1, min(POINTS, columns - 19))
    for label, name in RATES:
        points = list(board.rates[name])[-width:]
        yield f"{label:<8} {amount(points[-1]):>7}/s {spark(points, view.bars)}"
    totals = [f"{label} {board.total(name)}" for label, name in _TOTALS]
    is_wide = len("  ".join(totals)) <= columns - 9
    yield "total    " + ("  " if is_wide else " ").join(totals)
    messages = sum(one["messages"] for one in sample.shards)
    in_flight = sum(one["in_flight"] for one in sample.shards)
    in_memory = sum(one["in_memory"] for one in sample.shards)
    line = f"queue    {messages} messages  {in_flight} under way  {in_memory} ready in memory"
    sick = [str(one["shard"]) for one in sample.shards if not one["is_healthy"]]
    yield line + (f"  NOT HEALTHY: shard {', '.join(sick)}" if sick else "")
    yield from _workers(sample)


def _workers(sample: Sample) -> Iterator[str]:
    """One line for each two of them."""
    count = len(sample.workers)
    cells = []
    for one in sorted(sample.workers, key=_key):
        mine = [shard for shard in sample.shards if shard["shard"] % count == one["worker"] % count]
        messages = sum(shard["messages"] for shard in mine)
        lag_ms = one["loop_lag_s"] * 1_000
        cells.append(f"worker {one['worker']:<2} lag {lag_ms:.1f} ms, {messages} messages")
    for at in range(0, min(len(cells), 8), 2):
        yield "  ".join(f"{cell:<38}" for cell in cells[at : at + 2]).rstrip()
    if count > 8:
        yield f"and {count - 8} more workers"


def _body(board: Board, view: View, columns: int, height: int) -> Iterator[str]:
    if board.sample is None or height < 2:
        return
    rows = board.rows(view)
    view.chosen = max(0, min(view.chosen, len(rows) - 1))
    shown = height - 1
    first = max(0, min(view.chosen - shown // 2, len(rows) - shown))
    line = _hop_line if view.is_by_next_hop else _site_line
    head = _HOP_HEAD if view.is_by_next_hop else _SITE_HEAD
    if columns >= WIDE and not view.is_by_next_hop:
        line, head = _wide_line, _WIDE_HEAD
    yield head
    for number, row in enumerate(rows[first : first + shown], first):
        is_chosen = number == view.chosen and not view.is_plain
        yield f"{'>' if is_chosen else ' '}{line(row)}"


_SITE_HEAD: Final = (
    " DEST                     READY CONN/NOW/MAX STATE     NEXT     WHY, LAST REPLY"
)
_WIDE_HEAD: Final = (
    " DEST                     READY   SCHED CONN/NOW/MAX    RATE  OK% STATE     NEXT     "
    "WHY, LAST REPLY"
)
_HOP_HEAD: Final = " NEXT HOP                               MESSAGES RECIPIENTS"


def _state(row: Result) -> str:
    """What an operator paused is open in itself."""
    return "paused" if row["waits_on"] == "paused" else str(row["state"])


def _site_line(row: Result) -> str:
    return f"{_front(row)} {_window(row):>12} {_rest(row)}"


def _wide_line(row: Result) -> str:
    scheduled, ok = row.get("scheduled"), row["ok_share"]
    shown = "-" if scheduled is None else str(scheduled)
    share = "-" if ok is None else f"{ok * 100:.0f}"
    rate = amount(row["rate_per_s"])
    return f"{_front(row)} {shown:>7} {_window(row):>12} {rate:>7} {share:>4} {_rest(row)}"


def _front(row: Result) -> str:
    label = _plain(row["label"])
    label = label if len(label) <= 22 else label[:21] + ">"
    return f"{label:<22} {row['waiting']:>7}"


def _window(row: Result) -> str:
    return f"{row['in_flight']}/{row['window']}/{row['window_max']}"


def _rest(row: Result) -> str:
    why = "" if row["waits_on"] in ("nothing", "final") else row["text"]
    reply = row["last_reply"]["text"] if row["last_reply"] else ""
    said = ": ".join(part for part in (why, reply) if part)
    after = _moment(row["next_attempt"])
    return f"{_state(row):<9} {after:<8} {_plain(said)}"


def _hop_line(row: Result) -> str:
    return f"{_plain(row['shown'])[:37]:<37} {row['messages']:>9} {row['recipients']:>10}"


def _moment(unix_s: float | None) -> str:
    if unix_s is None:
        return "-"
    import time

    return time.strftime("%H:%M:%S", time.gmtime(unix_s))


def _plain(text: str) -> str:
    """What a peer said may hold what a terminal would obey."""
    return "".join(one if " " <= one <= "~" else "?" for one in text)


def _keys(view: View) -> str:
    what = "sites" if view.is_by_next_hop else "next hops"
    keys = f"q quit  s sort: {view.sort}  / filter  v {what}  p pause  r resume"
    return keys + (f"  [{view.filter}]" if view.filter else "")


def spark(points: Sequence[float], bars: str) -> str:
    """One character a point; 0 is a blank."""
    most = max(points, default=0.0)
    top = len(bars) - 1
    return "".join(
        " " if point <= 0 else bars[min(top, int(point / most * top + 0.5))] for point in points
    )


def amount(number: float) -> str:
    """Short, with three digits or so."""
    for unit in ("", "k", "M"):
        if number < _UNIT or unit == "M":
            break
        number /= _UNIT
    return f"{number:.1f}{unit}" if number < 100 else f"{number:.0f}{unit}"
