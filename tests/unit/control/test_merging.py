"""Several workers' answers become one."""

from __future__ import annotations

from typing import Any

from fastmta.control.merging import merge, merge_pages


def site(shard: int, waits_on: str = "window", **more: Any) -> dict[str, Any]:
    facts = {"state": "open", "in_flight": 2, "window": 5, "window_max": 10, "waiting": 3}
    return {
        "about": "site", "name": "mx.x", "shard": shard, "waits_on": waits_on, "text": waits_on,
        "detail": "", "next_attempt": None, "next_attempt_text": "", "last_reply": None,
        "facts": facts, "children": [], **more,
    }  # fmt: skip


def reason(text: str, about: str = "reason", name: str = "") -> dict[str, Any]:
    return {**site(0), "about": about, "name": name, "waits_on": text, "detail": text, "facts": {}}


def test_what_is_the_same_everywhere_is_one_with_sums() -> None:
    reply = {"status": "4.2.0", "remote": "", "text": "later"}
    (one,) = merge([site(0), site(1, last_reply=reply), site(2)])
    assert one["facts"] == {
        "state": "open", "in_flight": 6, "window": 15, "window_max": 30, "waiting": 9
    }  # fmt: skip
    assert (one["shard"], one["shards"], one["last_reply"]) == (None, [0, 1, 2], reply)
    assert one["children"] == []


def test_reasons_and_limits_below_it_are_told_once() -> None:
    nodes = [site(0, children=[reason("a"), reason("b"), reason("l", "limit", "r")]),
             site(1, children=[reason("a"), reason("l", "limit", "r")])]  # fmt: skip
    (one,) = merge(nodes)
    assert [child["detail"] for child in one["children"]] == ["a", "b", "l"]


def test_where_shards_differ_each_says_what_it_waits_on() -> None:
    limit = reason("l", "limit", "r")
    nodes = [
        site(0, "paused", children=[limit]),
        site(1, "rate", next_attempt=20.0, children=[limit]),
        site(2, "site_pause", next_attempt=10.0, children=[limit]),
    ]
    (one,) = merge(nodes)
    assert (one["waits_on"], one["next_attempt"]) == ("site_pause", 10.0)
    *shards, last = one["children"]
    assert [child["waits_on"] for child in shards] == ["paused", "rate", "site_pause"]
    assert last == limit
    assert all(child["children"] == [] for child in shards)


def test_messages_and_tenants_at_different_sites_stay_apart() -> None:
    message = reason("m", "message", "ID")
    assert len(merge([message, message])) == 2
    lanes = [{**reason("t", "tenant", "acme"), "facts": {"site": name}} for name in ("a", "b")]
    assert len(merge(lanes)) == 2
    assert merge([]) == []


def row(order: str, shard: int, waits_on: str = "window", state: str = "open") -> dict[str, Any]:
    return {
        "order": order, "label": order, "shard": shard, "state": state, "waits_on": waits_on,
        "in_flight": 1, "window": 5, "window_max": 10, "waiting": 2, "next_hops": 1,
        "next_attempt": None, "last_reply": None,
    }  # fmt: skip


def test_pages_are_walked_without_a_gap_or_a_double() -> None:
    """Three workers, of which each knows some of the sites, pages of two."""
    known = [["a", "b", "c", "f"], ["b", "d"], ["a", "e", "f", "g", "h"]]
    found: list[dict[str, Any]] = []
    after: str | None = ""
    pages = 0
    while after is not None:
        answers = []
        for shard, names in enumerate(known):
            rest = [name for name in names if name > after]
            page = rest[:2]
            rows = [row(name, shard) for name in page]
            answers.append({"sites": rows, "next": page[-1] if len(rest) > 2 else None})
        rows, after = merge_pages(answers, 2)
        assert len(rows) <= 2
        found += rows
        pages += 1
        assert pages < 20
    assert [one["label"] for one in found] == list("abcdefgh")
    by_label = {one["label"]: one for one in found}
    assert by_label["a"]["shards"] == [0, 2]
    assert (by_label["a"]["in_flight"], by_label["a"]["waiting"]) == (2, 4)
    assert by_label["g"]["shards"] == [2]


def test_a_row_of_shards_that_differ_is_mixed() -> None:
    answers = [{"sites": [row("a", 0)], "next": None},
               {"sites": [row("a", 1, "site_pause", "backing off")], "next": None}]  # fmt: skip
    ((one,), end) = merge_pages(answers, 5)
    assert (one["state"], end) == ("mixed", None)
