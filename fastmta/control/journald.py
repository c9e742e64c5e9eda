"""Lines of the mail log that journald has, read by `journalctl`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from .logjson import LogLine, of_json
from .logline import of_text

ID_FIELD: Final = "FASTMTA_QID"  # as `journal` sends it
LINES_MAX: Final = 100_000
WAIT_S: Final = 60.0
_COMMAND: Final = ("journalctl", "--output=json", "--quiet", "--no-pager", "--all")


def grep_of(text: str) -> list[str]:
    """Arguments for lines that hold `text`, in any case of its letters."""
    return [f"--grep={re.escape(text)}", "--case-sensitive=no"]


def journald_lines(arguments: Sequence[str], tell: Callable[[str], None]) -> Iterator[LogLine]:
    """The lines of a search, in order; `tell` is called when it cannot be made, for people."""
    import subprocess  # it takes a while, and few have journald

    try:
        done = subprocess.run(
            [*_COMMAND, f"--lines={LINES_MAX}", *arguments],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=WAIT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        tell(f"journalctl cannot be asked: {error}")
        return
    if done.returncode and done.stderr:
        said = done.stderr.decode("utf-8", "replace").strip()
        tell(f"journalctl: {said[:200]}")
    for entry in done.stdout.split(b"\n"):
        line = _line_of(entry)
        if line is not None:
            yield line


def _line_of(entry: bytes) -> LogLine | None:
    try:
        fields: Any = json.loads(entry) if entry else None
    except ValueError:
        return None
    if not isinstance(fields, dict) or not isinstance(fields.get("MESSAGE"), str):
        return None
    message = fields["MESSAGE"]
    if message.startswith("{"):
        return of_json(message)
    stamp, process = str(fields.get("__REALTIME_TIMESTAMP", "")), str(fields.get("SYSLOG_PID", ""))
    program = str(fields.get("SYSLOG_IDENTIFIER", "")).rpartition("/")[2]
    time_s = int(stamp) / 1e6 if stamp.isdecimal() and len(stamp) < 20 else 0.0
    line = of_text(program, message, time_s)
    return line._replace(process=int(process) if process.isdecimal() and len(process) < 10 else 0)
