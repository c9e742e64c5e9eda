# Octets of one inbound session to commands and contents. The specification is framing_py.py.
#
# Owns: `_rest` (malloc; octets kept between two feeds; none while nothing is kept) and `_content`
# (a bytes object that nobody else has seen, grown by doubling). Between feed() and keep_rest() it
# looks into the caller's buffer, which must not change meanwhile.
# Thread: any one at a time, with the GIL. Never logs, reads a clock or decides policy.
# NEED_MORE is an answer, never an error; exceptions mean broken use or no memory.

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF, Py_XDECREF, PyObject
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcpy, memmove
cimport cython

from command_line cimport (
    BARE_CR_OR_LF, COMMAND, CR, DONE, LF, NEED_MORE, NUL, TOO_LONG, scan_line, skip_line,
    split_line, verb_of,
)
from content_step cimport (
    BEGIN_LINE, BEGIN_LINE_LF, END_OF_DATA, LONE_CR, LONE_LF, MIDDLE, PUT_DOT, PUT_LINE_END,
    PUT_OCTET, step,
)
from octet_run cimport Line, clean_run

from . import frame, limit
from .verb import VERB_OF, Verb

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t newsize) except -1
    PyObject *PyBytes_NewRef "PyBytes_FromStringAndSize"(const char *v, Py_ssize_t len) except NULL

cdef enum:
    VIOLATION_BARE_CR = 1
    VIOLATION_BARE_LF = 2
    VIOLATION_NUL = 4
    VIOLATION_TOO_BIG = 8
    VIOLATION_LINE_TOO_LONG = 16
    VIOLATION_NORMALIZED = 32
    REFUSING = 31

cdef enum:
    SIZE_HINT_MAX = 262144  # what a client announces is not allocated beyond this
    CONTENT_GROWTH_MIN = 1024
    REST_SPARE_MAX = 4096  # a rest's buffer is not kept that much larger than needed

cdef tuple VERBS = tuple(Verb)
cdef Py_ssize_t LINE_OCTETS_HARD = limit.LINE_OCTETS_HARD
cdef object COMMAND_LINE_OCTETS_MAX = limit.COMMAND_LINE_OCTETS_MAX
assert [int(verb) for verb in VERBS] == list(range(len(VERBS)))
assert (NEED_MORE, COMMAND, TOO_LONG) == (frame.NEED_MORE, frame.COMMAND, frame.TOO_LONG)
assert (BARE_CR_OR_LF, NUL, DONE) == (frame.BARE_CR_OR_LF, frame.NUL, frame.DONE)
assert REFUSING == frame.REFUSING


# --- Holder and door ----------------------------------------------------------------------------

@cython.final
cdef class Framing:
    """Finds commands and contents in the octets of one session."""

    # Octets: [_pos, _end) of _data, which is the caller's buffer (_is_in_place) or _rest.
    cdef const unsigned char *_data
    cdef Py_ssize_t _pos, _end
    cdef Py_buffer _view
    cdef bint _is_in_place
    cdef unsigned char *_rest
    cdef Py_ssize_t _rest_capacity
    # Commands.
    cdef Py_ssize_t _line_octets_max, _argument_begin, _argument_end
    cdef bint _is_skipping, _skip_after_cr
    cdef Py_ssize_t _skip_left
    cdef int _skip_answer, _verb
    cdef readonly bytes line
    # Content.
    cdef bint _is_reading_content, _is_chunked, _is_normalizing, _has_content
    cdef Py_ssize_t _chunk_left
    cdef int _state
    cdef readonly int violations
    cdef readonly Py_ssize_t content_size
    cdef Py_ssize_t _size_max, _size_hint, _content_used, _content_capacity
    cdef Line _line
    cdef bytes _prefix
    cdef PyObject *_content

    def __cinit__(self, line_octets_max=COMMAND_LINE_OCTETS_MAX):
        self._data = NULL
        self._rest = NULL
        self._content = NULL
        self._is_in_place = False
        self.line = b""
        self.set_line_octets_max(line_octets_max)

    def __dealloc__(self):
        if self._is_in_place:
            PyBuffer_Release(&self._view)
        free(self._rest)
        Py_XDECREF(self._content)

    @property
    def verb(self):
        return VERBS[self._verb]

    @property
    def argument(self):
        return self.line[self._argument_begin:self._argument_end]

    def __sizeof__(self):
        """The object and what it owns, for the test of idle sessions."""
        return object.__sizeof__(self) + self._rest_capacity + self._content_capacity

    def set_line_octets_max(self, Py_ssize_t line_octets_max):
        """The limit of the lines that are not read yet."""
        if line_octets_max < 16:
            raise ValueError("line_octets_max is at least 16")
        self._line_octets_max = line_octets_max

    def feed(self, buffer, Py_ssize_t count=-1):
        """Take the first `count` octets of `buffer` (all of them when negative), in place."""
        cdef Py_buffer view
        self._keep()
        PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
        if count < 0:
            count = view.len
        if count > view.len:
            PyBuffer_Release(&view)
            raise ValueError("count is larger than the buffer")
        if count == 0:
            PyBuffer_Release(&view)
        elif self._rest == NULL:
            self._view = view
            self._is_in_place = True
            self._data = <const unsigned char *>view.buf
            self._pos = 0
            self._end = count
        else:
            try:
                self._append_rest(<const unsigned char *>view.buf, count)
            finally:
                PyBuffer_Release(&view)

    def keep_rest(self):
        """Copy what is not consumed; after that the buffer given to feed() is the caller's."""
        self._keep()

    def buffered(self):
        """How many octets are here that nothing has consumed."""
        return self._end - self._pos

    def next_command(self):
        """Consume one command line. Say NEED_MORE, COMMAND, or what is wrong with the line."""
        cdef int answer
        cdef Py_ssize_t begin, count = 0
        if self._is_reading_content:
            raise RuntimeError("next_command() while content is read")
        while True:
            if self._is_skipping:
                if not self._skip_line():
                    return NEED_MORE
                if self._skip_answer != NEED_MORE:
                    return self._skip_answer
            if self._pos == self._end:
                return NEED_MORE
            begin = self._pos
            answer = scan_line(
                self._data + begin, self._end - begin, self._line_octets_max, &count
            )
            self._pos += count
            if answer == COMMAND:
                return self._take_line(self._data + begin, count - 2)
            if answer == NEED_MORE:
                return NEED_MORE
            self._is_skipping = True
            self._skip_after_cr = self._data[self._pos - 1] == CR
            self._skip_answer = NEED_MORE if answer == BARE_CR_OR_LF else answer
            if answer == BARE_CR_OR_LF:
                return BARE_CR_OR_LF

    def skip(self, Py_ssize_t size):
        """Drop the next `size` octets, whatever they are; no command is found before."""
        if self._is_reading_content or self._is_skipping:
            raise RuntimeError("skip() in the middle of a line or content")
        if size < 0:
            raise ValueError("size is negative")
        self._skip_octets(size)

    def begin_content(
        self, bytes prefix not None, Py_ssize_t size_max, bint is_normalizing,
        Py_ssize_t size_hint=0,
    ):
        """From the next octet on content is read, which will stand behind `prefix`."""
        if self._is_reading_content or self._is_chunked or self._is_skipping:
            raise RuntimeError("begin_content() in the middle of a line or content")
        self._free_content()
        self._is_reading_content = True
        self._has_content = True
        self._prefix = prefix
        self._size_max = size_max
        self._size_hint = min(max(size_hint, 0), <Py_ssize_t>SIZE_HINT_MAX)
        self._is_normalizing = is_normalizing
        self._state = BEGIN_LINE
        self._line.octets = 0
        self._line.octets_max = LINE_OCTETS_HARD
        self._line.is_too_long = False
        self.content_size = 0
        self.violations = 0

    def begin_chunked_content(
        self, bytes prefix not None, Py_ssize_t size_max, bint is_normalizing,
        Py_ssize_t size_hint=0,
    ):
        """Like begin_content(), for a content that comes in chunks (RFC 3030 2)."""
        self.begin_content(prefix, size_max, is_normalizing, size_hint)
        self._is_reading_content = False
        self._is_chunked = True

    def begin_chunk(self, Py_ssize_t size):
        """The next `size` octets are content, whatever they are."""
        if not self._is_chunked or self._is_reading_content or self._is_skipping:
            raise RuntimeError("begin_chunk() in the middle of something, or without content")
        if size < 0:
            raise ValueError("size is negative")
        self._is_reading_content = True
        self._chunk_left = size

    def read_content(self):
        """Consume content. DONE at CR LF . CR LF (RFC 5321 4.1.1.4), which is nowhere else.

        Of a chunked content: DONE at the end of the chunk.
        """
        if not self._is_reading_content:
            raise RuntimeError("read_content() without begin_content()")
        if self._is_chunked:
            return self._read_chunk()
        if not self._read_to(self._end):
            return NEED_MORE
        self._is_reading_content = False
        return DONE

    def end_chunks(self):
        """The last chunk is read: what is open at its end is settled; see the twin."""
        if not self._is_chunked or self._is_reading_content:
            raise RuntimeError("end_chunks() in a chunk, or without content")
        if self._state != BEGIN_LINE and self._state != BEGIN_LINE_LF:
            self._read_octet(CR)
            self._read_octet(LF)
        self._is_chunked = False

    def take_piece(self):
        """What is gathered of a content that goes on; the next piece begins behind it."""
        if not (self._has_content and (self._is_reading_content or self._is_chunked)):
            raise RuntimeError("no content to take a piece of")
        self._size_hint = 0
        piece = self._take_gathered()
        self._prefix = b""
        return piece

    def discard_content(self):
        """Read the content on to its end, and keep nothing of it."""
        self._free_content()

    def drop_content(self):
        """Forget the content wherever it stands; see the twin."""
        self._free_content()
        if self._is_chunked:
            self._is_chunked = False
            if self._is_reading_content:
                self._is_reading_content = False
                self._skip_octets(self._chunk_left)

    def take_content(self):
        """The prefix and the canonical content, or what no piece had of them; see the twin."""
        if self._is_reading_content or self._is_chunked or not self._has_content:
            raise RuntimeError("no content to take")
        self._has_content = False
        return self._take_gathered()

    # Below: with the GIL; no Python code runs but a look-up of rare verbs.

    cdef bytes _take_gathered(self):
        """The octets behind the last piece; their buffer goes with them."""
        cdef object content
        if self._content == NULL:
            content, self._prefix = self._prefix, None
            return content
        if self._content_used < self._content_capacity:
            _PyBytes_Resize(&self._content, self._content_used)
        content = <object>self._content
        Py_DECREF(content)
        self._content = NULL
        self._content_used = 0
        self._content_capacity = 0
        return content

    cdef int _keep(self) except -1:
        """As keep_rest()."""
        cdef const unsigned char *begin
        cdef Py_ssize_t size = self._end - self._pos
        if self._is_in_place:
            begin = self._data + self._pos
            self._data = NULL
            self._pos = 0
            self._end = 0
            try:
                if size > 0:
                    self._append_rest(begin, size)
            finally:
                self._is_in_place = False
                PyBuffer_Release(&self._view)
        elif size == 0:
            self._free_rest()
        elif self._rest_capacity > REST_SPARE_MAX + 2 * size:
            self._shrink_rest(size)
        return 0

    cdef int _append_rest(self, const unsigned char *begin, Py_ssize_t size) except -1:
        """Put octets behind the rest, which grows by doubling and loses what is consumed."""
        cdef Py_ssize_t kept = self._end - self._pos
        cdef Py_ssize_t capacity
        cdef unsigned char *rest
        if self._pos > 0:
            memmove(self._rest, self._rest + self._pos, <size_t>kept)
            self._pos = 0
            self._end = kept
        if kept + size > self._rest_capacity:
            capacity = max(kept + size, 2 * self._rest_capacity)
            rest = <unsigned char *>realloc(self._rest, <size_t>capacity)
            if rest == NULL:
                raise MemoryError
            self._rest = rest
            self._rest_capacity = capacity
        memcpy(self._rest + kept, begin, <size_t>size)
        self._data = self._rest
        self._end = kept + size
        return 0

    cdef int _shrink_rest(self, Py_ssize_t size) noexcept:
        """Give back what a large burst needed; a failing realloc leaves all as it is."""
        cdef unsigned char *rest
        memmove(self._rest, self._rest + self._pos, <size_t>size)
        self._pos = 0
        self._end = size
        rest = <unsigned char *>realloc(self._rest, <size_t>size)
        if rest != NULL:
            self._rest = rest
            self._data = rest
            self._rest_capacity = size
        return 0

    cdef int _free_rest(self) noexcept:
        free(self._rest)
        self._rest = NULL
        self._rest_capacity = 0
        self._data = NULL
        self._pos = 0
        self._end = 0
        return 0

    cdef int _take_line(self, const unsigned char *begin, Py_ssize_t size) except -1:
        cdef Py_ssize_t word
        if memchr(begin, 0, <size_t>size) != NULL:
            return NUL
        word = split_line(begin, size, &self._argument_begin, &self._argument_end)
        self.line = PyBytes_FromStringAndSize(<const char *>begin, size)
        self._verb = verb_of(begin) if word == 4 else 0
        if self._verb == 0:
            self._verb = VERB_OF.get(self.line[:word].upper(), 0)
        return COMMAND

    cdef bint _skip_line(self) noexcept:
        """Consume what is to be dropped; False when the rest of it is not here yet."""
        cdef Py_ssize_t count = 0
        if self._skip_left > 0:
            self._skip_octets(self._skip_left)
        elif self._pos < self._end:
            count = skip_line(
                self._data + self._pos, self._end - self._pos, &self._skip_after_cr
            )
            self._pos = self._pos + count if count > 0 else self._end
            self._is_skipping = count == 0
        return not self._is_skipping

    cdef int _skip_octets(self, Py_ssize_t size) noexcept:
        """Consume what is here of so many octets; what is not here will be skipped."""
        cdef Py_ssize_t here = min(size, self._end - self._pos)
        self._pos += here
        self._skip_left = size - here
        self._skip_answer = NEED_MORE
        self._is_skipping = size > here
        return 0

    cdef int _read_chunk(self) except -1:
        cdef Py_ssize_t size = min(self._chunk_left, self._end - self._pos)
        self._read_to(self._pos + size)  # no end of data: dots mean nothing in a chunk
        self._chunk_left -= size
        if self._chunk_left > 0:
            return NEED_MORE
        self._is_reading_content = False
        return DONE

    cdef bint _read_to(self, Py_ssize_t end) except -1:
        """Consume content up to `end`; True at the end of data."""
        cdef Py_ssize_t run
        cdef const unsigned char *begin
        cdef bint is_done
        while self._pos < end:
            if self._state == BEGIN_LINE or self._state == MIDDLE:
                begin = self._data + self._pos
                run = clean_run(begin, end - self._pos, self._state == BEGIN_LINE, &self._line)
                if self._line.is_too_long:
                    self._refuse(VIOLATION_LINE_TOO_LONG)
                if run > 0:
                    self._store(begin, run)
                    self._state = BEGIN_LINE if begin[run - 1] == LF else MIDDLE
                    self._pos += run
                    continue
            is_done = self._read_octet(self._data[self._pos])
            self._pos += 1
            if is_done:
                return True
        return False

    cdef bint _read_octet(self, unsigned char octet) except -1:
        """One step of the automaton; True at the end of data."""
        cdef int does = step(&self._state, octet, not self._is_chunked)
        self._line.octets += 1
        if self._line.octets > LINE_OCTETS_HARD:
            self._refuse(VIOLATION_LINE_TOO_LONG)
        if octet == LF:
            self._line.octets = 0
        elif octet == 0:
            self._refuse(VIOLATION_NUL)
        if does & LONE_CR:
            self._repair(VIOLATION_BARE_CR)
            self._store(b" ", 1)
        if does & PUT_DOT:
            self._store(b".", 1)
        if does & LONE_LF:
            self._repair(VIOLATION_BARE_LF)
        if does & PUT_LINE_END:
            self._store(b"\r\n", 2)
        if does & PUT_OCTET:
            self._store(&octet, 1)
        return does == END_OF_DATA

    cdef int _repair(self, int violation) noexcept:
        if self._is_normalizing:
            self.violations |= VIOLATION_NORMALIZED
        else:
            self._refuse(violation)
        return 0

    cdef int _refuse(self, int violation) noexcept:
        self.violations |= violation
        self._free_content()
        return 0

    cdef int _free_content(self) noexcept:
        Py_XDECREF(self._content)
        self._content = NULL
        self._prefix = None
        self._has_content = False
        self._content_used = 0
        self._content_capacity = 0
        return 0

    cdef int _store(self, const unsigned char *begin, Py_ssize_t size) except -1:
        """Content octets behind the others, unless the content is refused."""
        self.content_size += size
        if 0 < self._size_max < self.content_size:
            self._refuse(VIOLATION_TOO_BIG)
        if not self._has_content:
            return 0
        if size > self._content_capacity - self._content_used:
            self._grow_content(size)
        memcpy(
            PyBytes_AS_STRING(<object>self._content) + self._content_used, begin, <size_t>size
        )
        self._content_used += size
        return 0

    cdef int _grow_content(self, Py_ssize_t size) except -1:
        cdef Py_ssize_t capacity
        if self._content == NULL:
            # What is here already is the best guess after what the client announced.
            capacity = len(self._prefix) + max(size, self._size_hint, self._end - self._pos)
            self._content = PyBytes_NewRef(NULL, capacity)
            self._content_used = len(self._prefix)
            memcpy(
                PyBytes_AS_STRING(<object>self._content),
                PyBytes_AS_STRING(self._prefix),
                <size_t>self._content_used,
            )
            self._prefix = None
        else:
            capacity = max(self._content_used + size, 2 * self._content_capacity)
            capacity = max(capacity, <Py_ssize_t>CONTENT_GROWTH_MIN)
            _PyBytes_Resize(&self._content, capacity)
        self._content_capacity = capacity
        return 0
