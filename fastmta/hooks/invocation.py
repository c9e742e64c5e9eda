"""One hook call, on a thread of the hooks: from the function to a verdict in our words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

import aiosmtpd.smtp as real
import msgspec

from fastmta.smtp import Reply
from fastmta.smtp.reply import R451_LOCAL_ERROR

from .answer import Answers
from .crew import Crew
from .envelope import Left
from .handler import Handler, Hook
from .loader import placed, told
from .server import Server
from .thread import Call

MISSING = real.MISSING
_CLOSING_CODE = 421


class Answer(msgspec.Struct, frozen=True):
    """What a hook came to. `reply` None: as if there were no such hook."""

    reply: Reply | None
    is_failure: bool = False  # it raised, or returned what is no reply
    notes: tuple[str, ...] = ()  # for the log
    left: Left | None = None  # of a content that is to be stored


class Shared(msgspec.Struct, frozen=True):
    """What all sessions of a worker have in common."""

    handler: Handler
    crew: Crew
    loop: asyncio.AbstractEventLoop  # the worker's
    answers: Answers


Arguments: TypeAlias = tuple[Any, ...]
# How what a hook pushed and returned becomes a reply; None when it is none.
Read: TypeAlias = Callable[[list[object], Any], Reply | None]


async def invoke(
    shared: Shared,
    server: Server,
    call: Call,
    hook: Hook,
    arguments: Arguments,
    read: Read | None = None,
    *,
    has_default: bool = True,
) -> Answer:
    """Call `hook` and turn whatever it does into an answer; only our own cancelling passes.

    MISSING means "as if there were no hook" unless `has_default` is false. Within AUTH no text of
    the handler's gets into a note: there may be a password in it.
    """
    try:
        returned = await shared.crew.apply(call, hook, *arguments)
    except asyncio.CancelledError as error:
        if is_cancelled_by_us():
            raise
        return await _failed(shared, server, call, hook, error)
    except BaseException as error:
        return await _failed(shared, server, call, hook, error)
    pushed = server.take_pushed()
    if has_default and returned is MISSING and not pushed:
        return Answer(None)
    reply = (read or shared.answers.read)(pushed, returned)
    if reply is None:
        return Answer(R451_LOCAL_ERROR, True, (f"{hook.name} returned {_shown(server, returned)}",))
    return Answer(_closing(server, reply))


def is_cancelled_by_us() -> bool:
    """Whether the running task was asked to end, not a hook that raised CancelledError."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _failed(
    shared: Shared, server: Server, call: Call, hook: Hook, error: BaseException
) -> Answer:
    """The handler's own word for its error if it has one, else 451."""
    tell = told if server.exchange is None else placed
    notes: tuple[str, ...] = (f"{hook.name} raised {tell(error)}",)
    server.take_pushed()
    last = shared.handler.hooks.get("exception")
    if last is None or not isinstance(error, Exception):
        return Answer(R451_LOCAL_ERROR, True, notes)
    try:
        returned = await shared.crew.apply(call, last, error)
    except asyncio.CancelledError:
        if is_cancelled_by_us():
            raise
        return Answer(R451_LOCAL_ERROR, True, (*notes, f"{last.name} was cancelled"))
    except BaseException as inner:
        return Answer(R451_LOCAL_ERROR, True, (*notes, f"{last.name} raised {tell(inner)}"))
    reply = shared.answers.read(server.take_pushed(), returned)
    if reply is None:
        notes = (*notes, f"{last.name} returned {_shown(server, returned)}")
        return Answer(R451_LOCAL_ERROR, True, notes)
    return Answer(_closing(server, reply), True, notes)


def _closing(server: Server, reply: Reply) -> Reply:
    """The reply of a hook that closed the transport ends the session."""
    if not server.transport.is_closing() or reply.code == _CLOSING_CODE:
        return reply
    return Reply(_CLOSING_CODE, "", reply.lines)


def _shown(server: Server, returned: object) -> str:
    """A value that is no reply, short enough for the log."""
    if server.exchange is None and isinstance(returned, str | bytes):
        return f"{returned[:80]!a}, which is no reply"
    return f"{type(returned).__name__}, which is no reply"
