"""The ESMTP parameters of MAIL that we offer: SIZE (RFC 1870) and BODY (RFC 6152)."""

from fastmta.smtp import Reply
from fastmta.smtp import reply as replies

from .transaction import Transaction

_SIZE_DIGITS_MAX = 20  # RFC 1870 3: size-value = 1*20DIGIT


def apply_mail_parameters(
    transaction: Transaction, parameters: tuple[tuple[bytes, bytes], ...], octets_max: int
) -> Reply | None:
    """Set what the parameters say, or return the refusal (the caller resets the transaction)."""
    for keyword, value in parameters:
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
        else:
            return replies.r555_unsupported_option(keyword + (b"=" + value if value else b""))
    return None
