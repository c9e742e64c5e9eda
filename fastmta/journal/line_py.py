"""The lines of every relayed message, in plain Python: the specification of ext/journal/line.pyx.

A `Block` collects lines. Whatever is put into a line is cleaned: each octet or character outside
printable ASCII becomes "?", as in Postfix, so nothing that a peer says can end or begin a line. A
line longer than LINE_CHARACTERS_MAX is cut; a peer's reply may have 64 KiB.
"""

from collections.abc import Callable

from fastmta.event import Event, MessageActive, MessageReceived, MessageRemoved, RecipientTried

from .number import render_delays

LINE_CHARACTERS_MAX = 2048

_CLEAN = bytes(c if 32 <= c < 127 else ord("?") for c in range(256))


def clean(text: str) -> bytes:
    """`text` with "?" for all that is not printable ASCII."""
    return text.encode("ascii", "replace").translate(_CLEAN)


class Block:
    """The lines of one flush. The counts only grow; `line_count` is of the present block."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._front: Callable[[str], str] = str
        self.accepted = self.recipients = self.content_octets = self.removed = 0
        self.delivered = self.deferred = self.bounced = 0

    @property
    def line_count(self) -> int:
        """Lines since the last `take`."""
        return len(self._lines)

    def set_front(self, front: Callable[[str], str]) -> None:
        """Say what the lines of a program begin with: time, host, program and process."""
        self._front = front

    def add(self, line: str) -> None:
        """Add one line, front included."""
        self._lines.append(clean(line)[:LINE_CHARACTERS_MAX] + b"\n")

    def render(
        self,
        events: list[Event],
        other: Callable[[Event], None],
        broken: Callable[[Event, Exception], None],
    ) -> None:
        """Add the lines of `events` in order; `other` is called for the types not known here.

        `broken` is called for an event that cannot be rendered, with the reason; there is no half
        line, and the other events are rendered.
        """
        for event in events:
            try:
                self._render(event, other)
            except Exception as error:
                broken(event, error)

    def _render(self, event: Event, other: Callable[[Event], None]) -> None:
        if isinstance(event, RecipientTried):
            self._tried(event)
        elif isinstance(event, MessageReceived):
            queue_id = _text(event.queue_id)
            if event.client:  # our own messages, DSNs, have none
                self.accepted += 1
                login = f", sasl_method={event.mechanism}" if event.mechanism else ""
                login += f", sasl_username={event.login}" if event.login else ""
                front = self._front(f"{event.service}/smtpd" if event.service else "smtpd")
                self.add(f"{front}{queue_id}: client={event.client}{login}{event.origin}")
            value = _text(event.message_id_field) or "<>"
            self.add(f"{self._front('cleanup')}{queue_id}: message-id={value}")
        elif isinstance(event, MessageActive):
            self.recipients += event.recipient_count
            self.content_octets += event.size_octets
            self.add(
                f"{self._front('qmgr')}{_text(event.queue_id)}: "
                f"from=<{_text(event.reverse_path)}>, size={event.size_octets}, "
                f"nrcpt={event.recipient_count} (queue active)"
            )
        elif isinstance(event, MessageRemoved):
            self.removed += 1
            self.add(f"{self._front('qmgr')}{_text(event.queue_id)}: removed")
        else:
            other(event)

    def _tried(self, event: RecipientTried) -> None:
        if event.kind == "sent":
            self.delivered += 1
        elif event.kind == "deferred":
            self.deferred += 1
        elif event.kind == "bounced":  # what is said of a probe is none of these
            self.bounced += 1
        original = f", orig_to=<{_text(event.original_path)}>" if event.original_path else ""
        use = f", conn_use={event.connection_use}" if event.connection_use > 1 else ""
        self.add(
            f"{self._front(event.transport)}{_text(event.queue_id)}: "
            f"to=<{_text(event.forward_path)}>{original}, relay={event.remote}{use}, "
            f"{render_delays(event.delays_s)}, dsn={event.status}, status={event.kind} "
            f"({event.text})"
        )

    def take(self) -> bytes:
        """The block so far; an empty one begins."""
        block = b"".join(self._lines)
        self._lines.clear()
        return block


def _text(octets: bytes) -> str:
    return octets.decode("latin-1")  # one character per octet: cleaning makes one "?" of each
