"""Worker 0 takes up what local programs left in the drop directory; see `fastmta.drop`.

Files are claimed in batches: two syncs of directories before, one after, and the flush of the log
between them serve all of a batch. Whatever blocks is done on a thread; the loop only hands over.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from fastmta.config import Config
from fastmta.config.glimpse import glimpse_of
from fastmta.drop import Facts, Place
from fastmta.drop.box import Box
from fastmta.drop.form import FormError
from fastmta.event import Event, MessageReceived, Notice, Severity
from fastmta.event.pickup import MessagePickedUp
from fastmta.message import ContentFile, Envelope, Message
from fastmta.smtp import Reply
from fastmta.spool import SpoolFull

from .clock import QueueClock
from .localmail import Prepared, Preparer, Times
from .operating import control_directory
from .shard import Shard

LOOK_S = 1.0  # at least, whether anybody calls or not
GAP_S = 0.02  # between two looks, however often somebody calls
FULL_LOOK_S = 60.0  # a look even at a directory that has not changed
AGAIN_S = 5.0  # after trouble; doubles up to AGAIN_S_MAX
AGAIN_S_MAX = 300.0
BATCH = 100  # files
STOP_S = 5.0
LISTENER = "sendmail"  # where the mail came in, for counters
_T = TypeVar("_T")


class Fate(enum.Enum):
    """What became of a claimed letter."""

    OURS = "the spool has it"
    AGAIN = "the spool has it not: it is claimed anew"
    LEFT = "the spool may have it: the next start finds out; or it is gone"


class Gate(Protocol):
    """Says whether mail is taken."""

    def refusal(self, declared_octets: int) -> Reply | None: ...


def open_place(config: Config) -> Place:
    """Make the drop directory, and tell `sendmail` what it needs to know. Raises OSError.

    Where it was told before, that will do on a full disk: claims that a crash left must be compared
    before anything is delivered, or they would be taken for new mail by a later start.
    """
    place = Place(glimpse_of(config).drop_directory)
    place.prepare()
    try:
        place.write_facts(facts_of(config))
    except OSError:
        if not os.path.exists(place.facts):
            raise
    return place


def facts_of(config: Config) -> Facts:
    """What `sendmail` is told."""
    facts = Facts()
    facts.hostname, facts.origin = config.hostname, config.rewrite.origin
    facts.message_octets = config.limits.message_octets
    facts.recipients = config.limits.recipients
    facts.free_share = config.pressure.volume_free[-1]
    facts.spool = control_directory(config)
    return facts


class Pickup:
    """One batch after the other, until it is closed."""

    def __init__(
        self,
        config: Config,
        shard: Shard,
        gate: Gate,
        clock: QueueClock,
        loop: asyncio.AbstractEventLoop,
        emit: Callable[[Event], None],
        tenant_of: Callable[[Envelope], str] | None = None,
    ) -> None:
        """Before anything of `shard` is delivered. Raises OSError: there is no drop directory."""
        self._shard = shard
        self._spool = shard.spool
        self._scheduler = shard.scheduler
        self._gate = gate
        self._clock = clock
        self._loop = loop
        self._emit = emit
        self._tenant_of = tenant_of
        self._is_shut = False
        self._messages_max = config.drop.messages
        self._inline_octets = config.spool.big_octets
        self._place = open_place(config)
        self._use(config)
        self._leftover = self._box.claims()
        if self._leftover:
            shard.hold_back("what was left in the drop directory by a crash is compared first")
        self._again: list[bytes] = []  # claims of which nothing was accepted
        self._again_at_s = 0.0
        self._again_s = AGAIN_S
        self._troubles: set[str] = set()
        self._mtime_ns = -1
        self._looked_at_s = float("-inf")
        self._is_over = False
        self._called = asyncio.Event()
        self._wake_fd = -1
        self._thread = ThreadPoolExecutor(1, "pickup")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """From now on."""
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        try:  # for writing as well: else it would be at its end whenever nobody has it open
            self._wake_fd = os.open(self._place.wake, flags)
        except OSError as problem:
            self._warn(f"{self._place.wake}: {problem.strerror}; mail is looked for every second")
        else:
            self._loop.add_reader(self._wake_fd, self._on_call)
        self._task = self._loop.create_task(self._run())

    def shut(self, is_shut: bool) -> None:
        """Whether nothing is taken up: what is in the directory waits there."""
        self._is_shut = is_shut
        self._called.set()

    def renew(self, config: Config) -> None:
        """Do as this says with what is taken up from now on, and tell `sendmail`, soon: a reload
        does not wait for the disk."""
        self._use(config)
        self._loop.run_in_executor(self._thread, self._write_facts, facts_of(config))

    def _write_facts(self, facts: Facts) -> None:
        """On the thread."""
        try:
            self._place.write_facts(facts)
        except OSError as problem:
            text = f"{self._place.facts}: {problem.strerror}; sendmail goes by the old ones"
            self._warn_soon(text)

    def _use(self, config: Config) -> None:
        octets_max, inline_octets = config.limits.message_octets, config.spool.big_octets
        self._box = Box(self._place, octets_max, inline_octets, self._on_refused)
        self._preparer = Preparer(config, self._box, self._warn_soon)

    async def close(self) -> None:
        """End with the batch under way; what is not done in time is the next start's."""
        self._is_over = True
        self._called.set()
        if self._wake_fd >= 0:
            self._loop.remove_reader(self._wake_fd)
            os.close(self._wake_fd)
            self._wake_fd = -1
        if self._task is not None:
            done, _ = await asyncio.wait([self._task], timeout=STOP_S)
            if not done:
                self._task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._task
        self._thread.shutdown(wait=False, cancel_futures=True)

    # The loop's part.

    def _on_call(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_fd, 4096)
        self._called.set()

    async def _run(self) -> None:
        try:
            await self._work()
        except Exception as defect:
            # What it was about may be accepted by now: only a start can tell, by the claims.
            text = f"internal error: {defect!r:.200}; mail of local programs waits for a restart"
            self._emit(Notice("pickup", text, Severity.ERROR))

    async def _work(self) -> None:
        if self._leftover:
            await self._compare()
        while not self._is_over:
            try:
                is_more = await self._turn()
            except OSError as problem:
                self._trouble(problem)
                is_more = False
            await asyncio.sleep(GAP_S)
            if is_more or self._is_over:
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._called.wait(), LOOK_S)

    async def _compare(self) -> None:
        """Claims that a crash left: what the spool has is only to be removed, the rest is mail."""
        found: asyncio.Future[set[bytes] | None] = self._loop.create_future()

        def told(live: set[bytes] | None) -> None:
            if not found.done():
                found.set_result(live)

        self._spool.which_live(self._leftover, told)
        live = await found
        if live is None:  # the spool has failed, and we end
            return
        await self._remove(sorted(live))
        self._again = [id for id in self._leftover if id not in live]
        self._leftover = []
        self._shard.hold_back("")

    async def _turn(self) -> bool:
        """One batch; whether there may be more."""
        self._called.clear()
        if self._is_shut or self._gate.refusal(0) is not None:
            return False
        if self._again and self._loop.time() >= self._again_at_s:
            ids, self._again = self._again[:BATCH], self._again[BATCH:]
            renamed = [(id, self._spool.new_id()) for id in ids]
            self._again += ids + [new for _, new in renamed]  # until they are dealt with
            taken = await self._on_thread(self._box.claim_again, renamed)
            gone = {*ids, *(new for _, new in renamed)}.difference(taken)
            self._again = [id for id in self._again if id not in gone]
            await self._take(taken)
            return bool(self._again) and self._loop.time() >= self._again_at_s
        return await self._take_new()

    async def _take_new(self) -> bool:
        mtime_ns = await self._on_thread(lambda: os.stat(self._place.new).st_mtime_ns)
        now_s = self._loop.time()
        is_due = now_s - self._looked_at_s >= FULL_LOOK_S
        if mtime_ns == self._mtime_ns and not is_due:
            return False
        names = await self._on_thread(self._look)
        self._looked_at_s = now_s
        is_old = self._clock.true_wall_ns() - mtime_ns > 2_000_000_000  # beyond its resolution
        self._mtime_ns = mtime_ns if is_old and not names else -1
        pairs = [(name, self._spool.new_id()) for name in names[:BATCH]]
        if not pairs:
            return False
        self._again += [id for _, id in pairs]
        taken = await self._on_thread(self._box.claim, pairs)
        missing = {id for _, id in pairs}.difference(taken)
        self._again = [id for id in self._again if id not in missing]
        await self._take(taken)
        if taken and not self._again:
            self._troubles.clear()
        return bool(taken)

    def _look(self) -> list[str]:
        names = self._box.look(self._clock.true_wall_ns())
        self._place.set_full(self._box.waiting > self._messages_max)
        return names

    async def _take(self, ids: list[bytes]) -> None:
        """Make messages of these claims; all of them are in `_again` until they are dealt with."""
        while ids:
            now = Times(self._clock.date(), self._clock.true_wall_ns(), self._clock.wall_ns())
            made, rest = await self._on_thread(self._preparer.prepare, ids, now)
            handled = set(ids).difference(rest)
            try:
                fates = await asyncio.gather(*map(self._accept, made))
            finally:
                for prepared in made:
                    prepared.letter.close()
            put_off = {one.message.id for one, fate in zip(made, fates, strict=True)
                       if fate is Fate.AGAIN}  # fmt: skip
            self._again = [id for id in self._again if id not in handled or id in put_off]
            done = [one for one, fate in zip(made, fates, strict=True) if fate is Fate.OURS]
            await self._remove([one.message.id for one in done])
            for one in done:
                self._tell(one)
                self._scheduler.begin(one.message)
            ids = rest

    async def _accept(self, prepared: Prepared) -> Fate:
        message = prepared.message
        result: asyncio.Future[Exception | None] = self._loop.create_future()

        def done(_: Message, error: Exception | None) -> None:
            if not result.done():
                result.set_result(error)

        if prepared.pieces is not None or message.size_octets > self._inline_octets:
            problem = await self._spill(prepared)
            if problem is not None:
                return await self._fate(prepared, problem)
        self._scheduler.reserve(message)
        try:
            self._spool.accept(message, done)
            problem = await result
        except MemoryError as error:
            problem = error
        if problem is None:
            return Fate.OURS
        self._scheduler.forget(message)
        return await self._fate(prepared, problem)

    async def _fate(self, prepared: Prepared, problem: Exception) -> Fate:
        """What becomes of a letter that the spool does not have."""
        if isinstance(problem, FormError):
            letter = prepared.letter
            await self._on_thread(self._box.refuse, letter.id, letter.user_id, str(problem))
            return Fate.LEFT
        self._trouble(problem)
        is_certain = isinstance(problem, SpoolFull | OSError | MemoryError)
        return Fate.AGAIN if is_certain else Fate.LEFT

    async def _spill(self, prepared: Prepared) -> Exception | None:
        """Move a large content to a file of the spool; what went wrong."""
        message, pieces = prepared.message, prepared.pieces
        caught_up = asyncio.Event()
        spill = self._spool.begin_big(message.id, caught_up.set)
        octets, message.content = message.content or b"", None
        finished: asyncio.Future[tuple[ContentFile | None, Exception | None]]
        finished = self._loop.create_future()
        try:
            while octets:
                spill.write(octets)
                while spill.is_behind:
                    caught_up.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(caught_up.wait(), LOOK_S)
                octets = b"" if pieces is None else await self._on_thread(pieces.next)
        except BaseException as problem:
            spill.abandon()
            if isinstance(problem, FormError | OSError):
                return problem
            raise
        spill.finish(lambda file, error: finished.set_result((file, error)))
        file, error = await finished
        if file is None:
            return error or OSError(errno.EIO, "its content could not be stored")
        message.file, message.size_octets = file, file.size_octets
        return None

    async def _remove(self, ids: list[bytes]) -> None:
        """These claims are the spool's now; returns when their files are gone for good."""
        pause_s = AGAIN_S
        while ids:
            try:
                await self._on_thread(self._box.remove, ids)
                return
            except OSError as problem:
                self._trouble(problem)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, AGAIN_S_MAX)

    async def _on_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        return await self._loop.run_in_executor(self._thread, work, *arguments)

    # What is said.

    def _tell(self, prepared: Prepared) -> None:
        letter, message = prepared.letter, prepared.message
        self._emit(MessagePickedUp(message.id, letter.user_id, letter.submission.sender))
        for remark in prepared.remarks:
            self._emit(Notice("pickup", remark, Severity.WARNING, message.id))
        envelope = message.envelope
        received = MessageReceived(
            message.id,
            "",
            message.message_id_field,
            listener=LISTENER,
            tenant="" if self._tenant_of is None else self._tenant_of(envelope),
            size_octets=message.size_octets,
            recipient_count=len(envelope.forward_paths),
            stored_s=(self._clock.wall_ns() - message.arrived_at_ns) * 1e-9,
        )
        self._emit(received)

    def _trouble(self, problem: Exception) -> None:
        """Say it once, and try again later."""
        self._again_s = min(self._again_s * 2, AGAIN_S_MAX) if self._troubles else AGAIN_S
        self._again_at_s = self._loop.time() + self._again_s
        text = str(problem)
        if isinstance(problem, OSError):
            text = f"{problem.filename or self._place.root}: {problem.strerror}"
        if text not in self._troubles and len(self._troubles) < BATCH:
            self._troubles.add(text)
            self._warn(f"mail waits in the drop directory: {text}")

    def _warn(self, text: str) -> None:
        self._emit(Notice("pickup", text, Severity.WARNING))

    def _warn_soon(self, text: str) -> None:
        """From the thread."""
        self._loop.call_soon_threadsafe(self._warn, text)

    def _on_refused(self, name: str, user_id: int, why: str) -> None:
        """From the thread."""
        owner = "" if user_id < 0 else f" of uid={user_id}"
        self._warn_soon(f"file {name}{owner}: {why}")
