"""The least server, for the ceiling of our own source: bench/responder.c as a process."""

import subprocess
from pathlib import Path

from ..loopback import HOST, LabError, free_port, is_listening, wait_until
from .certificate import Certificate
from .native import program
from .receiver import TICKETS
from .standing import Standing

_START_S = 10.0


class Responder(Standing):
    """A context manager: it listens on `port` while it is open."""

    def __init__(self, directory: Path, certificate: Certificate | None = None) -> None:
        super().__init__()
        self.port = free_port()
        tls = [str(certificate.chain), str(certificate.key)] if certificate else []
        responder = str(program("responder", directory))
        self._command = [responder, "--tickets", TICKETS, f"{HOST}:{self.port}", *tls]
        self._process: subprocess.Popen[bytes]

    def stand(self) -> None:
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
        self._stack.callback(self._stop)
        wait_until(self._is_up, _START_S, "the responder")

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _is_up(self) -> bool:
        if self._process.poll() is not None:
            raise LabError(f"bench/responder.c ended with {self._process.returncode}")
        return is_listening(self.port)
