"""The twin of ext/smtp/framing.pyx and its specification: obvious, slow.

One Framing belongs to one inbound session. Octets go in by feed(); next_command() and
read_content() take them out in the order of the wire, whatever pieces they came in.
"""

from .frame import BARE_CR_OR_LF, COMMAND, DONE, NEED_MORE, NUL, REFUSING, TOO_LONG, Violation
from .limit import COMMAND_LINE_OCTETS_MAX, LINE_OCTETS_HARD
from .verb import VERB_OF, Verb

CR, LF, DOT, SPACE = b"\r"[0], b"\n"[0], b"."[0], b" "[0]

# What the octets just before the next one were, while content is read.
BEGIN_LINE = 0  # CR LF, or nothing at all
BEGIN_LINE_LF = 1  # a lone LF (repaired): a line begins, but not one that can end the data
MIDDLE = 2  # anything else
SEEN_CR = 3  # a CR in the middle of a line
SEEN_DOT = 4  # BEGIN_LINE, then "."
SEEN_DOT_CR = 5  # BEGIN_LINE, then "." CR
SEEN_LF_DOT = 6  # BEGIN_LINE_LF, then "."
SEEN_LF_DOT_CR = 7  # BEGIN_LINE_LF, then "." CR

_DOTS = {SEEN_DOT: SEEN_DOT_CR, SEEN_LF_DOT: SEEN_LF_DOT_CR}


class Framing:
    """Finds commands and contents in the octets of one session."""

    def __init__(self, line_octets_max: int = COMMAND_LINE_OCTETS_MAX) -> None:
        self.set_line_octets_max(line_octets_max)
        self._rest = bytearray()
        self._is_skipping = False  # consume up to the next CR LF ...
        self._skip_answer = NEED_MORE  # ... and answer this there (NEED_MORE: said already)
        self._skip_after_cr = False
        self._skip_left = 0  # or consume so many octets
        self._is_reading_content = False
        self._is_chunked = False  # from begin_chunked_content() to end_chunks()
        self._chunk_left = 0
        self._content: bytearray | None = None
        self.verb = Verb.UNKNOWN
        self.line = b""
        self.argument = b""
        self.content_size = 0
        self.violations = 0

    def set_line_octets_max(self, line_octets_max: int) -> None:
        """The limit of the lines that are not read yet (RFC 4954 4: a response may be longer)."""
        if line_octets_max < 16:
            raise ValueError("line_octets_max is at least 16")
        self._line_octets_max = line_octets_max

    def feed(self, buffer: bytes | bytearray | memoryview, count: int = -1) -> None:
        """Take the first `count` octets of `buffer` (all of them when negative).

        The compiled Framing looks at them in place: the buffer stays unchanged until keep_rest().
        """
        if count > len(buffer):
            raise ValueError("count is larger than the buffer")
        self._rest += memoryview(buffer)[: count if count >= 0 else None]

    def keep_rest(self) -> None:
        """Copy what is not consumed; after that the buffer given to feed() is the caller's."""

    def buffered(self) -> int:
        """How many octets are here that nothing has consumed."""
        return len(self._rest)

    def next_command(self) -> int:
        """Consume one command line. Say NEED_MORE, COMMAND, or what is wrong with the line.

        A lone CR or LF within the limit is reported as soon as it is seen; everything else when
        the CR LF arrives. The limit counts CR LF (RFC 5321 4.5.3.1.4).
        """
        if self._is_reading_content:
            raise RuntimeError("next_command() while content is read")
        while True:
            if self._is_skipping:
                if not self._skip_line():
                    return NEED_MORE
                if self._skip_answer != NEED_MORE:
                    return self._skip_answer
            answer = self._scan_line()
            if answer is not None:
                return answer

    def _scan_line(self) -> int | None:
        """One line, or None when the rest of a line has to be skipped first."""
        window = self._rest[: self._line_octets_max]
        for pos, octet in enumerate(window):
            if octet == LF:
                self._skip(pos + 1, NEED_MORE, after_cr=False)
                return BARE_CR_OR_LF
            if octet == CR and pos + 1 < len(window):
                if window[pos + 1] != LF:
                    self._skip(pos + 1, NEED_MORE, after_cr=True)
                    return BARE_CR_OR_LF
                line = bytes(window[:pos])
                del self._rest[: pos + 2]
                return self._take_line(line)
        if len(window) == self._line_octets_max:
            self._skip(len(window), TOO_LONG, after_cr=window[-1] == CR)
            return None
        return NEED_MORE

    def _take_line(self, line: bytes) -> int:
        if 0 in line:
            return NUL
        end = len(line)
        for pos, octet in enumerate(line):
            if octet in b" \t":
                end = pos
                break
        self.verb = VERB_OF.get(line[:end].upper(), Verb.UNKNOWN)
        self.line = line
        self.argument = line[end:].strip(b" \t")
        return COMMAND

    def skip(self, size: int) -> None:
        """Drop the next `size` octets, whatever they are; no command is found before.

        For the octets of a chunk that is refused: nothing of them is kept.
        """
        if self._is_reading_content or self._is_skipping:
            raise RuntimeError("skip() in the middle of a line or content")
        if size < 0:
            raise ValueError("size is negative")
        self._skip_octets(size)

    def _skip_octets(self, size: int) -> None:
        """Consume what is here of so many octets; what is not here will be skipped."""
        self._skip_left = size - len(self._rest[:size])
        del self._rest[:size]
        self._is_skipping = self._skip_left > 0
        self._skip_answer = NEED_MORE

    def _skip(self, count: int, answer: int, *, after_cr: bool) -> None:
        del self._rest[:count]
        self._is_skipping = True
        self._skip_answer = answer
        self._skip_after_cr = after_cr

    def _skip_line(self) -> bool:
        """Consume what is to be dropped; False when the rest of it is not here yet."""
        if self._skip_left > 0:
            self._skip_octets(self._skip_left)
            return not self._is_skipping
        for pos, octet in enumerate(self._rest):
            if octet == LF and self._skip_after_cr:
                del self._rest[: pos + 1]
                self._is_skipping = False
                return True
            self._skip_after_cr = octet == CR
        self._rest.clear()
        return False

    def begin_content(
        self, prefix: bytes, size_max: int, is_normalizing: bool, size_hint: int = 0
    ) -> None:
        """From the next octet on content is read, which will stand behind `prefix`.

        `size_max` (0: none) limits the canonical content, prefix not counted. `size_hint` is what
        the client announced.
        """
        if self._is_reading_content or self._is_chunked or self._is_skipping:
            raise RuntimeError("begin_content() in the middle of a line or content")
        self._is_reading_content = True
        self._content = bytearray(prefix)
        self._size_max = size_max
        self._is_normalizing = is_normalizing
        self._state = BEGIN_LINE
        self._line_octets = 0
        self.content_size = 0
        self.violations = 0

    def begin_chunked_content(
        self, prefix: bytes, size_max: int, is_normalizing: bool, size_hint: int = 0
    ) -> None:
        """Like begin_content(), for a content that comes in chunks (RFC 3030 2).

        Each chunk begins with begin_chunk() and is read by read_content(); between two of them
        there are commands. A "." is an octet like others. What is wrong with lone CR and LF, NUL,
        lines and size is asked of all chunks together: CR and LF may be in different ones.
        """
        self.begin_content(prefix, size_max, is_normalizing, size_hint)
        self._is_reading_content = False
        self._is_chunked = True

    def begin_chunk(self, size: int) -> None:
        """The next `size` octets are content, whatever they are."""
        if not self._is_chunked or self._is_reading_content or self._is_skipping:
            raise RuntimeError("begin_chunk() in the middle of something, or without content")
        if size < 0:
            raise ValueError("size is negative")
        self._is_reading_content = True
        self._chunk_left = size

    def read_content(self) -> int:
        """Consume content. DONE at CR LF . CR LF (RFC 5321 4.1.1.4), which is nowhere else.

        Of a chunked content: DONE at the end of the chunk.
        """
        if not self._is_reading_content:
            raise RuntimeError("read_content() without begin_content()")
        window = self._rest[: self._chunk_left] if self._is_chunked else self._rest
        for pos, octet in enumerate(window):
            if self._take_octet(octet):
                del self._rest[: pos + 1]
                self._is_reading_content = False
                return DONE
        del self._rest[: len(window)]
        if not self._is_chunked:
            return NEED_MORE
        self._chunk_left -= len(window)
        if self._chunk_left > 0:
            return NEED_MORE
        self._is_reading_content = False
        return DONE

    def end_chunks(self) -> None:
        """The last chunk is read: the content is done, and take_content() gives it.

        A last line without its CR LF gets it, as if the client had sent it; a CR at the very end
        is a lone one.
        """
        if not self._is_chunked or self._is_reading_content:
            raise RuntimeError("end_chunks() in a chunk, or without content")
        if self._state not in (BEGIN_LINE, BEGIN_LINE_LF):
            self._take_octet(CR)
            self._take_octet(LF)
        self._is_chunked = False

    def take_piece(self) -> bytes:
        """What is gathered of a content that goes on; the next piece begins behind it.

        The prefix stands in the first piece. Whatever the pieces, together with what take_content()
        then gives they are the same octets. Raises RuntimeError when there is no content to take
        from: it is done, refused or discarded.
        """
        if self._content is None or not (self._is_reading_content or self._is_chunked):
            raise RuntimeError("no content to take a piece of")
        piece, self._content = bytes(self._content), bytearray()
        return piece

    def discard_content(self) -> None:
        """Read the content on to its end, and keep nothing of it."""
        self._content = None

    def drop_content(self) -> None:
        """Forget the content wherever it stands, or do nothing when there is none.

        A chunked content is over: what is still to come of its chunk is skipped, then there are
        commands. One with an end of data is read on to it, as after discard_content().
        """
        self._content = None
        if self._is_chunked:
            self._is_chunked = False
            if self._is_reading_content:
                self._is_reading_content = False
                self._skip_octets(self._chunk_left)

    def take_content(self) -> bytes:
        """The prefix and the canonical content, once, when it is done and not refused.

        After pieces were taken: what comes behind the last of them.
        """
        if self._is_reading_content or self._is_chunked or self._content is None:
            raise RuntimeError("no content to take")
        content, self._content = bytes(self._content), None
        return content

    def _take_octet(self, octet: int) -> bool:
        """What an octet is by itself, then what it is in its place; True at the end of data."""
        self._line_octets += 1
        if self._line_octets > LINE_OCTETS_HARD:
            self._refuse(Violation.LINE_TOO_LONG)
        if octet == LF:
            self._line_octets = 0
        if octet == 0:
            self._refuse(Violation.NUL)
        return self._read_octet(octet)

    def _read_octet(self, octet: int) -> bool:
        """One step of the automaton; True at the end of data."""
        state = self._state
        if state in (SEEN_CR, SEEN_DOT_CR, SEEN_LF_DOT_CR):
            return self._read_after_cr(octet)
        if octet == CR:
            self._state = _DOTS.get(state, SEEN_CR)
            return False
        if octet == LF:
            self._read_bare_lf()
            return False
        if octet == DOT and not self._is_chunked and state in (BEGIN_LINE, BEGIN_LINE_LF):
            self._state = SEEN_DOT if state == BEGIN_LINE else SEEN_LF_DOT
            return False
        # After a leading "." comes something else: RFC 5321 4.5.2, the "." is not content.
        self._store(bytes((octet,)))
        self._state = MIDDLE
        return False

    def _read_after_cr(self, octet: int) -> bool:
        if octet == LF:
            if self._state == SEEN_DOT_CR:
                return True
            # A lone "." after a repaired line end is content: it is not the end of data.
            self._store(b".\r\n" if self._state == SEEN_LF_DOT_CR else b"\r\n")
            self._state = BEGIN_LINE
            return False
        self._repair(Violation.BARE_CR, b" ")
        self._state = MIDDLE
        return self._read_octet(octet)

    def _read_bare_lf(self) -> None:
        """A lone LF ends a line when it is repaired, never the data."""
        is_lone_dot = self._state in _DOTS
        self._repair(Violation.BARE_LF, b".\r\n" if is_lone_dot else b"\r\n")
        self._state = BEGIN_LINE_LF

    def _repair(self, violation: Violation, replacement: bytes) -> None:
        if self._is_normalizing:
            self.violations |= int(Violation.NORMALIZED)
        else:
            self._refuse(violation)
        self._store(replacement)

    def _store(self, octets: bytes) -> None:
        self.content_size += len(octets)
        if 0 < self._size_max < self.content_size:
            self._refuse(Violation.TOO_BIG)
        if self._content is not None:
            self._content += octets

    def _refuse(self, violation: Violation) -> None:
        self.violations |= int(violation)
        assert self.violations & REFUSING
        self._content = None
