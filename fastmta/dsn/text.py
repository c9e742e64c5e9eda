"""Text that others chose, made fit to stand in a report: nothing in it can end a line."""

import re

from fastmta.smtp.unitext import embed_unicode
from fastmta.smtp.xtext import decode_xtext

CONTENT_LINE_OCTETS_MAX = 998  # RFC 5322 2.1.1, without CR LF
WRAP_COLUMNS = 76
CONTINUED = "    "
WORD_OCTETS_MAX = 500
PARAMETER_OCTETS_MAX = 500  # RFC 3461 4.2
ADDRESS_OCTETS_MAX = 900  # of an address, which stands in one line
TEXT_OCTETS_MAX = 1_000  # of one reply or reason; RFC 3464 2.3.6 sets no limit
_BAD_LINE_END = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_LONG_LINE = re.compile(rb"[^\r\n]{999}")
_ADDRESS_TYPE = re.compile(rb"[A-Za-z0-9-]{1,40}")
# What a mail reader may act on instead of showing it: controls, line and paragraph separators, and
# what changes the direction of writing.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_PRINTED = bytes(octet if 0x20 <= octet < 0x7F else 0x3F for octet in range(256))
_SPACED = bytes(0x20 if octet in b"\t\r\n\v\f" else _PRINTED[octet] for octet in range(256))
_FOLD = re.compile(rb"([^\r\n]{997})(?=[^\r\n])")


def plain(text: str) -> str:
    """`text` with every run of white space as one space and "?" for all that is not ASCII print."""
    octets = text[: 2 * TEXT_OCTETS_MAX].encode("ascii", "replace").translate(_SPACED)
    return b" ".join(filter(None, octets.split(b" ")))[:TEXT_OCTETS_MAX].decode("ascii")


def plain_address(address: bytes) -> str:
    """`address` with "?" for all that is not ASCII print; spaces of a quoted string stay."""
    return address[:ADDRESS_OCTETS_MAX].translate(_PRINTED).decode("ascii")


def is_international(octets: bytes) -> bool:
    """Whether `octets` can only be said in UTF-8: some are not ASCII, and they are UTF-8."""
    if octets.isascii():
        return False
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def safe_address(address: bytes) -> str:
    """`address` with "?" for what no reader should meet; if it is UTF-8 its characters stay."""
    if not is_international(address):
        return plain_address(address)
    return _UNSAFE.sub("?", address[:ADDRESS_OCTETS_MAX].decode("utf-8", "ignore"))


def typed_address(address: bytes, *, is_global: bool) -> str:
    """`address` with its type (RFC 3464 2.1.2, RFC 6533 3); only in global reports in UTF-8."""
    if is_global and is_international(address):
        return f"utf-8; {safe_address(address)}"
    return f"rfc822; {plain_address(address)}"


def plain_xtext(xtext: bytes) -> str:
    """What `xtext` stands for, with "?" for all that is not ASCII print."""
    cut = xtext[:PARAMETER_OCTETS_MAX]
    octets = decode_xtext(cut)
    return plain_address(cut if octets is None else octets)


def plain_original_recipient(value: bytes, *, is_global: bool = False) -> str:
    """An ORCPT value as the field shows it (RFC 3464 2.3.1): `type;address`; "" if none can be.

    An address of type utf-8 (RFC 6533 3) is no xtext. Its characters are named where nothing but
    ASCII may stand in the report, and stay as they are in a global one.
    """
    kind, separator, address = value[:PARAMETER_OCTETS_MAX].partition(b";")
    if not separator or not address or _ADDRESS_TYPE.fullmatch(kind) is None:
        return ""
    is_unicode = kind.lower() == b"utf-8"
    if is_unicode and is_global:
        shown = safe_address(address)
    else:
        shown = plain_address(embed_unicode(address)) if is_unicode else plain_xtext(address)
    return f"{kind.decode('ascii')};{shown}" if len(shown) <= ADDRESS_OCTETS_MAX else ""


def wrap(text: str) -> str:
    """`text` (safe) in lines of about 76 columns, continued after four spaces, with CR LF ends.

    No line is white space alone; spaces where a line ends are lost, as are others in a row there.
    """
    word_max = WORD_OCTETS_MAX if text.isascii() else WORD_OCTETS_MAX // 4  # at most, in UTF-8
    text = text.strip(" ")
    lines: list[str] = []
    start, end, room = 0, len(text), WRAP_COLUMNS
    while end - start > room:
        cut = text.rfind(" ", start, start + room + 1)
        if cut < 0:  # a word that is too long for a line
            cut = text.find(" ", start, start + word_max)
            cut = min(start + word_max, end) if cut < 0 else cut
        lines.append(text[start:cut].rstrip(" "))
        start, room = cut, WRAP_COLUMNS - len(CONTINUED)
        while start < end and text[start] == " ":
            start += 1
    if start < end or not lines:
        lines.append(text[start:])
    return f"\r\n{CONTINUED}".join(lines) + "\r\n"


def has_long_line(content: bytes) -> bool:
    """Whether a line exceeds what 7bit and 8bit allow (RFC 2045 2.7, 2.8)."""
    return _LONG_LINE.search(content) is not None


def fold_long_lines(section: bytes) -> bytes:
    """`section` of header lines, the too long ones continued on the next line."""
    return _FOLD.sub(rb"\1\r\n ", section)


def canonical(content: bytes) -> bytes:
    """`content` itself when every line ends with CR LF, else with that repaired."""
    ends = content.count(b"\r\n")
    if content.count(b"\r") != ends or content.count(b"\n") != ends:
        content = _BAD_LINE_END.sub(b"\r\n", content)
    return content if not content or content.endswith(b"\r\n") else content + b"\r\n"


def header_section(content: bytes, octets_max: int) -> bytes:
    """The header section of canonical `content`, whole lines of it up to `octets_max`."""
    if content.startswith(b"\r\n"):
        return b""
    end = content.find(b"\r\n\r\n")
    section = content if end < 0 else content[: end + 2]
    if len(section) <= octets_max:
        return section
    cut = section.rfind(b"\r\n", 0, octets_max)
    return b"" if cut < 0 else section[: cut + 2]
