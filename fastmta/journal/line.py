"""Events to log lines of the shapes of Postfix 3.7, and to counts."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from fastmta.event import (
    BounceQueued,
    ClientConnected,
    ClientDisconnected,
    CommandRefused,
    Event,
    MessageExpired,
    Notice,
    Severity,
)
from fastmta.event.hold import RecipientHeld
from fastmta.event.pickup import MessagePickedUp
from fastmta.event.security import LoginRefused, TlsStarted
from fastmta.smtp.tls import TlsFacts
from fastmta.smtp.twin import IS_PURE

from .anvil import Anvil
from .concern import concern_of
from .counter import Counters

if TYPE_CHECKING or IS_PURE:
    from .line_py import Block, clean
else:
    from ._line import Block, clean  # an ImportError here is a broken build: let it stop us

_VERBS = (
    *(
        "helo",
        "ehlo",
        "lhlo",
        "xclient",
        "xforward",
        "starttls",
        "auth",
        "mail",
        "rcpt",
        "data",
        "bdat",
    ),
    *("rset", "noop", "vrfy", "etrn", "quit", "help", "unknown"),
)
_RANKS = {verb: rank for rank, verb in enumerate(_VERBS)}
_ALL_IS_SAID = "END-OF-MESSAGE"  # who goes without QUIT behind it has lost nothing
_LOGIN_CHARACTERS_MAX = 100  # of what a client named as mechanism or login, as Postfix cuts it
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


Heed: TypeAlias = Callable[[str, str], None]  # class of the notice, and the line


class Origin(NamedTuple):
    """Who writes the lines."""

    hostname: str
    syslog_name: str
    process_id: int
    worker: int = 0


class LineRenderer:
    """Renders events in the order given and counts them.

    The four events of every message are left to `Block`, which may be compiled; the rest is here.
    """

    __slots__ = (
        "_anvil",
        "_block",
        "_counters",
        "_heed",
        "_last",
        "_origin",
        "_other",
        "_second",
        "_smtpd",
        "_stamp",
    )

    def __init__(self, origin: Origin, heed: Heed | None = None) -> None:
        """`heed` is given the lines that a postmaster may want to see, as they are in the log."""
        self._origin = origin
        self._heed = heed
        self._last = ""  # the latest line that somebody may heed
        self._second = -1
        self._stamp = self._smtpd = ""
        self._counters = Counters()
        self._anvil = Anvil()
        self._block = Block()
        # Any: each entry takes the type of its key
        self._other: dict[type[Any], Callable[[Any], None]] = {
            ClientConnected: self._connected,
            ClientDisconnected: self._disconnected,
            CommandRefused: self._refused,
            TlsStarted: self._tls_started,
            LoginRefused: self._login_refused,
            RecipientHeld: self._held,
            MessagePickedUp: self._picked_up,
            MessageExpired: self._expired,
            BounceQueued: self._bounce_queued,
            Notice: self._notice,
        }

    def render(self, events: list[Event], second: int) -> tuple[bytes, int]:
        """The lines of `events`, stamped with `second` since the epoch, and their number."""
        if second != self._second:
            self._set_second(second)
        self._block.render(events, self._render, self._broken)
        for text, at in self._anvil.take(second):
            self._block.add(f"{self._front('anvil')}statistics: {text} at {_time(at)}")
        line_count = self._block.line_count
        return self._block.take(), line_count

    @property
    def counters(self) -> Counters:
        """Counts of everything rendered so far."""
        block, counters = self._block, self._counters
        counters.accepted = block.accepted
        counters.recipients = block.recipients
        counters.content_octets = block.content_octets
        counters.removed = block.removed
        counters.delivered = block.delivered
        counters.deferred = block.deferred
        counters.bounced = block.bounced
        return counters

    def _render(self, event: Event) -> None:
        kind = type(event)
        self._other[kind](event)
        if kind is ClientConnected or self._heed is None:  # the former concerns nobody
            return
        if concern := concern_of(event):
            self._heed(concern, clean(self._last).decode("ascii"))

    def _add(self, line: str) -> None:
        self._last = line
        self._block.add(line)

    def _broken(self, event: Event, error: Exception) -> None:
        """Say that an event is not in the log; a fault of ours, and no reason to lose others."""
        text = f"journal: {type(event).__name__} cannot be shown: {type(error).__name__}: {error}"
        self._notice(Notice("master", text, Severity.ERROR))

    def _set_second(self, second: int) -> None:
        """Make the constant fronts of the lines anew; local time, as syslog does."""
        self._second = second
        self._stamp = f"{_time(second)} {self._origin.hostname} {self._origin.syslog_name}/"
        self._smtpd = self._front("smtpd")
        self._block.set_front(self._front)

    def _front(self, program: str) -> str:
        return f"{self._stamp}{program}[{self._origin.process_id}]: "

    def _smtpd_of(self, service: str) -> str:
        return self._front(f"{service}/smtpd") if service else self._smtpd

    def _connected(self, event: ClientConnected) -> None:
        self._counters.connections += 1
        self._anvil.connected(event.service, event.client, self._second)
        self._block.add(f"{self._smtpd_of(event.service)}connect from {event.client}")

    def _disconnected(self, event: ClientDisconnected) -> None:
        front = self._smtpd_of(event.service)
        self._anvil.disconnected(event.service, event.client)
        if event.reason:
            self._counters.connections_lost += 1
            octets = f" ({event.content_octets} bytes)" if event.content_octets >= 0 else ""
            if event.stage != _ALL_IS_SAID or event.reason != "lost connection":  # as Postfix
                self._add(f"{front}{event.reason} after {event.stage}{octets} from {event.client}")
        line = f"{front}disconnect from {event.client}"
        accepted = total = 0
        verbs = event.verbs
        for verb in sorted(_RANKS.keys() & verbs, key=_RANKS.__getitem__):
            taken, said = verbs[verb]
            if said:
                line += f" {verb}={said}" if taken == said else f" {verb}={taken}/{said}"
                accepted += taken
                total += said
        # Not what anybody heeds: the line with the reason says more.
        self._block.add(f"{line} commands={_ratio(accepted, total) if total else '0/0'}")

    def _refused(self, event: CommandRefused) -> None:
        self._counters.rejected += 1
        queue_id = _text(event.queue_id) or "NOQUEUE"
        front = self._smtpd_of(event.service)
        line = f"{front}{queue_id}: reject: {event.stage} from {event.client}: {event.reply};"
        if event.reverse_path is not None:
            line += f" from=<{_text(event.reverse_path)}>"
        if event.forward_path is not None:
            line += f" to=<{_text(event.forward_path)}>"
        line += f" proto={event.protocol}"
        if event.helo:
            line += f" helo=<{_text(event.helo)}>"
        self._add(line)

    def _tls_started(self, event: TlsStarted) -> None:
        """A client's certificate is known by its fingerprint only: we check no chain."""
        self._counters.tls_sessions += 1
        trust = trust_of(event.facts)
        self._add(
            f"{self._smtpd_of(event.service)}{trust} TLS connection established from "
            f"{event.client}: {event.facts.text}"
        )

    def _login_refused(self, event: LoginRefused) -> None:
        """The line that programs ban clients by."""
        self._counters.logins_refused += 1
        reason = event.reason or "(reason unavailable)"
        login = event.login[:_LOGIN_CHARACTERS_MAX] or "(unavailable)"
        self._add(
            f"{self._smtpd_of(event.service)}warning: {event.client}: "
            f"SASL {event.mechanism[:_LOGIN_CHARACTERS_MAX]} authentication failed: {reason}, "
            f"sasl_username={login}"
        )

    def _held(self, event: RecipientHeld) -> None:
        self._counters.held += 1
        self._add(
            f"{self._front('qmgr')}{_text(event.queue_id)}: hold: "
            f"<{_text(event.forward_path)}>: {event.text}; from=<{_text(event.reverse_path)}>"
        )

    def _picked_up(self, event: MessagePickedUp) -> None:
        self._add(
            f"{self._front('pickup')}{_text(event.queue_id)}: uid={event.user_id} "
            f"from=<{_text(event.sender)}>"
        )

    def _expired(self, event: MessageExpired) -> None:
        self._counters.expired += 1
        self._add(
            f"{self._front('qmgr')}{_text(event.queue_id)}: from=<{_text(event.reverse_path)}>, "
            f"status={'force-' if event.is_forced else ''}expired, returned to sender"
        )

    def _bounce_queued(self, event: BounceQueued) -> None:
        self._counters.notifications += 1
        front = self._front("bounce")
        self._add(f"{front}{_text(event.queue_id)}: {event.kind}: {_text(event.dsn_id)}")

    def _notice(self, event: Notice) -> None:
        if event.severity is not Severity.INFO:
            self._counters.warnings += 1
        queue_id = f"{_text(event.queue_id)}: " if event.queue_id else ""
        front = self._front(event.program)
        self._add(f"{front}{event.severity.value}{queue_id}{event.text}")


def _time(second: int) -> str:
    """Local time, as syslog has it."""
    moment = time.localtime(second)
    return (
        f"{_MONTHS[moment.tm_mon - 1]} {moment.tm_mday:2d} "
        f"{moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d}"
    )


def trust_of(facts: TlsFacts) -> str:
    """What Postfix calls the client of a TLS session."""
    if not facts.fingerprint:
        return "Anonymous"
    return "Trusted" if facts.is_verified else "Untrusted"


def split_client(client: str) -> tuple[str, str]:
    """`name[address]` in two."""
    name, _, address = client.rpartition("[")
    return name, address.removesuffix("]")


def _text(octets: bytes) -> str:
    return octets.decode("latin-1")  # one character per octet: cleaning makes one "?" of each


def _ratio(accepted: int, total: int) -> str:
    return str(total) if accepted == total else f"{accepted}/{total}"
