"""Variable envelope return paths: whoever gets a report knows by its address whom it is about.

With the delimiters `+=`, mail from `list@here.example` to `joe@there.example` has the reverse-path
`list+joe=there.example@here.example`, as at Postfix. The recipient is the one that the sender knows
of, as it was given: not what aliases make of it, and without a domain if it had none.
"""

from __future__ import annotations

from .grammar import quoted, unquoted
from .mailbox import Mailbox


def return_path(sender: bytes, recipient: Mailbox, delimiters: bytes) -> bytes:
    """The reverse-path of the message for `recipient`; whoever uses it looks whether it is one."""
    name, _, home = sender.rpartition(b"@")
    local_part, domain = recipient.octets, b""
    if recipient.is_qualified:
        local_part, _, domain = recipient.octets.rpartition(b"@")
    told = unquoted(name) + delimiters[:1] + unquoted(local_part)
    if domain:
        told += delimiters[1:] + domain
    return quoted(told) + b"@" + home
