"""What a hook returned or pushed, to the reply that is sent."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fastmta.smtp import Reply, ReplyReader

_KNOWN_MAX = 256
_KNOWN_CHARACTERS_MAX = 1024  # longer ones are read anew each time
_LINE_END = re.compile(rb"\r\n|\r|\n")
# 3xx is no end of anything, and RFC 5321 4.2.1 has no other codes.
_LINE = re.compile(rb"([245][0-5][0-9])(?:[ -](.*))?", re.DOTALL)


class Answers:
    """Reads answers; one for all sessions and threads. The ones met before are remembered."""

    def __init__(self) -> None:
        self._known: dict[str, Reply] = {}

    def read(self, pushed: Sequence[object], returned: object) -> Reply | None:
        """All lines that a hook pushed and the one that it returned, as one reply.

        None when that is no reply: not text, no code or a strange one, several codes, too long.
        Text and code are the handler's own to the octet; lines may end in any way.
        """
        if pushed or not isinstance(returned, str):
            return _read((*pushed, returned))
        known = self._known.get(returned)
        if known is not None:
            return known
        reply = _read((returned,))
        if reply is not None and len(returned) <= _KNOWN_CHARACTERS_MAX:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[returned] = reply
        return reply


def _read(texts: Sequence[object]) -> Reply | None:
    lines: list[bytes] = []
    for text in texts:
        if isinstance(text, str):
            lines += _LINE_END.split(text.encode("ascii", "replace"))
        elif isinstance(text, bytes | bytearray):
            lines += _LINE_END.split(bytes(text))
        else:
            return None
    while lines and not lines[-1]:  # a CR LF behind the last line
        lines.pop()
    wire = bytearray()
    code = b""
    for index, line in enumerate(lines):
        found = _LINE.fullmatch(line)
        if found is None or code not in (b"", found[1]):
            return None
        code = found[1]
        separator = b" " if index == len(lines) - 1 else b"-"
        wire += code if found[2] is None and separator == b" " else code + separator
        wire += (found[2] or b"") + b"\r\n"
    replies = ReplyReader().feed(wire)
    return replies[0] if len(replies) == 1 else None
