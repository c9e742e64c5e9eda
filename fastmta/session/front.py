"""XCLIENT and XFORWARD: what a trusted front end says of the client behind it.

XCLIENT replaces who the client is, for every purpose; XFORWARD is for the log only. Both come from
Postfix; the attributes are parsed in `smtp`. Whether a front end may say so is a matter of the
socket's other end, whoever it has claimed to be before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from fastmta.smtp import Reply, Verb
from fastmta.smtp import reply as replies
from fastmta.smtp.xclient import FrontProblem, XClient, XForward, parse_xclient, parse_xforward

from .hello import greeting_of
from .score import uncount
from .state import State

if TYPE_CHECKING:
    from .session import Session

_MECHANISM = "XCLIENT"  # how a login of a front end's client is logged
_UNKNOWN = "unknown"  # Postfix's word for a name that is not known


def xclient(session: Session) -> Reply:
    """A session with the client that is named begins: greeting, EHLO, and so on."""
    settings = session.ports.settings
    if session.peer_address not in settings.xclient:
        return session.refused("XCLIENT", replies.R550_NOT_AUTHORIZED)
    said = parse_xclient(session.framing.argument)
    if isinstance(said, FrontProblem):
        return said.reply
    if session.framing.buffered():  # the greeting comes first
        return session.last(replies.R554_SYNCHRONIZATION)
    session.reset()
    _take_over(session, said)
    session.state = State.CONNECTED
    uncount(session, Verb.XCLIENT)  # Postfix's log says xclient=0/1: the greeting is not its answer
    return greeting_of(settings)


def _take_over(session: Session, said: XClient) -> None:
    """What was not said stays, but a name does not outlive its address."""
    identity = session.identity
    address = identity.address if said.address is None else said.address or "0.0.0.0"
    name = identity.name if said.address is None else _UNKNOWN
    if said.name is not None:
        name = said.name or _UNKNOWN
    # What the front end has shown of itself is not its client's: no LOGIN is no login.
    login = said.login or ""
    if said.helo is not None:
        session.front_helo = said.helo
    if said.protocol is not None:
        session.front_protocol = said.protocol
    if said.port is not None:
        session.front_port = said.port
    session.is_fronted = True
    session.become(address, name, login)
    if session.hook is not None:
        session.hook.renamed()
        if login:
            session.hook.logged_in(login, _MECHANISM)
    if login:
        session.mechanism = _MECHANISM


def xforward(session: Session) -> Reply:
    """Kept until the end of the next message."""
    if session.peer_address not in session.ports.settings.xforward:
        return session.refused("XFORWARD", replies.R550_NOT_AUTHORIZED)
    said = parse_xforward(session.framing.argument)
    if isinstance(said, FrontProblem):
        return said.reply
    before = session.forwarded
    session.forwarded = said if before is None else _merged(before, said)
    return replies.R250_OK


def _merged(before: XForward, said: XForward) -> XForward:
    """A front end may say it in several commands."""
    new = {name: getattr(said, name) for name in XForward.__struct_fields__}
    return replace(before, **{name: value for name, value in new.items() if value is not None})


def origin_of(said: XForward | None) -> str:
    """The end of the `client=` line: where the message came from before the front end."""
    if said is None:
        return ""
    text = f", orig_queue_id={said.ident}" if said.ident else ""
    if said.name or said.address:
        text += f", orig_client={said.name or _UNKNOWN}[{said.address or _UNKNOWN}]"
    return text
