"""Pages whose commands are real: they are run, and what they say is what the page says.

    ```console
    $ fastmta check -c relay.toml
    $ fastmta run -c relay.toml &
    fastmta: ready, 1 worker(s), pid 4711
    ```

All commands of a page go to one bash, in a directory of their own. A line that begins with `> `
goes on with the command. After a command that ends with `&`, what it says within moments is its
answer, up to a line with "ready" or "listening". `console install` is a block that is run only when
a page is recorded.

    python -m tests.support.transcript docs/first-steps.md      # write what they say now
    python -m tests.support.transcript docs/first-steps.md --keep-install     # but for that block
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

FENCE = re.compile(r"```console(?P<kind> install)?\n(?P<text>.*?)```\n", re.DOTALL)
LIMIT_S = 60.0
_RECORDING_LIMIT_S = 900.0  # compiling takes a while
_BACKGROUND_S = 20.0
_IS_UP = re.compile(r"ready|listening|receiving|sink on", re.IGNORECASE)
# What may be there or not: who runs it, and how often something was tried before it was held.
_OPTIONAL = re.compile(
    r"^fastmta: serves as .*\n"
    r"|^.* UTC  (?:deferred|attempt|queued) .*\n|^.*(?:status=deferred|\(queue active\)).*\n"
    r"|delivery temporarily suspended: |conn_use=\d+, |(?<=[0-9A-Za-z])\*",
    re.MULTILINE,
)
# What differs from run to run, first the more special.
_VARYING = (
    (re.compile(r"\b(?=[0-9A-Za-z]*[0-9])[0-9A-Za-z]{12,20}\b"), "ID"),
    (re.compile(r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b,?"), "DAY"),
    (re.compile(r"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b"), "MONTH"),
    (re.compile(r"[0-9]+(?:\.[0-9]+)?"), "0"),
    (re.compile(r"\battempts?\b"), "attempts"),
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r"-{2,}"), "--"),
)


@dataclass
class Step:
    """One command, and what it said when the page was written."""

    command: str
    answer: str = ""

    @property
    def text(self) -> str:
        """As the page has it."""
        first, *more = self.command.split("\n")
        lines = [f"$ {first}", *(f"> {line}" for line in more)]
        return "\n".join(lines) + "\n" + self.answer


def read_steps(block: str) -> list[Step]:
    """The commands of one block."""
    steps: list[Step] = []
    for line in block.split("\n")[:-1]:
        if line.startswith("$ "):
            steps.append(Step(line[2:]))
        elif line.startswith("> ") and steps and not steps[-1].answer:
            steps[-1].command += "\n" + line[2:]
        else:
            steps[-1].answer += line + "\n"
    return steps


def stable(answer: str) -> list[str]:
    """What has to be the same in every run, line by line."""
    answer = _OPTIONAL.sub("", answer)
    for pattern, name in _VARYING:
        answer = pattern.sub(name, answer)
    return [line.strip() for line in answer.split("\n") if line.strip()]


@dataclass
class Shell:
    """One bash; its background processes end with it."""

    directory: Path
    environment: Mapping[str, str]
    limit_s: float = LIMIT_S
    _count: int = 0
    _background: list[int] = field(default_factory=list)

    def __enter__(self) -> Shell:
        self._output = self.directory / ".output"
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                ["bash", "--norc", "--noprofile"],
                cwd=self.directory,
                env=dict(self.environment),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        for pid in reversed(self._background):  # the server before those that it sends to
            _end(pid)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def run(self, command: str) -> str:
        """What it says. Raises TimeoutError."""
        self._count += 1
        is_background = command.rstrip().endswith("&")
        begin = self._output.stat().st_size
        mark = f"end-of-step-{self._count}"
        if is_background:
            said = self.directory / f".background-{self._count}"
            command = f"{command.rstrip()[:-1]} > {said} 2>&1 &\necho pid $!"
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\necho {mark}\n".encode())
        self._process.stdin.flush()
        text = self._wait(begin, mark)
        if not is_background:
            return text
        self._background.append(int(text.split()[-1]))
        return _await_background(said)

    def _wait(self, begin: int, mark: str) -> str:
        until_s = time.monotonic() + self.limit_s
        while time.monotonic() < until_s:
            text = self._output.read_bytes()[begin:].decode("utf-8", "replace")
            if text.endswith(f"{mark}\n"):
                return text.removesuffix(f"{mark}\n")
            time.sleep(0.01)
        raise TimeoutError(f"no end of {mark}: {text}")


def _await_background(said: Path) -> str:
    until_s = time.monotonic() + _BACKGROUND_S
    while time.monotonic() < until_s:
        text = said.read_text() if said.exists() else ""  # bash makes it in the background, too
        if _IS_UP.search(text) and text.endswith("\n"):
            return text
        time.sleep(0.01)
    raise TimeoutError(f"it does not begin: {text}")


def _end(pid: int) -> None:
    with_pid = Path(f"/proc/{pid}")
    if not with_pid.exists():
        return
    os.kill(pid, signal.SIGTERM)
    until_s = time.monotonic() + 20
    while with_pid.exists() and "Z" not in _state(pid) and time.monotonic() < until_s:
        time.sleep(0.02)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def commands_in(directory: Path) -> dict[str, str]:
    """An environment in which fastmta and its commands are those of these sources."""
    programs = directory / "bin"
    programs.mkdir()
    root = Path(__file__).parent.parent.parent
    names = ("sendmail", "mailq", "newaliases", "postqueue", "postsuper", "postcat", "qshape")
    bodies = {"fastmta": "-m fastmta"}
    bodies |= {f"fastmta-{name}": f"-m fastmta.postfix {name}" for name in names}
    for name, body in bodies.items():
        path = programs / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {body} "$@"\n')
        path.chmod(0o755)
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(root),
        "HOME": str(directory),
        "USER": "root",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "COLUMNS": "100",
    }


def replay(page: str, shell: Shell, replaced: Mapping[str, str]) -> Iterator[tuple[Step, str]]:
    """Run every command of the page; (what the page says, what was said).

    `replaced`: such as ports, that are others than those of the page while it runs.
    """
    for block in FENCE.finditer(page):
        if block["kind"]:
            continue
        for step in read_steps(block["text"]):
            answer = shell.run(_with(step.command, replaced))
            yield step, _with(answer, {new: old for old, new in replaced.items()})


def _with(text: str, replaced: Mapping[str, str]) -> str:
    for old, new in replaced.items():
        text = text.replace(old, new)
    return text


def record(page: str, shell: Shell, with_install: bool) -> str:
    """The page with what its commands say now."""

    def anew(block: re.Match[str]) -> str:
        if block["kind"] and not with_install:
            return block[0]
        steps = read_steps(block["text"])
        for step in steps:
            step.answer = _tidy(shell.run(step.command), shell.directory)
        body = "".join(step.text for step in steps)
        return f"```console{block['kind'] or ''}\n{body}```\n"

    return FENCE.sub(anew, page)


def _tidy(answer: str, directory: Path) -> str:
    text = answer.replace(str(directory), "/home/me")
    return text if text.endswith("\n") or not text else text + "\n"


def main(path: Path, with_install: bool) -> None:
    """Record a page in place."""
    directory = Path(tempfile.mkdtemp(prefix="fastmta-steps-"))
    try:
        environment = {**commands_in(directory), "SOURCES": str(Path.cwd())}
        environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
        if with_install:
            del environment["PYTHONPATH"]  # what is installed is tried
        with Shell(directory, environment, _RECORDING_LIMIT_S) as shell:
            path.write_text(record(path.read_text(), shell, with_install))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--keep-install" not in sys.argv)
