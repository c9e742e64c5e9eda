# Questions to a whole canonical content. The specification is content_py.py.
#
# Owns nothing; pointers into the content are used during the call only.
# Thread: any, with the GIL. Never changes a content, never decides policy.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcpy

from octet_run cimport __builtin_popcountll, fastmta_masks, low_bits, masks_of

from . import content_py

cdef enum:
    CR = 13
    LF = 10
    DOT = 46
    SPACE = 32
    TAB = 9
    COLON = 58

cdef enum:
    IS_RECEIVED = 1
    IS_MESSAGE_ID = 2
    IS_DROPPED = 4

cdef object DROPPED_FIELDS = content_py.DROPPED_FIELDS
cdef object LineEndError = content_py.LineEndError


# --- Core ---------------------------------------------------------------------------------------

cdef struct line_facts:
    Py_ssize_t dots  # lines that begin with "."; -1: there is a lone CR or LF
    Py_ssize_t quiet  # the most blocks of 64 octets in a row without a line end


cdef line_facts look_at_lines(const unsigned char *p, Py_ssize_t size) noexcept nogil:
    """What `stuff` must know of all lines, in one go."""
    cdef Py_ssize_t pos = 0, dots = 0, quiet = 0, quiet_most = 0
    cdef line_facts facts
    cdef uint64_t after_cr = 0, after_lf = 1, bad, leading
    cdef fastmta_masks masks
    while pos < size:
        masks = masks_of(p + pos, size - pos)
        bad = masks.lf ^ ((masks.cr << 1) | after_cr)
        leading = masks.dot & ((masks.lf << 1) | after_lf)
        if size - pos < 64:
            bad &= low_bits(size - pos)
        if bad:
            facts.dots = -1
            facts.quiet = 0
            return facts
        if leading:
            dots += __builtin_popcountll(leading)
        quiet = 0 if masks.lf else quiet + 1
        if quiet > quiet_most:
            quiet_most = quiet
        after_cr = masks.cr >> 63
        after_lf = masks.lf >> 63
        pos += 64
    facts.dots = -1 if size > 0 and p[size - 1] == CR else dots
    facts.quiet = quiet_most
    return facts


cdef void copy_stuffed(const unsigned char *p, Py_ssize_t size, unsigned char *to) noexcept nogil:
    """Copy lines, with a "." before each that begins with one. `to` has room."""
    cdef Py_ssize_t pos = 0, count
    cdef const unsigned char *lf
    while pos < size:
        if p[pos] == DOT:
            to[0] = DOT
            to += 1
        lf = <const unsigned char *>memchr(p + pos, LF, <size_t>(size - pos))
        count = size - pos if lf == NULL else lf - (p + pos) + 1
        memcpy(to, p + pos, <size_t>count)
        to += count
        pos += count


cdef Py_ssize_t count_breaks(
    const unsigned char *p, Py_ssize_t size, Py_ssize_t line_max
) noexcept nogil:
    """How often lines are to be broken; every line ends with CR LF but perhaps the last."""
    cdef Py_ssize_t pos = 0, count, breaks = 0
    cdef const unsigned char *lf
    while pos < size:
        lf = <const unsigned char *>memchr(p + pos, LF, <size_t>(size - pos))
        count = size - pos if lf == NULL else lf - (p + pos) - 1
        if count > line_max:
            breaks += (count - line_max + line_max - 2) // (line_max - 1)
        pos = size if lf == NULL else lf - p + 1
    return breaks


cdef void copy_folded(
    const unsigned char *p, Py_ssize_t size, Py_ssize_t line_max, unsigned char *to
) noexcept nogil:
    """Copy lines, with CR LF and a space where one is too long. `to` has room."""
    cdef Py_ssize_t pos = 0, room, end, stop
    cdef const unsigned char *lf
    while pos < size:
        lf = <const unsigned char *>memchr(p + pos, LF, <size_t>(size - pos))
        end = size if lf == NULL else lf - p - 1
        room = line_max
        while end - pos > room:
            memcpy(to, p + pos, <size_t>room)
            to += room
            pos += room
            to[0] = CR
            to[1] = LF
            to[2] = SPACE
            to += 3
            room = line_max - 1
        stop = size if lf == NULL else lf - p + 1
        memcpy(to, p + pos, <size_t>(stop - pos))
        to += stop - pos
        pos = stop


cdef Py_ssize_t scan_line(const unsigned char *p, Py_ssize_t pos, Py_ssize_t size) noexcept nogil:
    """The offset behind the CR LF of the line at pos, or the end."""
    cdef const unsigned char *lf
    cdef Py_ssize_t at = pos
    while at < size:
        lf = <const unsigned char *>memchr(p + at, LF, <size_t>(size - at))
        if lf == NULL:
            return size
        at = lf - p + 1
        if lf > p + pos and lf[-1] == CR:
            return at
    return size


cdef Py_ssize_t scan_name(const unsigned char *p, Py_ssize_t pos, Py_ssize_t end) noexcept nogil:
    """The offset behind the name of the field at pos; 0 when it is no field."""
    cdef Py_ssize_t begin = pos, name_end
    while pos < end and 33 <= p[pos] <= 126 and p[pos] != COLON:
        pos += 1
    name_end = pos
    while pos < end and (p[pos] == SPACE or p[pos] == TAB):
        pos += 1
    return name_end if name_end > begin and pos < end and p[pos] == COLON else 0


cdef bint is_name(
    const unsigned char *p, const unsigned char *name, Py_ssize_t size
) noexcept nogil:
    """Whether `size` octets are this name in any case; the name is letters and "-"."""
    cdef Py_ssize_t pos
    for pos in range(size):
        if p[pos] != name[pos] and (p[pos] | 32 != name[pos] or name[pos] < 97):
            return False
    return True


# --- Door ---------------------------------------------------------------------------------------

cdef int kind_of(const unsigned char *p, Py_ssize_t size, frozenset dropped) except -1:
    """What a field of this name is to us. The common names are never looked up."""
    cdef int kind = 0
    cdef unsigned char first = p[0] | 32
    if first == 114 and size == 8 and is_name(p, b"received", 8):
        kind = IS_RECEIVED
    elif first == 109 and size == 10 and is_name(p, b"message-id", 10):
        kind = IS_MESSAGE_ID
    if dropped is DROPPED_FIELDS:
        if first == 98 and size == 3 and is_name(p, b"bcc", 3):
            kind |= IS_DROPPED
        elif first == 114 and size == 10 and is_name(p, b"resent-bcc", 10):
            kind |= IS_DROPPED
    elif p[:size].lower() in dropped:
        kind |= IS_DROPPED
    return kind


def scan_header_section(
    bytes content not None, Py_ssize_t start=0, frozenset dropped not None=DROPPED_FIELDS
):
    """Look over the header section at `start`; see the twin."""
    cdef const unsigned char *p = <const unsigned char *>PyBytes_AS_STRING(content)
    cdef Py_ssize_t size = len(content), pos = start, end, name_end, begin = -1
    cdef Py_ssize_t field_count = 0, received_count = 0
    cdef int kind = 0
    cdef bint is_empty
    cdef bytes message_id = None
    cdef list spans = None
    if start < 0:
        raise ValueError("start is not negative")
    while pos < size:
        end = scan_line(p, pos, size)
        is_empty = end - pos == 2 and p[pos] == CR and p[pos + 1] == LF
        if is_empty:
            name_end = 0
        elif p[pos] == SPACE or p[pos] == TAB:
            if begin < 0:
                break
            pos = end
            continue
        else:
            name_end = scan_name(p, pos, end)
        if kind & IS_DROPPED:
            spans = spans or []
            spans.append((begin, pos))
        if kind & IS_MESSAGE_ID and message_id is None:
            message_id = value_of(content[begin:pos])
        kind = 0
        if name_end == 0:
            if is_empty:
                pos = end
            break
        begin = pos
        field_count += 1
        kind = kind_of(p + pos, name_end - pos, dropped)
        if kind & IS_RECEIVED:
            received_count += 1
        pos = end
    if kind & IS_DROPPED:
        spans = spans or []
        spans.append((begin, pos))
    if kind & IS_MESSAGE_ID and message_id is None:
        message_id = value_of(content[begin:pos])
    return pos, received_count, field_count, message_id or b"", tuple(spans) if spans else ()


cdef bytes value_of(bytes field):
    """The value of a field, unfolded and trimmed."""
    return field.partition(b":")[2].replace(b"\r\n", b"").strip(b" \t")


def stuff(bytes content not None, Py_ssize_t line_max=0):
    """The octets to send before "." CR LF; the same object if nothing is to do. See the twin."""
    cdef const unsigned char *p = <const unsigned char *>PyBytes_AS_STRING(content)
    cdef Py_ssize_t size = len(content)
    cdef line_facts facts = look_at_lines(p, size)
    cdef Py_ssize_t dots = facts.dots
    cdef Py_ssize_t missing, breaks
    cdef unsigned char *to
    if dots < 0:
        raise LineEndError("a lone CR or LF in a content to send")
    # A line of one octet too many covers at least so many blocks whole: only then look closely.
    if line_max != 0 and facts.quiet >= (line_max - 62) // 64:
        if line_max < 2:
            raise ValueError("a line has room for a space and an octet")
        breaks = count_breaks(p, size, line_max)
        if breaks:
            folded = PyBytes_FromStringAndSize(NULL, size + 3 * breaks)
            copy_folded(p, size, line_max, <unsigned char *>PyBytes_AS_STRING(folded))
            return stuff(folded)
    missing = 2 if size > 0 and p[size - 1] != LF else 0
    if dots == 0 and missing == 0:
        return content
    stuffed = PyBytes_FromStringAndSize(NULL, size + dots + missing)
    to = <unsigned char *>PyBytes_AS_STRING(stuffed)
    copy_stuffed(p, size, to)
    if missing:
        to[size + dots] = CR
        to[size + dots + 1] = LF
    return stuffed
