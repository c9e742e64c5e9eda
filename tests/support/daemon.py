"""`fastmta run` for a test: a directory, a free port, ready when it says so, ended by process id.

    with running(tmp_path, relay_host="[127.0.0.1]:2526") as server:
        smtplib.SMTP("127.0.0.1", server.port)

`server` has port, pid, workers(), log_text(), said(), stop(), kill() and start() (again, on the
same spool); settings are `section__key=value`. How full the volume of the tests is does not matter
unless a test says so: else a machine with little room would refuse mail that it has room for. The
segments are small: the four that a shard makes at its start are written in full and flushed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fastmta.lab import Server, ServerOptions

__all__ = ["DEFAULTS", "Server", "running"]

DEFAULTS: dict[str, int | list[float]] = {
    "pressure.volume_free": [0.003, 0.002, 0.001],
    "spool.segment_octets": 4 << 20,
}


@contextmanager
def running(
    directory: Path,
    *,
    relay_host: str = "",
    workers: int = 1,
    environment: Mapping[str, str] | None = None,
    **settings: str | int | float | bool | Sequence[str] | Sequence[float],
) -> Iterator[Server]:
    """A started server, stopped by SIGTERM at the end; one that has to be killed fails the test."""
    options = ServerOptions(
        directory=directory,
        relay_host=relay_host,
        workers=workers,
        environment=environment or {},
        settings={
            **DEFAULTS,
            **{name.replace("__", "."): value for name, value in settings.items()},
        },
    )
    server = Server(options)
    server.start()
    try:
        yield server
    except BaseException:
        server.kill()
        raise
    if server.is_running:
        status = server.stop()
        assert status == 0, f"fastmta ended with {status}: {server.said()}"
