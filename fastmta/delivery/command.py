"""What we say: a transaction to command lines (RFC 5321 4.1.1)."""

import re
from base64 import b64encode
from typing import Final

from fastmta.smtp.extension import Extensions
from fastmta.smtp.unitext import embed_unicode, encode_unitext
from fastmta.smtp.xtext import encode_xtext

from .transaction import Extras, Transaction

RSET: Final = b"RSET\r\n"
DATA: Final = b"DATA\r\n"
STARTTLS: Final = b"STARTTLS\r\n"  # RFC 3207 4
_AUTH_OCTETS_MAX: Final = 512  # RFC 4954 4: with an initial response; RFC 5321 4.5.3.1.4
_VALUE: Final = re.compile(rb"[!-<>-~]+")  # esmtp-value, RFC 5321 4.1.2
_UTF8_VALUE: Final = re.compile(rb"[!-<>-~\x80-\xff]+")  # RFC 6531 3.3
_ORCPT_OCTETS_MAX: Final = 500  # RFC 3461 4.2


def encode_mail(transaction: Transaction, extensions: Extensions) -> bytes:
    """MAIL with the parameters that the server knows."""
    command = b"MAIL FROM:<%b>%b\r\n" % (
        transaction.reverse_path,
        _encode_parameters(transaction, extensions),
    )
    _refuse_line_ends(command, 1)
    return command


def encode_rcpt(transaction: Transaction, place: int, extensions: Extensions) -> bytes:
    """RCPT of one recipient, likewise."""
    extras = transaction.extras
    forward_path = transaction.forward_paths[place]
    parameters = b""
    if extras is not None and extras.dsn is not None and extensions.dsn:
        parameters = _encode_recipient(extras, place, forward_path, extensions)
    command = b"RCPT TO:<%b>%b\r\n" % (forward_path, parameters)
    _refuse_line_ends(command, 1)
    return command


def encode_flight(transaction: Transaction, extensions: Extensions) -> bytes:
    """MAIL, every RCPT and DATA, of a probe RSET, in one piece (RFC 2920 3.1)."""
    paths = transaction.forward_paths
    if transaction.extras is not None or transaction.is_probe:
        mail = encode_mail(transaction, extensions)
        rcpts = [encode_rcpt(transaction, place, extensions) for place in range(len(paths))]
        return b"".join((mail, *rcpts, RSET if transaction.is_probe else DATA))
    flight = b"MAIL FROM:<%b>%b\r\nRCPT TO:<%b>\r\nDATA\r\n" % (
        transaction.reverse_path,
        _encode_parameters(transaction, extensions),
        paths[0] if len(paths) == 1 else b">\r\nRCPT TO:<".join(paths),
    )
    _refuse_line_ends(flight, len(paths) + 2)
    return flight


def encode_chunk(stuffed: bytes) -> tuple[bytes, bytes]:
    """BDAT and its octets, of a content that was stuffed for DATA (RFC 3030 2)."""
    octets = stuffed.replace(b"\r\n..", b"\r\n.").removeprefix(b".")
    return b"BDAT %d LAST\r\n" % len(octets), octets


def encode_auth(mechanism: str, initial: bytes | None) -> tuple[bytes, bytes | None]:
    """AUTH, and the initial response if it is too long for that line (RFC 4954 4)."""
    command = b"AUTH " + mechanism.encode("ascii")
    if initial is None:
        return command + b"\r\n", None
    line = command + b" " + (b64encode(initial) or b"=") + b"\r\n"
    return (line, None) if len(line) <= _AUTH_OCTETS_MAX else (command + b"\r\n", initial)


def _encode_parameters(transaction: Transaction, extensions: Extensions) -> bytes:
    size = b"" if extensions.size is None else b" SIZE=%d" % transaction.size_octets
    if transaction.is_8bit and extensions.eightbit:
        size += b" BODY=8BITMIME"
    extras = transaction.extras
    return size if extras is None else size + _encode_extras(extras, extensions)


def _encode_extras(extras: Extras, extensions: Extensions) -> bytes:
    """SMTPUTF8, RET, ENVID, REQUIRETLS; to a server without DSN none of DSN (RFC 3461 5.2.2)."""
    parameters = b" SMTPUTF8" if extras.is_utf8 and extensions.smtputf8 else b""
    dsn = extras.dsn
    if dsn is not None and extensions.dsn:
        if dsn.returned:
            parameters += b" RET=" + _checked(_VALUE, dsn.returned.encode())
        if dsn.envelope_id:
            parameters += b" ENVID=" + _checked(_VALUE, dsn.envelope_id)
    if extras.is_tls_required:  # to a server without it such a message does not go
        parameters += b" REQUIRETLS"
    return parameters


def _encode_recipient(
    extras: Extras, place: int, forward_path: bytes, extensions: Extensions
) -> bytes:
    """NOTIFY and ORCPT as they were given; an ORCPT of our own with a NOTIFY that came without.

    What we add names the recipient as it was given to us (RFC 3461 5.2.1), and nothing at all when
    it would be longer than an ORCPT may be.
    """
    dsn = extras.dsn
    assert dsn is not None
    index = extras.indices[place]
    notify = dsn.notify_of(index)
    original = dsn.original_recipient_of(index)
    parameters = b" NOTIFY=" + _checked(_VALUE, notify.encode()) if notify else b""
    if notify and not original:
        known = extras.original_paths
        given = (known[index] if index < len(known) else b"") or forward_path
        if given.isascii():
            original = b"rfc822;" + encode_xtext(given)
        else:
            original = b"utf-8;" + encode_unitext(given)
        if len(original) > _ORCPT_OCTETS_MAX:
            return parameters
    if original:
        is_utf8 = extras.is_utf8 and extensions.smtputf8
        original = original if is_utf8 else embed_unicode(original)  # RFC 6533 3
        parameters += b" ORCPT=" + _checked(_UTF8_VALUE, original)
    return parameters


def _checked(pattern: re.Pattern[bytes], value: bytes) -> bytes:
    """A value that may be a parameter's; no other leaves, whatever the spool holds."""
    if pattern.fullmatch(value) is None:
        raise ValueError("a parameter whose value would be more than that")
    return value


def _refuse_line_ends(octets: bytes, count: int) -> None:
    """No address may carry a line end out (RFC 5321 2.3.8): that would be a command of its own."""
    if octets.count(b"\n") != count or octets.count(b"\r") != count:
        raise ValueError("line end within a path")
