"""The states of the client dialog, and what its holder does after each of its steps."""

import enum


class State(enum.IntEnum):
    """Where the session stands: what was sent last."""

    GREETING = 0
    EHLO = 1
    HELO = 2
    STARTTLS = 3
    TLS = 4  # the holder shakes hands
    CREDENTIAL = 5  # the holder looks for a login, or computes
    AUTH = 6
    IDLE = 7
    ENVELOPE = 8
    CONTENT = 9
    REPORTS = 10  # CONTENT of LMTP: a reply for each recipient
    EMPTY = 11
    QUIT = 12
    CLOSED = 13


class Step(enum.IntEnum):
    """What the holder of the dialog does next, after writing `output`."""

    WAIT = 0  # read on
    READY = 1  # a transaction may begin
    DONE = 2  # the transaction is over; `state` IDLE: another may begin, CLOSED: it may not
    CLOSED = 3  # the session is over without a transaction; `trouble` says why, None: nobody's
    TLS = 4  # shake hands, then say `secured`, `tls_failed` or `tls_unavailable`
    CREDENTIAL = 5  # find a login, then say `log_in` or `cannot_log_in`
    COMPUTE = 6  # do `work` elsewhere, then say `computed`
