"""The answers of Framing: what lies next on the wire, and what was wrong with a content."""

import enum
from typing import Final

# Answers of Framing.next_command() and Framing.read_content(). Plain ints: they are compared for
# each command.
NEED_MORE: Final = 0  # nothing whole yet
COMMAND: Final = 1  # a command line: verb, argument, line
TOO_LONG: Final = 2  # a command line longer than the limit, consumed
BARE_CR_OR_LF: Final = 3  # a lone CR or LF in a command; consumed up to the next CR LF
NUL: Final = 4  # a command line with a NUL, consumed
DONE: Final = 5  # content complete, end of data consumed


class Violation(enum.IntFlag):
    """What is wrong with a content. All but NORMALIZED refuse it."""

    BARE_CR = 1  # RFC 5321 2.3.8
    BARE_LF = 2  # RFC 5321 2.3.8
    NUL = 4  # RFC 5322 4
    TOO_BIG = 8  # RFC 1870 6.3
    LINE_TOO_LONG = 16  # RFC 5321 4.5.3.1.6
    NORMALIZED = 32  # lone CR or LF were there and are repaired: no reason to refuse


REFUSING: Final = 31  # every violation but NORMALIZED
