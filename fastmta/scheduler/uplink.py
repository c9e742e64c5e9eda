"""Whether it is we who are cut off, rather than they who are down.

Nobody is reached any more when a cable, a firewall or the name servers fail, and then every
destination looks dead, for days perhaps. Mail is not given up for that: while for SILENCE_S nobody
was reached and at least DESTINATIONS_MIN destinations were tried in vain, its expiry is put off, by
PUT_OFF_S at most. With fewer destinations there is no telling, and lifetimes count as ever.

Reached is whoever answered anything over SMTP from beyond this host: a local server that takes mail
says nothing about the network, nor does an answer of DNS, which may be an old one.
"""

from __future__ import annotations

from typing import Final

from fastmta.event import Notice, Severity
from fastmta.route import Site

from .engine import Engine
from .health import NOBODY, PathState
from .table import Table

SILENCE_S = 3600.0
DESTINATIONS_MIN = 3
PUT_OFF_S = 2 * 86_400.0
_LOCAL: Final = ("/", "127.", "::1")
_NO_ANSWER: Final = "4.4.3"  # RFC 3463 3.5: the directory server failed


class Uplink:
    """Looks at all destinations at every sweep. `engine.cut_off` says why nothing expires."""

    __slots__ = ("_engine", "_is_told", "_reached_at_s", "_table")

    def __init__(self, engine: Engine, table: Table) -> None:
        self._engine = engine
        self._table = table
        self._reached_at_s = float("-inf")  # as far as is known
        self._is_told = False

    def look(self) -> bool:
        """Look again. True: we were cut off, and are not any more."""
        engine = self._engine
        in_vain = self._count_in_vain()
        silence_s = engine.ports.clock.monotonic_s() - self._reached_at_s
        if silence_s >= SILENCE_S and in_vain >= DESTINATIONS_MIN:
            engine.cut_off = f"{in_vain} destinations were tried in vain, and none was reached"
            return False
        was_cut_off = bool(engine.cut_off)
        engine.cut_off = ""
        if self._is_told:
            self._is_told = False
            engine.ports.emit(Notice("qmgr", "destinations are reached: mail expires as usual"))
        return was_cut_off

    def tell(self) -> None:
        """Mail would expire now, were it not for that: an operator hears of it, once."""
        if not self._is_told:
            self._is_told = True
            days = PUT_OFF_S / 86_400.0
            text = f"{self._engine.cut_off}: expiry is put off, for {days:.0f} days at most"
            self._engine.ports.emit(Notice("qmgr", text, Severity.WARNING))

    def _count_in_vain(self) -> int:
        count = 0
        for path in self._table.paths.values():
            if not _is_remote(path.site):
                continue
            health = path.health
            self._reached_at_s = max(self._reached_at_s, health.reached_at_s)
            cause = health.cause
            if health.state is not PathState.OPEN and cause is not None:
                count += cause.remote == NOBODY
        for hop in self._table.hops.values():
            if hop.path is None and hop.cause is not None:
                count += hop.cause.status == _NO_ANSWER
        return count


def _is_remote(site: Site) -> bool:
    """Whether mail for that site leaves this host."""
    if site.way.transport != "smtp":
        return False
    return not all(target.address.startswith(_LOCAL) for target in site.targets)
