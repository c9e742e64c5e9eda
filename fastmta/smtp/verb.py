"""The verbs of SMTP commands."""

import enum


class Verb(enum.IntEnum):
    """What a command line asks for; UNKNOWN is every other word. Matching ignores case."""

    UNKNOWN = 0
    HELO = 1  # RFC 5321 4.1.1.1
    EHLO = 2  # RFC 5321 4.1.1.1
    MAIL = 3  # RFC 5321 4.1.1.2
    RCPT = 4  # RFC 5321 4.1.1.3
    DATA = 5  # RFC 5321 4.1.1.4
    RSET = 6  # RFC 5321 4.1.1.5
    NOOP = 7  # RFC 5321 4.1.1.9
    VRFY = 8  # RFC 5321 4.1.1.6
    EXPN = 9  # RFC 5321 4.1.1.7
    HELP = 10  # RFC 5321 4.1.1.8
    QUIT = 11  # RFC 5321 4.1.1.10
    STARTTLS = 12  # RFC 3207 4
    AUTH = 13  # RFC 4954 4
    BDAT = 14  # RFC 3030 2
    ETRN = 15  # RFC 1985 5
    XCLIENT = 16  # Postfix XCLIENT_README
    XFORWARD = 17  # Postfix XFORWARD_README
    LHLO = 18  # RFC 2033 4.1


VERB_OF: dict[bytes, Verb] = {verb.name.encode(): verb for verb in Verb if verb is not Verb.UNKNOWN}
