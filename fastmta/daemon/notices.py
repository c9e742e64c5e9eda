"""The postmaster's notices: what the journal was told to heed, as mail, every now and then."""

from __future__ import annotations

import asyncio
import time

from fastmta.dsn import Digest

from .shard import Shard

_INTERVAL_S = 5.0


class Notices:
    """Looks every few seconds whether there is one to send; each enters the queue as a report."""

    def __init__(self, digest: Digest, shard: Shard, loop: asyncio.AbstractEventLoop) -> None:
        self._digest = digest
        self._shard = shard
        self._loop = loop
        self._timer = loop.call_later(_INTERVAL_S, self._turn)

    def close(self) -> None:
        """No more of them."""
        self._timer.cancel()

    def _turn(self) -> None:
        self._timer = self._loop.call_later(_INTERVAL_S, self._turn)
        for one in self._digest.take(time.monotonic()):
            report = self._shard.bouncer.notice(*one)
            if report is not None:
                self._shard.scheduler.submit(report)
