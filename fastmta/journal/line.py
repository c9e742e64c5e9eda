"""Events to log lines of the shapes of Postfix 3.7.

Nothing is escaped field by field. A block of lines is made as text and cleaned as a whole: octets
outside printable ASCII become "?", as in Postfix, and when the block has more line ends than lines
each line loses its own. So no field can be forgotten.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastmta.event import (
    BounceQueued,
    ClientConnected,
    ClientDisconnected,
    CommandRefused,
    Event,
    MessageActive,
    MessageExpired,
    MessageReceived,
    MessageRemoved,
    Notice,
    RecipientTried,
    Severity,
)

from .counter import Counters
from .number import render_delays

LINE_CHARACTERS_MAX = 2048  # longer lines are cut; a peer's reply may have 64 KiB

_CLEAN = bytes(c if 32 <= c < 127 or c == 10 else ord("?") for c in range(256))
_VERBS = (
    *("helo", "ehlo", "xclient", "xforward", "starttls", "auth", "mail", "rcpt", "data", "bdat"),
    *("rset", "noop", "vrfy", "etrn", "quit", "help", "unknown"),
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Origin(NamedTuple):
    """Who writes the lines."""

    hostname: str
    syslog_name: str
    process_id: int


class LineRenderer:
    """Renders events in the order given and counts them."""

    __slots__ = (
        "_cleanup",
        "_origin",
        "_qmgr",
        "_render",
        "_second",
        "_smtp",
        "_smtpd",
        "_stamp",
        "counters",
    )

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._second = -1
        self._stamp = self._smtpd = self._cleanup = self._qmgr = self._smtp = ""
        self.counters = Counters()
        # Any: each entry takes the type of its key
        self._render: dict[type[Any], Callable[[Any, Callable[[str], None]], None]] = {
            ClientConnected: self._connected,
            ClientDisconnected: self._disconnected,
            CommandRefused: self._refused,
            MessageReceived: self._received,
            MessageActive: self._active,
            RecipientTried: self._tried,
            MessageExpired: self._expired,
            MessageRemoved: self._removed,
            BounceQueued: self._bounce_queued,
            Notice: self._notice,
        }

    def render(self, events: Sequence[Event], second: int) -> tuple[bytes, int]:
        """The lines of `events`, stamped with `second` since the epoch, and their number."""
        if second != self._second:
            self._set_second(second)
        lines: list[str] = []
        add = lines.append
        render = self._render
        for event in events:
            render[type(event)](event, add)
        return _clean(lines), len(lines)

    def _set_second(self, second: int) -> None:
        """Make the constant fronts of the lines anew; local time, as syslog does."""
        moment = time.localtime(second)
        self._second = second
        self._stamp = (
            f"{_MONTHS[moment.tm_mon - 1]} {moment.tm_mday:2d} "
            f"{moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d} "
            f"{self._origin.hostname} {self._origin.syslog_name}/"
        )
        self._smtpd = self._front("smtpd")
        self._cleanup = self._front("cleanup")
        self._qmgr = self._front("qmgr")
        self._smtp = self._front("smtp")

    def _front(self, program: str) -> str:
        return f"{self._stamp}{program}[{self._origin.process_id}]: "

    def _connected(self, event: ClientConnected, add: Callable[[str], None]) -> None:
        self.counters.connections += 1
        add(f"{self._smtpd}connect from {event.client}")

    def _disconnected(self, event: ClientDisconnected, add: Callable[[str], None]) -> None:
        if event.reason:
            self.counters.connections_lost += 1
            octets = f" ({event.content_octets} bytes)" if event.content_octets >= 0 else ""
            add(f"{self._smtpd}{event.reason} after {event.stage}{octets} from {event.client}")
        line = f"{self._smtpd}disconnect from {event.client}"
        accepted = total = 0
        for verb in _VERBS:
            counts = event.verbs.get(verb)
            if counts is not None and counts[1]:
                line += f" {verb}={_ratio(*counts)}"
                accepted += counts[0]
                total += counts[1]
        add(f"{line} commands={_ratio(accepted, total)}")

    def _refused(self, event: CommandRefused, add: Callable[[str], None]) -> None:
        self.counters.rejected += 1
        queue_id = _text(event.queue_id) or "NOQUEUE"
        line = f"{self._smtpd}{queue_id}: reject: {event.stage} from {event.client}: {event.reply};"
        if event.reverse_path is not None:
            line += f" from=<{_text(event.reverse_path)}>"
        if event.forward_path is not None:
            line += f" to=<{_text(event.forward_path)}>"
        line += f" proto={event.protocol}"
        if event.helo:
            line += f" helo=<{_text(event.helo)}>"
        add(line)

    def _received(self, event: MessageReceived, add: Callable[[str], None]) -> None:
        self.counters.accepted += 1
        queue_id = event.queue_id.decode("latin-1")
        login = f", sasl_username={event.login}" if event.login else ""
        add(f"{self._smtpd}{queue_id}: client={event.client}{login}")
        value = event.message_id_field.decode("latin-1") or "<>"
        add(f"{self._cleanup}{queue_id}: message-id={value}")

    def _active(self, event: MessageActive, add: Callable[[str], None]) -> None:
        counters = self.counters
        counters.recipients += event.recipient_count
        counters.content_octets += event.size_octets
        add(
            f"{self._qmgr}{event.queue_id.decode('latin-1')}: "
            f"from=<{event.reverse_path.decode('latin-1')}>, size={event.size_octets}, "
            f"nrcpt={event.recipient_count} (queue active)"
        )

    def _tried(self, event: RecipientTried, add: Callable[[str], None]) -> None:
        kind = event.kind
        if kind == "sent":
            self.counters.delivered += 1
        elif kind == "deferred":
            self.counters.deferred += 1
        else:
            self.counters.bounced += 1
        front = self._smtp if event.transport == "smtp" else self._front(event.transport)
        use = f", conn_use={event.connection_use}" if event.connection_use > 1 else ""
        queue_id = event.queue_id.decode("latin-1")
        add(
            f"{front}{queue_id}: to=<{event.forward_path.decode('latin-1')}>"
            f", relay={event.remote}{use}, {render_delays(event.delays_s)}, "
            f"dsn={event.status}, status={kind} ({event.text})"
        )

    def _expired(self, event: MessageExpired, add: Callable[[str], None]) -> None:
        self.counters.expired += 1
        add(
            f"{self._qmgr}{_text(event.queue_id)}: from=<{_text(event.reverse_path)}>, "
            "status=expired, returned to sender"
        )

    def _removed(self, event: MessageRemoved, add: Callable[[str], None]) -> None:
        self.counters.removed += 1
        add(f"{self._qmgr}{event.queue_id.decode('latin-1')}: removed")

    def _bounce_queued(self, event: BounceQueued, add: Callable[[str], None]) -> None:
        self.counters.notifications += 1
        front = self._front("bounce")
        add(f"{front}{_text(event.queue_id)}: {event.kind}: {_text(event.dsn_id)}")

    def _notice(self, event: Notice, add: Callable[[str], None]) -> None:
        if event.severity is not Severity.INFO:
            self.counters.warnings += 1
        queue_id = f"{_text(event.queue_id)}: " if event.queue_id else ""
        add(f"{self._front(event.program)}{event.severity.value}{queue_id}{event.text}")


def _text(octets: bytes) -> str:
    return octets.decode("latin-1")  # one character per octet; cleaning makes one "?" of it


def _ratio(accepted: int, total: int) -> str:
    return str(total) if accepted == total else f"{accepted}/{total}"


def _clean(lines: list[str]) -> bytes:
    """`lines` as octets, one line end each and printable ASCII otherwise."""
    if not lines:
        return b""
    if max(map(len, lines)) > LINE_CHARACTERS_MAX:
        lines = [line[:LINE_CHARACTERS_MAX] for line in lines]
    lines.append("")
    block = "\n".join(lines).encode("ascii", "replace").translate(_CLEAN)
    if block.count(b"\n") == len(lines) - 1:
        return block
    return (
        "\n".join([line.replace("\n", "?") for line in lines])
        .encode("ascii", "replace")
        .translate(_CLEAN)
    )
