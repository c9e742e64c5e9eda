"""Contents for generated sessions: what stands on the wire between 354 and the reply."""

import random
import re
from itertools import pairwise

SMUGGLED = b"MAIL FROM:<smuggler@evil.example>\r\nRCPT TO:<victim@relay.example>\r\nDATA\r\nS\r\n"
_FIELDS = (
    b"Subject: hello\r\n", b"From: a@source.example\r\n", b"To: b@relay.example\r\n",
    b"Message-ID: <1@source.example>\r\n", b"Date: Wed, 25 Nov 2026 13:46:09 +0000\r\n",
    b"X-Folded: one\r\n\ttwo\r\n three\r\n", b"Received: from x by y; then\r\n",
    b"X-Empty:\r\n", b"Subject:no space\r\n", b"X-Long: " + b"v" * 950 + b"\r\n",
    b"Bcc: secret@relay.example\r\n", b"X-8: \xc3\xa9\r\n",
)  # fmt: skip
_CLEAN = (
    b"text\r\n", b"\r\n", b".\r\n", b"..\r\n", b".dot\r\n", b"a line with spaces \t \r\n",
    b"From x\r\n", b"MAIL FROM:<x@y>\r\n", b"QUIT\r\n", b". \r\n", b" .\r\n", b"x" * 998 + b"\r\n",
    bytes(range(0x80, 0x100)) + b"\r\n", b"\x0b\x0c\x1c\x85\r\n", b"\xe2\x80\xa8.\xe2\x80\xa8\r\n",
)  # fmt: skip
_LONG = (b"y" * 1200 + b"\r\n", b"z" * 5000 + b"\r\n")
_BARE = (
    b"\n", b"a\nb", b"\r", b"a\rb", b"\r\r\n", b"\n\r", b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r",
    b"\r.\n", b"\n.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\n..\n",
)  # fmt: skip
_NUL = (b"a\0b\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\0")
_TOO_LARGE = b"large\r\n" * 12_000


def header(rng: random.Random) -> bytes:
    """A header section with its empty line; seldom none at all."""
    if rng.random() < 0.02:
        return rng.choice((b"no header\r\n", b" a space, to go on with what is in front\r\n"))
    return b"".join(rng.sample(_FIELDS, rng.randrange(1, 6))) + b"\r\n"


def content(rng: random.Random) -> bytes:
    """A content as its author has it: mostly text of CR LF lines, sometimes anything but."""
    kind = rng.random()
    pieces = list(_CLEAN)
    if kind > 0.8:
        pieces += _LONG
    body = b"".join(rng.choices(pieces, k=rng.randrange(0, 8)))
    if kind < 0.1:
        at = rng.randrange(len(body) + 1)
        body = body[:at] + rng.choice(_BARE) + rng.choice((SMUGGLED, b"")) + body[at:]
    elif kind < 0.12:
        at = rng.randrange(len(body) + 1)
        body = body[:at] + rng.choice(_NUL) + body[at:]
    elif kind < 0.14:
        body += _TOO_LARGE
    if body and not body.endswith(b"\r\n"):
        body += b"\r\n"
    return header(rng) + body


def on_the_wire(content: bytes) -> bytes:
    """Dot-stuffed, with the final dot (RFC 5321 4.5.2)."""
    stuffed = re.sub(rb"(\A|(?<=\r\n))\.", b"..", content)
    if stuffed and not stuffed.endswith(b"\r\n"):
        stuffed += b"\r\n"
    return stuffed + b".\r\n"


def behind_our_field(content: bytes) -> bytes:
    """A clean content as it goes on: its last line has an end (by BDAT it may lack that).

    An empty line keeps it apart from our field, where it would go on with that (RFC 5322 2.2.3).
    """
    begin = b"\r\n" if content.startswith((b" ", b"\t")) else b""
    end = b"" if not content or content.endswith(b"\r\n") else b"\r\n"
    return begin + content + end


def is_clean(content: bytes) -> bool:
    """Whole lines, no lone CR or LF, no NUL: every server takes it as it is."""
    return re.search(rb"\r(?!\n)|(?<!\r)\n|\0", content) is None


def split(rng: random.Random, octets: bytes) -> list[bytes]:
    """In one to four pieces, anywhere; only the last one may be empty (Postfix takes no other)."""
    cuts = sorted(rng.randrange(len(octets) + 1) for _ in range(rng.choice((0, 0, 1, 1, 2, 3))))
    edges = [0, *cuts, len(octets)]
    pieces = [octets[begin:end] for begin, end in pairwise(edges)]
    return [*filter(None, pieces[:-1]), pieces[-1]]
