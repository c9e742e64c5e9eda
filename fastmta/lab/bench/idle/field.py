"""One server, a crowd of idle sessions, and samples of memory before, with and after them."""

import resource
import time
from dataclasses import dataclass
from pathlib import Path

from ... import process
from ...loopback import HOST, LabError, free_port, wait_until
from ...server import Server, ServerOptions
from ..certificate import MIN_PROTOCOL, Certificate
from ..contender import fastmta_tls
from ..measure import LogTail
from ..native import program
from ..receiver import Receiver
from ..source import SECONDS_MAX, Holder
from ..workplace import Setting

KB = 1024
WARM_SESSIONS = 50  # sessions before the first sample: what is made once is not counted
DESCRIPTORS_USED = 0.65  # of the limit; above 0.7 the server is under pressure
DESCRIPTORS_SPARE = 1000
FIRST_ADDRESS = "127.0.0.2"
_SETTLE_S = 3.0
_QUIET_S = 0.5
_QUIET_SAMPLES = 4
_QUIET_OCTETS = 64 * KB
_QUIET_MAX_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """What the sessions do before they fall silent."""

    sessions: int
    addresses: int
    octets: int = 0  # of one message that each carries; 0: none
    certificate: Certificate | None = None

    @property
    def title(self) -> str:
        carried = f"after a message of {self.octets // KB} KB" if self.octets else "after EHLO"
        return f"{carried}{', TLS' if self.certificate else ''}"


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory of the worker and of the kernel, in octets."""

    anonymous: int
    shared_fairly: int
    slab: int  # of the whole machine
    tcp: int  # buffers of all TCP sockets


@dataclass(frozen=True, slots=True)
class IdleFigures:
    """Samples of one crowd; growth is per session."""

    title: str
    sessions: int
    before: Sample
    during: Sample
    after: Sample  # when the sessions are closed
    opening_s: float
    tls: str  # protocol and cipher

    @property
    def anonymous(self) -> float:
        return (self.during.anonymous - self.before.anonymous) / self.sessions

    @property
    def shared_fairly(self) -> float:
        return (self.during.shared_fairly - self.before.shared_fairly) / self.sessions

    @property
    def slab(self) -> float:
        return (self.during.slab - self.before.slab) / self.sessions

    @property
    def tcp(self) -> float:
        return (self.during.tcp - self.before.tcp) / self.sessions

    @property
    def kept(self) -> float:
        """Anonymous memory per session that stays when they are closed."""
        return (self.after.anonymous - self.before.anonymous) / self.sessions


def require_descriptors(sessions: int) -> None:
    """Room for that many sessions without pressure, in this process and those it starts."""
    wanted = int(sessions / DESCRIPTORS_USED) + DESCRIPTORS_SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        return  # server and source raise their own soft limit
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, wanted))
    except (OSError, ValueError):
        most = int((hard - DESCRIPTORS_SPARE) * DESCRIPTORS_USED)
        raise LabError(
            f"{sessions} sessions need {wanted} descriptors a process; the limit of {hard} cannot "
            f"be raised here (root may; or ulimit -Hn): --sessions {max(0, most)} would do"
        ) from None


def measure_crowd(directory: Path, crowd: Crowd, settings: dict[str, Setting]) -> IdleFigures:
    """A fresh server with the crowd. LabError when a session fails or is lost."""
    directory.mkdir()
    receiver = Receiver(directory, free_port(), is_own=True)
    tls = fastmta_tls(crowd.certificate) if crowd.certificate else {}
    server = Server(
        ServerOptions(
            directory=directory / "server",
            relay_host=f"[{HOST}]:{receiver.port}",
            workers=1,
            settings={
                "limits.idle_s": SECONDS_MAX,
                "limits.connections": crowd.sessions + DESCRIPTORS_SPARE,
                **tls,
                **settings,
            },
        )
    )
    try:
        server.start()
        with_warm_up = Crowd(
            sessions=min(WARM_SESSIONS, crowd.sessions),
            addresses=crowd.addresses,
            octets=crowd.octets,
            certificate=crowd.certificate,
        )
        with Holder(hold_command(directory, server.port, with_warm_up)) as holder:
            holder.wait()
            holder.release()
        return _hold(directory, server, crowd)
    finally:
        server.kill()
        receiver.stop()


def hold_command(directory: Path, port: int, crowd: Crowd) -> list[str]:
    """bench/source.c as the client of a crowd."""
    tls = ["--tls", "starttls", "--min", MIN_PROTOCOL] if crowd.certificate else []
    message = ["-m", "1", "-l", str(crowd.octets)] if crowd.octets else ["-m", "0"]
    return [
        str(program("source", directory)),
        *("--hold", "-s", str(crowd.sessions), "--seconds-max", str(SECONDS_MAX)),
        *("--from", FIRST_ADDRESS, "--addresses", str(crowd.addresses)),
        *message,
        *tls,
        f"{HOST}:{port}",
    ]


def _hold(directory: Path, server: Server, crowd: Crowd) -> IdleFigures:
    log = LogTail(server.log)
    before = _settled(server)
    begin = time.monotonic()
    with Holder(hold_command(directory, server.port, crowd)) as holder:
        report = holder.wait()
        opening_s = time.monotonic() - begin
        _wait_for_removal(log, crowd.sessions if crowd.octets else 0)
        during = _settled(server)
        holder.release()
    after = _settled(server)
    tls = f"{report.protocol} {report.cipher}".strip()
    return IdleFigures(crowd.title, crowd.sessions, before, during, after, opening_s, tls)


def _wait_for_removal(log: LogTail, count: int) -> None:
    def is_removed() -> bool:
        log.read()
        return log.removed >= count

    wait_until(is_removed, 60.0 + count / 20, "the server to deliver what it carried")


def _settled(server: Server) -> Sample:
    """A sample when memory has stopped to move."""
    time.sleep(_SETTLE_S)
    deadline = time.monotonic() + _QUIET_MAX_S
    recent = [take_sample(server)]
    while time.monotonic() < deadline:
        time.sleep(_QUIET_S)
        recent = [*recent[-_QUIET_SAMPLES + 1 :], take_sample(server)]
        values = [one.anonymous for one in recent]
        if len(recent) == _QUIET_SAMPLES and max(values) - min(values) < _QUIET_OCTETS:
            break
    return recent[-1]


def take_sample(server: Server) -> Sample:
    """Memory now, of everything below the supervisor."""
    found = [process.memory(pid) for pid in server.workers()]
    return Sample(
        sum(one.anonymous for one in found),
        sum(one.shared_fairly for one in found),
        *kernel_octets(),
    )


def kernel_octets() -> tuple[int, int]:
    """(slab, TCP buffers) of the whole machine."""
    slab = tcp = 0
    for line in Path("/proc/meminfo").read_text().split("\n"):
        if line.startswith("Slab:"):
            slab = int(line.split()[1]) * KB
    for line in Path("/proc/net/sockstat").read_text().split("\n"):
        fields = line.split()
        if line.startswith("TCP:") and "mem" in fields:
            tcp = int(fields[fields.index("mem") + 1]) * resource.getpagesize()
    return slab, tcp
