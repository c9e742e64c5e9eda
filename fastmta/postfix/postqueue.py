"""`postqueue` and `mailq`: list the queue, and have mail tried now."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from .option import (
    EX_NOPERM,
    EX_TEMPFAIL,
    EX_UNAVAILABLE,
    EX_USAGE,
    BadOption,
    Fatal,
    read_options,
    run,
    warn,
)
from .showq import EMPTY, HEADER, as_json, footer, listed
from .talk import PAGE, Closed, Down, Place, Queue, Refused, pages

NAME = "postqueue"
NICE = 10
_USAGE = (
    "usage: postqueue -f | postqueue -i queueid | postqueue -j | postqueue -p | postqueue -s site"
)
_ID = re.compile(r"[0-9A-Za-z_]{1,100}")
_DOMAIN = re.compile(r"(?=.{1,255}\Z)[^.\s\"@,:]{1,63}(?:\.[^.\s\"@,:]{1,63})*\.?")
_LITERAL = re.compile(r"\[[0-9A-Za-z:.]{1,60}\]")
_RELAY = re.compile(r"(?P<host>\[[^]\s\"@,*]{1,255}\]|[^\[\]\s\"@,*:]{1,255}):(?P<port>[0-9]{1,5})")


def postqueue(arguments: Sequence[str]) -> int:
    """The command. Raises Fatal."""
    chosen: str | None = None
    modes: list[tuple[str, str]] = []
    try:
        options, rest = read_options(arguments, "c:fi:jps:v")
    except BadOption as problem:
        warn(NAME, str(problem))
        raise Fatal(_USAGE) from None
    for letter, value in options:
        if letter == "c":
            chosen = value
        elif letter != "v":
            modes.append((letter, value))
    if len(modes) != 1 or rest:
        raise Fatal(_USAGE)
    ((mode, value),) = modes
    place = Place(chosen)
    if mode in "pj":
        return _list(place, mode == "j")
    return _flush(place, mode, value)


def list_queue(arguments: Sequence[str]) -> int:
    """`mailq`: what `sendmail -bp` is. Options of sendmail are accepted, and mean nothing here."""
    chosen: str | None = None
    try:
        options, _ = read_options(arguments, "A:B:C:F:GIL:N:O:R:UV:X:b:cde:f:h:imno:p:qr:tvx")
    except BadOption as problem:
        warn(NAME, str(problem))
        raise Fatal("usage: mailq [options]", EX_USAGE) from None
    for letter, value in options:
        if letter == "C":
            chosen = value
    return _list(Place(chosen, EX_TEMPFAIL), False)


def _list(place: Place, is_json: bool) -> int:
    queue: Queue
    try:
        queue = place.online(to_list=True)
    except Closed as closed:
        user = os.getuid()
        text = f"User {_login(user)}({user}) is not allowed to view the mail queue: {closed}"
        raise Fatal(text, EX_NOPERM) from None
    except Down:
        if not place.is_owner():
            raise Fatal("Queue report unavailable - mail system is down") from None
        text = "Connect to the fastmta control service: Connection refused"
        warn(NAME, f"warning: Mail system is down -- accessing queue directly ({text})")
        queue = place.offline()
    try:
        for shard in queue.missing:
            warn(NAME, f"warning: no worker serves shard {shard} just now: its mail is not listed")
        _print(queue, is_json)
    except Refused as refused:
        raise Fatal(f"Queue report unavailable - {refused}") from None
    finally:
        queue.close()
    return 0


def _print(queue: Queue, is_json: bool) -> None:
    """A page is printed when it is known, so that a long list begins at once."""
    octets = count = 0
    write = sys.stdout.write
    for page in pages(queue):
        if is_json:
            write("".join(map(as_json, page)))
        elif page:
            if not count:
                write(HEADER)
            write("".join(f"{listed(message)}\n" for message in page))
        if not count and len(page) == PAGE:
            os.nice(NICE)  # the rest of a long list is nobody's hurry: mail goes first
        count += len(page)
        octets += sum(message["size_octets"] for message in page)
        sys.stdout.flush()
    if not is_json:
        write(footer(octets, count) if count else EMPTY)


def _flush(place: Place, mode: str, value: str) -> int:
    fields: dict[str, object] = {"verb": "flush", "is_detached": True}
    if mode == "f":
        fields["all"] = True
    elif mode == "i":
        if not _ID.fullmatch(value):
            raise Fatal(f'Cannot flush queue ID - invalid name: "{value}"', EX_UNAVAILABLE)
        fields["ids"] = [value]
    else:
        fields |= _site(value)
    try:
        queue = place.online()
    except Closed as closed:
        raise _no_flush(closed) from None
    except Down:
        raise Fatal("Cannot flush mail queue - mail system is down") from None
    try:
        queue.ask(fields)
    except Refused as refused:
        if refused.is_denied:
            raise _no_flush(refused) from None
        raise Fatal(f"Cannot flush mail queue - {refused}") from None
    finally:
        queue.close()
    return 0


def _site(value: str) -> dict[str, object]:
    """What is asked for mail to a domain, or by a relay with its port, as lists name that.

    Raises Fatal.
    """
    relay = _RELAY.fullmatch(value)
    if relay is not None:
        host = relay["host"].removeprefix("[").removesuffix("]")
        if _DOMAIN.fullmatch(host) or _LITERAL.fullmatch(f"[{host}]"):
            return {"filter": f'dest:"{value.lower()}"', "subject": value.lower()}
    elif _DOMAIN.fullmatch(value) or _LITERAL.fullmatch(value):
        name = value.rstrip(".").lower()
        return {"filter": f'domain:"{name}"', "subject": name}
    raise Fatal(f'Cannot flush mail queue - invalid destination: "{value}"')


def _no_flush(why: Exception) -> Fatal:
    user = os.getuid()
    text = f"User {_login(user)}({user}) is not allowed to flush the mail queue: {why}"
    return Fatal(text, EX_NOPERM)


def _login(user: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return "unknown"


def main() -> NoReturn:
    """Entry point of `postqueue`."""
    run(NAME, postqueue, EX_UNAVAILABLE)


def mailq() -> NoReturn:
    """Entry point of `mailq`."""
    run(NAME, list_queue, EX_UNAVAILABLE)


if __name__ == "__main__":
    main()
