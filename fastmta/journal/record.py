"""Events to JSON records, one a line: the same facts as the lines of Postfix's shape, by key.

`KEYS` is the contract: a record of an event has these keys, all of them and no others, behind those
of `HEAD`, in this order. docs/logs.md says what they hold. A text that is not known is "", a number
null. Octets are read as UTF-8; what is none, and control characters, become U+FFFD or "?".
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

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
)
from fastmta.event.hold import RecipientHeld
from fastmta.event.pickup import MessagePickedUp
from fastmta.event.security import LoginRefused, TlsStarted

from .line import Origin, split_client, trust_of

TEXT_CHARACTERS_MAX = 2048
_NS = 1e-9
HEAD = ("ts", "node", "worker", "event")
KEYS: dict[str, tuple[str, ...]] = {
    "connect": ("client", "ip", "service"),
    "disconnect": ("client", "ip", "service", "verbs", "reason", "stage", "size"),
    "reject": (
        *("qid", "client", "ip", "service", "stage", "code", "dsn", "reply", "from", "to"),
        *("proto", "helo", "login", "mechanism"),
    ),
    "tls": ("client", "ip", "service", "trust", "tls", "fingerprint"),
    "login_refused": ("client", "ip", "service", "mechanism", "login", "reason"),
    "received": (
        *("qid", "msgid", "client", "ip", "service", "login", "mechanism", "origin"),
        *("listener", "tenant", "size", "nrcpt"),
    ),
    "active": ("qid", "from", "size", "nrcpt"),
    "attempt": (
        *("qid", "from", "to", "dest", "relay", "transport", "status", "dsn", "code", "reply"),
        *("category", "delay", "delays", "conn_use", "attempt", "next", "orig_to"),
    ),
    "pickup": ("qid", "uid", "from"),
    "held": ("qid", "from", "to", "reply", "category"),
    "expired": ("qid", "from", "forced"),
    "removed": ("qid",),
    "notification": ("qid", "dsn_qid", "kind"),
    "notice": ("program", "severity", "qid", "text"),
}
_CODE = re.compile(r"(?:\A|said: |talk to me: |start TLS: )([2-5][0-9][0-9])[ -]")
_ENHANCED = re.compile(r"[2-5][0-9][0-9][ -]([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |\Z)")
# What a terminal or a reader of lines might obey beyond ASCII; JSON escapes what is within.
_CONTROL = dict.fromkeys((*range(127, 160), 8232, 8233), "?")


class RecordRenderer:
    """Renders events in the order given."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._encoder = msgspec.json.Encoder()
        # Any: each entry takes the type of its key
        self._makers: dict[type[Any], tuple[str, Callable[[Any], tuple[object, ...]]]] = {
            ClientConnected: ("connect", _connect),
            ClientDisconnected: ("disconnect", _disconnect),
            CommandRefused: ("reject", _reject),
            TlsStarted: ("tls", _tls),
            LoginRefused: ("login_refused", _login_refused),
            MessageReceived: ("received", _received),
            MessageActive: ("active", _active),
            RecipientTried: ("attempt", _attempt),
            MessagePickedUp: ("pickup", _picked_up),
            RecipientHeld: ("held", _held),
            MessageExpired: ("expired", _expired),
            MessageRemoved: ("removed", _removed),
            BounceQueued: ("notification", _notification),
            Notice: ("notice", _notice),
        }

    def render(self, events: list[Event], now_s: float) -> tuple[bytes, int]:
        """The records of `events` at `now_s` since the epoch, and their number."""
        origin, makers = self._origin, self._makers
        moment = datetime.fromtimestamp(now_s, UTC)
        stamp = moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
        head = (stamp, origin.hostname, origin.worker)
        records: list[bytes] = []
        for event in events:
            try:
                name, make = makers[type(event)]
                records.append(self._record(head, name, make(event)))
            except Exception as error:  # a fault of ours, and no reason to lose others
                kind = type(event).__name__
                text = f"journal: {kind} cannot be shown: {type(error).__name__}: {error!r:.100}"
                records.append(self._record(head, "notice", ("master", "error", "", text)))
        records.append(b"")
        return b"\n".join(records), len(records) - 1

    def _record(self, head: tuple[object, ...], name: str, values: tuple[object, ...]) -> bytes:
        record: dict[str, object] = dict(zip(HEAD, (*head, name), strict=True))
        record.update(zip(KEYS[name], values, strict=True))
        return self._encoder.encode(record)


def _connect(event: ClientConnected) -> tuple[object, ...]:
    return (*_client(event.client), event.service)


def _disconnect(event: ClientDisconnected) -> tuple[object, ...]:
    size = event.content_octets if event.content_octets >= 0 else None
    shown = (event.verbs, _text(event.reason), _text(event.stage), size)
    return (*_client(event.client), event.service, *shown)


def _reject(event: CommandRefused) -> tuple[object, ...]:
    enhanced = _ENHANCED.match(event.reply)
    return (
        _decode(event.queue_id),
        *_client(event.client),
        event.service,
        event.stage,
        _code_of(event.reply),
        enhanced[1] if enhanced else "",
        _text(event.reply),
        None if event.reverse_path is None else _decode(event.reverse_path),
        None if event.forward_path is None else _decode(event.forward_path),
        event.protocol,
        _decode(event.helo),
        _text(event.login),
        _text(event.mechanism),
    )


def _tls(event: TlsStarted) -> tuple[object, ...]:
    facts = event.facts
    shown = (trust_of(facts), facts.text, facts.fingerprint)
    return (*_client(event.client), event.service, *shown)


def _login_refused(event: LoginRefused) -> tuple[object, ...]:
    shown = (_text(event.mechanism), _text(event.login), _text(event.reason))
    return (*_client(event.client), event.service, *shown)


def _received(event: MessageReceived) -> tuple[object, ...]:
    return (
        _decode(event.queue_id),
        _decode(event.message_id_field),
        *_client(event.client),
        event.service,
        _text(event.login),
        _text(event.mechanism),
        _text(event.origin),
        event.listener,
        event.tenant,
        event.size_octets,
        event.recipient_count,
    )


def _active(event: MessageActive) -> tuple[object, ...]:
    reverse_path = _decode(event.reverse_path)
    return (_decode(event.queue_id), reverse_path, event.size_octets, event.recipient_count)


def _attempt(event: RecipientTried) -> tuple[object, ...]:
    delays = [round(max(delay_s, 0.0), 3) for delay_s in event.delays_s]
    due = event.due_at_ns
    return (
        _decode(event.queue_id),
        _decode(event.reverse_path),
        _decode(event.forward_path),
        _decode(event.next_hop),
        _text(event.remote),
        event.transport,
        event.kind,
        event.status,
        _code_of(event.text),
        _text(event.text),
        event.category,
        round(sum(delays), 3),
        delays,
        event.connection_use,
        event.attempt,
        round(due * _NS, 3) if due else None,
        _decode(event.original_path),
    )


def _picked_up(event: MessagePickedUp) -> tuple[object, ...]:
    return (_decode(event.queue_id), event.user_id, _decode(event.sender))


def _held(event: RecipientHeld) -> tuple[object, ...]:
    paths = (_decode(event.reverse_path), _decode(event.forward_path))
    return (_decode(event.queue_id), *paths, _text(event.text), event.category)


def _expired(event: MessageExpired) -> tuple[object, ...]:
    return (_decode(event.queue_id), _decode(event.reverse_path), event.is_forced)


def _removed(event: MessageRemoved) -> tuple[object, ...]:
    return (_decode(event.queue_id),)


def _notification(event: BounceQueued) -> tuple[object, ...]:
    return (_decode(event.queue_id), _decode(event.dsn_id), event.kind)


def _notice(event: Notice) -> tuple[object, ...]:
    severity = event.severity.name.lower()
    return (event.program, severity, _decode(event.queue_id), _text(event.text))


def _client(client: str) -> tuple[str, str]:
    name, address = split_client(client)
    return _text(name), _text(address)


def _code_of(text: str) -> int | None:
    match = _CODE.search(text)
    return int(match[1]) if match else None


def _decode(octets: bytes) -> str:
    text = octets.decode("utf-8", "replace")
    return text if text.isascii() else _text(text)


def _text(text: str) -> str:
    """`text`, cut, and fit for UTF-8: an unpaired surrogate cannot be written."""
    text = text[:TEXT_CHARACTERS_MAX]
    if text.isascii():
        return text
    return text.translate(_CONTROL).encode("utf-8", "replace").decode("utf-8")
