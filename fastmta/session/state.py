"""The inbound session as a table: which verb is legal in which state, and what answers it if not.

Every (state, verb) pair has exactly one entry: the name of the `Session` method that handles it,
or the reply that refuses it. A refusal changes nothing. Only `Session` walks the table; nothing
else knows the order of commands (RFC 5321 4.1.4).
"""

import enum

from fastmta.smtp import Reply, Verb
from fastmta.smtp import reply as replies


class State(enum.IntEnum):
    """Where a session stands. CONTENT and COMMITTING take no commands."""

    CONNECTED = 0  # greeted by us, no EHLO or HELO yet
    READY = 1  # EHLO or HELO accepted, no transaction open
    MAIL = 2  # reverse-path accepted, no recipient yet
    RCPT = 3  # at least one recipient accepted
    CONTENT = 4  # 354 sent, reading to CR LF . CR LF
    COMMITTING = 5  # content handed over, its reply pending
    CLOSED = 6  # our last reply is written


Entry = str | Reply

_VERBS = tuple(sorted(Verb, key=int))
assert [int(verb) for verb in _VERBS] == list(range(len(_VERBS))), "verbs number the columns"

_IN_COMMAND_STATES: dict[Verb, Entry] = {
    Verb.UNKNOWN: "unknown",
    Verb.HELO: "helo",
    Verb.EHLO: "ehlo",
    Verb.RSET: "rset",
    Verb.NOOP: "noop",
    Verb.VRFY: "vrfy",
    Verb.HELP: "help",
    Verb.QUIT: "quit",
}

_PER_STATE: dict[State, dict[Verb, Entry]] = {
    State.CONNECTED: {
        Verb.MAIL: replies.R503_NEED_HELO,
        Verb.RCPT: replies.R503_NEED_MAIL,
        Verb.DATA: replies.R503_NEED_RCPT,
        Verb.VRFY: replies.R503_NEED_HELO,
    },
    State.READY: {
        Verb.MAIL: "mail",
        Verb.RCPT: replies.R503_NEED_MAIL,
        Verb.DATA: replies.R503_NEED_RCPT,
    },
    State.MAIL: {
        Verb.MAIL: replies.R503_NESTED_MAIL,
        Verb.RCPT: "rcpt",
        Verb.DATA: "data_without_recipient",
    },
    State.RCPT: {
        Verb.MAIL: replies.R503_NESTED_MAIL,
        Verb.RCPT: "rcpt",
        Verb.DATA: "data",
    },
}


def build_table() -> dict[State, tuple[Entry, ...]]:
    """The table by state, indexed by `Verb`. Verbs that are not named are unknown ones."""
    return {
        state: tuple(row.get(verb, _IN_COMMAND_STATES.get(verb, "unknown")) for verb in _VERBS)
        for state, row in _PER_STATE.items()
    }
