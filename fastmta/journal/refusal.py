"""Why a command or a content was refused, in words of which there are few."""

import re

_WORDS = (
    ("Relay access denied", "relay_denied"),
    ("too many connections", "too_many_connections"),
    ("too many errors", "too_many_errors"),
    ("too many recipients", "too_many_recipients"),
    ("Insufficient system storage", "storage"),
    ("queue file write error", "storage"),
    ("local problem", "local_problem"),
    ("Message size exceeds", "too_large"),
    ("message too large", "too_large"),
    ("Must issue a STARTTLS", "tls_required"),
    ("Authentication required", "login_required"),
    ("not owned by user", "sender_not_owned"),
    ("bare <CR>", "bare_cr"),
    ("bare <LF>", "bare_lf"),
    ("NUL octet", "nul"),
    ("too many hops", "loop"),
    ("address syntax", "address_syntax"),
)
_REPLY = re.compile(r"([245][0-9]{2})(?:[ -]([245]\.[0-9]{1,3}\.[0-9]{1,3})(?= |$))?")
_UNKNOWN = "other"


def reason_of(reply: str) -> tuple[str, str]:
    """Code and reason of a reply that we gave; the reason may be its RFC 3463 code."""
    match = _REPLY.match(reply)
    code = match[1] if match else _UNKNOWN
    for part, word in _WORDS:
        if part in reply:
            return code, word
    return code, (match[2] if match and match[2] else _UNKNOWN)
