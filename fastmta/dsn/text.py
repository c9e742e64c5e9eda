"""Text that others chose, made fit to stand in a report: nothing in it can end a line."""

import re
from collections.abc import Iterable

from fastmta.smtp.unitext import embed_unicode
from fastmta.smtp.xtext import decode_xtext

CONTENT_LINE_OCTETS_MAX = 998  # RFC 5322 2.1.1, without CR LF
WRAP_COLUMNS = 76
WORD_OCTETS_MAX = 500
PARAMETER_OCTETS_MAX = 500  # RFC 3461 4.2
ADDRESS_OCTETS_MAX = 900  # of an original recipient, which stands in one line
TEXT_OCTETS_MAX = 1_000  # of one reply or reason; RFC 3464 2.3.6 sets no limit
_BAD_LINE_END = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_LONG_LINE = re.compile(rb"[^\r\n]{999}")
_ADDRESS_TYPE = re.compile(rb"[A-Za-z0-9-]{1,40}")
_FOLD = re.compile(rb"([^\r\n]{997})(?=[^\r\n])")


def plain(text: str) -> str:
    """`text` with every run of white space as one space and "?" for all that is not ASCII print."""
    spaced = "".join(" " if c in "\t\r\n\v\f" else c for c in text[: 2 * TEXT_OCTETS_MAX])
    joined = " ".join(word for word in spaced.split(" ") if word)
    return "".join(c if " " <= c <= "~" else "?" for c in joined)[:TEXT_OCTETS_MAX]


def plain_address(address: bytes) -> str:
    """`address` with "?" for all that is not ASCII print; spaces of a quoted string stay."""
    return "".join(c if " " <= c <= "~" else "?" for c in address.decode("latin-1"))


def plain_xtext(xtext: bytes) -> str:
    """What `xtext` stands for, with "?" for all that is not ASCII print."""
    cut = xtext[:PARAMETER_OCTETS_MAX]
    octets = decode_xtext(cut)
    return plain_address(cut if octets is None else octets)


def plain_original_recipient(value: bytes) -> str:
    """An ORCPT value as the field shows it (RFC 3464 2.3.1): `type;address`; "" if none can be.

    An address of type utf-8 (RFC 6533 3) is no xtext; its characters are named, as nothing but
    ASCII may stand in this kind of report.
    """
    kind, separator, address = value[:PARAMETER_OCTETS_MAX].partition(b";")
    if not separator or not address or _ADDRESS_TYPE.fullmatch(kind) is None:
        return ""
    is_unicode = kind.lower() == b"utf-8"
    shown = plain_address(embed_unicode(address)) if is_unicode else plain_xtext(address)
    return f"{kind.decode('ascii')};{shown}" if len(shown) <= ADDRESS_OCTETS_MAX else ""


def wrap(text: str) -> str:
    """`text` (plain) in lines of about 76 columns, continued after four spaces, with CR LF ends."""
    lines = [""]
    for word in _words(text):
        if lines[-1].strip(" ") and len(lines[-1]) + 1 + len(word) > WRAP_COLUMNS:
            lines.append("    " + word)
        else:
            lines[-1] += " " + word if lines[-1].strip(" ") else word
    return "\r\n".join(lines) + "\r\n"


def _words(text: str) -> Iterable[str]:
    for word in text.split(" "):
        for start in range(0, len(word), WORD_OCTETS_MAX):
            yield word[start : start + WORD_OCTETS_MAX]


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
