"""`postsuper`: what an operator does to mail in the queue, by id or to all of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

from .option import BadOption, Fatal, read_options, run, warn
from .talk import Closed, Down, Place, Queue, Refused, Result, pages

NAME = "postsuper"
_STATUS = 1  # of everything that is fatal, as at Postfix
_USAGE = (
    "usage: postsuper [-c config_dir] [-d queue_id (delete)] [-e queue_id (expire)]"
    " [-f queue_id (expire and/or un-hold)] [-h queue_id (hold)] [-H queue_id (un-hold)]"
    " [-p (purge temporary files)] [-r queue_id (requeue)] [-s (structure fix)]"
    " [-S (redundant structure fix)][-v (verbose)] [queue...]"
)
_ID = re.compile(r"[0-9A-Za-z_]{1,100}")
IDS_AT_ONCE = 500
_IDS_SHOWN = 100  # found at once, with their recipients
_ID_LENGTH_MAX = 20  # ours have 16
_ALL = "ALL"
_EVERY = ("queued", "deferred", "held")
_MOVING = ("queued", "deferred")
# Queues that a command may name: which recipients their mail may have.
_QUEUES: dict[str, Sequence[str]] = {
    "maildrop": (),
    "incoming": _MOVING,
    "active": _MOVING,
    "deferred": _MOVING,
    "hold": ("held",),
}
OTHER_QUEUES = ("bounce", "corrupt", "defer", "flush", "saved", "trace")  # without mail


class _Action(NamedTuple):
    verb: str
    queues: Sequence[str]  # by default
    done: str  # of one message
    total: str


_ACTIONS = {  # in the order of the totals
    "r": _Action("requeue", _EVERY, "requeued", "Requeued"),
    "d": _Action("delete", _EVERY, "removed", "Deleted"),
    "e": _Action("expire", _MOVING, "expired", "Force-expired"),
    "f": _Action("expire", _EVERY, "expired", "Force-expired"),
    "h": _Action("hold", _MOVING, "placed on hold", "Placed on hold"),
    "H": _Action("release", ("held",), "released from hold", "Released from hold"),
}


def postsuper(arguments: Sequence[str]) -> int:
    """The command. Raises Fatal."""
    chosen: str | None = None
    wanted: list[tuple[_Action, str]] = []
    try:
        options, names = read_options(arguments, "c:d:e:f:h:H:pr:sSv")
    except BadOption as problem:
        warn(NAME, str(problem))
        raise Fatal(_USAGE) from None
    for letter, value in options:
        if letter == "c":
            chosen = value
        elif letter in _ACTIONS:
            wanted.append((_ACTIONS[letter], value))
    for name in names:
        if name not in _QUEUES and name not in OTHER_QUEUES:
            raise Fatal(f"invalid directory name: {name}")
    place = Place(chosen)
    if not place.is_owner():
        raise Fatal("use of this command is reserved for the superuser")
    if not wanted:
        return 0  # the structure of the queue: a server sees to that when it starts
    queue = _opened(place)
    try:
        for shard in queue.missing:
            warn(NAME, f"warning: no worker serves shard {shard} just now: its mail is as it was")
        totals = _work(queue, wanted, names)
    except Refused as refused:
        raise Fatal(str(refused)) from None
    finally:
        queue.close()
    for text in dict.fromkeys(action.total for action in _ACTIONS.values()):
        if text in totals:
            warn(NAME, f"{text}: {totals[text]} message{'' if totals[text] == 1 else 's'}")
    return 0


def _opened(place: Place) -> Queue:
    try:
        return place.online()
    except Closed as closed:
        raise Fatal(str(closed)) from None
    except Down:
        return place.offline()


def _work(
    queue: Queue, wanted: Sequence[tuple[_Action, str]], named: Sequence[str]
) -> dict[str, int]:
    """Do it all, in the order given, in the queues that are named; what each kind came to."""
    totals: dict[str, int] = {}
    known = {status for name in named for status in _QUEUES.get(name, ())}
    for action, what in wanted:
        statuses = [one for one in action.queues if not named or one in known]
        totals.setdefault(action.total, 0)
        if what == _ALL:
            totals[action.total] += _do_all(queue, action, statuses, named)
            continue
        for ids in _chunks(_ids(what)):
            if named:
                ids = _in_queues(queue, ids, named)
            if action.verb == "expire":
                ids = _within(queue, ids, statuses)
            totals[action.total] += _do_ids(queue, action, ids)
    return totals


def _ids(what: str) -> Iterator[str]:
    """The id, or for `-` those of standard input, one a line."""
    for line in sys.stdin if what == "-" else [what]:
        id = line.rstrip("\n")
        if _ID.fullmatch(id):
            yield id
        else:
            warn(NAME, f"warning: invalid mail queue id: {id}")


def _chunks(ids: Iterator[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    for id in ids:
        chunk.append(id)
        if len(chunk) == IDS_AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _do_all(queue: Queue, action: _Action, statuses: Sequence[str], named: Sequence[str]) -> int:
    """To every message with recipients of these statuses, in the queues that are named."""
    if not statuses:
        return 0
    queues = [name for name in named if _QUEUES.get(name)]
    within = f"queue:{','.join(queues)} " if queues else ""
    moving = [one for one in statuses if one != "held"]
    done = 0
    if action.verb == "requeue":
        if "held" in statuses:  # Postfix's way leads through the queue for new mail: no hold there
            done += _sum(queue.ask({"verb": "release", "filter": f"{within}status:held"}))
        if moving:
            filter = f"{within}status:{','.join(moving)}"
            done += _sum(queue.ask({"verb": "requeue", "filter": filter}))
        return done
    if set(statuses) == set(_EVERY) and not within:
        return _sum(queue.ask({"verb": action.verb, "all": True}))
    filter = f"{within}status:{','.join(statuses)}"
    return _sum(queue.ask({"verb": action.verb, "filter": filter}))


def _do_ids(queue: Queue, action: _Action, ids: Sequence[str]) -> int:
    """To these messages; each that is done is told, as is each that could not be."""
    answers = _order(queue, action.verb, ids)
    if action.verb == "requeue":
        held = [id for id, answer in answers.items() if answer == "nothing to do"]
        answers |= _order(queue, "release", held)
    done = 0
    for id in ids:
        answer = answers.get(id, "")
        if answer == "done":
            done += 1
            warn(NAME, f"{id}: {action.done}")
        elif answer not in ("", "nothing to do", "no such message"):
            warn(NAME, f"warning: {id}: {answer}")
    return done


def _order(queue: Queue, verb: str, ids: Sequence[str]) -> dict[str, str]:
    """The answer for each id: everybody is asked for every one, and at most one knows it."""
    answers: dict[str, str] = {}
    if ids:
        for result in queue.ask({"verb": verb, "ids": ids}):
            for id, answer in result["ids"].items():
                if answers.get(id, "no such message") == "no such message":
                    answers[id] = answer
    return answers


def _listed(queue: Queue, named: Sequence[str], filter: str) -> Iterator[str]:
    """The ids of mail that lists show in these queues."""
    for page in pages(queue, filter):
        for message in page:
            if message["queue"] in named:
                yield message["id"]


def _in_queues(queue: Queue, ids: Sequence[str], named: Sequence[str]) -> list[str]:
    """Those of them that lists show there."""
    found: set[str] = set()
    possible = [id for id in ids if len(id) <= _ID_LENGTH_MAX]
    for at in range(0, len(possible), _IDS_SHOWN):
        filter = f"id:{','.join(possible[at : at + _IDS_SHOWN])}"
        found.update(_listed(queue, named, filter))
    return [id for id in ids if id in found]


def _within(queue: Queue, ids: Sequence[str], statuses: Sequence[str]) -> list[str]:
    """Those with a recipient of these statuses. Mail on hold is not expired by `-e`: at Postfix it
    would wait for its release, and here nothing remembers that."""
    found: set[str] = set()
    for at in range(0, len(ids), _IDS_SHOWN):
        for result in queue.ask({"verb": "find", "ids": ids[at : at + _IDS_SHOWN]}):
            for message in result["messages"]:
                known = {one["status"] for one in message["recipients"]}
                if known & set(statuses):
                    found.add(message["id"])
                elif "held" in known:
                    text = "is on hold: not done (-H releases it, -f gives it up)"
                    warn(NAME, f"warning: {message['id']}: {text}")
    return [id for id in ids if id in found]


def _sum(results: Sequence[Result]) -> int:
    """What was done; attempts under way and records that failed are named."""
    for result in results:
        for id in result["ids_under_way"]:
            warn(NAME, f"warning: {id}: an attempt is under way")
        if result["failed"]:
            warn(NAME, f"warning: {result['failed']} messages: not recorded")
    return sum(result["done"] for result in results)


def main() -> NoReturn:
    """Entry point of `postsuper`."""
    run(NAME, postsuper, _STATUS)


if __name__ == "__main__":
    main()
