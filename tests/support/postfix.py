"""A private Postfix for a test; skips, and says so, where Postfix cannot run.

    with running_postfix(relay_host="[127.0.0.1]:2526") as postfix:
        smtplib.SMTP("127.0.0.1", postfix.port)

`postfix` has port, pid, log_text(), command("postqueue", "-p"), flush(), stop(), start().
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastmta.lab import Postfix, free_port
from fastmta.lab.postfix import missing, remove

__all__ = ["Postfix", "running_postfix"]


@contextmanager
def running_postfix(*, relay_host: str = "", **settings: str) -> Iterator[Postfix]:
    """A started instance with queue and log of its own, stopped and removed at the end."""
    problem = missing()
    if problem:
        pytest.skip(problem)
    # Not below pytest's directories: those are closed to the user postfix.
    directory = Path(tempfile.mkdtemp(prefix="fastmta-postfix-", dir="/var/tmp"))
    postfix = Postfix(directory, free_port(), relay_host, settings)
    try:
        postfix.start()
        yield postfix
    finally:
        postfix.stop()
        remove(directory)
