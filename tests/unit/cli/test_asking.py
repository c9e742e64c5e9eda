"""What is asked of all workers, some of which may not be there."""

from __future__ import annotations

from typing import Any

import pytest

from fastmta.cli import asking

SHARD = {"messages": 0, "in_flight": 0, "is_indexed": True, "next_due_ns": None}
IDLE: dict[str, Any] = {"connections": 0, "shards": [SHARD]}  # Any: what JSON knows


def test_a_worker_that_does_not_listen_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[list[dict[str, Any]]] = [[IDLE], [], [IDLE, IDLE], [IDLE]]
    monkeypatch.setattr(asking, "of_workers", lambda *_: answers.pop(0))
    monkeypatch.setattr(asking, "_POLL_S", 0.001)
    assert not asking.wait_for_rest("/nowhere", 2, 5.0)["due"]
    assert len(answers) == 1
    assert asking.wait_for_rest("/nowhere", 2, 0.0)["due"], "nobody knows what it has"
