"""A machine with systemd as its first process: namespaces of this one, with a root, network and
control groups of its own. Nothing of this machine can be written from it.

    with booted(directory, units={"test.target": "..."}) as machine:
        machine.run("systemctl", "start", "fastmta")

It needs root, cgroup v2, and Debian's systemd; `Missing` says what is not there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

INIT = "/lib/systemd/systemd"
# Those of systemd's own units that are wanted; it reads no others.
OWN_UNITS = (
    "sysinit.target", "basic.target", "sockets.target", "shutdown.target", "umount.target",
    "final.target", "systemd-journald.service", "systemd-journald.socket",
    "systemd-journald-dev-log.socket",
)  # fmt: skip
START_S = 20.0
# Arguments: the new root, the directory of units, then pairs of a directory and where it is seen.
_SCRIPT = f"""
set -eu
root=$1 units=$2
shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=755,size=512m root "$root"
cd "$root"
mkdir -p usr proc sys dev run tmp etc var/lib var/log opt root home old
for name in bin sbin lib lib64; do
    [ ! -e "/$name" ] && continue
    if [ -L "/$name" ]; then cp -P "/$name" "$name"; else
        mkdir "$name"; mount --rbind "/$name" "$name"; fi
done
mount --rbind /usr usr
mount -o remount,bind,ro usr
for name in nsswitch.conf ld.so.cache localtime passwd group ssl; do
    [ ! -e "/etc/$name" ] || cp -rL "/etc/$name" etc/
done
cp -r "$units" etc/units
cat /proc/sys/kernel/random/uuid | tr -d - > etc/machine-id
while [ $# -gt 0 ]; do
    mkdir -p ".$2"
    mount --bind "$1" ".$2"
    mount -o remount,bind,ro ".$2"
    shift 2
done
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
mkdir dev/shm dev/pts
for name in null zero full random urandom tty; do
    : > "dev/$name"
    mount --bind "/dev/$name" "dev/$name"
done
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs run run
mount -t tmpfs -o mode=1777 tmp tmp
pivot_root . old
umount -l /old
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_UNIT_PATH=/etc/units \\
    {INIT} --system --unit=basic.target --log-target=journal --show-status=no
"""


class Missing(Exception):
    """Why it cannot be: something is not installed ("needs ..."), or this machine is not fit."""


class Machine:
    """One that runs."""

    def __init__(self, pid: int, group: Path) -> None:
        self.pid = pid  # of its first process, as seen from here
        self._group = group

    def run(self, *words: str, seconds: float = 30.0) -> subprocess.CompletedProcess[str]:
        """A command in it, as root."""
        return subprocess.run(
            ["nsenter", "--target", str(self.pid), "--all", "--", *words],
            capture_output=True,
            text=True,
            timeout=seconds,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        )

    def do(self, *words: str) -> str:
        """The same; what it prints, if all went well."""
        done = self.run(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def show(self, unit: str, *properties: str) -> list[str]:
        """What systemd knows of a unit."""
        text = self.do("systemctl", "show", unit, *(f"--property={one}" for one in properties))
        known = dict(line.split("=", 1) for line in text.split("\n") if line)
        return [known[one] for one in properties]

    def processes(self, unit: str) -> list[int]:
        """Those of a service, as seen from here; the main one first."""
        found = self._group / "system.slice" / unit / "cgroup.procs"
        pids = list(map(int, found.read_text().split()))
        return sorted(pids, key=lambda pid: _parent(pid) in pids)

    def path(self, path: str) -> Path:
        """A file of it, from here."""
        return Path(f"/proc/{self.pid}/root{path}")


@contextlib.contextmanager
def booted(directory: Path, units: Mapping[str, str], seen: Mapping[str, str]) -> Iterator[Machine]:
    """One that has started; `seen`: our directories, and where they are in it. Raises Missing."""
    _check()
    (directory / "root").mkdir()
    (directory / "units").mkdir()
    for name in OWN_UNITS:
        shutil.copy(f"/lib/systemd/system/{name}", directory / "units")
    for name, text in units.items():
        (directory / "units" / name).parent.mkdir(exist_ok=True)
        (directory / "units" / name).write_text(text)
    group = _group_root() / f"fastmta-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        raise Missing(f"no cgroup v2 that can be written: {error}") from None
    command = ["sh", "-c", _SCRIPT, "sh", str(directory / "root"), str(directory / "units")]
    spaces = ["--pid", "--mount", "--cgroup", "--net", "--uts", "--ipc"]
    output = directory / "output"
    with output.open("wb") as file:
        outer = subprocess.Popen(
            # The shell is in its group before it has namespaces of its own.
            ["sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec unshare "$@"', str(group), "--fork",
             "--kill-child", *spaces, "--", *command,
             *(word for pair in seen.items() for word in pair)],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        yield Machine(_started(outer, output), group)
    finally:
        outer.kill()  # the first process of the namespace dies with it, and so do all others
        outer.wait()
        _remove(group)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split(" ")[1])


def _started(outer: subprocess.Popen[bytes], output: Path) -> int:
    """The first process, when all that it starts has been started. Raises Missing."""
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        with contextlib.suppress(OSError):
            for pid in children.read_text().split():
                if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    machine = Machine(int(pid), output)
                    state = machine.run("systemctl", "is-system-running", "--wait").stdout
                    if state == "running\n":
                        return machine.pid
        if outer.poll() is not None:
            break
        time.sleep(0.02)
    raise Missing(f"no namespaces in which systemd starts: {output.read_text()[-2000:]}")


def _check() -> None:
    if os.geteuid() != 0:
        raise Missing("only root makes namespaces")
    for tool in ("unshare", "nsenter", "mount", "pivot_root", "systemctl", "journalctl"):
        if shutil.which(tool) is None:
            raise Missing(f"needs {tool} (Debian: systemd, util-linux)")
    if not os.path.exists(INIT):
        raise Missing(f"needs {INIT} (Debian: systemd)")


def _group_root() -> Path:
    for line in Path("/proc/self/mounts").read_text().split("\n"):
        fields = line.split(" ")
        if len(fields) > 2 and fields[2] == "cgroup2":
            return Path(fields[1])
    raise Missing("no cgroup v2")


def _remove(group: Path) -> None:
    """When its processes are gone."""
    until_s = time.monotonic() + 5
    while group.exists() and time.monotonic() < until_s:
        for below in sorted(group.rglob("*/"), reverse=True):
            with contextlib.suppress(OSError):
                below.rmdir()
        with contextlib.suppress(OSError):
            group.rmdir()
        time.sleep(0.02)
