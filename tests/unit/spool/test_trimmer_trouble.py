"""The trimmer while something fails: nothing is lost, and it gets on afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastmta.spool.rebuild import Rebuild
from tests.support.spool import Shard, copy_crashed, delete_index
from tests.unit.spool.test_trimmer import (
    OPTIONS,
    check_all,
    old_mail,
    settle,
    shard,
)

__all__ = ["shard"]


def test_rebuilding_that_fails_at_first_costs_no_mail(
    shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = old_mail(shard, 30)
    shard.commit()
    copy_crashed(shard, tmp_path / "lost")
    delete_index(tmp_path / "lost")
    run, tries = Rebuild.run, []

    def run_or_fail(self: Rebuild, *values: object) -> object:
        tries.append(self)
        if len(tries) == 1:
            raise OSError(28, "No space left on device")
        return run(self, *values)  # type: ignore[arg-type]

    monkeypatch.setattr(Rebuild, "run", run_or_fail)
    monkeypatch.setattr("fastmta.spool.opening.REBUILT_AT_ONCE_OCTETS", 0)
    monkeypatch.setattr("fastmta.spool.clerk.REBUILD_AGAIN_S", 0.01)
    with Shard(tmp_path / "lost", OPTIONS) as again:
        assert len(tries) == 2
        settle(again)
        check_all(again, contents)
        assert again.spool.live_count == len(contents)
