"""The disk model and the recorder themselves: against a naive oracle, and against a real directory.

The oracle looks at a whole history anew for every question and knows nothing of pending lists.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.crash_states import crash_choices
from tests.support.disk import Disk, Files
from tests.support.recording import Event, Kind, controls, read_events

ROOT_NODE, FIRST_NODE = 1, 10
NAMES = ("a", "b")


def event(kind: Kind, node: int, **fields: object) -> Event:
    blank = Event(kind, 0, node, ROOT_NODE, 0, 0, "", b"")
    return blank._replace(**fields)


def random_history(chance: random.Random, length: int) -> list[Event]:
    """Creations, writes, renames, removals and flushes of two names in one directory."""
    history = [event(Kind.ROOT, ROOT_NODE)]
    names: dict[str, int] = {}
    flushes: dict[int, int] = {}
    node = FIRST_NODE
    while len(history) < length:
        kind = chance.choice(
            ("create", "write", "write", "write", "size", "remove", "sync", "sync")
        )
        name = chance.choice(NAMES)
        if kind == "create" and name not in names:
            names[name], node = node, node + 1
            history.append(event(Kind.CREATE, names[name], name=name))
        elif kind == "write" and name in names:
            data = bytes([len(history) + 65]) * chance.randint(1, 3)
            history.append(
                event(Kind.WRITE, names[name], offset=chance.randint(0, 3), data=data, parent=0)
            )
        elif kind == "size" and name in names:
            which = chance.choice((Kind.RESIZE, Kind.EXTEND))
            history.append(event(which, names[name], offset=chance.randint(0, 5), parent=0))
        elif kind == "remove" and name in names:
            other = NAMES[name == NAMES[0]]
            if chance.random() < 0.5:
                history.append(event(Kind.UNLINK, names.pop(name), name=name))
            else:
                history.append(
                    event(Kind.RENAME, names[name], name=name, other=ROOT_NODE, data=other.encode())
                )
                names[other] = names.pop(name)
        elif kind == "sync" and (chance.random() < 0.5 or not flushes):
            number = len(history)
            flushes[number] = chance.choice([ROOT_NODE, 0, *names.values()])
            history.append(event(Kind.SYNC_BEGIN, flushes[number], other=number, parent=0))
        elif kind == "sync":
            number = chance.choice(list(flushes))
            history.append(event(Kind.SYNC_END, flushes.pop(number), other=number, parent=0))
    return history


def is_durable(history: list[Event], at: int, node: int) -> bool:
    """Whether a flush of `node` (or of everything) began after event `at` and has finished."""
    for begin in range(at + 1, len(history)):
        first = history[begin]
        if first.kind is Kind.SYNC_BEGIN and first.node in (0, node):
            for last in history[begin:]:
                if last.kind is Kind.SYNC_END and last.other == first.other:
                    return True
    return False


def replay(history: list[Event], happened: set[tuple[int, str]]) -> Files:
    """The directory after those parts of events that happened, applied in order."""
    files: dict[int, bytes] = {}
    names: dict[str, int] = {}
    for at, one in enumerate(history):
        content = files.get(one.node, b"")
        if one.kind is Kind.WRITE and (at, "data") in happened:
            before = content.ljust(one.offset, b"\0")[: one.offset]
            files[one.node] = before + one.data + content[one.offset + len(one.data) :]
        elif one.kind is Kind.RESIZE and (at, "data") in happened:
            files[one.node] = content[: one.offset].ljust(one.offset, b"\0")
        elif one.kind is Kind.EXTEND and (at, "data") in happened:
            files[one.node] = content.ljust(one.offset, b"\0")
        elif one.kind in (Kind.CREATE, Kind.UNLINK, Kind.RENAME):
            new = one.data.decode() if one.kind is Kind.RENAME else one.name
            if one.kind is not Kind.UNLINK and (at, "add") in happened:
                names[new] = one.node
            if one.kind is not Kind.CREATE and (at, "remove") in happened:
                names.pop(one.name, None)
    return {name: files.get(node, b"") for name, node in names.items()}


def parts_of(history: list[Event]) -> list[tuple[int, str, int]]:
    """Every change: event, which half of it, whose flush makes it durable."""
    parts = []
    for at, one in enumerate(history):
        if one.kind in (Kind.WRITE, Kind.RESIZE, Kind.EXTEND):
            parts.append((at, "data", one.node))
        if one.kind in (Kind.CREATE, Kind.RENAME):
            parts.append((at, "add", ROOT_NODE))
        if one.kind in (Kind.UNLINK, Kind.RENAME):
            parts.append((at, "remove", ROOT_NODE))
    return parts


def possible(history: list[Event]) -> tuple[Files, Files, list[Files]]:
    """Durable state, full state, and every state between them."""
    parts = parts_of(history)
    durable = {(at, half) for at, half, node in parts if is_durable(history, at, node)}
    open_parts = [(at, half) for at, half, _ in parts if (at, half) not in durable]
    every = []
    for flags in itertools.product((False, True), repeat=len(open_parts)):
        happened = durable | {
            part for part, is_there in zip(open_parts, flags, strict=True) if is_there
        }
        for at, half in set(happened):  # a rename that removed the old name has made the new one
            if half == "remove" and history[at].kind is Kind.RENAME and (at, "add") not in happened:
                happened.discard((at, half))
        every.append(replay(history, happened))
    return replay(history, durable), replay(history, {(at, half) for at, half, _ in parts}), every


@pytest.mark.parametrize("seed", range(40))
def test_states_are_those_of_the_oracle(seed: int) -> None:
    """S1, S2 and all subsets, after each event of a tiny history; the others are among them."""
    chance = random.Random(seed)
    history = random_history(chance, 14)
    disk = Disk()
    for count, one in enumerate(history, 1):
        disk.apply(one)
        durable, full, every = possible(history[:count])
        choices = crash_choices(disk, chance, subsets=1024)
        states = {
            kind: [disk.build(choice.changes).files for choice in found]
            for kind, found in choices.items()
        }
        assert states["S1"] == [durable]
        assert states.get("S2", [durable]) == [full]
        for kind in ("S3", "S4", "S8", "S9"):
            assert all(state in every for state in states.get(kind, ())), kind
        if "S5" in states and len(states["S5"]) < 1024:
            assert all(state in states["S5"] for state in every)
            assert all(state in every for state in states["S5"])


def test_torn_and_zeroed_states() -> None:
    disk = Disk()
    disk.apply(event(Kind.ROOT, ROOT_NODE))
    disk.apply(event(Kind.CREATE, 10, name="a"))
    disk.apply(event(Kind.SYNC_BEGIN, ROOT_NODE, other=1))
    disk.apply(event(Kind.SYNC_END, ROOT_NODE, other=1))
    data = bytes(range(1, 5)) * 2048
    disk.apply(event(Kind.WRITE, 10, data=data))
    choices = crash_choices(disk, random.Random(1), cuts=100)
    states = {
        kind: [disk.build(c.changes).files["a"] for c in found] for kind, found in choices.items()
    }
    assert states["S1"] == [b""]
    assert states["S2"] == [data]
    for cut in range(512, 8192, 512):
        assert data[:cut] in states["S6"]
        assert bytes(cut) + data[cut:] in states["S6"]
    assert states["S7"] == [bytes(8192)]
    assert states["S9"] == [b"", data]


def test_a_change_whose_flush_failed_stays_in_doubt() -> None:
    disk = Disk()
    disk.apply(event(Kind.ROOT, ROOT_NODE))
    disk.apply(event(Kind.CREATE, 10, name="a"))
    disk.apply(event(Kind.SYNC_BEGIN, 0, other=1))
    disk.apply(event(Kind.SYNC_END, 0, other=1))
    disk.apply(event(Kind.WRITE, 10, data=b"old"))
    for number, error in ((2, 5), (3, 0)):
        disk.apply(event(Kind.SYNC_BEGIN, 10, other=number))
        disk.apply(event(Kind.SYNC_END, 10, other=number, offset=error))
    assert disk.build([]).files == {"a": b""}
    disk.apply(event(Kind.WRITE, 10, data=b"n"))
    disk.apply(event(Kind.SYNC_BEGIN, 10, other=4))
    disk.apply(event(Kind.SYNC_END, 10, other=4))
    assert disk.build([]).files == {"a": b"n"}
    assert disk.build(disk.pending).files == {"a": b"nld"}


EVERY_CALL = """
import mmap, os, shutil, sys, threading
root, marks = sys.argv[1:]
mark = os.open(marks, os.O_WRONLY | os.O_CREAT)
os.mkdir(root + "/one"); os.chdir(root + "/one"); os.mkdir("two")
fd = os.open("file", os.O_RDWR | os.O_CREAT)
os.write(fd, b"abc"); os.writev(fd, [b"de", b"f"]); os.pwrite(fd, b"X", 1)
os.pwritev(fd, [b"1", b"23"], 10); os.ftruncate(fd, 12); os.posix_fallocate(fd, 0, 100)
os.fsync(fd); os.fdatasync(fd); os.write(mark, b"half\\n")
other = os.dup(fd); os.write(other, b"through a copy"); os.close(other); os.close(fd)
with open("text", "wb", buffering=0) as text: text.write(b"one"); text.truncate(2)
with open("text", "ab", buffering=0) as text: text.write(b"more")
os.truncate("text", 5)
synced = os.open("synced", os.O_WRONLY | os.O_CREAT | os.O_DSYNC); os.write(synced, b"now")
os.link("text", "two/link"); os.rename("file", "two/file"); os.replace("text", "two/file")
here = os.open("two", os.O_RDONLY)
os.open("relative", os.O_CREAT, dir_fd=here); os.rename("relative", "moved", src_dir_fd=here)
os.unlink("two/link"); os.mkdir("gone"); shutil.rmtree("gone")
os.mkdir("tree"); open("tree/leaf", "w").close(); shutil.rmtree("tree")
def work(name):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT)
    for turn in range(200): os.pwrite(fd, bytes([turn]) * 100, turn * 50)
threads = [threading.Thread(target=work, args=(str(n),)) for n in range(4)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
os.write(mark, b"end\\n")
"""


def contents_of(place: Path) -> Files:
    found: Files = {}
    for path in place.rglob("*"):
        name = str(path.relative_to(place))
        found[name] = None if path.is_dir() else path.read_bytes()
    return found


def record(tmp_path: Path, program: str) -> tuple[Path, list[Event]]:
    root, log, marks = tmp_path / "root", tmp_path / "log", tmp_path / "marks"
    root.mkdir()
    subprocess.run(
        [sys.executable, "-c", program, str(root), str(marks)],
        env={**os.environ, **controls(root, log, marks, delay_us=100)},
        check=True,
    )
    return root, list(read_events(log))


def test_the_recorder_sees_every_change(tmp_path: Path) -> None:
    """What was recorded gives the very files that are there, also with four threads at work."""
    root, events = record(tmp_path, EVERY_CALL)
    disk = Disk()
    for one in events:
        disk.apply(one)
    assert disk.build(disk.pending).files == contents_of(root)
    assert disk.build(disk.pending).files["one/two/file"] == b"onmor"
    assert [e.data for e in events if e.kind is Kind.MARK] == [b"half\n", b"end\n"]
    assert sum(e.kind is Kind.SYNC_END for e in events) == 2
    assert sum(e.kind is Kind.WRITE_SYNCED for e in events) == 1


def test_nothing_escapes_the_recorder(tmp_path: Path) -> None:
    """A shared writable mapping is refused, but for LMDB's lock file; and the refusal shows."""
    _, events = record(
        tmp_path,
        "import mmap, os, sys\n"
        "def map(name):\n"
        "    fd = os.open(f'{sys.argv[1]}/{name}', os.O_RDWR | os.O_CREAT)\n"
        "    os.ftruncate(fd, 4096)\n"
        "    return mmap.mmap(fd, 4096)\n"
        "map('lock.mdb')\n"
        "try: map('data.mdb')\n"
        "except PermissionError: pass\n"
        "else: raise SystemExit('mapped')\n",
    )
    refused = [one for one in events if one.kind is Kind.DENIED]
    assert [one.name.rpartition("/")[2] for one in refused] == ["data.mdb"]
    with pytest.raises(AssertionError, match="behind the recorder"):
        Disk().apply(refused[0])
