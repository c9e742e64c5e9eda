"""One server, its good sessions, and bench/hostile.c beside them in every second run."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from ...loopback import HOST, LabError, free_port
from ...server import Server, ServerOptions
from ..backlog import nameserver
from ..case import KB, Case
from ..certificate import Certificate
from ..contender import fastmta_tls
from ..measure import Run, measure
from ..native import program
from ..receiver import Receiver
from ..source import RECIPIENT, SECONDS_MAX, Source
from ..standing import Standing
from ..workplace import Setting, module

KINDS = ("mute", "drip", "deaf", "line", "bdat", "noop", "handshake", "auth")
MIXED = "mixed"  # sessions of every kind
FIRST_ADDRESS = "127.9.0.1"  # of the hostile: strangers to the server, one address each
GOOD_NETWORK = f"{HOST}/32"
_FIRST_RATE = 2000.0  # messages/s, before anything is known
_WARM_UP_S = 0.5
_COUNT_MIN, _COUNT_MAX = 200, 300_000
_PEACE_S = 2.0  # after the hostile sessions: the server notices that they are gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Siege:
    """How many are hostile, how often each does something, and who the good ones are."""

    sessions: int = 1000
    pace_ms: int = 1000
    good_sessions: int = 20
    pairs: int = 3
    seconds: float = 4.0
    workers: int = 1
    has_tls: bool = False  # of the good sessions; the server offers it with a certificate


@dataclass(slots=True)
class SiegeFigures:
    """The runs of one kind of hostile session; `told` is what each crowd said of itself."""

    kind: str
    alone: list[Run] = field(default_factory=list)
    beside: list[Run] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)


def hostile_command(directory: Path, port: int, siege: Siege, kind: str) -> list[str]:
    """bench/hostile.c for a kind."""
    return [
        str(program("hostile", directory)),
        *("-s", str(siege.sessions), "--pace-ms", str(siege.pace_ms), "-t", RECIPIENT),
        *("--from", FIRST_ADDRESS, "--addresses", str(siege.sessions)),
        *("--seconds-max", str(SECONDS_MAX)),
        *([] if kind == MIXED else ["--kind", kind]),
        f"{HOST}:{port}",
    ]


class Crowd:
    """The hostile sessions, while the context is open; `told` is filled in at its end."""

    def __init__(self, command: Sequence[str], settle_s: float) -> None:
        self._command = command
        self._settle_s = settle_s
        self.told: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Crowd:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        time.sleep(self._settle_s)  # every session has taken its first steps
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        said, complaint = self._process.communicate()
        if error is None:
            self.told = parse_tally(said, complaint)


def parse_tally(said: bytes, complaint: bytes) -> dict[str, Any]:
    """What bench/hostile.c printed; LabError when it ended otherwise."""
    try:
        told: dict[str, Any] = json.loads(said)
    except ValueError:
        text = complaint.decode(errors="replace")[-500:]
        raise LabError(f"bench/hostile.c failed: {text}") from None
    return told


class Field(Standing):
    """A context manager: the server and its receiver run while it is open."""

    def __init__(
        self,
        directory: Path,
        siege: Siege,
        certificate: Certificate | None,
        settings: Mapping[str, Setting],
    ) -> None:
        super().__init__()
        self.siege = siege
        self._directory = directory
        self._rate = _FIRST_RATE
        port = free_port()
        self._dns_port = free_port()
        self._server = Server(
            ServerOptions(
                directory=directory / "server",
                relay_host=f"[{HOST}]:{port}",
                workers=siege.workers,
                settings={
                    "relay.trusted_networks": [GOOD_NETWORK],
                    "relay.domains": [RECIPIENT.partition("@")[2]],
                    "dns.servers": [f"{HOST}:{self._dns_port}"],  # strangers' names: none
                    **(fastmta_tls(certificate) if certificate else {}),
                    **settings,
                },
            )
        )
        self._port = port
        self._receiver: Receiver
        case = Case(
            name="good",
            size=4 * KB,
            sessions=siege.good_sessions,
            has_own_source=True,
            has_tls=siege.has_tls,
        )
        self._source = Source(case, directory)

    def stand(self) -> None:
        names = [*module(nameserver), str(self._dns_port), HOST, "0"]
        running = subprocess.Popen(names, stdin=subprocess.DEVNULL)
        self._stack.callback(running.wait)
        self._stack.callback(running.kill)
        self._receiver = Receiver(self._directory, self._port, is_own=True)
        self._stack.callback(self._receiver.stop)
        self._stack.callback(self._server.kill)
        self._server.start()
        self._run(_WARM_UP_S)

    def measure(self, kind: str, say: Callable[[str], None]) -> SiegeFigures:
        """Alternating pairs: alone, beside; beside, alone; and so on."""
        figures = SiegeFigures(kind)
        for pair in range(self.siege.pairs):
            orders = (self._alone, self._beside)
            for take in orders if pair % 2 == 0 else reversed(orders):
                take(figures)
            alone, beside = figures.alone[-1], figures.beside[-1]
            say(
                f"{kind} {pair + 1}/{self.siege.pairs}: alone {alone.accepted_rate:.0f}/s, "
                f"beside {beside.accepted_rate:.0f}/s"
            )
        return figures

    def _alone(self, figures: SiegeFigures) -> None:
        figures.alone.append(self._run(self.siege.seconds))

    def _beside(self, figures: SiegeFigures) -> None:
        siege = self.siege
        command = hostile_command(self._directory, self._server.port, siege, figures.kind)
        with Crowd(command, 3 * siege.pace_ms / 1000) as crowd:
            run = self._run(siege.seconds)
        figures.beside.append(run)
        figures.told.append(crowd.told)
        time.sleep(_PEACE_S)

    def _run(self, seconds: float) -> Run:
        count = max(_COUNT_MIN, min(_COUNT_MAX, int(self._rate * seconds)))
        run = measure(self._source, self._server, self._receiver, count)
        self._rate = run.accepted_rate
        return run
