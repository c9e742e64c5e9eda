"""Readings of the machine, and how descriptors are divided."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastmta.daemon.descriptor import divide
from fastmta.daemon.memory import ControlGroup, Memory, own_anonymous_octets
from fastmta.daemon.probe import FlushMeter, open_descriptors, read_volume
from fastmta.spool.statistic import Statistics


class Spool:
    """What a probe sees of one."""

    def __init__(self) -> None:
        self.statistics = Statistics()
        self.is_flushing = False
        self.is_healthy = True
        self.unindexed_octets = 0


def test_open_descriptors_are_counted() -> None:
    before = open_descriptors()
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
    try:
        assert open_descriptors() == before + 20
    finally:
        for fd in opened:
            os.close(fd)


def test_a_volume_that_cannot_be_read_is_full(tmp_path: Path) -> None:
    free, octets, inodes = read_volume(str(tmp_path))
    assert 0 < free <= 1
    assert octets > 0
    assert 0 < inodes <= 1
    assert read_volume(str(tmp_path / "gone")) == (0.0, 0, 0.0)


def test_memory_is_measured_against_its_part() -> None:
    before = own_anonymous_octets()
    ballast = bytearray(os.urandom(1)) * (64 << 20)
    assert own_anonymous_octets() - before > 48 << 20
    whole, half = Memory(1 << 30, 1).used(), Memory(1 << 30, 2).used()
    assert half == pytest.approx(2 * whole, rel=0.2)
    assert len(ballast) == 64 << 20


@pytest.mark.parametrize(
    ("line", "kind", "limit", "field"),
    [
        ("0::/a/b", "cgroup2 none rw", "memory.max", "anon"),
        ("4:memory:/a/b", "cgroup cgroup rw,memory", "memory.limit_in_bytes", "total_rss"),
    ],
)
def test_the_tightest_control_group_counts(
    tmp_path: Path, line: str, kind: str, limit: str, field: str
) -> None:
    root = tmp_path / "mount"
    for path, octets in (("a/b", "max"), ("a", "1000000"), ("", "9000000")):
        (root / path).mkdir(parents=True, exist_ok=True)
        (root / path / limit).write_text(f"{octets}\n")
        (root / path / "memory.stat").write_text(f"file 7\n{field} {len(octets)}\n")
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text(f"9:pids:/z\n{line}\n")
    (tmp_path / "self" / "mountinfo").write_text(f"31 23 0:28 / {root} rw,relatime - {kind}\n")
    group = ControlGroup(str(tmp_path))
    assert group.limit_octets == 1_000_000
    assert group.anonymous_octets() == 7


def test_no_control_group_is_no_limit(tmp_path: Path) -> None:
    group = ControlGroup(str(tmp_path))
    assert group.limit_octets > 1 << 50
    assert group.anonymous_octets() == 0


def test_flushes_that_end_are_averaged_and_one_that_does_not_ages() -> None:
    spool = Spool()
    meter = FlushMeter(spool)
    for now_s in range(8):
        spool.statistics.count_group(4096, 2_000_000_000)
        recent_s = meter.read(float(now_s))
    assert recent_s == pytest.approx(2.0, rel=0.05)
    spool.is_flushing = True
    spool.statistics.count_group(4096, 1_000_000)
    assert meter.read(100.0) < 2.0, "it is new"
    assert meter.read(109.0) == pytest.approx(9.0)
    spool.statistics.count_group(4096, 1_000_000)  # that one has ended, another is under way
    assert meter.read(109.5) < 1.0
    spool.is_flushing = False
    for now_s in range(10):
        recent_s = meter.read(110.0 + now_s)
    assert recent_s < 0.01


@pytest.mark.parametrize("limit", [64, 256, 1024, 20_000, 1_000_000])
@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("listeners", [1, 3])
def test_descriptors_suffice_for_all_uses(limit: int, shards: int, listeners: int) -> None:
    division = divide(limit, shards, listeners)
    assert min(division) >= 1
    reserved = 64 * shards + 64 + listeners
    if limit < 2 * reserved:
        return
    whole = division.inbound + division.outbound + listeners * division.backlog
    assert whole + reserved <= limit
    assert division.outbound >= 0.39 * (limit - reserved)
