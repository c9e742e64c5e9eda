"""What hooks answer a session, and what they tell the log; the rest is `session.port`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from fastmta.smtp import Reply

# None: the session's own reply stands.
Done: TypeAlias = Callable[[Reply | None], None]
# Takes one sentence for the log.
Report: TypeAlias = Callable[[str], None]
