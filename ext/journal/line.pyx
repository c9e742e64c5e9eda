# Events to log lines: the five lines of every relayed message. The specification is line_py.py.
#
# Owns: `_octets` (malloc; the block of lines that is being made, kept between blocks up to
# KEPT_OCTETS). take() hands out a copy; nothing looks into the block from outside.
# Thread: any one at a time, with the GIL. Never reads a clock, writes a file or logs.
# Everything that is not printable ASCII becomes "?" where it is copied, line ends included, so
# that only end_line() can end a line.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_GET_LENGTH
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy
cimport cython

from fastmta.event import MessageActive, MessageReceived, MessageRemoved, RecipientTried

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object text) noexcept
    void *PyUnicode_DATA(object text) noexcept

cdef enum:
    LINE_OCTETS_MAX = 2048  # as LINE_CHARACTERS_MAX of line_py.py; a test compares them
    NUMBER_OCTETS_MAX = 32
    FIRST_CAPACITY = 64 * 1024
    KEPT_OCTETS = 1024 * 1024
    SPACE = 32
    PRINTABLE_COUNT = 95
    QUESTION_MARK = 63
    LF = 10


cdef void copy_clean(
    unsigned char *to, const unsigned char *octets, Py_ssize_t size
) noexcept nogil:
    """Copy with "?" for all that is not printable; simple enough for the compiler's vectors."""
    cdef Py_ssize_t i
    for i in range(size):
        to[i] = (
            octets[i] if <unsigned char>(octets[i] - SPACE) < PRINTABLE_COUNT else QUESTION_MARK
        )


cdef Py_ssize_t put_count(unsigned char *to, unsigned long long count) noexcept nogil:
    """Write `count` in decimal; returns the number of digits."""
    cdef unsigned char digits[NUMBER_OCTETS_MAX]
    cdef Py_ssize_t size = 0
    cdef Py_ssize_t i
    while True:
        digits[size] = <unsigned char>(48 + count % 10)
        size += 1
        count //= 10
        if count == 0:
            break
    for i in range(size):
        to[i] = digits[size - 1 - i]
    return size


cdef Py_ssize_t put_delay(unsigned char *to, double delay_s) noexcept nogil:
    """Write a delay as number.py does: 0.04, 0.1, 3.2, 34. At most NUMBER_OCTETS_MAX octets."""
    cdef unsigned int scaled
    cdef Py_ssize_t size
    if not delay_s > 0:
        to[0] = 48
        return 1
    if delay_s >= 10:
        return put_count(to, <unsigned long long>((delay_s if delay_s < 1e9 else 1e9) + 0.5))
    if delay_s >= 1:
        scaled = <unsigned int>(delay_s * 10 + 0.5) * 10
    else:
        scaled = <unsigned int>(delay_s * 100 + 0.5)
    size = put_count(to, scaled // 100)
    scaled %= 100
    if scaled:
        to[size] = 46
        to[size + 1] = <unsigned char>(48 + scaled // 10)
        size += 2
        if scaled % 10:
            to[size] = <unsigned char>(48 + scaled % 10)
            size += 1
    return size


cdef double positive(double delay_s) noexcept nogil:
    return delay_s if delay_s > 0 else 0


@cython.final
cdef class Block:
    """Lines of one flush; see line_py.py for the meaning of everything."""

    cdef unsigned char *_octets
    cdef Py_ssize_t _size
    cdef Py_ssize_t _capacity
    cdef Py_ssize_t _line_start
    cdef object _front
    cdef dict _fronts  # of programs that are rarer than the four below
    cdef bytes _smtpd
    cdef bytes _cleanup
    cdef bytes _qmgr
    cdef bytes _smtp
    cdef readonly Py_ssize_t line_count
    cdef readonly long long accepted
    cdef readonly long long recipients
    cdef readonly long long content_octets
    cdef readonly long long delivered
    cdef readonly long long deferred
    cdef readonly long long bounced
    cdef readonly long long removed

    def __cinit__(self):
        self._octets = NULL
        self._size = self._capacity = self._line_start = 0
        self._front = None
        self._fronts = {}
        self._smtpd = self._cleanup = self._qmgr = self._smtp = b""

    def __dealloc__(self):
        free(self._octets)

    cdef int reserve(self, Py_ssize_t more) except -1:
        """Make room for `more` octets."""
        cdef Py_ssize_t capacity = self._capacity
        cdef unsigned char *octets
        assert 0 <= self._line_start <= self._size <= capacity
        if more <= capacity - self._size:
            return 0
        if capacity == 0:
            capacity = FIRST_CAPACITY
        while more > capacity - self._size:
            capacity *= 2
        octets = <unsigned char *>realloc(self._octets, capacity)
        if octets == NULL:
            raise MemoryError
        self._octets = octets
        self._capacity = capacity
        return 0

    cdef int put_octets(self, bytes octets) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(octets)
        self.reserve(size)
        copy_clean(self._octets + self._size, <unsigned char *>PyBytes_AS_STRING(octets), size)
        self._size += size
        return 0

    cdef int put_front(self, bytes front) except -1:
        """Begin a line with a front, which has been cleaned when it was set."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(front)
        self.reserve(size)
        memcpy(self._octets + self._size, PyBytes_AS_STRING(front), size)
        self._size += size
        return 0

    cdef int put_literal(self, const char *text, Py_ssize_t size) except -1:
        self.reserve(size)
        memcpy(self._octets + self._size, text, size)
        self._size += size
        return 0

    cdef int put_text(self, str text) except -1:
        cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text)
        if not PyUnicode_IS_ASCII(text):
            return self.put_octets(text.encode("ascii", "replace"))
        self.reserve(size)
        copy_clean(self._octets + self._size, <unsigned char *>PyUnicode_DATA(text), size)
        self._size += size
        return 0

    cdef int put_number(self, unsigned long long count) except -1:
        self.reserve(NUMBER_OCTETS_MAX)
        self._size += put_count(self._octets + self._size, count)
        return 0

    cdef int put_delays(self, tuple delays_s) except -1:
        cdef double a, b, c, d
        cdef unsigned char *octets
        cdef Py_ssize_t size
        a, b, c, d = delays_s
        self.reserve(16 + 5 * NUMBER_OCTETS_MAX)
        octets = self._octets + self._size
        memcpy(octets, b"delay=", 6)
        size = 6
        size += put_delay(octets + size, positive(a) + positive(b) + positive(c) + positive(d))
        memcpy(octets + size, b", delays=", 9)
        size += 9
        size += put_delay(octets + size, a)
        octets[size] = 47
        size += 1
        size += put_delay(octets + size, b)
        octets[size] = 47
        size += 1
        size += put_delay(octets + size, c)
        octets[size] = 47
        size += 1
        size += put_delay(octets + size, d)
        self._size += size
        return 0

    cdef int end_line(self) except -1:
        """The only place that ends a line; a line that is too long is cut."""
        self.reserve(1)
        if self._size - self._line_start > LINE_OCTETS_MAX:
            self._size = self._line_start + LINE_OCTETS_MAX
        self._octets[self._size] = LF
        self._size += 1
        self._line_start = self._size
        self.line_count += 1
        return 0

    cdef bytes front_of(self, str program):
        """The front of any program's lines; the names are those of our configuration."""
        cdef object front = self._fronts.get(program)
        if front is None:
            front = self._fronts[program] = clean(self._front(program))
        return front

    cdef int received(self, object event) except -1:
        cdef bytes queue_id = event.queue_id
        cdef bytes message_id_field = event.message_id_field
        cdef str client = event.client
        cdef str login = event.login
        cdef str mechanism = event.mechanism
        cdef str origin = event.origin
        cdef str service = event.service
        if client:
            self.accepted += 1
            self.put_front(self.front_of(service + "/smtpd") if service else self._smtpd)
            self.put_octets(queue_id)
            self.put_literal(b": client=", 9)
            self.put_text(client)
            if mechanism:
                self.put_literal(b", sasl_method=", 14)
                self.put_text(mechanism)
            if login:
                self.put_literal(b", sasl_username=", 16)
                self.put_text(login)
            if origin:
                self.put_text(origin)
            self.end_line()
        self.put_front(self._cleanup)
        self.put_octets(queue_id)
        self.put_literal(b": message-id=", 13)
        self.put_octets(message_id_field or b"<>")
        return self.end_line()

    cdef int active(self, object event) except -1:
        cdef long long size_octets = event.size_octets
        cdef long long recipient_count = event.recipient_count
        self.recipients += recipient_count
        self.content_octets += size_octets
        self.put_front(self._qmgr)
        self.put_octets(event.queue_id)
        self.put_literal(b": from=<", 8)
        self.put_octets(event.reverse_path)
        self.put_literal(b">, size=", 8)
        self.put_number(size_octets)
        self.put_literal(b", nrcpt=", 8)
        self.put_number(recipient_count)
        self.put_literal(b" (queue active)", 15)
        return self.end_line()

    cdef int tried(self, object event) except -1:
        cdef str kind = event.kind
        cdef bytes original_path = event.original_path
        cdef long long connection_use = event.connection_use
        if kind == "sent":
            self.delivered += 1
        elif kind == "deferred":
            self.deferred += 1
        elif kind == "bounced":
            self.bounced += 1
        self.put_front(self._smtp if event.transport == "smtp" else self.front_of(event.transport))
        self.put_octets(event.queue_id)
        self.put_literal(b": to=<", 6)
        self.put_octets(event.forward_path)
        if original_path:
            self.put_literal(b">, orig_to=<", 12)
            self.put_octets(original_path)
        self.put_literal(b">, relay=", 9)
        self.put_text(event.remote)
        if connection_use > 1:
            self.put_literal(b", conn_use=", 11)
            self.put_number(connection_use)
        self.put_literal(b", ", 2)
        self.put_delays(event.delays_s)
        self.put_literal(b", dsn=", 6)
        self.put_text(event.status)
        self.put_literal(b", status=", 9)
        self.put_text(kind)
        self.put_literal(b" (", 2)
        self.put_text(event.text)
        self.put_literal(b")", 1)
        return self.end_line()

    cdef int put_removed(self, object event) except -1:
        self.removed += 1
        self.put_front(self._qmgr)
        self.put_octets(event.queue_id)
        self.put_literal(b": removed", 9)
        return self.end_line()

    cdef int drop_block(self) except -1:
        """Begin with an empty block; a large one is given back."""
        self._size = self._line_start = 0
        self.line_count = 0
        if self._capacity > KEPT_OCTETS:
            free(self._octets)
            self._octets = NULL
            self._capacity = 0
        return 0

    def set_front(self, front):
        self._front = front
        self._fronts.clear()
        self._smtpd = clean(front("smtpd"))
        self._cleanup = clean(front("cleanup"))
        self._qmgr = clean(front("qmgr"))
        self._smtp = clean(front("smtp"))

    def add(self, str line):
        self.put_text(line)
        self.end_line()

    def render(self, list events, other, broken):
        cdef object event
        cdef object kind
        for event in events:
            kind = type(event)
            try:
                if kind is RecipientTried:
                    self.tried(event)
                elif kind is MessageReceived:
                    self.received(event)
                elif kind is MessageActive:
                    self.active(event)
                elif kind is MessageRemoved:
                    self.put_removed(event)
                else:
                    other(event)
            except Exception as error:
                self._size = self._line_start
                broken(event, error)

    def take(self):
        cdef bytes block = PyBytes_FromStringAndSize(<char *>self._octets, self._size)
        self.drop_block()
        return block


def clean(str text):
    """`text` with "?" for all that is not printable ASCII."""
    cdef bytes octets = text.encode("ascii", "replace")
    cdef Py_ssize_t size = PyBytes_GET_SIZE(octets)
    cdef bytes cleaned = PyBytes_FromStringAndSize(NULL, size)
    copy_clean(
        <unsigned char *>PyBytes_AS_STRING(cleaned),
        <unsigned char *>PyBytes_AS_STRING(octets),
        size,
    )
    return cleaned
