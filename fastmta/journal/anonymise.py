"""Events without the addresses of people: what is left of an event is rendered like any other."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import msgspec

from fastmta.event import (
    ClientConnected,
    ClientDisconnected,
    CommandRefused,
    Event,
    MessageActive,
    MessageExpired,
    MessageReceived,
    Notice,
    RecipientTried,
    Severity,
)
from fastmta.event.hold import RecipientHeld
from fastmta.event.pickup import MessagePickedUp
from fastmta.event.security import LoginRefused, TlsStarted

from .line import split_client
from .mask import Mask, network_of

_changed = msgspec.structs.replace
_WITH_PEER = (b"smtp:", b"lmtp:")
_OWNER = b" for "  # of a next hop: whose mail alone waits for it
_BRACKETED = re.compile(r"\S{0,255}\[([0-9A-Fa-f.:]{2,45})\]")


class Anonymiser:
    """Makes of each event one that may be logged."""

    def __init__(self, mask: Mask | None, *, hides_clients: bool) -> None:
        """`mask` None: addresses of mail may be read, those of clients perhaps not."""
        self._mask = mask
        self._hides_clients = hides_clients
        # Any: each entry takes the type of its key
        self._makers: dict[type[Any], Callable[[Any, Mask], Event]] = {
            CommandRefused: _refused,
            MessageReceived: _received,
            LoginRefused: _login_refused,
            MessageActive: _active,
            RecipientTried: _tried,
            RecipientHeld: _held,
            MessagePickedUp: _picked_up,
            MessageExpired: _active,
            Notice: _notice,
        }

    def hide(self, events: list[Event]) -> list[Event]:
        """What may be logged of `events`; of one that cannot be changed, that there was one."""
        shown: list[Event] = []
        for event in events:
            try:
                shown.append(self._without(event))
            except Exception as error:  # a fault of ours: better no line than a name
                text = (
                    f"journal: {type(event).__name__} cannot be anonymised: {type(error).__name__}"
                )
                shown.append(Notice("master", text, Severity.ERROR))
        return shown

    def _without(self, event: Event) -> Event:
        if self._hides_clients:
            event = _without_client(event)
        maker = self._makers.get(type(event))
        return event if maker is None or self._mask is None else maker(event, self._mask)


def _refused(event: CommandRefused, mask: Mask) -> Event:
    paths = [path for path in (event.reverse_path, event.forward_path) if path]
    return _changed(
        event,
        reply=mask.text(event.reply, *paths),
        reverse_path=event.reverse_path and mask.octets(event.reverse_path),
        forward_path=event.forward_path and mask.octets(event.forward_path),
        helo=_within(event.helo, mask),
        login=mask.address(event.login),
    )


def _received(event: MessageReceived, mask: Mask) -> Event:
    return _changed(
        event,
        message_id_field=_within(event.message_id_field, mask),
        login=mask.address(event.login),
        origin=mask.text(event.origin),
        tenant=_tenant(event.tenant, event.login, mask),
    )


def _tenant(tenant: str, login: str, mask: Mask) -> str:
    """Who has no tenant by configuration may be one by login; names of the configuration stay."""
    return mask.address(tenant) if tenant == login else mask.text(tenant)


def _login_refused(event: LoginRefused, mask: Mask) -> Event:
    return _changed(
        event,
        login=mask.address(event.login),
        reason=mask.text(event.reason),
        mechanism=mask.text(event.mechanism),
    )


def _active(event: MessageActive | MessageExpired, mask: Mask) -> Event:
    return _changed(event, reverse_path=mask.octets(event.reverse_path))


def _tried(event: RecipientTried, mask: Mask) -> Event:
    return _changed(
        event,
        forward_path=mask.octets(event.forward_path),
        reverse_path=mask.octets(event.reverse_path),
        original_path=event.original_path and mask.octets(event.original_path),
        text=mask.text(event.text, event.forward_path, event.reverse_path),
        reply=mask.text(event.reply, event.forward_path, event.reverse_path),
        next_hop=_next_hop(event.next_hop, mask),
    )


def _next_hop(next_hop: bytes, mask: Mask) -> bytes:
    """Without the login that is used there, and without whose mail alone waits for it."""
    if not next_hop.startswith(_WITH_PEER):
        return next_hop
    plain, of, owner = next_hop.partition(_OWNER)
    place, mark, way = plain.partition(b"#")
    name, slash, login = way.partition(b"/")
    login, need, rest = login.partition(b"!")
    way = name + slash + mask.octets(login) + need + rest
    return place + mark + way + of + mask.octets(owner)


def _held(event: RecipientHeld, mask: Mask) -> Event:
    return _changed(
        event,
        forward_path=mask.octets(event.forward_path),
        reverse_path=mask.octets(event.reverse_path),
        text=mask.text(event.text, event.forward_path, event.reverse_path),
    )


def _picked_up(event: MessagePickedUp, mask: Mask) -> Event:
    return _changed(event, sender=_within(event.sender, mask))


def _notice(event: Notice, mask: Mask) -> Event:
    return _changed(event, text=mask.text(event.text))


def _within(octets: bytes, mask: Mask) -> bytes:
    if b"@" not in octets:
        return octets
    text = octets.decode("utf-8", "surrogateescape")
    return mask.text(text).encode("utf-8", "surrogateescape")


def _without_client(event: Event) -> Event:
    """`event` with the network of the client instead of its address, and without its names."""
    if isinstance(event, Notice):
        if event.program != "smtpd":
            return event
        text = _BRACKETED.sub(lambda match: _hidden(match[1]), event.text)
        return _changed(event, text=text)
    if isinstance(event, RecipientTried):
        plain, of, owner = event.next_hop.partition(_OWNER)
        shown = _network(unquote(owner.decode("ascii", "replace")))
        return _changed(event, next_hop=plain + of + shown.encode()) if shown else event
    if not isinstance(
        event,
        ClientConnected
        | ClientDisconnected
        | CommandRefused
        | MessageReceived
        | TlsStarted
        | LoginRefused,
    ):
        return event
    if isinstance(event, MessageReceived) and (shown := _network(event.tenant)):
        event = _changed(event, tenant=shown)
    if not event.client:
        return event
    name, address = split_client(event.client)
    client = _hidden(address)
    if isinstance(event, CommandRefused):
        reply = event.reply.replace(event.client, client)
        reply = reply.replace(f"[{address}]", f"[{network_of(address)}]")
        helo = b"unknown" if event.helo else b""
        if name != "unknown":
            reply = reply.replace(name, "unknown")
        return _changed(event, client=client, reply=reply, helo=helo)
    if isinstance(event, MessageReceived):
        origin = _BRACKETED.sub(lambda match: _hidden(match[1]), event.origin)
        return _changed(event, client=client, origin=origin)
    return _changed(event, client=client)


def _network(tenant: str) -> str:
    """The network of a client that is its own tenant; "" when it is something else."""
    address = tenant.partition("/")[0]  # of IPv6 it may be a network already
    network = network_of(address)
    return network if network != address else ""


def _hidden(address: str) -> str:
    return f"unknown[{network_of(address)}]"
