"""Short cuts for what nearly every message meets; each says nothing the reply reader would not say.

A server answers the flight of MAIL, RCPT and DATA with the same octets message after message, and
accepts a content in one plain line. Reading those as any other reply costs more than all the rest
of the dialog.
"""

from typing import Final

from fastmta.smtp import Reply
from fastmta.smtp.reply import R250_OK

_GRANTS_MAX: Final = 256
_GRANT_OCTETS_MAX: Final = 512
_ACCEPTED: Final = R250_OK.octets.removesuffix(b"Ok\r\n")  # code and status alone
_LINE_OCTETS_MAX: Final = 512  # RFC 5321 4.5.3.1.5

known: Final[dict[bytes, Reply]] = {}  # bounded by the readers that share it

# Octets that grant everything, from MAIL to DATA, to the count of their recipients.
grants: Final[dict[bytes, int]] = {}


def remember_grant(octets: bytes, recipient_count: int) -> None:
    """`octets` were read as whole replies that grant MAIL, every RCPT and DATA."""
    if len(octets) > _GRANT_OCTETS_MAX:
        return
    if len(grants) >= _GRANTS_MAX:
        grants.clear()
    grants[octets] = recipient_count


def plain_acceptance(octets: bytes) -> str:
    """The text of an acceptance in one whole line of printable ASCII; "" for all else."""
    if not octets.startswith(_ACCEPTED) or len(octets) > _LINE_OCTETS_MAX:
        return ""
    if not octets.endswith(b"\r\n") or not octets.isascii():
        return ""
    text = octets[:-2].decode("ascii")
    return text if text.isprintable() else ""
