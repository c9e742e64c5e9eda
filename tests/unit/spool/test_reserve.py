"""Blocks for the index beyond its end, and files that change without a new block."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import lmdb
import pytest

from fastmta.spool import layout
from fastmta.spool.reserve import RESERVE_OCTETS, Reserve

PAGE = 4096


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Where LMDB's file will be, on a file system that can reserve."""
    return tmp_path / "data.mdb"


def test_blocks_are_taken_beyond_the_end_and_lmdb_uses_them(tmp_path: Path, data: Path) -> None:
    reserve = Reserve(str(tmp_path))
    reserve.prepare()
    assert data.stat().st_size == 0
    had = allocated(data)
    assert 0 < had <= RESERVE_OCTETS + PAGE
    env = lmdb.open(str(tmp_path), map_size=1 << 30, lib_version=0)
    reserve.adopt()
    with env.begin(write=True) as txn:
        for number in range(2000):
            txn.put(b"%08d" % number, bytes(1000))
    reserve.top_up()
    assert data.stat().st_size > 2_000_000
    assert allocated(data) == had, "no new block was needed"
    reserve.release()
    env.close()


def test_it_grows_with_the_index_through_lmdbs_own_descriptor(tmp_path: Path, data: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    reserve = Reserve(str(tmp_path))
    reserve.prepare()
    assert set(os.listdir("/proc/self/fd")) == before, "closed again before LMDB opens it"
    env = lmdb.open(str(tmp_path), map_size=1 << 30, lib_version=0)
    of_lmdb = set(os.listdir("/proc/self/fd"))
    reserve.adopt()
    had = allocated(data)
    for part in range(12):
        with env.begin(write=True) as txn:
            for number in range(part * 1000, part * 1000 + 1000):
                txn.put(b"%08d" % number, bytes(3000))
        reserve.top_up()
    assert data.stat().st_size > had // 2
    assert allocated(data) > had
    assert set(os.listdir("/proc/self/fd")) == of_lmdb, "nothing was opened besides"
    reserve.release()
    reserve.top_up()  # not any more
    env.close()


def test_a_volume_without_room_to_spare_keeps_what_it_has(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = os.statvfs(tmp_path)
    nearly_full = os.statvfs_result((*space[:4], 1000, *space[5:]))
    monkeypatch.setattr(os, "fstatvfs", lambda fd: nearly_full)
    Reserve(str(tmp_path)).prepare()
    assert allocated(data) == 0


def test_the_number_of_a_start_is_kept_on_a_full_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = layout.Layout(str(tmp_path), 0)
    place.prepare()
    first = place.begin_boot(0)

    def full(path: str, octets: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(layout, "write_file", full)
    assert place.begin_boot(0) == first + 1
    assert place.begin_boot(0) == first + 2, "it was written"
    os.unlink(os.path.join(place.shard, "boot"))
    with pytest.raises(OSError, match="No space left"):
        place.begin_boot(0)
    place.release()


def test_a_file_that_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        layout.write_file(str(tmp_path / "boot"), b"1\n")
    assert os.listdir(tmp_path) == []
