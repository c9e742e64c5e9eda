"""The sentences of reports, for humans. Bounce parsers know some of the phrases: keep those."""

from fastmta.message.report import (
    DELAY,
    NON_DELIVERY,
    POSTMASTER_DELAY,
    POSTMASTER_NON_DELIVERY,
    PROBED,
    SUCCESS,
)

SUBJECTS = {
    NON_DELIVERY: "Undelivered Mail Returned to Sender",
    DELAY: "Delayed Mail (still being retried)",
    SUCCESS: "Successful Mail Delivery Report",
    PROBED: "Mail Delivery Status Report",
    POSTMASTER_NON_DELIVERY: "Postmaster Copy: Undelivered Mail",
    POSTMASTER_DELAY: "Postmaster Warning: Delayed Mail",
}

_HOST = "This is the mail system at host {hostname}.\r\n\r\n"
_HUMAN = """\
Questions about this report reach a human at <postmaster@{hostname}>;\r
please include it when you write.\r
\r
"""

INTRODUCTIONS = {
    NON_DELIVERY: _HOST
    + """\
The message that you sent could not be delivered to the recipients below,\r
and no further attempt will be made. After each address stands the reason.\r
The message, or its header section if it is large or no more was asked for,\r
is attached.\r
\r
"""
    + _HUMAN,
    DELAY: _HOST
    + """\
THIS IS ONLY A WARNING. YOU DO NOT NEED TO SEND YOUR MESSAGE AGAIN.\r
\r
The message that you sent has not reached the recipients below yet. It is\r
tried again until {until}.\r
After each address stands what it waits for. The header section of the\r
message is attached.\r
\r
"""
    + _HUMAN,
    SUCCESS: _HOST
    + """\
You asked to be told when your message is delivered. To the recipients below\r
it was, or it was handed to a system that sends no such reports. The header\r
section of the message is attached.\r
\r
"""
    + _HUMAN,
    PROBED: _HOST
    + """\
You asked whether mail would reach the recipients below. After each address\r
stands the answer. Nothing was sent to them, and none is asked again.\r
\r
""",
    POSTMASTER_NON_DELIVERY: _HOST
    + """\
A message could not be delivered to the recipients below, and no further\r
attempt will be made. This copy goes to the postmaster; the header section of\r
the message is attached.\r
\r
""",
    POSTMASTER_DELAY: _HOST
    + """\
A message has not reached the recipients below yet. It is tried again until\r
{until}.\r
This copy goes to the postmaster; the header section of the message is\r
attached.\r
\r
""",
}

ALSO_DELIVERED = (
    "The following recipients have the message; you asked to be told of them too.\r\n\r\n"
)

NOTICE = (
    _HOST
    + """\
Something happened that the postmaster of this host wanted to be told of\r
(class: {kind}). These are lines of its log; times are those of the host.\r
\r
"""
)
NOTICE_SUBJECT = "Postmaster notice: {kind} problems at {hostname}"
