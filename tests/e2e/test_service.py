"""fastmta under a service manager: inherited sockets, what it is told, and the watchdog."""

from __future__ import annotations

import os
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.lab import process
from fastmta.lab.loopback import free_port
from tests.support.service import Manager

ACTIVATE = shutil.which("systemd-socket-activate")
WATCHDOG_S = 0.6
ROOT = Path(__file__).parent.parent.parent


def configuration(directory: Path) -> Path:
    """Two sections; the addresses of the first are not used when a manager has opened others."""
    path = directory / "fastmta.toml"
    path.write_text(
        f'hostname = "fastmta.test"\n'
        f'[spool]\ndirectory = "{directory}/spool"\nsegment_octets = "4 MiB"\n'
        f"[pressure]\nvolume_free = [0.003, 0.002, 0.001]\n"
        f'[listen.smtp]\nbind = "127.0.0.1:1"\n'
        f'[listen.other]\nbind = "127.0.0.1:{free_port()}"\n'
        f'[journal]\nfile = "{directory}/mail.log"\n[workers]\ncount = 2\n'
    )
    return path


class Service:
    """A server that systemd's own tool starts at the first connection."""

    def __init__(self, directory: Path, *names: str) -> None:
        assert ACTIVATE is not None
        self.manager = Manager(directory)
        self.ports = [free_port() for _ in names]
        self.output = directory / "output"
        environment = {
            "NOTIFY_SOCKET": self.manager.address,
            "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)),
            "PYTHONPATH": str(ROOT),
        }
        command = [ACTIVATE, f"--fdname={':'.join(names)}"]
        for port in self.ports:
            command += ["-l", f"127.0.0.1:{port}"]
        for name in environment:
            command += ["-E", name]
        command += [sys.executable, "-m", "fastmta", "run", "-c", str(configuration(directory))]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                env={"PATH": os.environ["PATH"], **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._wait_for("Listening on")

    def _wait_for(self, text: str) -> None:
        until_s = time.monotonic() + 10
        while self.output.read_text().count(text) < len(self.ports):
            assert time.monotonic() < until_s, self.output.read_text()
            time.sleep(0.01)

    def workers(self) -> list[int]:
        below = [pid for pid in process.tree(self.process.pid) if pid != self.process.pid]
        return [pid for pid in below if process.name(pid) != "fastmta-broker"]

    def end(self) -> None:
        if self.process.poll() is None:
            for pid in process.tree(self.process.pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.manager.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    if ACTIVATE is None:
        pytest.skip("systemd-socket-activate is not installed (Debian: systemd)")
    started = Service(tmp_path_factory.mktemp("service"), "smtp")
    with socket.create_connection(("127.0.0.1", started.ports[0]), timeout=20) as first:
        # It came before there was a server, and is served.
        assert first.makefile("rb").readline().startswith(b"220 fastmta.test")
    yield started
    started.end()


def test_a_start_ends_with_ready_and_a_status(service: Service) -> None:
    told = service.manager.wait_for("READY")
    assert told["STATUS"] == "2 of 2 workers serve"
    said = service.output.read_text()
    assert f"listen.smtp on 127.0.0.1:{service.ports[0]}\n" in said
    assert "listen.other on 127.0.0.1:" in said  # bound by ourselves


def test_workers_share_the_inherited_socket(service: Service) -> None:
    for _ in range(8):
        with smtplib.SMTP("127.0.0.1", service.ports[0], timeout=10) as client:
            assert client.noop()[0] == 250


def test_the_watchdog_is_fed_while_every_worker_gets_on(service: Service) -> None:
    for _ in range(3):
        service.manager.wait_for("WATCHDOG", seconds=5)
    stopped = service.workers()[0]
    os.kill(stopped, signal.SIGSTOP)
    try:
        time.sleep(WATCHDOG_S)  # the last beat was true
        while service.manager.hear(0.001) is not None:
            pass
        heard = service.manager.hear(WATCHDOG_S * 2)
        assert heard is None or "WATCHDOG" not in heard
    finally:
        os.kill(stopped, signal.SIGCONT)
    service.manager.wait_for("WATCHDOG", seconds=5)


def test_a_dead_worker_shows_in_the_status_and_mail_goes_on(service: Service) -> None:
    os.kill(service.workers()[0], signal.SIGKILL)
    service.manager.wait_for("STATUS", "1 of 2 workers serve")
    with smtplib.SMTP("127.0.0.1", service.ports[0], timeout=10) as client:
        assert client.noop()[0] == 250
    service.manager.wait_for("STATUS", "2 of 2 workers serve")


def test_a_reload_is_told_and_keeps_the_inherited_socket(service: Service) -> None:
    path = service.output.parent / "fastmta.toml"
    path.write_text(path.read_text() + "[retry]\nfirst_s = 77\n")
    service.process.send_signal(signal.SIGHUP)
    assert int(service.manager.wait_for("RELOADING")["MONOTONIC_USEC"]) > 0
    service.manager.wait_for("READY")
    with smtplib.SMTP("127.0.0.1", service.ports[0], timeout=10) as client:
        assert client.noop()[0] == 250
    assert "nobody listens" not in service.output.read_text()


def test_an_inherited_socket_outlives_its_section(service: Service) -> None:
    """Nobody but the manager could open it again, and it thinks that we have it."""
    path = service.output.parent / "fastmta.toml"
    with_both = path.read_text()
    section = '[listen.smtp]\nbind = "127.0.0.1:1"\n'
    assert section in with_both

    def reload(text: str) -> None:
        path.write_text(text)
        service.process.send_signal(signal.SIGHUP)
        service.manager.wait_for("RELOADING")
        service.manager.wait_for("READY")

    reload(with_both.replace(section, ""))
    assert "nobody listens" in service.output.read_text()
    with socket.create_connection(("127.0.0.1", service.ports[0]), timeout=20) as waiting:
        victim = service.workers()[0]
        os.kill(victim, signal.SIGKILL)  # one that starts meanwhile does not have it either
        service.manager.wait_for("STATUS", "2 of 2 workers serve")
        waiting.settimeout(0.2)
        with pytest.raises(TimeoutError):
            waiting.recv(3)
        reload(with_both)
        waiting.settimeout(10)
        assert waiting.recv(3) == b"220"
    for _ in range(8):
        with smtplib.SMTP("127.0.0.1", service.ports[0], timeout=10) as client:
            assert client.noop()[0] == 250


def test_a_stop_is_told_and_clean(service: Service) -> None:
    service.process.terminate()
    service.manager.wait_for("STOPPING")
    assert service.process.wait(30) == 0, service.output.read_text()


def test_a_socket_for_no_section_stops_the_start(tmp_path: Path) -> None:
    if ACTIVATE is None:
        pytest.skip("systemd-socket-activate is not installed (Debian: systemd)")
    started = Service(tmp_path, "smtp", "smpt")
    try:
        with socket.create_connection(("127.0.0.1", started.ports[0]), timeout=10):
            assert started.process.wait(20) == 78
        said = started.output.read_text()
        assert "inherited socket 'smpt': there is no [listen.smpt]; set FileDescriptorName=" in said
        assert said.rstrip().endswith("that is there: smtp, other")
    finally:
        started.end()
