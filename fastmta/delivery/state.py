"""The states of the client dialog, and what its holder does after each of its steps."""

import enum


class State(enum.IntEnum):
    """Where the session stands: what was sent last."""

    GREETING = 0
    EHLO = 1
    HELO = 2
    IDLE = 3
    ENVELOPE = 4
    CONTENT = 5
    EMPTY = 6
    QUIT = 7
    CLOSED = 8


class Step(enum.IntEnum):
    """What the holder of the dialog does next, after writing `output`."""

    WAIT = 0  # read on
    READY = 1  # a transaction may begin
    DONE = 2  # the transaction is over; `state` IDLE: another may begin, CLOSED: it may not
    CLOSED = 3  # the session is over without a transaction; `trouble` says why, None: nobody's
