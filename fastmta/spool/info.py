"""What the files of a shard tell about it, whether a process has it or not. Changes nothing."""

from __future__ import annotations

import os

import lmdb
import msgspec

from .layout import Layout
from .segment import LogKind
from .survey import only_reader, read_index_meta, read_live, survey


class LogInfo(msgspec.Struct):
    """One of the two logs."""

    segments: int
    spares: int
    suspects: int  # headers neither valid nor void
    octets: int  # on the disk, spares included
    first: int  # position where it begins
    end: int  # position behind its last segment


class ShardInfo(msgspec.Struct):
    """One shard. What is None only a shard that is not in use tells."""

    shard: int
    is_in_use: bool
    boot: int  # number of its latest start
    hot: LogInfo
    cold: LogInfo
    big: int  # contents in files of their own, those being received included
    big_octets: int
    quarantined: int
    quarantined_octets: int
    index_octets: int
    bad_indexes: list[str]  # moved aside
    checkpoint: int | None = None  # position in the hot log
    live: int | None = None  # messages, as of the checkpoint
    live_octets: int | None = None  # of their contents


def look_at(layout: Layout) -> ShardInfo:
    """Look at a shard. Raises OSError, and SpoolFormat when a newer release wrote it."""
    big, big_octets = _size_of(layout.big)
    quarantined, quarantined_octets = _size_of(layout.quarantine)
    info = ShardInfo(
        shard=layout.number,
        is_in_use=False,
        boot=_boot_of(layout),
        hot=_log_info(layout, LogKind.HOT),
        cold=_log_info(layout, LogKind.COLD),
        big=big,
        big_octets=big_octets,
        quarantined=quarantined,
        quarantined_octets=quarantined_octets,
        index_octets=_size_of(layout.index)[1],
        bad_indexes=bad_indexes(layout),
    )
    with only_reader(layout) as is_free:
        info.is_in_use = not is_free
        meta = read_index_meta(layout) if is_free else None
        if meta is not None:
            info.checkpoint = meta.get("checkpoint", 0)
            try:
                info.live, info.live_octets = read_live(layout)
            except lmdb.Error:
                info.checkpoint = None  # damaged: the next start rebuilds it
    return info


def bad_indexes(layout: Layout) -> list[str]:
    """Indexes that were moved aside, oldest first."""
    prefix = os.path.basename(layout.index) + ".bad-"
    names = (name for name in os.listdir(layout.shard) if name.startswith(prefix))
    numbered = sorted(
        (int(tail), name) for name in names if (tail := name[len(prefix) :]).isdigit()
    )
    return [os.path.join(layout.shard, name) for _, name in numbered]


def _boot_of(layout: Layout) -> int:
    try:
        with open(os.path.join(layout.shard, "boot"), "rb") as file:
            text = file.read(32).strip()
    except FileNotFoundError:
        return 0
    return int(text) if text.isdigit() else 0


def _log_info(layout: Layout, kind: LogKind) -> LogInfo:
    found = survey(layout, kind)
    segments = found.segments
    octets = sum(segment.size_octets for segment in segments)
    for path in (*found.spares, *found.suspects):
        try:
            octets += os.stat(path).st_size
        except FileNotFoundError:
            continue
    return LogInfo(
        segments=len(segments),
        spares=len(found.spares),
        suspects=len(found.suspects),
        octets=octets,
        first=segments[0].base if segments else 0,
        end=segments[-1].end if segments else 0,
    )


def _size_of(directory: str) -> tuple[int, int]:
    """Files in a directory, and the octets that they take on the disk."""
    count = octets = 0
    try:
        for entry in os.scandir(directory):
            try:
                octets += entry.stat(follow_symlinks=False).st_blocks * 512
            except FileNotFoundError:
                continue
            count += 1
    except FileNotFoundError:
        return 0, 0
    return count, octets
