"""How much memory we may have, and how much we have: of this process and of its control group."""

from __future__ import annotations

import os
import resource
from pathlib import Path

_BUDGET = 0.75  # of the tightest limit: the rest is for page tables, libraries, the page cache
_UNLIMITED = 1 << 60  # control groups say "no limit" with larger numbers, or with "max"
_PAGE_OCTETS = os.sysconf("SC_PAGE_SIZE")


class ControlGroup:
    """The memory group with the tightest limit above this process; versions 1 and 2."""

    def __init__(self, proc: str = "/proc") -> None:
        self.limit_octets = _UNLIMITED
        self._stat = ""  # file with the count of anonymous memory; "": no group, or no limit
        for directory in _group_directories(proc):
            for name in ("memory.max", "memory.limit_in_bytes"):
                limit = _read_number(directory / name)
                if limit is not None and limit < self.limit_octets:
                    self.limit_octets, self._stat = limit, str(directory / "memory.stat")

    def anonymous_octets(self) -> int:
        """What the whole group has; 0 when there is none with a limit."""
        if not self._stat:
            return 0
        try:
            with open(self._stat, encoding="ascii") as file:
                fields = dict(line.split() for line in file)
        except (OSError, ValueError):
            return 0  # the group was taken from under us: our own memory is still watched
        return int(fields.get("anon", fields.get("total_rss", 0)))


class Memory:
    """What one of `workers` processes uses of its part."""

    def __init__(self, budget_octets: int, workers: int) -> None:
        """`budget_octets` is for all workers; 0: three quarters of the tightest limit."""
        self._group = ControlGroup()
        whole = budget_octets or int(_BUDGET * min(self._group.limit_octets, _machine_octets()))
        self._part_octets = whole / workers
        self._own_octets = 0  # when somebody looked last

    def used(self) -> float:
        """The share of our part, or of the group's limit if that is the larger one.

        As it was, when there is no descriptor to look with: other gauges see to that.
        """
        try:
            self._own_octets = own_anonymous_octets()
        except OSError:
            return self._own_octets / self._part_octets
        own = self._own_octets / self._part_octets
        return max(own, self._group.anonymous_octets() / self._group.limit_octets)


def own_anonymous_octets() -> int:
    """Resident pages of this process that no file stands behind."""
    with open("/proc/self/statm", encoding="ascii") as file:
        fields = file.read().split()
    return (int(fields[1]) - int(fields[2])) * _PAGE_OCTETS


def _machine_octets() -> int:
    octets = os.sysconf("SC_PHYS_PAGES") * _PAGE_OCTETS
    for which in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft, _ = resource.getrlimit(which)
        if soft != resource.RLIM_INFINITY:
            octets = min(octets, soft)
    return octets


def _group_directories(proc: str) -> list[Path]:
    """The memory group of this process and those above it, as far as they are mounted here."""
    try:
        groups = Path(proc, "self/cgroup").read_text().splitlines()
        mounts = Path(proc, "self/mountinfo").read_text().splitlines()
    except OSError:
        return []
    found: list[Path] = []
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        for mount in mounts:
            before, _, after = mount.partition(" - ")
            kind, _, options = after.split(" ", 2)
            is_ours = "memory" in options.split(",") if controllers else kind == "cgroup2"
            if kind.startswith("cgroup") and is_ours:
                root = Path(before.split(" ")[4])
                whole = root / path.lstrip("/")
                found += [each for each in (whole, *whole.parents) if each.is_relative_to(root)]
    return found


def _read_number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
