"""A private Postfix: Debian's programs with configuration, queue and log of its own."""

import contextlib
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from . import process
from .loopback import HOST, LabError, is_listening, wait_until

SBIN = Path("/usr/sbin")
_MASTER_PROTO = Path("/etc/postfix/master.cf.proto")
_INHERITED = (
    "MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ XAUTHORITY DISPLAY LANG=C POSTLOG_SERVICE"
    " POSTLOG_HOSTNAME"
)
_START_S = 20.0


def missing() -> str:
    """What keeps Postfix from being run here, or nothing: a sentence that begins with "needs"."""
    if not (SBIN / "postfix").exists() or not _MASTER_PROTO.exists():
        return "needs Debian's postfix"
    if os.geteuid() != 0:
        return "needs root: Postfix's master runs as root"
    return ""


class Postfix:
    """One instance below `directory`. Everything that matters for speed and safety is default.

    `relay_host` takes all mail, like `[127.0.0.1]:2526`; `settings` go to main.cf as they are;
    `environment` reaches every daemon (import_environment).
    """

    def __init__(
        self,
        directory: Path,
        port: int,
        relay_host: str = "",
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.port = port
        self.log = directory / "log"
        self._config = directory / "etc"
        self._relay_host = relay_host
        self._settings = dict(settings or {})
        self._environment = dict(environment or {})
        self._master = 0

    @property
    def pid(self) -> int:
        """Process id of the master, the root of the tree; 0 when it does not run."""
        return self._master

    def start(self) -> None:
        """Write the configuration and start; LabError when it does not come up."""
        problem = missing()
        if problem:
            raise LabError(f"Postfix {problem}")
        self._write()
        done = self._command("start")
        if done.returncode:
            raise LabError(f"postfix start failed: {done.stdout}{self.log_text()[-2000:]}")
        pid_file = self.directory / "queue" / "pid" / "master.pid"
        wait_until(pid_file.exists, _START_S, "Postfix's master")
        wait_until(lambda: bool(pid_file.read_text().split()), _START_S, "Postfix's master")
        self._master = int(pid_file.read_text())
        wait_until(lambda: is_listening(self.port), _START_S, f"Postfix on port {self.port}")

    def stop(self) -> None:
        """End it, and wait until every process of it is gone."""
        if not self._master:
            return
        members = list(process.tree(self._master))
        self._command("stop")
        deadline = time.monotonic() + _START_S
        while any(_is_postfix(pid) for pid in members) and time.monotonic() < deadline:
            time.sleep(0.02)
        if any(_is_postfix(pid) for pid in members):
            self._command("abort")
        self._master = 0

    def restart(self) -> None:
        self.stop()
        self.start()

    def command(self, *arguments: str) -> str:
        """Output of one of Postfix's commands for this instance, like `postqueue -p`."""
        program, *rest = arguments
        done = subprocess.run(
            [str(SBIN / program), "-c", str(self._config), *rest],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    def flush(self) -> None:
        """Try everything in the queue now."""
        self.command("postqueue", "-f")

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def version(self) -> str:
        done = subprocess.run(
            [str(SBIN / "postconf"), "-dh", "mail_version"],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    def _command(self, verb: str) -> subprocess.CompletedProcess[str]:
        # Its output goes nowhere: the daemons would keep a pipe open.
        return subprocess.run(
            [str(SBIN / "postfix"), "-c", str(self._config), verb],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
            env={**os.environ, **self._environment},
        )

    def _write(self) -> None:
        self._config.mkdir(parents=True, exist_ok=True)
        data = self.directory / "data"
        queue = self.directory / "queue"
        data.mkdir(exist_ok=True)
        queue.mkdir(exist_ok=True)
        owner = pwd.getpwnam("postfix")
        os.chown(data, owner.pw_uid, owner.pw_gid)
        for directory in (self.directory, self._config, queue):
            directory.chmod(0o755)
        _require_path_for_others(self.directory)
        settings = {
            "compatibility_level": "3.7",
            "queue_directory": str(queue),
            "data_directory": str(data),
            "maillog_file": str(self.log),
            "maillog_file_prefixes": str(self.directory),
            "myhostname": "postfix.test",
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            "inet_interfaces": HOST,
            "inet_protocols": "ipv4",
            "relayhost": self._relay_host,
            "alias_maps": "",
            "alias_database": "",
            "import_environment": f"{_INHERITED} {' '.join(self._environment)}",
            **self._settings,
        }
        text = "".join(f"{name} = {value}\n" for name, value in settings.items())
        (self._config / "main.cf").write_text(text)
        (self._config / "master.cf").write_text(self._master_table())

    def _master_table(self) -> str:
        """Debian's own table without chroot, without pipes, and smtpd on our port."""
        lines: list[str] = []
        for line in _MASTER_PROTO.read_text().split("\n"):
            if not line or line.startswith("#"):
                continue
            fields = line.split()
            if line[0].isspace():
                if lines and lines[-1] != "":
                    lines.append(line)
                continue
            if fields[-1] == "pipe":
                lines.append("")
                continue
            fields[4] = "n"
            if fields[:2] == ["smtp", "inet"]:
                fields[0] = f"{HOST}:{self.port}"
            lines.append(" ".join(fields))
        if self._settings.get("smtp_tls_connection_reuse") == "yes":
            lines.append("tlsproxy unix - - n - 0 tlsproxy")
        return "\n".join(line for line in lines if line) + "\n"


def remove(directory: Path) -> None:
    """Remove an instance's files; those of a stopped one only."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)


def _is_postfix(pid: int) -> bool:
    """True while the process lives and is one of Postfix's (its id may have been reused)."""
    try:
        return "/postfix/" in os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return False


def _require_path_for_others(directory: Path) -> None:
    """Postfix's daemons run as another user and must be able to reach the directory."""
    for parent in directory.resolve().parents:
        if not parent.stat().st_mode & 0o001:
            raise LabError(f"{parent} is closed to the user postfix: choose another directory")
