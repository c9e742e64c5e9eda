"""The supervisor: starts workers, restarts dead ones, passes signals on."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastmta.journal.block import Block

from . import order
from .brokerage import Brokerage
from .counting import Counting
from .notify import Hearts, Herald, Notifier
from .office import Office
from .present import Present
from .privilege import renounce
from .sockets import Bound, close_sockets

if TYPE_CHECKING:
    from .reloading import Member

EXIT_OK = 0
EXIT_SPOOL_FAILED = 75  # EX_TEMPFAIL
EXIT_BAD_START = 78  # EX_CONFIG
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD,
            signal.SIGIO)  # fmt: skip
_BACKOFF_FIRST_S = 0.5
_BACKOFF_MAX_S = 30.0
_STABLE_S = 60.0  # a worker that lived this long starts again without delay
_READY_POLL_S = 0.02  # while some worker starts
_STOP_GRACE_S = 10.0  # beyond the workers' own deadline, before they are killed

# Orders on the control pipe: two octets, the order and the index of a worker whose sockets are
# meant. A dead worker's clients are served by a living one until it is back.
ADOPT = b"A"
DROP = b"D"
# The same for all of them: take no new mail; take it again.
SHUT = b"S"
OPEN = b"O"

WorkerMain = Callable[[int, "Leash"], int]


@dataclass(frozen=True, slots=True)
class Leash:
    """What ties a worker to its supervisor."""

    ready_fd: int  # the worker writes one octet, its index, when it serves
    control_fd: int  # orders of the supervisor, see ADOPT; end of file: it is gone
    # To the broker of limits over workers, who knows us by our `life`; None: there is one worker.
    channel: socket.socket | None = None
    life: int = 0
    block: Block | None = None  # where it counts; None: nobody reads that
    orders: socket.socket | None = None  # configurations, see `order`; None: there is no reload
    hearts: Hearts = field(default_factory=Hearts)  # the worker's loop beats its own


@dataclass(slots=True)
class _Worker:
    index: int
    pid: int = 0  # 0: not running
    control_fd: int = -1  # our end of its control pipe
    orders: socket.socket | None = None  # our end of that
    is_ready: bool = False
    started_at_s: float = 0.0
    start_again_at_s: float = 0.0
    backoff_s: float = _BACKOFF_FIRST_S
    is_to_end: bool = False  # so it starts again at once
    kill_at_s: float = math.inf  # if it has not ended by then: a loop that hangs never would


def say(line: str) -> None:
    """One line for whoever started us, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@dataclass
class Supervisor:
    """Keeps `count` workers running. Works with blocked signals, so there are no handlers."""

    count: int
    bound: list[Bound]
    start: WorkerMain
    stop_deadline_s: float
    counting: Counting | None = None  # None: nobody reads what is counted
    present: Present | None = None  # None: it cannot be reloaded, and has no socket
    notifier: Notifier = field(default_factory=Notifier)
    _workers: list[_Worker] = field(default_factory=list)
    _brokerage: Brokerage | None = None
    _office: Office | None = None
    _is_draining: bool = False
    _deadline_before_s: float = 0.0  # that workers of the configuration before this one have
    _is_stopping: bool = False
    _has_served: bool = False  # some worker was ready, so the configuration can be served
    _exit_code: int = EXIT_OK

    def run(self) -> int:
        """The supervisor's life."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._ready_fd, self._ready_write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._ready_fd, False)
        self._workers = [_Worker(index) for index in range(self.count)]
        self._herald = Herald(self.notifier, self.count)
        if self.count > 1:
            self._brokerage = Brokerage(self.count, self._become_broker)
            self._brokerage.start()
        if self.present is not None:
            self._office = Office(self.present, self)
            self._office.open()
        if self.counting is not None:
            self.counting.start(self._become_front)
        for worker in self._workers:
            self._spawn(worker)
        self._loop()
        return self._stop()

    def _spawn(self, worker: _Worker) -> None:
        worker.started_at_s = time.monotonic()
        control_read_fd, worker.control_fd = os.pipe2(os.O_CLOEXEC)
        if self._is_draining:  # before it lives, so it knows before it takes anything
            os.write(worker.control_fd, SHUT + b"\0")
        channel, life, orders = None, 0, None
        if self._office is not None:
            worker.orders, orders = order.channel()
        if self._brokerage is not None:
            channel, life = self._brokerage.lease_out(worker.index)
        block = None if self.counting is None else self.counting.starting(worker.index)
        pid = os.fork()
        if pid:
            os.close(control_read_fd)
            worker.pid, worker.is_to_end, worker.kill_at_s = pid, False, math.inf
            if orders is not None and self._office is not None:
                orders.close()
                self._office.hear(worker)
            if self.counting is not None:
                self.counting.started(worker.index, pid)
            return
        code = 70  # EX_SOFTWARE, if even the report of an exception fails
        try:
            self._let_go()
            if self._brokerage is not None:
                self._brokerage.keep_only(worker.index)
            if self.counting is not None:
                self.counting.close_front()
            for signo in (signal.SIGHUP, signal.SIGUSR1):  # else deadly until it has its handlers
                signal.signal(signo, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            hearts = self._herald.hearts
            leash = Leash(
                self._ready_write_fd, control_read_fd, channel, life, block, orders, hearts
            )
            code = self.start(worker.index, leash)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def forked(self) -> None:
        """In a new process that only tries a configuration: nothing of ours is for it."""
        if self.counting is not None:
            self.counting.close_front()
        self._become_front()

    def _let_go(self) -> None:
        """In a new process: else our siblings would not see the supervisor's end."""
        renounce()
        for each in self._workers:
            if each.control_fd >= 0:
                os.close(each.control_fd)
            if each.orders is not None:
                each.orders.close()
        if self._office is not None:
            self._office.forked()

    def _become_broker(self) -> None:
        """In a new broker: nothing of the front desk is for it."""
        if self.counting is not None:
            self.counting.close_front()
        self._become_attendant()

    def _become_front(self) -> None:
        """In a new front desk: nothing of the broker is for it."""
        if self._brokerage is not None:
            self._brokerage.close_all()
        self._become_attendant()

    def _become_attendant(self) -> None:
        """It has no sockets of clients, and is not what keeps a worker alive."""
        self._let_go()
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
                self._kill_overdue()
            if self._brokerage is not None:
                self._brokerage.look()
            if self._office is not None and not self._is_stopping:
                self._office.look()
            if self.counting is not None:
                self.counting.look()
            # Who is to end may take its time; how long, is seen to here.
            serving = [
                worker.index for worker in self._workers if worker.is_ready and not worker.is_to_end
            ]
            self._herald.tell(serving, self._office is not None and self._office.is_reloading)

    def _wait_s(self) -> float:
        if any(worker.pid and not worker.is_ready for worker in self._workers):
            return _READY_POLL_S
        waits = [
            worker.start_again_at_s - time.monotonic() for worker in self._workers if not worker.pid
        ]
        waits += (worker.kill_at_s - time.monotonic() for worker in self._workers if worker.pid)
        waits += (3600.0, self.notifier.wait_s())
        if self._brokerage is not None:
            waits.append(self._brokerage.wait_s())
        if self._office is not None:
            waits.append(self._office.reloading.wait_s())
        if self.counting is not None:
            waits.append(self.counting.wait_s())
        return max(0.0, min(waits))

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
        elif signo == signal.SIGHUP and self._office is not None:
            self._office.reload()

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
            if self._office is not None and self._office.reloading.ended(pid, code):
                continue
            if self.counting is not None and self.counting.ended(pid, code):
                continue
            for worker in self._workers:
                if worker.pid == pid:
                    self._ended(worker, code)

    def _ended(self, worker: _Worker, code: int) -> None:
        now_s = time.monotonic()
        pid, worker.pid, worker.is_ready = worker.pid, 0, False
        if self.counting is not None:
            self.counting.worker_ended(worker.index)
        os.close(worker.control_fd)
        worker.control_fd = -1
        if worker.orders is not None:
            worker.orders.close()
            worker.orders = None
        if self._brokerage is not None:
            self._brokerage.worker_ended(worker.index)
        if self._is_stopping:
            return
        if code == EXIT_BAD_START and not self._has_served:
            self._exit_code = EXIT_BAD_START  # it has said why; another one would say the same
            self._is_stopping = True
            return
        if self._office is not None:
            self._office.reloading.worker_ended(worker.index, pid, code == EXIT_BAD_START)
        if now_s - worker.started_at_s > _STABLE_S or worker.is_to_end:
            worker.backoff_s = _BACKOFF_FIRST_S
        worker.start_again_at_s = now_s
        if not worker.is_to_end:
            worker.start_again_at_s += worker.backoff_s
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

    def _kill_overdue(self) -> None:
        """What was to end and does not; its mail is durable."""
        now_s = time.monotonic()
        for worker in self._workers:
            if worker.pid and worker.kill_at_s <= now_s:
                sys.stderr.write(
                    f"fastmta: worker {worker.index} (pid {worker.pid}) does not end: killed\n"
                )
                worker.kill_at_s = math.inf
                os.kill(worker.pid, signal.SIGKILL)

    # What the office orders.

    def members(self) -> Sequence[Member]:
        """All workers."""
        return self._workers

    def end(self, index: int) -> None:
        """Let a worker end as at a stop, others serve its clients, and start it again at once."""
        worker = self._workers[index]
        if worker.pid:
            if not worker.is_to_end:
                deadline_s = max(self.stop_deadline_s, self._deadline_before_s)
                worker.kill_at_s = time.monotonic() + deadline_s + _STOP_GRACE_S
            worker.is_to_end = True
            self._order(ADOPT, index)
            os.kill(worker.pid, signal.SIGTERM)

    def renewed(self) -> None:
        """Another configuration is in use."""
        assert self.present is not None
        self.bound = self.present.bound
        self._deadline_before_s = self.stop_deadline_s
        self.stop_deadline_s = self.present.config.workers.stop_deadline_s
        if self._office is not None:
            self._office.renewed()

    def drain(self, is_draining: bool) -> None:
        """Whether workers, those too that start from now on, take no new mail."""
        self._is_draining = is_draining
        for each in self._workers:
            if each.pid:
                with contextlib.suppress(BrokenPipeError):
                    os.write(each.control_fd, (SHUT if is_draining else OPEN) + b"\0")

    def stop(self) -> None:
        """End as upon SIGTERM."""
        self._is_stopping = True

    def _stop(self) -> int:
        """Drain the workers; kill what is left after the deadline (their mail is durable)."""
        self.notifier.stopping()
        if self._office is not None:
            self._office.close()
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
            if self.counting is not None:
                self.counting.look()
        if self._brokerage is not None:
            self._brokerage.close()
        if self.counting is not None:
            self.counting.close()
        say("fastmta: stopped")
        return self._exit_code
