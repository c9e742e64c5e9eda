"""The fault library: fails, or kills, another process at its n-th system call of a kind.

    page = fault.Page(tmp_path / "page")
    process = subprocess.Popen(command, env={**os.environ, **page.environment()})
    page.arm(fault.Rule(Operation.WRITE, Action.FAIL, call=3, error=errno.EIO, pattern="*/hot/*"))
    ...
    assert page.fired  # it happened

The rule lives in a file that every process with this environment has mapped; it can be changed at
any time, and costs nothing while it is not armed. No code of the server knows of it.
"""

import enum
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from tests.support import shim

SOURCE = Path(__file__).with_name("fault.c")
_PATH_OCTETS = 512
_RULE = struct.Struct("<QQQqQQqQqQQQQQ")
_RESULT = struct.Struct("<QQ")
_COUNT = struct.Struct("<Q")


class Operation(enum.IntFlag):
    """Kinds of calls; bits as in fault.c. All but the last four concern a file."""

    OPEN = enum.auto()
    CREATE = enum.auto()  # open with O_CREAT
    WRITE = enum.auto()
    FLUSH = enum.auto()  # also of a directory
    RENAME = enum.auto()  # its new name
    UNLINK = enum.auto()
    MKDIR = enum.auto()
    RESIZE = enum.auto()
    MAP = enum.auto()
    MEMORY = enum.auto()
    EVENT = enum.auto()  # eventfd, epoll_create
    THREAD = enum.auto()
    RANDOM = enum.auto()


class Action(enum.IntEnum):
    """What happens at the call; numbers as in fault.c."""

    COUNT = 0
    FAIL = 1
    SHORT = 2  # a write writes half
    LIE = 3  # a flush fails, and what it should have made durable is gone
    KILL = 4
    KILL_GROUP = 5


class Content(enum.IntEnum):
    """Which writes; numbers as in fault.c."""

    ANY = 0
    VOID = 1  # a page of zeros, which voids the header of a segment
    LOG = 2  # neither this nor the next
    FILL = 3  # more zeros: a new segment gets its blocks


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Which calls (files below `root` that match `pattern`), which of them, what then."""

    operations: Operation
    action: Action = Action.COUNT
    call: int = 1
    error: int = 0
    is_sticky: bool = False  # all that follow as well
    is_after: bool = False  # kill when the call is done
    root: str = ""
    pattern: str = "*"
    below: int = 0  # only writes at an offset below this
    content: Content = Content.ANY
    memory_min: int = 0  # octets, whoever asks for them; 0: whatever our own modules ask for


class Page:
    """The shared page: a rule, and what came of it."""

    def __init__(self, path: Path, is_group: bool = False) -> None:
        """`is_group`: the first process that maps it makes a process group of its own."""
        self.path = path
        self._count = _RULE.size + _RESULT.size
        self._paths = self._count + _COUNT.size * len(Operation)
        size = self._paths + 3 * _PATH_OCTETS
        is_new = not path.exists()
        with path.open("w+b" if is_new else "r+b") as file:
            if is_new:
                file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)
        if is_new:
            _COUNT.pack_into(self._map, 12 * 8, is_group)

    def environment(self) -> dict[str, str]:
        """The variables that load the library."""
        library = shim.build(SOURCE)
        return {"LD_PRELOAD": str(library), "FASTMTA_FAULT_PAGE": str(self.path)}

    def arm(self, rule: Rule, pid: int = 0, trace_fd: int = 0) -> None:
        """From now on act by `rule`, in one process or in all; counts begin anew.

        Flushes, removed files and faults are noted in `trace_fd`, a descriptor of that process.
        """
        armed, *_, is_group, group = _RULE.unpack_from(self._map)
        self.disarm()
        self._map[_RULE.size : self._paths] = bytes(self._paths - _RULE.size)
        for at, text in enumerate((rule.root, rule.pattern, "")):
            octets = text.encode().ljust(_PATH_OCTETS, b"\0")
            place = self._paths + at * _PATH_OCTETS
            self._map[place : place + _PATH_OCTETS] = octets
        _RULE.pack_into(
            self._map,
            0,
            0,
            pid,
            rule.operations,
            rule.call,
            rule.is_sticky,
            rule.action,
            rule.error,
            rule.is_after,
            rule.below,
            rule.content,
            rule.memory_min,
            trace_fd,
            is_group,
            group,
        )
        _COUNT.pack_into(self._map, 0, armed + 1)

    def disarm(self) -> None:
        """Leave everybody alone."""
        _COUNT.pack_into(self._map, 0, 0)

    @property
    def calls(self) -> int:
        """Calls that the rule is about, so far."""
        return int(_RESULT.unpack_from(self._map, _RULE.size)[0])

    def count(self, operation: Operation) -> int:
        """Those of one kind."""
        place = self._count + _COUNT.size * (operation.bit_length() - 1)
        return int(_COUNT.unpack_from(self._map, place)[0])

    @property
    def fired(self) -> int:
        """How many of them were failed."""
        return int(_RESULT.unpack_from(self._map, _RULE.size)[1])

    @property
    def fired_path(self) -> str:
        """The file of the first one."""
        place = self._paths + 2 * _PATH_OCTETS
        return self._map[place : place + _PATH_OCTETS].rstrip(b"\0").decode()

    def close(self) -> None:
        """Give the mapping back."""
        self._map.close()
