"""A disk that loses power: which states a recorded history may leave behind.

Durable is what a finished flush of the file (data and size) or of the directory (names) covers,
when it was begun after the change; everything else is *pending*, and may be there or not:

    disk = Disk()
    for event in read_events(log):
        disk.apply(event)
        for kind, states in crash_choices(disk, chance).items(): ...   # S1 to S9
            disk.build(state.changes)                                  # path -> content

A rename never loses both names. A change whose flush failed is not made durable by a later one.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tests.support.recording import Event, Kind

Files: TypeAlias = dict[str, bytes | None]  # by path below the root; None: a directory


class Node:
    """A file or a directory, as it is on the disk for certain."""

    __slots__ = ("_digest", "_frozen", "content", "is_directory", "label", "names")

    def __init__(self, label: str, is_directory: bool) -> None:
        self.label = label  # its first path, for humans
        self.is_directory = is_directory
        self.content = bytearray()
        self.names: dict[str, Node] = {}
        self._frozen: bytes | None = b""
        self._digest = b""

    def changed(self) -> None:
        """Forget what was derived from the content."""
        self._frozen = None

    def frozen(self) -> tuple[bytes, bytes]:
        """The content and its digest."""
        if self._frozen is None or not self._digest:
            self._frozen = bytes(self.content)
            self._digest = hashlib.blake2b(self._frozen, digest_size=16).digest()
        return self._frozen, self._digest


class Change(enum.Enum):
    """What a pending operation does."""

    DATA = "write"
    RESIZE = "resize"
    EXTEND = "extend"
    ADD = "name"
    REMOVE = "remove"


class Operation:
    """One pending change of one node."""

    __slots__ = (
        "change",
        "child",
        "data",
        "is_doomed",
        "name",
        "node",
        "number",
        "offset",
        "whole",
    )

    def __init__(
        self,
        number: tuple[int, int],
        change: Change,
        node: Node,
        offset: int = 0,
        data: bytes = b"",
        name: str = "",
        child: Node | None = None,
    ) -> None:
        self.number = number  # event, place within it
        self.change = change
        self.node = node
        self.offset = offset
        self.data = data
        self.name = name
        self.child = child  # ADD: what is named
        self.whole: Operation | None = None  # REMOVE by a rename: the ADD that it belongs to
        self.is_doomed = False  # a flush of it failed

    @property
    def is_name(self) -> bool:
        """Whether it changes a directory."""
        return self.change in (Change.ADD, Change.REMOVE)

    def part(self, start: int, end: int, is_zero: bool = False) -> Operation:
        """The same write with only the octets from `start` to `end` of its data."""
        data = bytes(end - start) if is_zero else self.data[start:end]
        return Operation(self.number, self.change, self.node, self.offset + start, data)

    def apply_data(self, content: bytearray) -> None:
        """Change the content of the file."""
        end = self.offset + len(self.data)
        if self.change is not Change.RESIZE and len(content) < end:
            content.extend(bytes(end - len(content)))
        if self.change is Change.DATA:
            content[self.offset : end] = self.data
        elif self.change is Change.RESIZE:
            del content[end:]
            content.extend(bytes(end - len(content)))

    def apply_name(self, names: dict[str, Node]) -> None:
        """Change the names of the directory."""
        if self.change is Change.REMOVE:
            names.pop(self.name, None)
        elif self.child is not None:
            names[self.name] = self.child

    def __str__(self) -> str:
        if self.is_name:
            return f"{self.change.value} {self.name} in {self.node.label}"
        if self.change is Change.DATA:
            return f"write of {len(self.data)} octets at {self.offset} of {self.node.label}"
        return f"{self.change.value} of {self.node.label} to {self.offset}"


class State(NamedTuple):
    """What the disk holds after the crash."""

    files: Files
    digest: bytes


class Disk:
    """Applies a history; knows what is durable and what is pending."""

    def __init__(self) -> None:
        self.root = Node("", True)
        self.pending: list[Operation] = []
        self.count = 0  # events applied
        self._nodes: dict[int, Node] = {}
        self._begun: dict[int, tuple[int, int]] = {}  # flush: node, event

    def load(self, place: Path) -> None:
        """Begin with the files below `place`, which are durable."""
        self._load(place, self.root)

    def _load(self, place: Path, directory: Node) -> None:
        self._nodes[place.stat().st_ino] = directory
        for path in sorted(place.iterdir()):
            node = Node(f"{directory.label}/{path.name}".lstrip("/"), path.is_dir())
            directory.names[path.name] = node
            if path.is_dir():
                self._load(path, node)
            else:
                node.content = bytearray(path.read_bytes())
                node.changed()
                self._nodes[path.stat().st_ino] = node

    def apply(self, event: Event) -> None:
        """The next event."""
        self.count += 1
        kind, node = event.kind, event.node
        if kind is Kind.ROOT:
            self._nodes[node] = self.root
        elif kind in (Kind.CREATE, Kind.MKDIR):
            parent = self._nodes[event.parent]
            label = f"{parent.label}/{event.name}".lstrip("/")
            self._nodes[node] = Node(label, kind is Kind.MKDIR)
            self._name(event)
        elif kind in (Kind.LINK, Kind.UNLINK, Kind.RENAME):
            self._name(event)
        elif kind is Kind.WRITE:
            self._add(Change.DATA, node, event.offset, event.data)
        elif kind is Kind.RESIZE:
            self._add(Change.RESIZE, node, event.offset)
        elif kind is Kind.EXTEND:
            self._add(Change.EXTEND, node, event.offset)
        elif kind is Kind.WRITE_SYNCED:
            self._settle([self.pending[-1]])
        elif kind is Kind.SYNC_BEGIN:
            self._begun[event.other] = (node, self.count)
        elif kind is Kind.SYNC_END:
            self._synced(event)
        elif kind is Kind.DENIED:
            raise AssertionError(f"{event.name} would have changed a file behind the recorder")

    def _add(self, change: Change, node: int, offset: int, data: bytes = b"") -> None:
        number = (self.count, 0)
        self.pending.append(Operation(number, change, self._nodes[node], offset, data))

    def _name(self, event: Event) -> None:
        parent, child = self._nodes[event.parent], self._nodes[event.node]
        add: Operation | None = None
        if event.kind is Kind.RENAME:
            target, name = self._nodes[event.other], event.data.decode()
            add = Operation((self.count, 0), Change.ADD, target, name=name, child=child)
        elif event.kind is not Kind.UNLINK:
            add = Operation((self.count, 0), Change.ADD, parent, name=event.name, child=child)
        if add is not None:
            self.pending.append(add)
        if event.kind in (Kind.UNLINK, Kind.RENAME):
            remove = Operation((self.count, 1), Change.REMOVE, parent, name=event.name)
            remove.whole = add
            self.pending.append(remove)

    def _synced(self, event: Event) -> None:
        node, begun = self._begun.pop(event.other)
        covered = [
            operation
            for operation in self.pending
            if operation.number[0] < begun and (not node or operation.node is self._nodes[node])
        ]
        if event.offset:
            for operation in covered:
                operation.is_doomed = True
            return
        covered = [operation for operation in covered if not operation.is_doomed]
        halves = [half.whole for half in covered if half.whole in self.pending]
        self._settle(sorted({*covered, *filter(None, halves)}, key=_number))

    def _settle(self, operations: list[Operation]) -> None:
        """These are durable now."""
        settled = set(operations)
        self.pending = [operation for operation in self.pending if operation not in settled]
        for operation in operations:
            node = operation.node
            if operation.is_name:
                operation.apply_name(node.names)
                continue
            operation.apply_data(node.content)
            node.changed()
            if operation.change is Change.DATA:
                self._overwrite(operation)

    def _overwrite(self, durable: Operation) -> None:
        """Older pending writes of the same octets can no longer show."""
        left: list[Operation] = []
        for old in self.pending:
            is_data = old.change is Change.DATA and old.node is durable.node
            if not is_data or old.number > durable.number:
                left.append(old)
                continue
            start = max(durable.offset - old.offset, 0)
            end = durable.offset + len(durable.data) - old.offset
            if start >= len(old.data) or end <= 0:
                left.append(old)
                continue
            for piece in (old.part(0, start), old.part(min(end, len(old.data)), len(old.data))):
                if piece.data:
                    piece.is_doomed = old.is_doomed
                    left.append(piece)
        self.pending = left

    def relevant(self) -> list[Operation]:
        """What is pending of files and directories that may have a name after the crash."""
        seen: set[Node] = set()
        added: dict[Node, list[Node]] = {}
        for operation in self.pending:
            if operation.child is not None:
                added.setdefault(operation.node, []).append(operation.child)
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += [*node.names.values(), *added.get(node, ())]
        return [operation for operation in self.pending if operation.node in seen]

    def build(self, chosen: Iterable[Operation]) -> State:
        """The state in which of all pending changes exactly the chosen ones happened."""
        chosen = sorted(chosen, key=_number)
        there = {operation.number for operation in chosen}
        contents: dict[Node, bytearray] = {}
        names: dict[Node, dict[str, Node]] = {}
        pending = {operation.number for operation in self.pending}
        for operation in chosen:
            node, whole = operation.node, operation.whole
            if operation.is_name:
                if whole is None or whole.number in there or whole.number not in pending:
                    operation.apply_name(names.setdefault(node, dict(node.names)))
            else:
                operation.apply_data(contents.setdefault(node, bytearray(node.content)))
        files: Files = {}
        digest = hashlib.blake2b(digest_size=16)
        waiting = [("", self.root)]
        while waiting:
            path, node = waiting.pop()
            for name, child in sorted(names.get(node, node.names).items()):
                place = f"{path}/{name}".lstrip("/")
                digest.update(place.encode() + b"\0")
                if child.is_directory:
                    files[place] = None
                    waiting.append((place, child))
                    continue
                changed = contents.get(child)
                if changed is None:
                    files[place], sum = child.frozen()
                else:
                    files[place] = octets = bytes(changed)
                    sum = hashlib.blake2b(octets, digest_size=16).digest()
                digest.update(sum)
        return State(files, digest.digest())


def _number(operation: Operation) -> tuple[int, int]:
    return operation.number


def extending(disk: Disk, operations: list[Operation]) -> set[Operation]:
    """Those writes that make their file larger, when everything happens in order."""
    sizes: dict[Node, int] = {}
    found = set()
    for operation in operations:
        if operation.is_name:
            continue
        end = operation.offset + len(operation.data)
        size = sizes.get(operation.node, len(operation.node.content))
        if operation.change is Change.DATA and end > size:
            found.add(operation)
        sizes[operation.node] = end if operation.change is Change.RESIZE else max(size, end)
    return found
