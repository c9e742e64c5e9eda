"""Receivers as processes: Postfix's smtp-sink, and our own for delayed answers and for TLS."""

import os
import subprocess
import time
from pathlib import Path

from .. import process
from ..loopback import HOST, LabError, is_listening, wait_until
from ..postfix import SBIN
from .certificate import Certificate
from .native import compile_native, program
from .shim import SharedPage

_START_S = 10.0
TICKETS = "1"  # TLS session tickets per handshake, as many as Postfix issues
_BACKLOG = "1024"


class Receiver:
    """A receiver whose progress can be read without disturbing it.

    smtp-sink tells its count only at the price of a write per message, or by ending before its last
    answer. So progress is the octets it has read (/proc), which costs it nothing; how many messages
    those are is said by the server's log. Our own sink counts messages in shared memory.
    """

    def __init__(
        self,
        directory: Path,
        port: int,
        delay_ms: int = 0,
        *,
        is_own: bool = False,
        certificate: Certificate | None = None,
    ) -> None:
        """With a certificate it takes mail over STARTTLS only, at once."""
        self.port = port
        self.delay_ms = delay_ms
        self.has_tls = certificate is not None
        self._page: SharedPage | None = None
        if certificate is not None:
            self._page = SharedPage(directory / f"sink-{self.port}")
            command = [
                *(str(program("responder", directory)), "--pipelining", "--require-tls"),
                *("--tickets", TICKETS, "--count", str(self._page.path), f"{HOST}:{self.port}"),
                *(str(certificate.chain), str(certificate.key)),
            ]
        elif delay_ms or is_own:
            sink = directory / "sink"
            if not sink.exists():
                compile_native("sink", sink)
            self._page = SharedPage(directory / f"sink-{self.port}")
            command = [str(sink), str(self.port), str(delay_ms), str(self._page.path)]
        else:
            who = ["-u", "nobody"] if os.geteuid() == 0 else []
            limit = ["-m", "1024"]
            address = f"{HOST}:{self.port}"
            command = [str(SBIN / "smtp-sink"), *who, *limit, address, _BACKLOG]
        if not Path(command[0]).exists():
            raise LabError("needs Debian's postfix, for smtp-sink and smtp-source")
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        wait_until(self._is_up, _START_S, "the receiver")

    @property
    def name(self) -> str:
        own = "bench/responder.c" if self.has_tls else "bench/sink.c"
        return own if self._page else "smtp-sink"

    def progress(self) -> int:
        """Octets read so far, or messages answered: it only grows."""
        return self._page.read(0) if self._page else process.read_octets(self._process.pid)

    def handshakes(self) -> tuple[int, int]:
        """TLS handshakes so far, and how many of them resumed a session."""
        if not self.has_tls or self._page is None:
            return 0, 0
        return self._page.read(8), self._page.read(16)

    def slack(self, size: int) -> int:
        """Progress that may be missing from the last message without it being counted as missing.

        After the last content an smtp-sink still reads QUITs; they are far shorter than half a
        message of any case.
        """
        return 0 if self._page else size // 2

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        if self._process.stderr:
            self._process.stderr.close()
        if self._page:
            self._page.close()

    def _is_up(self) -> bool:
        if self._process.poll() is not None:
            said = self._process.stderr.read().decode() if self._process.stderr else ""
            raise LabError(f"{self.name} ended: {said}")
        return is_listening(self.port)


class Progress:
    """When a receiver reached each value, sampled while a load runs."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._samples = [(time.monotonic(), receiver.progress())]

    def sample(self) -> None:
        value = self._receiver.progress()
        if value != self._samples[-1][1]:
            self._samples.append((time.monotonic(), value))

    def reached_at(self, value: int) -> float:
        """Monotonic time of the first sample at or above the value."""
        return next(when for when, seen in self._samples if seen >= value)

    @property
    def last(self) -> int:
        return self._samples[-1][1]
