"""What `fastmta top` works out and draws, without a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from fastmta.cli.board import BARS, POINTS, Board, Sample, View, amount, screen, spark

NAMES = ("accepted", "delivered", "deferred", "bounced", "removed", "rejected", "connections")


def worker(number: int, pid: int, **counts: int) -> dict[str, Any]:
    counters = {**dict.fromkeys(NAMES, 0), **counts}
    return {"worker": number, "pid": pid, "counters": counters, "loop_lag_s": 0.001}


def site(label: str, waiting: int = 0, **fields: Any) -> dict[str, Any]:
    row = {"label": label, "state": "open", "in_flight": 0, "window": 5, "window_max": 20}
    more = {"waits_on": "nothing", "text": "", "next_attempt": None, "last_reply": None}
    return {**row, **more, "waiting": waiting, **fields}


def sample(at_s: float, *workers: dict[str, Any], sites: Any = ()) -> Sample:
    shard = {"shard": 0, "is_healthy": True, "messages": 7, "in_flight": 1, "in_memory": 2}
    return Sample(at_s, workers, [shard], sites)


def test_rates_are_differences_and_a_new_process_counts_from_nothing() -> None:
    board = Board()
    board.add(sample(10.0, worker(0, 1, accepted=1_000)))
    assert max(board.rates["accepted"]) == 0
    board.add(sample(12.0, worker(0, 1, accepted=1_100), worker(1, 2, accepted=10)))
    assert board.rates["accepted"][-1] == 55.0
    board.add(sample(13.0, worker(0, 9, accepted=5), worker(1, 2, accepted=10)))
    assert board.rates["accepted"][-1] == 5.0
    assert board.total("accepted") == 15
    board.add(None)
    board.add(sample(20.0, worker(0, 9, accepted=500)))
    assert board.rates["accepted"][-1] == 5.0
    assert len(board.rates["accepted"]) == POINTS


@pytest.mark.parametrize("size", [(80, 24), (132, 50), (40, 10), (20, 4)])
def test_a_screen_has_the_size_of_the_terminal(size: tuple[int, int]) -> None:
    board = Board()
    sites = [site(f"mx{number}.example", number) for number in range(60)]
    board.add(sample(1.0, *(worker(number, number) for number in range(12)), sites=sites))
    lines = screen(board, View(), size, "12:00:00 UTC")
    assert len(lines) == size[1]
    assert all(len(line) <= size[0] for line in lines)
    board.add(None)
    assert len(screen(board, View(), size, "12:00:00 UTC")) == size[1]


def test_rows_are_sorted_filtered_and_the_chosen_one_stays_in_sight() -> None:
    board = Board()
    sites = [site("b.example", 1), site("a.example", 9), site("c.test", 5, state="backing off")]
    board.add(sample(1.0, worker(0, 1), sites=sites))
    labels = lambda view: [row["label"] for row in board.rows(view)]  # noqa: E731
    assert labels(View()) == ["a.example", "c.test", "b.example"]
    assert labels(View(sort="name")) == ["a.example", "b.example", "c.test"]
    assert labels(View(sort="state"))[0] == "c.test"
    assert labels(View(filter="EXAMPLE", sort="name")) == ["a.example", "b.example"]
    many = [site(f"mx{number:03}.example") for number in range(100)]
    board.add(sample(2.0, worker(0, 1), sites=many))
    lines = screen(board, View(sort="name", chosen=90), (80, 24), "")
    assert any(line.startswith(">mx090.example") for line in lines)
    view = View(chosen=1_000)
    screen(board, view, (80, 24), "")
    assert view.chosen == 99


def test_what_a_peer_says_does_not_reach_the_terminal_as_it_is() -> None:
    board = Board()
    reply = {"status": "", "remote": "", "text": "450 \x1b[2J\x07caf\u00e9"}
    board.add(sample(1.0, worker(0, 1), sites=[site("x\x1b.example", last_reply=reply)]))
    text = "".join(screen(board, View(), (132, 24), ""))
    assert "450 ?[2J?caf?" in text
    assert "\x1b" not in text


def test_figures_are_short() -> None:
    assert [amount(one) for one in (0, 1.25, 99.94, 1_234, 123_456, 1.5e6, 2e9)] == [
        *("0.0", "1.2", "99.9", "1.2k", "123k", "1.5M", "2000M"),
    ]
    assert spark([0, 1, 50, 100], BARS) == " ▁▅█"
    assert spark([], BARS) == ""


def test_a_wide_screen_shows_what_waits_how_fast_it_goes_and_how_well() -> None:
    board = Board()
    counts = ((0.0, 10, 0), (1.0, 30, 5), (3.0, 110, 15), (4.0, 4, 0))
    shown = []
    for at_s, attempts, troubles in counts:
        row = site("a.example", 2, attempts=attempts, troubles=troubles, scheduled=1_234)
        board.add(sample(at_s, worker(0, 1), sites=[row, site("b.example", scheduled=None)]))
        shown.append((row["rate_per_s"], row["ok_share"]))
    assert shown == [(0.0, None), (20.0, 0.75), (40.0, 0.85), (0.0, None)], "the last is another"
    row = site("a.example", 2, attempts=8, troubles=1, scheduled=1_234)
    board.add(sample(5.0, worker(0, 1), sites=[row, site("b.example", scheduled=None)]))
    wide = [line.split() for line in screen(board, View(sort="name"), (120, 24), "")]
    assert ["DEST", "READY", "SCHED", "CONN/NOW/MAX", "RATE", "OK%", "STATE"] in [
        line[:7] for line in wide
    ]
    assert [">a.example", "2", "1234", "0/5/20", "4.0", "75", "open", "-"] in wide
    assert ["b.example", "0", "-", "0/5/20", "0.0", "-", "open", "-"] in wide
    narrow = "".join(screen(board, View(), (109, 24), ""))
    assert "SCHED" not in narrow
