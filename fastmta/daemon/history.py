"""Whether a worker keeps a history of its log lines, and where."""

from __future__ import annotations

import os

from fastmta.config import Config
from fastmta.control.logplace import HISTORY
from fastmta.event import Notice, Severity
from fastmta.journal import Journal, Writer
from fastmta.journal.history import HistoryPlace


class History:
    """Keeps the lines of a journal where its configuration wants that."""

    def __init__(self, config: Config, index: int, journal: Journal) -> None:
        """Begin; a history that cannot be kept is a line in the log."""
        self._writer: Writer | None = None
        settings = config.journal
        is_elsewhere = settings.target != "file" or settings.file != "-" or settings.json_file
        if is_elsewhere or not settings.history_octets:
            return
        directory = os.path.join(config.spool.directory, HISTORY)
        try:
            place = HistoryPlace(directory, index, settings.history_octets)
        except OSError as error:
            text = f"no history of the log in {directory}: {error.strerror}"
            journal.emit(Notice("master", text, Severity.WARNING))
            return
        self._writer = Writer(place)
        journal.tap(self._writer.write)

    def close(self) -> None:
        """Write the rest; after the journal was closed."""
        if self._writer is not None:
            self._writer.close()
