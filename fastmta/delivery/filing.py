"""The transport `file`: each recipient's copy becomes a durable file in the directory of its way.

One file for each recipient, because what is tried again is a recipient: a file for several would
have to be written anew for those that were delivered already. All writing is done by a few threads;
a large content is read on the loop, one piece at a time, and written piece by piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final, TypeAlias

from fastmta.event import Event, Notice, Severity
from fastmta.message import AttemptResult, ContentFile, Job, Message, Outcome
from fastmta.route import Site
from fastmta.security.threads import Failure, Threads

from . import trouble
from .attempt import Done
from .content import Contents, Source, Stream
from .letter import Letter, head_of, name_of, refused, try_directory

THREADS: Final = 4
WAITING_MAX: Final = 10_000  # more attempts than a worker ever has under way

Next: TypeAlias = Callable[[], None]


class Filing:
    """One attempt. Its outcomes grow in the order of the job's recipients."""

    __slots__ = (
        "begun_s",
        "done",
        "is_in_thread",
        "job",
        "letter",
        "outcomes",
        "site",
        "source",
        "trouble",
    )

    def __init__(self, job: Job, site: Site, done: Done) -> None:
        self.job = job
        self.site = site
        self.done: Done | None = done  # None once it was called
        self.begun_s = monotonic()
        self.outcomes: list[Outcome] = []
        self.trouble: Outcome | None = None
        self.source: Source | None = None  # of a large content
        self.letter: Letter | None = None  # of a large content: what is being written
        self.is_in_thread = False  # some step has not come back; its letter is not ours

    @property
    def directory(self) -> str:
        return self.site.way.argument

    def result(self) -> AttemptResult:
        assert len(self.outcomes) == len(self.job.indices)
        return AttemptResult(self.outcomes, self.trouble, 0.0, monotonic() - self.begun_s)


class FileAgent:
    """Delivers to directories. `start` promises exactly one `done`, never from within itself."""

    def __init__(
        self,
        emit: Callable[[Event], None],
        loop: asyncio.AbstractEventLoop,
        contents: Contents | None = None,
        threads: int = THREADS,
    ) -> None:
        """`contents` opens large contents; without it such a message is deferred."""
        self._emit = emit
        self._loop = loop
        self._contents = contents
        self._threads = Threads(loop, "delivery-file", threads, WAITING_MAX)
        self._running: set[Filing] = set()
        self._drained: asyncio.Future[None] | None = None
        self._is_closing = False

    @property
    def running_count(self) -> int:
        """Attempts whose `done` is still owed."""
        return len(self._running)

    def start(self, job: Job, site: Site, done: Done) -> None:
        """Write a file for each recipient; never raises."""
        filing = Filing(job, site, done)
        self._running.add(filing)
        self._loop.call_soon(self._guarded, filing, partial(self._begin, filing))

    async def close(self, deadline_s: float) -> None:
        """Wait `deadline_s` for running attempts, then give up those whose disk hangs."""
        self._is_closing = True
        if self._running:
            self._drained = self._loop.create_future()
            await asyncio.wait([self._drained], timeout=deadline_s)
        for filing in list(self._running):
            self._give_up(filing, trouble.shut_down(), is_path=True)
        self._threads.close()

    # One attempt.

    def _begin(self, filing: Filing) -> None:
        message = filing.job.message
        if self._is_closing:
            self._give_up(filing, trouble.shut_down(), is_path=True)
        elif message.envelope.is_probe:
            look = partial(try_directory, filing.directory)
            self._run(filing, look, partial(self._tried, filing))
        elif message.file is not None:
            self._open(filing, message.file)
        elif message.content is None:
            raise ValueError("a job without its content")
        else:
            work = partial(write_all, message, filing.job.indices, filing.directory)
            self._run(filing, work, partial(self._written_all, filing))

    def _written_all(self, filing: Filing, written: tuple[list[Outcome], OSError | None]) -> None:
        outcomes, error = written
        filing.outcomes += outcomes
        if error is None:
            self._finish(filing)
        else:
            self._give_up(filing, refused(filing.directory, error), is_path=True)

    def _tried(self, filing: Filing, outcome: Outcome) -> None:
        filing.outcomes += [outcome] * len(filing.job.indices)
        self._finish(filing)

    # A large content.

    def _open(self, filing: Filing, file: ContentFile) -> None:
        if self._contents is None:
            raise ValueError("there is no way to a large content")
        self._contents.open(
            file,
            lambda source, error: self._guarded(
                filing, partial(self._opened, filing, source, error)
            ),
        )

    def _opened(self, filing: Filing, source: Source | None, error: Exception | None) -> None:
        if filing.done is None:  # `close` did not wait for it
            if source is not None:
                source.close()
        elif source is None:
            self._unreadable(filing, error)
        else:
            filing.source = source
            self._next_letter(filing)

    def _next_letter(self, filing: Filing) -> None:
        """Begin the file of the next recipient, if there is one."""
        place = len(filing.outcomes)
        if place == len(filing.job.indices):
            self._finish(filing)
            return
        assert filing.source is not None
        message, index = filing.job.message, filing.job.indices[place]
        filing.letter = letter = Letter(filing.directory, name_of(message, index))
        stream = filing.source.stream()

        def begin() -> None:
            letter.open()
            letter.write(head_of(message, index))

        self._run(filing, begin, lambda _: self._read(filing, stream))

    def _read(self, filing: Filing, stream: Stream) -> None:
        stream.read(
            lambda octets, error: self._guarded(
                filing, partial(self._have_read, filing, stream, octets, error)
            )
        )

    def _have_read(
        self, filing: Filing, stream: Stream, octets: bytes, error: Exception | None
    ) -> None:
        letter = filing.letter
        if filing.done is None:
            return
        assert letter is not None
        if error is not None:
            self._unreadable(filing, error)
        elif octets:
            self._run(filing, partial(letter.write, octets), lambda _: self._read(filing, stream))
        else:
            self._run(filing, letter.deliver, lambda _: self._delivered(filing, letter))

    def _delivered(self, filing: Filing, letter: Letter) -> None:
        filing.letter = None
        filing.outcomes.append(letter.delivered())
        self._next_letter(filing)

    def _unreadable(self, filing: Filing, error: Exception | None) -> None:
        text = f"content cannot be read: {error}"
        self._emit(Notice("file", text, Severity.ERROR, filing.job.message.id))
        self._give_up(filing, trouble.unreadable(), is_path=False)

    # Threads.

    def _run(self, filing: Filing, work: Callable[[], object], then: Callable[..., None]) -> None:
        """`work` in a thread, then `then(its value)` here, unless it failed."""

        def back(value: object) -> None:
            self._guarded(filing, partial(self._back, filing, value, then))

        filing.is_in_thread = True
        if self._threads.run(work, back) is None:
            filing.is_in_thread = False
            raise RuntimeError("too many files wait to be written")

    def _back(self, filing: Filing, value: object, then: Callable[..., None]) -> None:
        filing.is_in_thread = False
        if filing.done is None:  # `close` did not wait for it
            return
        if not isinstance(value, Failure):
            then(value)
        elif isinstance(value.error, OSError):
            self._give_up(filing, refused(filing.directory, value.error), is_path=True)
        else:
            self._broke(filing, value.error)

    def _guarded(self, filing: Filing, step: Next) -> None:
        """A failure of our own defers what is open, and an operator hears of it."""
        try:
            step()
        except Exception as error:
            self._broke(filing, error)

    def _broke(self, filing: Filing, error: BaseException) -> None:
        text = f"internal error in delivery: {error!r}"
        self._emit(Notice("file", text, Severity.ERROR, filing.job.message.id))
        if filing.done is not None:
            self._give_up(filing, trouble.internal(type(error).__name__), is_path=False)

    # Ends.

    def _give_up(self, filing: Filing, outcome: Outcome, *, is_path: bool) -> None:
        """`outcome` for every recipient that has none; `is_path`: the directory is to blame."""
        left = len(filing.job.indices) - len(filing.outcomes)
        filing.outcomes += [outcome] * left
        if is_path and left:
            filing.trouble = outcome
        letter, filing.letter = filing.letter, None
        if letter is None or filing.is_in_thread:  # in a thread that hangs: the file is not ours
            self._finish(filing)
        elif self._is_closing:
            letter.abandon()
            self._finish(filing)
        else:
            self._run(filing, letter.abandon, lambda _: self._finish(filing))

    def _finish(self, filing: Filing) -> None:
        done, filing.done = filing.done, None
        assert done is not None, "an attempt finished twice"
        if filing.source is not None:
            filing.source.close()
            filing.source = None
        self._running.discard(filing)
        try:
            done(filing.job, filing.result())
        except Exception as error:  # not ours: the daemon decides about it
            text = "a callback of the file agent raised"
            self._loop.call_exception_handler({"message": text, "exception": error})
        if self._drained is not None and not self._running and not self._drained.done():
            self._drained.set_result(None)


def write_all(
    message: Message, indices: tuple[int, ...], directory: str
) -> tuple[list[Outcome], OSError | None]:
    """In a thread: the files of a content in memory, up to the first that cannot be written."""
    content = message.content
    assert content is not None
    outcomes: list[Outcome] = []
    for index in indices:
        letter = Letter(directory, name_of(message, index))
        try:
            letter.open()
            letter.write(head_of(message, index) + content)
            letter.deliver()
        except OSError as error:
            letter.abandon()
            return outcomes, error
        outcomes.append(letter.delivered())
    return outcomes, None


def _ignore(_: object) -> None:
    """Nobody waits for it."""
