"""What a measurement starts before it and stops behind it, whatever happens in between."""

from contextlib import ExitStack
from types import TracebackType
from typing import Self


class Standing:
    """A context manager of several parts: `stand` starts them and says how each is stopped.

    They are stopped in reverse order, also when one of the later ones does not start.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()

    def stand(self) -> None:
        """Start everything; after each part `self._stack.callback` is told what ends it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.stand()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
