"""The ESMTP parameters of MAIL and RCPT that we offer.

SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), AUTH (RFC 4954 5), REQUIRETLS (RFC 8689 2),
RET, ENVID, NOTIFY and ORCPT (RFC 3461 4). Each comes once: the parser has seen to that.
"""

from fastmta.smtp import Reply
from fastmta.smtp import reply as replies
from fastmta.smtp.parameter import (
    parse_auth,
    parse_envid,
    parse_notify,
    parse_orcpt,
    parse_ret,
)

from .settings import SessionSettings
from .transaction import Transaction

# The EHLO keyword behind a parameter; one that is not shown is not there.
_OFFERED_BY = {
    b"RET": "DSN",
    b"ENVID": "DSN",
    b"NOTIFY": "DSN",
    b"ORCPT": "DSN",
    b"SMTPUTF8": "SMTPUTF8",
    b"AUTH": "AUTH",
    b"SIZE": "SIZE",
    b"BODY": "8BITMIME",
    b"REQUIRETLS": "REQUIRETLS",
}
_SIZE_DIGITS_MAX = 20  # RFC 1870 3: size-value = 1*20DIGIT

Parameters = tuple[tuple[bytes, bytes], ...]


def apply_mail_parameters(
    transaction: Transaction, parameters: Parameters, settings: SessionSettings, is_tls: bool
) -> Reply | None:
    """Set what the parameters say, or return the refusal (the caller resets the transaction).

    `is_tls`: the session runs inside TLS.
    """
    octets_max = settings.message_octets_max
    for keyword, value in parameters:
        if _OFFERED_BY.get(keyword) in settings.discarded:
            return _unsupported(keyword, value)
        if keyword == b"SIZE":
            if not value.isdigit() or len(value) > _SIZE_DIGITS_MAX:
                return replies.R501_BAD_SIZE
            transaction.declared_octets = int(value)
            if transaction.declared_octets > octets_max:
                return replies.R552_TOO_BIG
        elif keyword == b"BODY":
            body = value.upper()
            if body not in (b"7BIT", b"8BITMIME"):
                return replies.R501_BAD_BODY
            transaction.is_8bit = body == b"8BITMIME"
        elif refusal := _apply_rarer(transaction, keyword, value, is_tls):
            return refusal
    return None


def _apply_rarer(
    transaction: Transaction, keyword: bytes, value: bytes, is_tls: bool
) -> Reply | None:
    transaction.is_unusual = True
    if keyword == b"SMTPUTF8" and not value:
        transaction.is_utf8 = True
    elif keyword == b"REQUIRETLS" and not value and is_tls:  # RFC 8689 2: not in clear
        transaction.is_tls_required = True
    elif keyword == b"RET":
        returned = parse_ret(value)
        if returned is None:
            return replies.R501_BAD_RET
        transaction.returned = returned
    elif keyword == b"ENVID":
        envelope_id = parse_envid(value)
        if envelope_id is None:
            return replies.R501_BAD_ENVID
        transaction.envelope_id = envelope_id
    elif keyword == b"AUTH":
        # RFC 4954 5: who is believed about the author is ours to choose. We believe nobody, so
        # this is <>, and checked only for its form.
        if parse_auth(value) is None:
            return replies.R501_BAD_AUTH_PARAMETER
    else:
        return _unsupported(keyword, value)
    return None


def _unsupported(keyword: bytes, value: bytes) -> Reply:
    return replies.r555_unsupported_option(keyword + (b"=" + value if value else b""))


def read_rcpt_parameters(
    parameters: Parameters, is_utf8: bool, discarded: frozenset[str]
) -> tuple[str, bytes] | Reply:
    """(NOTIFY, ORCPT) of a recipient, "" and b"" for what was not given; or the refusal.

    `is_utf8`: MAIL said SMTPUTF8.
    """
    notify, original = "", b""
    for keyword, value in parameters:
        if _OFFERED_BY.get(keyword) in discarded:
            return _unsupported(keyword, value)
        if keyword == b"NOTIFY":
            notified = parse_notify(value)
            if notified is None:
                return replies.R501_BAD_NOTIFY
            notify = notified
        elif keyword == b"ORCPT":
            recipient = parse_orcpt(value, is_utf8)
            if recipient is None:
                return replies.R501_BAD_ORCPT
            original = recipient
        else:
            return _unsupported(keyword, value)
    return notify, original
