"""Text beyond ASCII in addresses (RFC 6531, RFC 5891): what is valid, and its canonical form."""

import re
import unicodedata

from .limit import DOMAIN_OCTETS_MAX, LABEL_OCTETS_MAX

# RFC 6532 3.1 leaves these in; nothing that is written as one line may have them: controls, line
# and paragraph separators, and what is no character (Unicode 23.7).
_BANNED = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ufdd0-\ufdef"
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17))
    + "]"
)
_FULL_STOPS = re.compile("[\u3002\uff0e\uff61]")  # RFC 5895 2: full stops that separate labels

# NFC makes one character of no more than so many (U+1F82 and its like), and no octet of more.
_COMPOSED_FROM_MAX = 4


def is_text(octets: bytes) -> bool:
    """Whether these are UTF-8 (RFC 3629: no overlong forms, no surrogates) of printable text."""
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return _BANNED.search(text) is None


def normalize(octets: bytes, octets_max: int) -> bytes:
    """Valid UTF-8 in the composed form (NFC), in which equal texts are equal octets.

    What cannot have `octets_max` or less then stays as it is: too long, and expensive.
    """
    if len(octets) > _COMPOSED_FROM_MAX * octets_max:
        return octets
    return unicodedata.normalize("NFC", octets.decode("utf-8")).encode("utf-8")


def to_alabels(octets: bytes) -> bytes:
    """The ASCII form of a domain name in valid UTF-8 (RFC 5891 4.4); b"" when it has none.

    The full stops of other scripts separate labels, too. Labels that are ASCII stay as they are:
    whether the whole is a domain name is for its caller to see.
    """
    name = _FULL_STOPS.sub(".", octets.decode("utf-8"))
    labels: list[bytes] = []
    size = 0
    for text in name.split("."):
        label = _to_alabel(text.strip(" "))
        if label is None or size > DOMAIN_OCTETS_MAX:  # no work for a name that is too long
            return b""
        labels.append(label)
        size += len(label) + 1
    return b".".join(labels)


def _to_alabel(label: str) -> bytes | None:
    if label.isascii():
        return label.encode("ascii")
    if len(label) > _COMPOSED_FROM_MAX * LABEL_OCTETS_MAX:  # NFC of many marks is quadratic
        return None
    import idna  # its tables are large, and few clients need them

    # RFC 5895 2: lower case, composed. Nothing else is mapped, least of all to ASCII.
    label = unicodedata.normalize("NFC", unicodedata.normalize("NFC", label).lower())
    if label.isascii() or len(label) > LABEL_OCTETS_MAX:
        return None
    try:
        return idna.alabel(label)
    except idna.IDNAError:
        return None
