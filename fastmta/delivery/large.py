"""Large contents: opened and checked before anything is said to anybody."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fastmta.message import ContentFile

from . import trouble
from .account import Account
from .attempt import Attempt
from .content import Contents, HeaderLook, Source


class LargeContents:
    """Attempts whose content is being checked; each goes on by itself, or ends."""

    __slots__ = ("_account", "_contents", "_go_on", "_left", "_opening", "is_closing")

    def __init__(
        self,
        contents: Contents | None,
        account: Account,
        go_on: Callable[[Attempt], None],
        left: Callable[[], None],
    ) -> None:
        """`go_on` takes an attempt that has its content; `left`: one less is checked."""
        self._contents = contents
        self._account = account
        self._go_on = go_on
        self._left = left
        self._opening: set[Attempt] = set()
        self.is_closing = False

    def __len__(self) -> int:
        return len(self._opening)

    def open(self, attempt: Attempt, file: ContentFile) -> None:
        """Check all of `file`. Raises ValueError when there is no way to it."""
        if self._contents is None:
            raise ValueError("there is no way to a large content")
        self._opening.add(attempt)
        self._contents.open(file, partial(self._opened, attempt))

    def interrupt(self) -> None:
        """Wait for none of them any longer."""
        for attempt in list(self._opening):
            self._opening.discard(attempt)
            self._account.interrupt(attempt)

    def _opened(self, attempt: Attempt, source: Source | None, error: Exception | None) -> None:
        if attempt not in self._opening:  # `interrupt` did not wait for it
            if source is not None:
                source.close()
            return
        self._opening.discard(attempt)
        attempt.source = source
        try:
            if source is None:
                self._account.report_content(attempt, error)
                self._account.settle(attempt, trouble.unreadable())
            elif self.is_closing:
                self._account.interrupt(attempt)
            elif attempt.job.message.envelope.is_utf8 and attempt.has_ascii_header is None:
                HeaderLook(source.stream(), partial(self._looked, attempt))
                self._opening.add(attempt)
            else:
                self._go_on(attempt)
        except Exception as problem:
            self._account.break_off(attempt, problem)
        self._left()

    def _looked(self, attempt: Attempt, is_ascii: bool, error: Exception | None) -> None:
        """Whether a large content can do without SMTPUTF8 is known, or it cannot be read."""
        attempt.has_ascii_header = is_ascii
        source, attempt.source = attempt.source, None
        if error is not None and source is not None:
            source.close()
            source = None
        self._opened(attempt, source, error)
