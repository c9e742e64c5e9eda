"""Sources as processes: Postfix's smtp-source, and our own, which speaks TLS and counts more."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ..loopback import HOST, LabError
from ..postfix import SBIN
from .case import Case
from .certificate import MIN_PROTOCOL
from .native import program

SENDER, RECIPIENT = "sender@source.test", "recipient@sink.test"
SECONDS_MAX = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """What bench/source.c says of itself, as far as it is used here."""

    messages: int
    connections: int
    handshakes: int
    resumed: int
    tickets: int
    protocol: str
    cipher: str
    held: int
    reply_p50_ms: float
    reply_p99_ms: float
    errors: int

    @property
    def tickets_per_handshake(self) -> float:
        return self.tickets / self.handshakes if self.handshakes else 0.0


def parse_report(text: bytes) -> SourceReport:
    """The last line that bench/source.c printed; LabError for anything else."""
    try:
        values = json.loads(text.rstrip(b"\n").rpartition(b"\n")[2])
        return SourceReport(**{name: values[name] for name in SourceReport.__slots__})
    except (ValueError, KeyError, TypeError):
        raise LabError(f"bench/source.c said {text[-200:]!r}") from None


class Source:
    """Sends the messages of a case; its program is compiled below `directory` if it is ours."""

    def __init__(self, case: Case, directory: Path) -> None:
        self.case = case
        self.name = "bench/source.c" if case.has_own_source else "smtp-source"
        found = program("source", directory) if case.has_own_source else SBIN / "smtp-source"
        self.program = str(found)

    def command(self, port: int, count: int) -> list[str]:
        """The command that sends `count` messages."""
        case = self.case
        size = ["-s", str(min(case.sessions, count)), "-l", str(case.size), "-m", str(count)]
        paths = ["-f", SENDER, "-t", RECIPIENT]
        own = ["--seconds-max", str(SECONDS_MAX)] if case.has_own_source else ["-M", "source.test"]
        tls = ["--tls", "starttls", "--min", MIN_PROTOCOL] if case.has_tls else []
        persistent = ["-d"] if case.is_persistent else []
        return [self.program, *persistent, *size, *paths, *own, *tls, f"{HOST}:{port}"]

    def start(self, port: int, count: int) -> "Sending":
        return Sending(self.name, self.command(port, count), has_report=self.case.has_own_source)


class Sending:
    """A source at work. `finish` or `kill` ends it."""

    def __init__(self, name: str, command: Sequence[str], *, has_report: bool) -> None:
        self._name = name
        self._has_report = has_report
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if has_report else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def has_ended(self, within_s: float) -> bool:
        """Wait so long for its end."""
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Nothing happens when it has ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def finish(self) -> SourceReport | None:
        """Wait for its end; what it says of itself. LabError when something went wrong."""
        said, complaint = self._process.communicate()
        if self._process.returncode:
            text = complaint.decode(errors="replace")[-1000:]
            raise LabError(f"{self._name} ended with {self._process.returncode}: {text}")
        return parse_report(said) if self._has_report else None


class Holder:
    """Open sessions that say nothing (`source --hold`); a context manager that ends them."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def __enter__(self) -> "Holder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def wait(self) -> SourceReport:
        """Until every session is idle; LabError when one could not be."""
        assert self._process.stdout is not None
        report = parse_report(self._process.stdout.readline())
        if report.errors:
            self._process.kill()
            raise self._trouble(report, self._process.communicate()[1])
        return report

    def release(self) -> SourceReport:
        """End the sessions. LabError when one was lost while it was idle."""
        said, complaint = self._process.communicate()
        report = parse_report(said)
        if report.errors:
            raise self._trouble(report, complaint)
        return report

    @staticmethod
    def _trouble(report: SourceReport, complaint: bytes) -> LabError:
        text = complaint.decode(errors="replace")[-1000:]
        return LabError(f"{report.errors} sessions failed or were lost: {text}")
