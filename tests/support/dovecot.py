"""A private Dovecot for a test, its auth process only; skips, and says so, where it cannot run.

with running_dovecot({"alice": "secret"}) as dovecot:
    dovecot.socket, dovecot.port        # where it answers
    dovecot.stop(); dovecot.start()
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fastmta.lab import free_port

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
MECHANISMS = "plain login scram-sha-256 oauthbearer"

CONFIG = """\
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/log
auth_debug = yes
protocols =
ssl = no
listen = 127.0.0.1
{users}
auth_mechanisms = {mechanisms}
auth_failure_delay = 0
disable_plaintext_auth = no
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {directory}/passwd
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  unix_listener {directory}/auth {{
    mode = 0666
  }}
  inet_listener {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""


class DovecotServer:
    """One instance with a directory of its own; started and ended by its process id."""

    def __init__(
        self, program: str, directory: Path, passwords: Mapping[str, str], mechanisms: str
    ) -> None:
        self._program = program
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = str(directory / "auth")
        self.port = free_port()
        lines = [f"{name}:{password}::::::\n" for name, password in passwords.items()]
        (directory / "passwd").write_text("".join(lines))
        users = ""
        if os.geteuid() != 0:
            name = pwd.getpwuid(os.geteuid()).pw_name
            group = grp.getgrgid(os.getegid()).gr_name
            users = f"default_internal_user = {name}\ndefault_internal_group = {group}\n"
            users += f"default_login_user = {name}\nservice anvil {{\n  chroot =\n}}\n"
        config = CONFIG.format(
            directory=directory, port=self.port, users=users, mechanisms=mechanisms
        )
        (directory / "dovecot.conf").write_text(config)

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [self._program, "-F", "-c", str(self._directory / "dovecot.conf")]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        ends_s = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > ends_s:
                self.stop()
                raise AssertionError(f"dovecot did not start:\n{self.log_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it and its children: its auth process would serve who is connected for a while."""
        process, self._process = self._process, None
        if process is None:
            return
        children = _children(process.pid)
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stderr is not None
        process.stderr.close()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def log_text(self) -> str:
        log = self._directory / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.settimeout(5.0)
                client.connect(self.socket)
                return client.recv(8) == b"VERSION\t"
            except OSError:
                return False


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def program() -> str:
    """Where Dovecot is; skips the test where it is not."""
    found = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip("needs dovecot")
    return found


@contextmanager
def running_dovecot(
    passwords: Mapping[str, str], mechanisms: str = MECHANISMS
) -> Iterator[DovecotServer]:
    """A started instance that knows these users, stopped and removed at the end."""
    found = program()
    # Not below pytest's directories: those are closed to the user dovecot.
    directory = Path(tempfile.mkdtemp(prefix="fastmta-dovecot-", dir="/var/tmp"))
    directory.chmod(0o755)
    dovecot = DovecotServer(found, directory, passwords, mechanisms)
    try:
        dovecot.start()
        yield dovecot
    finally:
        dovecot.stop()
        shutil.rmtree(directory)
