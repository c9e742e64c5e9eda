"""What a program writes to `sendmail`: whole lines, its header section, the recipients in that."""

from __future__ import annotations

from fastmta.drop.address import parse_addresses

TYPE_CHECKING = False  # as mypy knows it: importing `typing` takes as long as all of ours
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_READ_OCTETS = 64 * 1024
LINE_OCTETS_MAX = 32 * 1024  # a longer line is broken: the server takes up to 64 KiB with CR LF
_NAME = bytes(octet for octet in range(33, 127) if octet != ord(":"))  # RFC 5322 3.6.8
_RECIPIENTS = (b"to", b"cc", b"bcc")


class Lines:
    """Blocks of whole lines with LF ends, from the first that counts to the end of input.

    CR before LF is dropped, so are NULs; lines that begin the message with `From ` are skipped;
    without `-i` a line of a single dot is the end.
    """

    def __init__(self, read: Callable[[int], bytes], ends_at_dot: bool) -> None:
        self._read = read
        self._ends_at_dot = ends_at_dot
        self._is_over = False
        self._rest = b""
        self._is_first = True

    def __iter__(self) -> Iterator[bytes]:
        """Each block ends with LF."""
        while not self._is_over:
            block = self._next()
            if block:
                yield block

    def _next(self) -> bytes:
        octets = self._read(_READ_OCTETS)
        whole = self._rest + octets
        if not octets:
            self._is_over = True
            if whole and not whole.endswith(b"\n"):
                whole += b"\n"
        cut = whole.rfind(b"\n") + 1
        if not cut and len(whole) > 2 * LINE_OCTETS_MAX:
            cut = LINE_OCTETS_MAX
            whole = whole[:cut] + b"\n" + whole[cut:]
            cut += 1
        block, self._rest = whole[:cut], whole[cut:]
        if not block:
            return b""
        block = block.replace(b"\0", b"")
        while b"\r\n" in block:
            block = block.replace(b"\r\n", b"\n")
        if len(block) > LINE_OCTETS_MAX:
            block = b"\n".join(_broken(line) for line in block.split(b"\n"))
        while self._is_first and block:
            line, _, rest = block.partition(b"\n")
            self._is_first = line.lstrip(b">").startswith(b"From ")
            block = rest if self._is_first else block
        return self._cut_at_dot(block) if self._ends_at_dot else block

    def _cut_at_dot(self, block: bytes) -> bytes:
        at = 0 if block.startswith(b".\n") else block.find(b"\n.\n") + 1
        if at or block.startswith(b".\n"):
            self._is_over = True
            return block[:at]
        return block


def _broken(line: bytes) -> bytes:
    if len(line) <= LINE_OCTETS_MAX:
        return line
    begins = range(0, len(line), LINE_OCTETS_MAX)
    return b"\n".join(line[begin : begin + LINE_OCTETS_MAX] for begin in begins)


def read_header(blocks: Iterator[bytes], octets_max: int) -> tuple[bytes, int]:
    """What was read until the header section was whole, and where that ends (-1: not in time)."""
    octets, end = b"", 0
    for block in blocks:
        octets += block
        end = _header_end(octets, end)
        if end < len(octets):
            return octets, end
        if len(octets) > octets_max:
            return octets, -1
    return octets, len(octets)


def _header_end(octets: bytes, begin: int) -> int:
    """Where the first line is, from `begin` on, that belongs to no field."""
    while begin < len(octets):
        end = octets.find(b"\n", begin) + 1
        if octets[begin] not in b" \t" or not begin:
            name, colon, _ = octets[begin:end].partition(b":")
            name = name.rstrip(b" \t")  # RFC 5322 4.5 allows blanks before the colon
            if not colon or not name or name.translate(None, _NAME):
                return begin
        begin = end
    return begin


def count_fields(header: bytes) -> int:
    """How many fields a header section has."""
    return header.count(b"\n") - header.count(b"\n ") - header.count(b"\n\t")


def _fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name in lower case, value)."""
    begin = 0
    while begin < len(header):
        end = header.find(b"\n", begin) + 1 or len(header)
        while header[end : end + 1] in (b" ", b"\t"):
            end = header.find(b"\n", end) + 1 or len(header)
        name, _, value = header[begin:end].partition(b":")
        yield name.rstrip(b" \t").lower(), value
        begin = end


def recipients_of(header: bytes) -> list[bytes]:
    """Addresses of To, Cc and Bcc; of their Resent- forms only if there is one of these."""
    found: dict[bytes, list[bytes]] = {b"": [], b"resent-": []}
    is_resent = False
    for name, value in _fields(header):
        prefix = b"resent-" if name.startswith(b"resent-") else b""
        if name[len(prefix) :] in _RECIPIENTS:
            is_resent = is_resent or bool(prefix)
            found[prefix] += [mailbox.octets for mailbox in parse_addresses(value)]
    return list(dict.fromkeys(found[b"resent-" if is_resent else b""]))
