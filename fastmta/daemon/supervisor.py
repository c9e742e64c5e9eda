"""The supervisor: opens sockets, starts workers, restarts dead ones, passes signals on."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fastmta.config import Config
from fastmta.journal import check_file

from .blame import tell_owner
from .brokerage import Brokerage
from .sockets import BadStart, Bound, close_sockets, open_sockets

if TYPE_CHECKING:
    from .inbound import Inbound

EXIT_OK = 0
EXIT_SPOOL_FAILED = 75  # EX_TEMPFAIL
EXIT_BAD_START = 78  # EX_CONFIG
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)
_BACKOFF_FIRST_S = 0.5
_BACKOFF_MAX_S = 30.0
_STABLE_S = 60.0  # a worker that lived this long starts again without delay
_READY_POLL_S = 0.02  # while some worker starts
_STOP_GRACE_S = 10.0  # beyond the workers' own deadline, before they are killed

# Orders on the control pipe: two octets, the order and the index of a worker whose sockets are
# meant. A dead worker's clients are served by a living one until it is back.
ADOPT = b"A"
DROP = b"D"

WorkerMain = Callable[[int, "Leash"], int]


@dataclass(frozen=True, slots=True)
class Leash:
    """What ties a worker to its supervisor."""

    ready_fd: int  # the worker writes one octet, its index, when it serves
    control_fd: int  # orders of the supervisor, see ADOPT; end of file: it is gone
    # To the broker of limits over workers, who knows us by our `life`; None: there is one worker.
    channel: socket.socket | None = None
    life: int = 0


@dataclass(slots=True)
class _Worker:
    index: int
    pid: int = 0  # 0: not running
    control_fd: int = -1  # our end of its control pipe
    is_ready: bool = False
    started_at_s: float = 0.0
    start_again_at_s: float = 0.0
    backoff_s: float = _BACKOFF_FIRST_S


def say(line: str) -> None:
    """One line for whoever started us, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def check_places(config: Config) -> None:
    """What no worker could start with is found once, before there are any."""
    name = config.journal.file
    try:
        check_file(name)
    except OSError as error:
        raise BadStart(f"journal.file: cannot write {name}: {error.strerror}") from error
    root = Path(config.spool.directory)
    made = next(path for path in (root, *root.parents) if os.path.exists(path))
    if not made.is_dir():
        raise BadStart(f"spool.directory: cannot use {root}: {made} is no directory")
    if not os.access(made, os.W_OK | os.X_OK):
        raise BadStart(
            f"spool.directory: cannot use {root}: {made} cannot be written{tell_owner(str(made))}"
        )
    from fastmta.spool import SpoolFormat  # late, as in `run`
    from fastmta.spool.survey import read_format

    try:
        read_format(str(root))
    except FileNotFoundError:
        return  # the first worker makes it
    except (OSError, SpoolFormat) as error:
        raise BadStart(f"spool.directory: {error}") from error


def raise_file_limit() -> None:
    """As many descriptors as we may have: each connection is one, and 1,024 is a usual default."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # what there is has to do
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _prepare(config: Config, workers: int) -> Inbound:
    """What the workers share; waits for room on a full volume, as workers do. Raises BadStart."""
    from .inbound import NoRoom, prepare_inbound

    backoff_s = _BACKOFF_FIRST_S
    while True:
        try:
            return prepare_inbound(config, workers)
        except NoRoom as error:
            sys.stderr.write(f"fastmta: {error}; trying again in {backoff_s:g} s\n")
            sys.stderr.flush()
            time.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    from .trial import try_start
    from .worker import worker_main  # imported once here, so that forked workers share its pages

    raise_file_limit()
    count = config.workers.count or len(os.sched_getaffinity(0))
    bound: list[Bound] = []
    try:
        bound = open_sockets(config.listen, count)
        check_places(config)
        inbound = _prepare(config, count)
        warnings = [*config.warnings, *try_start(config, has_files=True)]
    except BadStart as error:
        for line in str(error).split("\n"):  # those of a trial have their places
            sys.stderr.write(f"fastmta: {config.located(line)}\n")
        close_sockets(bound)
        return EXIT_BAD_START
    for warning in warnings:
        sys.stderr.write(f"fastmta: warning: {warning}\n")
    for each in bound:
        say(f"fastmta: listen.{each.name} on {each.address}")

    def start(index: int, leash: Leash) -> int:
        return worker_main(config, index, count, bound, leash, inbound)

    return Supervisor(count, bound, start, config.workers.stop_deadline_s).run()


@dataclass
class Supervisor:
    """Keeps `count` workers running. Works with blocked signals, so there are no handlers."""

    count: int
    bound: list[Bound]
    start: WorkerMain
    stop_deadline_s: float
    _workers: list[_Worker] = field(default_factory=list)
    _brokerage: Brokerage | None = None
    _is_stopping: bool = False
    _has_served: bool = False  # some worker was ready, so the configuration can be served
    _exit_code: int = EXIT_OK

    def run(self) -> int:
        """The supervisor's life."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._ready_fd, self._ready_write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._ready_fd, False)
        self._workers = [_Worker(index) for index in range(self.count)]
        if self.count > 1:
            self._brokerage = Brokerage(self.count, self._become_broker)
            self._brokerage.start()
        for worker in self._workers:
            self._spawn(worker)
        self._loop()
        return self._stop()

    def _spawn(self, worker: _Worker) -> None:
        worker.started_at_s = time.monotonic()
        control_read_fd, worker.control_fd = os.pipe2(os.O_CLOEXEC)
        channel, life = None, 0
        if self._brokerage is not None:
            channel, life = self._brokerage.lease_out(worker.index)
        pid = os.fork()
        if pid:
            os.close(control_read_fd)
            worker.pid = pid
            return
        code = 70  # EX_SOFTWARE, if even the report of an exception fails
        try:
            self._close_controls()
            if self._brokerage is not None:
                self._brokerage.keep_only(worker.index)
            for signo in (signal.SIGHUP, signal.SIGUSR1):  # else deadly until it has its handlers
                signal.signal(signo, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            leash = Leash(self._ready_write_fd, control_read_fd, channel, life)
            code = self.start(worker.index, leash)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _close_controls(self) -> None:
        """In a new process: else our siblings would not see the supervisor's end."""
        for each in self._workers:
            if each.control_fd >= 0:
                os.close(each.control_fd)

    def _become_broker(self) -> None:
        """In a new broker: it has no sockets of clients, and no signal ends it."""
        self._close_controls()
        for each in self.bound:  # their paths, if they have any, are the supervisor's
            for one in each.sockets:
                one.close()
        os.close(self._ready_fd)
        os.close(self._ready_write_fd)

    def _loop(self) -> None:
        is_said = False
        while not self._is_stopping:
            got = signal.sigtimedwait(_SIGNALS, self._wait_s())
            self._note_ready()  # before anything is reaped: what was written was written alive
            if not is_said and all(worker.is_ready for worker in self._workers):
                is_said = True
                say(f"fastmta: ready, {self.count} worker(s), pid {os.getpid()}")
            if got is not None:
                self._on_signal(got.si_signo)
            if not self._is_stopping:
                self._start_due()
            if self._brokerage is not None:
                self._brokerage.look()

    def _wait_s(self) -> float:
        if any(worker.pid and not worker.is_ready for worker in self._workers):
            return _READY_POLL_S
        waits = [
            worker.start_again_at_s - time.monotonic() for worker in self._workers if not worker.pid
        ]
        if self._brokerage is not None:
            waits.append(self._brokerage.wait_s())
        return max(0.0, min(waits, default=3600.0))

    def _note_ready(self) -> None:
        """A worker that serves needs nobody else at its sockets."""
        try:
            indices = os.read(self._ready_fd, 4096)
        except BlockingIOError:
            return
        for index in indices:
            self._workers[index].is_ready = True
            self._has_served = True
            self._order(DROP, index)
        for worker in self._workers:  # those that died when there was nobody to serve for them
            if not worker.pid:
                self._order(ADOPT, worker.index)

    def _on_signal(self, signo: int) -> None:
        if signo in (signal.SIGTERM, signal.SIGINT):
            self._is_stopping = True
        elif signo == signal.SIGCHLD:
            self._reap()
        elif signo == signal.SIGUSR1:
            self._pass_on(signal.SIGUSR1)
        else:
            sys.stderr.write("fastmta: SIGHUP: reload is not supported yet, restart instead\n")

    def _pass_on(self, signo: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, signo)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            if self._brokerage is not None and self._brokerage.ended(pid, code):
                continue
            for worker in self._workers:
                if worker.pid == pid:
                    self._ended(worker, code)

    def _ended(self, worker: _Worker, code: int) -> None:
        now_s = time.monotonic()
        pid, worker.pid, worker.is_ready = worker.pid, 0, False
        os.close(worker.control_fd)
        worker.control_fd = -1
        if self._brokerage is not None:
            self._brokerage.worker_ended(worker.index)
        if self._is_stopping:
            return
        if code == EXIT_BAD_START and not self._has_served:
            self._exit_code = EXIT_BAD_START  # it has said why; another one would say the same
            self._is_stopping = True
            return
        if now_s - worker.started_at_s > _STABLE_S:
            worker.backoff_s = _BACKOFF_FIRST_S
        worker.start_again_at_s = now_s + worker.backoff_s
        sys.stderr.write(
            f"fastmta: worker {worker.index} (pid {pid}) ended with {code}; "
            f"starting it again in {worker.backoff_s:g} s\n"
        )
        worker.backoff_s = min(worker.backoff_s * 2, _BACKOFF_MAX_S)
        for each in self._workers:  # the one that died may have served others besides its own
            if not each.is_ready:
                self._order(ADOPT, each.index)

    def _order(self, order: bytes, index: int) -> None:
        """Tell one living worker about the sockets of worker `index` (others just forget it)."""
        living = [each for each in self._workers if each.is_ready and each.index != index]
        for each in living if order == DROP else living[:1]:
            try:
                os.write(each.control_fd, order + bytes((index,)))
            except BrokenPipeError:  # it has died meanwhile; the next SIGCHLD says so
                continue

    def _start_due(self) -> None:
        now_s = time.monotonic()
        for worker in self._workers:
            if not worker.pid and worker.start_again_at_s <= now_s:
                self._spawn(worker)

    def _stop(self) -> int:
        """Drain the workers; kill what is left after the deadline (their mail is durable)."""
        close_sockets(self.bound)
        self._pass_on(signal.SIGTERM)
        until_s = time.monotonic() + self.stop_deadline_s + _STOP_GRACE_S
        while any(worker.pid for worker in self._workers):
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                self._pass_on(signal.SIGKILL)
                left_s = 1.0
            got = signal.sigtimedwait((signal.SIGCHLD,), min(left_s, 1.0))
            if got is not None or left_s <= 1.0:
                self._reap()
            if self._brokerage is not None:
                self._brokerage.look()
        if self._brokerage is not None:
            self._brokerage.close()
        say("fastmta: stopped")
        return self._exit_code
