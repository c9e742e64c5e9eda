"""Worker 0 takes up what local programs left in the drop directory; see `fastmta.drop`.

Files are claimed in batches: two syncs of directories before, one after, and the flush of the log
between them serve all of a batch. Whatever blocks is done on a thread; the loop only hands over. A
file that makes several messages waits for its turn, and comes in portions between the batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from fastmta.config import Config
from fastmta.config.glimpse import glimpse_of
from fastmta.drop import Facts, Place
from fastmta.drop.box import Box
from fastmta.drop.plan import PORTION_MAX
from fastmta.event import Event, MessageReceived, Notice, Severity
from fastmta.event.pickup import MessagePickedUp
from fastmta.message import Envelope
from fastmta.smtp import Reply

from .acceptor import Acceptor, Fate
from .clock import QueueClock
from .leftover import Leftover
from .localmail import Parting, Prepared, Preparer, Times
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
_WAITS = "mail waits in the drop directory"
_NONE = "no mail of the sendmail command is taken up"
_HELD = (
    "nothing of this queue is delivered: some of it may be in the drop directory a second time, "
    "which cannot be settled"
)
_T = TypeVar("_T")


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
        """Before anything of `shard` is delivered."""
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
        self._config = config
        self._place = Place(glimpse_of(config).drop_directory)
        self._use(config)
        self._again: list[bytes] = []  # claims of which nothing was accepted
        self._several: list[bytes] = []  # claims that make several messages
        self._parting: Parting | None = None  # the first of these
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
        self._leftover = Leftover(self._box)
        self._is_prepared = self._is_compared = False
        self._begin()

    def _begin(self) -> None:
        """Make the directory; find the claims that a crash left, also where nothing can be made."""
        trouble = None
        try:
            open_place(self._config)
            self._is_prepared = True
        except OSError as problem:
            trouble = problem
        try:
            self._is_compared = not self._leftover.find()
        except OSError as problem:
            self._trouble(problem, _HELD)
        if trouble is not None:
            self._trouble(trouble, _NONE)
        if not self._is_compared:
            self._shard.hold_back(
                "what was left in the drop directory by a crash is compared first"
            )

    def start(self) -> None:
        """From now on."""
        if self._is_prepared:
            self._listen()
        self._task = self._loop.create_task(self._run())

    def _listen(self) -> None:
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        try:  # for writing as well: else it would be at its end whenever nobody has it open
            self._wake_fd = os.open(self._place.wake, flags)
        except OSError as problem:
            self._warn(f"{self._place.wake}: {problem.strerror}; mail is looked for every second")
        else:
            self._loop.add_reader(self._wake_fd, self._on_call)

    def shut(self, is_shut: bool) -> None:
        """Whether nothing is taken up: what is in the directory waits there."""
        self._is_shut = is_shut
        self._called.set()

    def renew(self, config: Config) -> None:
        """Do as this says with what is taken up from now on, and tell `sendmail`, soon: a reload
        does not wait for the disk."""
        self._config = config
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
        self._acceptor = Acceptor(
            (self._spool, self._scheduler),
            inline_octets,
            self._on_thread,
            self._box.refuse,
            self._trouble,
        )

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
        while not self._is_over and not await self._is_ready():
            self._called.clear()
            await self._wait(max(LOOK_S, self._again_at_s - self._loop.time()))
        while not self._is_over:
            try:
                is_more = await self._turn()
            except OSError as problem:
                self._trouble(problem)
                is_more = False
            await asyncio.sleep(GAP_S)
            if not is_more and not self._is_over:
                await self._wait(LOOK_S)

    async def _wait(self, seconds: float) -> None:
        """Or until somebody calls."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._called.wait(), seconds)

    async def _is_ready(self) -> bool:
        """Whether nothing is left of a crash, and the directory is there; if not, it tries."""
        try:
            if not self._is_compared:
                await self._on_thread(self._leftover.find)
                self._is_compared = await self._compare()
                if not self._is_compared:  # the spool has failed, and we end
                    return False
                self._shard.hold_back("")
            if not self._is_prepared:
                await self._on_thread(open_place, self._config)
                self._is_prepared = True
                self._listen()
        except OSError as problem:
            self._trouble(problem, _HELD if not self._is_compared else _NONE)
            return False
        if self._troubles:
            self._troubles.clear()
            self._emit(Notice("pickup", f"{self._place.root} is in use again"))
        return True

    async def _compare(self) -> bool:
        """Claims that a crash left: what the spool has is only to be removed, the rest is mail.

        False: the spool cannot tell. Raises OSError: all of it is to be done again.
        """
        found: asyncio.Future[set[bytes] | None] = self._loop.create_future()

        def told(live: set[bytes] | None) -> None:
            if not found.done():
                found.set_result(live)

        ids = await self._on_thread(self._leftover.read)
        self._spool.which_live(ids, told)
        live = await found
        if live is None:
            return False
        fresh = [self._spool.new_id() for _ in ids]
        self._again, self._several = await self._on_thread(self._leftover.settle, live, fresh)
        return True

    async def _turn(self) -> bool:
        """One batch, and one portion; whether there may be more."""
        self._called.clear()
        if self._is_shut or self._gate.refusal(0) is not None:
            return False
        await self._take_portion()
        is_more = await self._take_batch()
        return is_more or (bool(self._several) and self._loop.time() >= self._again_at_s)

    async def _take_batch(self) -> bool:
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
            made, rest, several = await self._on_thread(self._preparer.prepare, ids, self._now())
            handled = set(ids).difference(rest)
            try:
                fates = await asyncio.gather(*map(self._acceptor.accept, made))
            finally:
                for prepared in made:
                    prepared.letter.close()
            put_off = {one.message.id for one, fate in zip(made, fates, strict=True)
                       if fate is Fate.AGAIN}  # fmt: skip
            self._again = [id for id in self._again if id not in handled or id in put_off]
            self._several += several
            done = [one for one, fate in zip(made, fates, strict=True) if fate is Fate.OURS]
            await self._persist(self._box.remove, [one.message.id for one in done])
            self._let_go(done)
            ids = rest

    async def _take_portion(self) -> None:
        """Some messages of the first claim that makes several."""
        if not self._several or self._loop.time() < self._again_at_s:
            return
        id = self._several[0]
        made = await self._make_portion(id)
        parting, done = self._parting, list[Prepared]()
        is_over = is_put_off = False
        is_refused = parting is None
        if parting is not None:
            fates = await asyncio.gather(*map(self._acceptor.accept, made))
            if Fate.LEFT in fates:
                self._end_parting()
                return
            done = [one for one, fate in zip(made, fates, strict=True) if fate is Fate.OURS]
            is_put_off = Fate.AGAIN in fates
            ids = {one.message.id for one in done}
            numbers = {number for number, id in parting.plan.ids.items() if id in ids}
            plan = parting.advance(numbers, self._ids())
            is_over = not plan.ids
            is_refused = Fate.REFUSED in fates or len(made) < len(parting.plan.ids)
        if is_refused:
            self._end_parting()
            await self._persist(self._box.forget_plan, id)
        elif is_over:
            self._end_parting()
            await self._persist(self._box.remove_planned, id)
        elif parting is not None:
            await self._persist(self._box.write_plan, id, plan)
            parting.plan = plan
            if is_put_off and not done:
                self._put_last(id)
        self._let_go(done)
        if done and not is_put_off:
            self._troubles.clear()

    async def _make_portion(self, id: bytes) -> list[Prepared]:
        """Of a claim, as `_parting` says then; None: it was refused, or somebody took it away.

        Raises OSError: the others need not wait for this one.
        """
        try:
            if self._parting is None:
                with contextlib.suppress(FileNotFoundError):
                    self._parting = await self._on_thread(
                        self._preparer.part, id, self._now(), self._ids()
                    )
            if self._parting is None:
                return []
            return await self._on_thread(self._preparer.make_parts, self._parting, self._now())
        except OSError:
            self._put_last(id)
            raise

    def _put_last(self, id: bytes) -> None:
        """The first one, of which nothing can be done just now."""
        self._end_parting()
        self._several.append(id)

    def _end_parting(self) -> None:
        """On to the next one."""
        if self._parting is not None:
            self._parting.letter.close()
        self._parting = None
        self._several.pop(0)

    def _let_go(self, done: list[Prepared]) -> None:
        """These are the spool's, and of their files nothing tells otherwise."""
        for one in done:
            self._tell(one)
            self._scheduler.begin(one.message)

    def _now(self) -> Times:
        return Times(self._clock.date(), self._clock.true_wall_ns(), self._clock.wall_ns())

    def _ids(self) -> list[bytes]:
        """Enough for one plan."""
        return [self._spool.new_id() for _ in range(PORTION_MAX)]

    async def _persist(self, work: Callable[..., None], *arguments: object) -> None:
        """Returns when it is done for good: nothing may be attempted before."""
        pause_s = AGAIN_S
        while True:
            try:
                await self._on_thread(work, *arguments)
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

    def _trouble(self, problem: Exception, so: str = _WAITS) -> None:
        """Say it once, and try again later."""
        self._again_s = min(self._again_s * 2, AGAIN_S_MAX) if self._troubles else AGAIN_S
        self._again_at_s = self._loop.time() + self._again_s
        text = str(problem)
        if isinstance(problem, OSError):
            text = f"{problem.filename or self._place.root}: {problem.strerror}"
        if so + text not in self._troubles and len(self._troubles) < BATCH:
            self._troubles.add(so + text)
            self._warn(f"{so}: {text}")

    def _warn(self, text: str) -> None:
        self._emit(Notice("pickup", text, Severity.WARNING))

    def _warn_soon(self, text: str) -> None:
        """From the thread."""
        self._loop.call_soon_threadsafe(self._warn, text)

    def _on_refused(self, name: str, user_id: int, why: str) -> None:
        """From the thread."""
        owner = "" if user_id < 0 else f" of uid={user_id}"
        self._warn_soon(f"file {name}{owner}: {why}")
