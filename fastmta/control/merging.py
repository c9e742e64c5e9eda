"""Answers of several workers, and shards, put together as one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

Result: TypeAlias = dict[str, Any]  # Any: what JSON knows
_APART: Final = frozenset({"message", "recipient", "backlog"})  # of one shard, whatever the name
_SUMMED: Final = frozenset(
    {"in_flight", "window", "window_max", "waiting", "next_hops", "in_memory", "queued"}
)

_COUNTS: Final = ("attempts", "troubles")


def merge(nodes: Sequence[Result]) -> list[Result]:
    """One node for each thing that several know; its shards are below it when they differ."""
    groups: dict[object, list[Result]] = {}
    for number, node in enumerate(nodes):
        apart: object = node["facts"].get("site", "")
        if node["about"] in _APART:
            apart = number
        elif node["about"] in ("reason", "limit"):
            apart = node["waits_on"], node["detail"]
        groups.setdefault((*_key(node), apart), []).append(node)
    return [_one(group) for group in groups.values()]


def _one(group: list[Result]) -> Result:
    if len(group) == 1:
        return group[0]
    soonest = min(group, key=_soonness)
    facts: dict[str, Any] = dict(soonest["facts"])  # Any: what JSON knows
    for name in _SUMMED & facts.keys():
        facts[name] = sum(node["facts"].get(name, 0) for node in group)
    replies = [node["last_reply"] for node in group if node["last_reply"]]
    if len({(node["waits_on"], node["facts"].get("state")) for node in group}) == 1:
        children = merge([child for node in group for child in node["children"]])
    else:
        shared = {_key(child): child for node in group for child in node["children"]
                  if child["about"] == "limit"}  # fmt: skip
        apart = [{**node, "children": [one for one in node["children"] if one["about"] != "limit"]}
                 for node in group]  # fmt: skip
        children = [*apart, *shared.values()]
    return {
        **soonest,
        "shard": None,
        "shards": sorted({node["shard"] for node in group if node.get("shard") is not None}),
        "facts": facts,
        "last_reply": replies[0] if replies else None,
        "children": children,
    }


def _soonness(node: Result) -> tuple[bool, float]:
    """What moves next says most."""
    needs_somebody = node["waits_on"] in ("stop", "pause", "paused", "hold")
    return needs_somebody, node["next_attempt"] or 0.0


def _key(node: Result) -> tuple[str, str]:
    return node["about"], node["name"]


def merge_pages(pages: Sequence[Result], limit: int) -> tuple[list[Result], str | None]:
    """A page of sites from one page of each worker, and where the next begins.

    A worker whose page ended says where; beyond the least of these places somebody may have more.
    """
    ends = [page["next"] for page in pages if page["next"] is not None]
    end = min(ends, default=None)
    rows: dict[str, list[Result]] = {}
    for page in pages:
        for row in page["sites"]:
            if end is None or row["order"] <= end:
                rows.setdefault(row["order"], []).append(row)
    orders = sorted(rows)
    if len(orders) > limit:
        orders = orders[:limit]
        end = orders[-1]
    return [_row(rows[order]) for order in orders], end


def _row(group: list[Result]) -> Result:
    soonest = min(group, key=_soonness)
    row: Result = {**soonest}
    for name in ("in_flight", "window", "window_max", "waiting", "next_hops", *_COUNTS):
        if name in row:
            row[name] = sum(one[name] for one in group)
    if "scheduled" in row:
        counts = [one["scheduled"] for one in group]
        row["scheduled"] = None if None in counts else sum(counts)
    replies = [one["last_reply"] for one in group if one["last_reply"]]
    row["last_reply"] = replies[0] if replies else None
    states = {one["state"] for one in group}
    row["state"] = states.pop() if len(states) == 1 else "mixed"
    row["shards"] = sorted(one["shard"] for one in group)
    del row["shard"]
    return row
