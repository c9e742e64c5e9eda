"""The twin of ext/smtp/reply.pyx: octets from a server to replies (RFC 5321 4.2.1), defensively.

The compiled reader only recognises replies that it has met before; this file reads all others, so
there is one grammar.
"""

import enum
import re

from .limit import REPLY_LINE_OCTETS_MAX, REPLY_LINES_MAX, REPLY_OCTETS_MAX
from .reply import Reply

KNOWN_REPLIES_MAX = 256
KNOWN_OCTETS_MAX = 1024  # larger replies are read anew each time

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_STATUS = re.compile(rb"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?= |$)")  # RFC 2034 4
_NOT_PRINTABLE = re.compile(rb"[^\x20-\x7e]")


class ReplyProblem(enum.Enum):
    """Why a server's octets are not replies: the connection cannot be used any more."""

    NOT_A_REPLY = "a line does not begin with a reply code"
    CODE_CHANGED = "the lines of a reply have different codes"
    LINE_TOO_LONG = "a reply line is too long"
    TOO_MANY_LINES = "a reply has too many lines"
    TOO_LONG = "a reply is too long"


class ReplyReader:
    """Takes octets in pieces of any size and gives out whole replies.

    `known` holds replies met before by their octets; readers may share one, it stays bounded.
    After a problem the reader is dead: feed() gives nothing more.
    """

    def __init__(self, known: dict[bytes, Reply] | None = None) -> None:
        self.problem: ReplyProblem | None = None
        self.garbage = ""  # with a problem: how the offending line begins, printable
        self._known = {} if known is None else known
        self._rest = b""
        self._lines: list[bytes] = []  # of the reply that is not complete
        self._code = b""
        self._size = 0

    def buffered(self) -> int:
        """How many octets of an incomplete reply are here (0: the last reply ended cleanly)."""
        return self._size + len(self._rest)

    def feed(self, octets: bytes | bytearray | memoryview) -> list[Reply]:
        """The replies that are complete now, in order. A problem is in `problem`, after them."""
        replies: list[Reply] = []
        if self.problem is not None:
            return replies
        octets = bytes(octets)
        if not self._rest and not self._lines:
            known = self._known.get(octets)
            if known is not None:
                return [known]
        buffer = self._rest + octets
        pos = 0
        while (end := buffer.find(b"\n", pos)) >= 0:
            if end + 1 - pos > REPLY_LINE_OCTETS_MAX:
                break
            reply = self._read_line(buffer[pos : end + 1])
            if self.problem is not None:
                self._rest = b""
                return replies
            if reply is not None:
                replies.append(reply)
            pos = end + 1
        self._rest = buffer[pos:]
        # The limit holds for a line whose end has not come yet, too: one octet more cannot help.
        if end >= 0 or len(self._rest) >= REPLY_LINE_OCTETS_MAX:
            self._fail(ReplyProblem.LINE_TOO_LONG, self._rest)
            self._rest = b""
        return replies

    def _read_line(self, wire: bytes) -> Reply | None:
        """One line with its end, which may be a lone LF; the reply when this line ends it."""
        is_first = not self._lines
        if is_first and (known := self._known.get(wire)) is not None:
            return known
        line = wire[:-2] if wire.endswith(b"\r\n") else wire[:-1]
        found = _LINE.fullmatch(line)
        if found is None:
            self._fail(ReplyProblem.NOT_A_REPLY, line)
            return None
        code, separator, _ = found.groups()
        is_changed = not is_first and code != self._code
        self._code = code
        self._lines.append(line)
        self._size += len(wire)
        if is_changed:
            self._fail(ReplyProblem.CODE_CHANGED, line)
        elif len(self._lines) > REPLY_LINES_MAX:
            self._fail(ReplyProblem.TOO_MANY_LINES, line)
        elif self._size > REPLY_OCTETS_MAX:
            self._fail(ReplyProblem.TOO_LONG, line)
        if self.problem is not None or separator == b"-":
            return None
        reply = _parse_reply(self._lines)
        self._lines = []
        self._size = 0
        self._remember(reply)
        return reply

    def _remember(self, reply: Reply) -> None:
        """Replies repeat: most sessions of a server say the same."""
        if len(reply.octets) > KNOWN_OCTETS_MAX:
            return
        if len(self._known) >= KNOWN_REPLIES_MAX:
            self._known.clear()
        self._known[reply.octets] = reply

    def _fail(self, problem: ReplyProblem, line: bytes) -> None:
        self.problem = problem
        self.garbage = _NOT_PRINTABLE.sub(b"?", line[:100]).decode("ascii")
        self._lines = []
        self._size = 0


def _parse_reply(lines: list[bytes]) -> Reply:
    """Whole lines without their ends, checked, to the value. Nothing unprintable gets through."""
    shown = [_NOT_PRINTABLE.sub(b"?", line) for line in lines]
    found = _STATUS.match(shown[0], 4)
    status = found.group() if found is not None and found.group(1) == shown[0][:1] else b""
    texts = []
    for line in shown:
        text = line[4:]
        if status and text.startswith(status) and text[len(status) :][:1] in (b"", b" "):
            text = text[len(status) + 1 :]
        texts.append(text.decode("ascii"))
    octets = b"\r\n".join(shown) + b"\r\n"
    return Reply(int(shown[0][:3]), status.decode("ascii"), tuple(texts), octets)
