"""The in-doubt table: which messages are being delivered now, where a kill -9 does not reach.

A peer may have said 250 just before we die; nobody can know (RFC 5321 6.1). So the table names
every message of which an attempt is under way: a slot is filled before the attempt starts and
cleared when its outcome is durable. It is a mapped file: a store costs no system call, and what was
stored is there for the next start, however this one ended, unless the machine itself stopped.

    0 magic 8 | 8 format u32 | 12 slots u32 | 16 boot u64 | 24 is clean u32 | 28 kernel's boot id 36
    64 slots of 24: id 16 (zeros: free) | why u8 | 7 zeros
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from typing import NamedTuple

from fastmta.event import Event, Notice, Severity

from ._doubt import Slots
from .layout import FILE_MODE, sync_directory

SLOTS_FIRST = 1024
NO_SLOT = -1
ATTEMPT = 0  # why an id is in a slot: an attempt is under way
REFUSED = 1  # its record may be on the disk, but its client was told that it is not

_MAGIC = b"fmtaDBT\n"
_FORMAT = 1
_HEADER = struct.Struct("<8sIIQI36s")
_SLOT_OCTETS = 24
_KERNEL_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Left(NamedTuple):
    """What the start before this one left in the table."""

    ids: dict[bytes, int]  # and why
    was_clean: bool  # it was closed in order
    was_rebooted: bool  # the machine has stopped since: the table may be older than the log


_NOTHING = Left({}, True, False)


def kernel_boot_id(path: str = _KERNEL_BOOT_ID) -> bytes:
    """Changes whenever the machine starts; empty where the kernel does not tell."""
    try:
        with open(path, "rb") as file:
            return file.read(36)
    except OSError:
        return b""


class DoubtTable:
    """The table of one shard. Loop thread only.

    Where there is no room for it on the disk there is none: attempts are made all the same.
    """

    def __init__(self, path: str, emit: Callable[[Event], None]) -> None:
        """Open or make it. What was left stays in its slots until `forget_left`."""
        self.left = _NOTHING
        self._path = path
        self._boot = 0
        self._emit = emit
        self._machine = kernel_boot_id()
        self._inherited: list[int] = []
        self._is_machine_old = False
        self._map: mmap.mmap | None = None
        self._slots: Slots | None = None
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            self._open()
        except OSError as problem:
            self._complain(problem)

    def start(self, boot: int) -> None:
        """The number of this start."""
        self._boot = boot
        self._write_header(is_clean=False)

    def begin(self, id: bytes, why: int = ATTEMPT) -> int:
        """An attempt on message `id` starts; what to call `end` with."""
        slots = self._slots
        if slots is None:
            return NO_SLOT
        at = slots.begin(id, why)
        return at if at >= 0 else self._begin_grown(id, why)

    def end(self, at: int) -> None:
        """Its outcome is durable, or it had none."""
        if self._slots is not None:
            self._slots.end(at)

    def forget_left(self) -> None:
        """What the start before this one left has been listed and dealt with."""
        for at in self._inherited:
            self.end(at)
        self._inherited.clear()
        self.left = _NOTHING
        self._is_machine_old = False
        self._write_header(is_clean=False)

    def close(self) -> None:
        """A clean end: attempts that are still under way stay listed."""
        self._write_header(is_clean=not (self._inherited or self._is_machine_old))
        if self._map is not None:
            self._map.flush()
        self.abandon()

    def abandon(self) -> None:
        """Give the table up as it is, as if the process ended here."""
        self._slots = self._map = None
        os.close(self._fd)

    def _open(self) -> None:
        size = os.fstat(self._fd).st_size
        count = max(0, size - _HEADER.size) // _SLOT_OCTETS
        if count < SLOTS_FIRST:
            self._extend(0, SLOTS_FIRST)
            sync_directory(os.path.dirname(self._path))
            count = SLOTS_FIRST
        self._take_map(count)
        assert self._map is not None
        assert self._slots is not None
        magic, form, _, _, was_clean, machine = _HEADER.unpack_from(self._map)
        if (magic, form) == (_MAGIC, _FORMAT):
            used = self._slots.used()
            ids: dict[bytes, int] = {}
            for at, id, why in used:
                ids[id] = max(why, ids.get(id, ATTEMPT))
                self._inherited.append(at)
            self.left = Left(ids, bool(was_clean), machine.rstrip(b"\0") != self._machine)
        else:
            for at, _, _ in self._slots.used():
                self._slots.end(at)
        # Dying before that is dealt with must not hide it.
        self._is_machine_old = self.left.was_rebooted and not self.left.was_clean
        self._write_header(is_clean=False)

    def _take_map(self, count: int) -> None:
        self._map = mmap.mmap(self._fd, _HEADER.size + count * _SLOT_OCTETS)
        self._slots = Slots(memoryview(self._map)[_HEADER.size :])

    def _write_header(self, is_clean: bool) -> None:
        if self._map is not None and self._slots is not None:
            machine = b"another" if self._is_machine_old else self._machine
            fields = (_MAGIC, _FORMAT, self._slots.count, self._boot, is_clean, machine)
            self._map[: _HEADER.size] = _HEADER.pack(*fields)

    def _extend(self, count: int, wanted: int) -> None:
        """Write zeros: a hole that finds no room on a full disk would end the process later."""
        start = _HEADER.size + count * _SLOT_OCTETS if count else 0
        zeros = memoryview(bytes(_HEADER.size + wanted * _SLOT_OCTETS - start))
        at = start
        try:
            while zeros:
                written = os.pwrite(self._fd, zeros, at)
                zeros, at = zeros[written:], at + written
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, start)
            raise

    def _begin_grown(self, id: bytes, why: int) -> int:
        """No slot is free: make as many again."""
        assert self._map is not None
        assert self._slots is not None
        count = self._slots.count
        try:
            self._extend(count, 2 * count)
        except OSError as problem:
            self._complain(problem)
            return NO_SLOT
        self._take_map(2 * count)  # the slots in use keep their numbers
        self._write_header(is_clean=False)
        return self.begin(id, why)

    def _complain(self, problem: OSError) -> None:
        text = f"{self._path}: {problem.strerror}: attempts under way are not listed for a crash"
        self._emit(Notice("spool", text, Severity.WARNING))
