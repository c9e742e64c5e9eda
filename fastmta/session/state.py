"""The inbound session as a table: which verb is legal in which state, and what answers it if not.

Every (state, verb) pair has exactly one entry: the name of the function that handles it, or the
reply that refuses it. A refusal changes nothing. Only `Session` walks the table; nothing else knows
the order of commands (RFC 5321 4.1.4).
"""

import enum
from functools import cache

from fastmta.smtp import Reply, Verb
from fastmta.smtp import reply as replies


class State(enum.IntEnum):
    """Where a session stands. From CONTENT on it takes no commands; AUTH takes lines."""

    CONNECTED = 0  # greeted by us, no EHLO or HELO yet
    AUTH = 1  # a challenge was sent: the next line answers it
    READY = 2  # EHLO or HELO accepted, no transaction open
    MAIL = 3  # reverse-path accepted, no recipient yet
    RCPT = 4  # at least one recipient accepted
    CHUNKS = 5  # between two BDAT commands of a message
    BROKEN = 6  # a BDAT was refused: the message has failed, RFC 3030 2
    CONTENT = 7  # reading to CR LF . CR LF, or to the end of a chunk
    JUDGING = 8  # a hook looks at the content
    COMMITTING = 9  # content handed over to the spool, its reply pending
    CLOSED = 10  # our last reply is written


Entry = str | Reply

_VERBS = tuple(sorted(Verb, key=int))
assert [int(verb) for verb in _VERBS] == list(range(len(_VERBS))), "verbs number the columns"

# Commands that do not help a message on: a client may not say too many of them.
_JUNK = frozenset(
    (Verb.NOOP, Verb.RSET, Verb.VRFY, Verb.EHLO, Verb.HELO, Verb.HELP, Verb.LHLO, Verb.XFORWARD)
)
IS_JUNK = tuple(verb in _JUNK for verb in _VERBS)  # by verb

_IN_COMMAND_STATES: dict[Verb, Entry] = {
    Verb.UNKNOWN: "unknown",
    Verb.HELO: "helo",
    Verb.EHLO: "ehlo",
    Verb.RSET: "rset",
    Verb.NOOP: "noop",
    Verb.VRFY: "vrfy",
    Verb.HELP: "help",
    Verb.QUIT: "quit",
    Verb.STARTTLS: "starttls",
    Verb.AUTH: replies.R503_MAIL_IN_PROGRESS,
    Verb.XCLIENT: replies.R503_MAIL_IN_PROGRESS,
    Verb.XFORWARD: replies.R503_MAIL_IN_PROGRESS,
    Verb.BDAT: "bdat_too_early",
    Verb.EXPN: replies.R502_NOT_IMPLEMENTED,
    Verb.ETRN: replies.R502_NOT_IMPLEMENTED,
}

_PER_STATE: dict[State, dict[Verb, Entry]] = {
    State.CONNECTED: {
        Verb.MAIL: replies.R503_NEED_HELO,
        Verb.RCPT: replies.R503_NEED_MAIL,
        Verb.DATA: replies.R503_NEED_RCPT,
        Verb.AUTH: replies.R503_NEED_HELO,
        Verb.XCLIENT: "xclient",
        Verb.XFORWARD: "xforward",
    },
    State.READY: {
        Verb.MAIL: "mail",
        Verb.RCPT: replies.R503_NEED_MAIL,
        Verb.DATA: replies.R503_NEED_RCPT,
        Verb.AUTH: "auth",
        Verb.XCLIENT: "xclient",
        Verb.XFORWARD: "xforward",
    },
    State.MAIL: {
        Verb.MAIL: replies.R503_NESTED_MAIL,
        Verb.RCPT: "rcpt",
        Verb.DATA: "data_without_recipient",
        Verb.BDAT: "bdat_without_recipient",
    },
    State.RCPT: {
        Verb.MAIL: replies.R503_NESTED_MAIL,
        Verb.RCPT: "rcpt",
        Verb.DATA: "data",
        Verb.BDAT: "bdat",
    },
    State.CHUNKS: {
        Verb.MAIL: replies.R503_MAIL_AFTER_BDAT,
        Verb.RCPT: replies.R503_RCPT_AFTER_BDAT,
        Verb.DATA: replies.R503_DATA_AFTER_BDAT,
        Verb.BDAT: "bdat",
    },
    State.BROKEN: {
        Verb.MAIL: "mail_after_failure",
        Verb.RCPT: replies.R503_NEED_MAIL,
        Verb.DATA: replies.R503_NEED_RCPT,
        Verb.BDAT: "bdat_after_failure",
    },
}

# What is not offered is not there. (Parameters: parameter.py.)
_NOT_OFFERED: dict[str, dict[Verb, Entry]] = {
    "STARTTLS": {Verb.STARTTLS: replies.R502_NOT_IMPLEMENTED},
    "AUTH": {Verb.AUTH: replies.R503_AUTH_NOT_ENABLED},
    "CHUNKING": {Verb.BDAT: "bdat_not_offered"},
    "VRFY": {Verb.VRFY: replies.R502_NOT_IMPLEMENTED},
    "XCLIENT": {Verb.XCLIENT: replies.R550_NOT_AUTHORIZED},
    "XFORWARD": {Verb.XFORWARD: replies.R550_NOT_AUTHORIZED},
}

# RFC 3207 4: what a server that insists on TLS answers without it.
_BEFORE_TLS = frozenset(
    (Verb.EHLO, Verb.HELO, Verb.LHLO, Verb.NOOP, Verb.QUIT, Verb.RSET, Verb.STARTTLS, Verb.UNKNOWN)
)
_HELLOS: dict[bool, dict[Verb, Entry]] = {
    False: {Verb.LHLO: "unknown"},
    True: {Verb.HELO: "unknown", Verb.EHLO: "unknown", Verb.LHLO: "lhlo"},  # RFC 2033 4.1
}


def _entry(state: State, verb: Verb, is_lmtp: bool, is_barred: bool) -> Entry:
    if is_barred and verb is Verb.BDAT:
        return "bdat_before_tls"  # its octets are no commands, whatever we answer
    if is_barred and verb not in _BEFORE_TLS:
        return replies.R530_NEED_STARTTLS
    if verb in _HELLOS[is_lmtp]:
        return _HELLOS[is_lmtp][verb]
    entry = _PER_STATE[state].get(verb, _IN_COMMAND_STATES.get(verb, "unknown"))
    is_waiting = is_lmtp and entry is replies.R503_NEED_HELO
    return replies.R503_NEED_LHLO if is_waiting else entry


@cache
def build_table(
    is_lmtp: bool = False, is_barred: bool = False, discarded: frozenset[str] = frozenset()
) -> dict[State, tuple[Entry, ...]]:
    """The table by state, indexed by `Verb`. Verbs that are not named are unknown ones.

    `is_barred`: TLS is required and not there yet. `discarded`: EHLO keywords that are not offered.
    """
    absent: dict[Verb, Entry] = {}
    for keyword in discarded:
        absent |= _NOT_OFFERED.get(keyword, {})
    return {
        state: tuple(
            absent[verb] if verb in absent else _entry(state, verb, is_lmtp, is_barred)
            for verb in _VERBS
        )
        for state in _PER_STATE
    }
