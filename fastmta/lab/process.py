"""What processes cost, read from /proc: CPU of a tree, of the machine, memory of one process."""

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one process in octets; `peak` is the largest resident size so far."""

    resident: int
    shared_fairly: int  # Pss: each shared page divided by its users
    anonymous: int
    peak: int


def _stat(pid: int) -> tuple[int, float]:
    """(parent, CPU seconds of the process and of its reaped children); OSError when it is gone."""
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return int(fields[1]), sum(int(ticks) for ticks in fields[11:15]) / TICKS_PER_S


def is_running(pid: int) -> bool:
    """False once it has ended, whether anybody has reaped it or not: files and locks are let go
    of then. A first thread that has ended says nothing while others of its process still end."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in ("Z", "X") or int(fields[17]) > 1


def name(pid: int) -> str:
    """What the process is called; "" if it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().removesuffix("\n")
    except OSError:
        return ""


def tree(root: int) -> dict[int, float]:
    """CPU seconds by process, of the root and everything below it that lives."""
    parents: dict[int, int] = {}
    cpu_s: dict[int, float] = {}
    for entry in os.listdir(_PROC):
        if not entry.isdigit():
            continue
        try:
            parents[int(entry)], cpu_s[int(entry)] = _stat(int(entry))
        except (OSError, IndexError):
            continue  # it ended while we looked
    members = {root}
    while True:
        more = {pid for pid, parent in parents.items() if parent in members} - members
        if not more:
            return {pid: cpu_s[pid] for pid in members if pid in cpu_s}
        members |= more


def tree_cpu_s(root: int) -> float:
    """CPU seconds of a tree, its ended members included once their parent has reaped them."""
    return sum(tree(root).values())


def machine_cpu_s() -> float:
    """CPU seconds that the whole machine was not idle, since it started."""
    fields = [int(ticks) for ticks in (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _wait, hard, soft, stolen = fields
    return (user + nice + system + hard + soft + stolen) / TICKS_PER_S


def read_octets(pid: int) -> int:
    """Octets that a process has read so far, from sockets too."""
    for line in (_PROC / str(pid) / "io").read_text().split("\n"):
        if line.startswith("rchar:"):
            return int(line[6:])
    raise OSError(f"/proc/{pid}/io has no rchar")


def memory(pid: int) -> Memory:
    """Memory of a process; OSError when it is gone."""
    rollup = _kilobytes(_PROC / str(pid) / "smaps_rollup")
    status = _kilobytes(_PROC / str(pid) / "status")
    return Memory(rollup["Rss"], rollup["Pss"], rollup["Anonymous"], status["VmHWM"])


def _kilobytes(path: Path) -> dict[str, int]:
    values = {}
    for line in path.read_text().split("\n"):
        name, _, rest = line.partition(":")
        if rest.endswith("kB"):
            values[name] = int(rest.split()[0]) * 1024
    return values
