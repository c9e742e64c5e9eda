"""What we say: a transaction to command lines (RFC 5321 4.1.1)."""

from typing import Final

from fastmta.smtp.extension import Extensions

from .transaction import Transaction

RSET: Final = b"RSET\r\n"
DATA: Final = b"DATA\r\n"


def encode_mail(transaction: Transaction, extensions: Extensions) -> bytes:
    """MAIL with the parameters that the server knows."""
    command = b"MAIL FROM:<%b>%b\r\n" % (
        transaction.reverse_path,
        _encode_parameters(transaction, extensions),
    )
    _refuse_line_ends(command, 1)
    return command


def encode_rcpt(forward_path: bytes) -> bytes:
    """RCPT."""
    command = b"RCPT TO:<%b>\r\n" % forward_path
    _refuse_line_ends(command, 1)
    return command


def encode_flight(transaction: Transaction, extensions: Extensions) -> bytes:
    """MAIL, every RCPT and DATA in one piece (RFC 2920 3.1)."""
    paths = transaction.forward_paths
    flight = b"MAIL FROM:<%b>%b\r\nRCPT TO:<%b>\r\nDATA\r\n" % (
        transaction.reverse_path,
        _encode_parameters(transaction, extensions),
        paths[0] if len(paths) == 1 else b">\r\nRCPT TO:<".join(paths),
    )
    _refuse_line_ends(flight, len(paths) + 2)
    return flight


def _encode_parameters(transaction: Transaction, extensions: Extensions) -> bytes:
    size = b"" if extensions.size is None else b" SIZE=%d" % transaction.size_octets
    return size + b" BODY=8BITMIME" if transaction.is_8bit and extensions.eightbit else size


def _refuse_line_ends(octets: bytes, count: int) -> None:
    """No address may carry a line end out (RFC 5321 2.3.8): that would be a command of its own."""
    if octets.count(b"\n") != count or octets.count(b"\r") != count:
        raise ValueError("line end within a path")
