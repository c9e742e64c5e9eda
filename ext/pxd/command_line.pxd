# Command lines: where one ends, and the verbs that every message needs. Inline only.
#
# Owns nothing; pointers are used during the call. Any thread may call, with or without the GIL.
# Never allocates and never decides what an answer means; the answers are those of frame.py.

from libc.string cimport memchr

cdef enum:
    NEED_MORE = 0
    COMMAND = 1
    TOO_LONG = 2
    BARE_CR_OR_LF = 3
    NUL = 4
    DONE = 5

cdef enum:
    CR = 13
    LF = 10
    SPACE = 32
    TAB = 9


cdef inline unsigned int word_of(const unsigned char *p) noexcept nogil:
    """Four octets in upper case, as one number. Only letters become letters."""
    return (
        (<unsigned int>p[0] << 24 | <unsigned int>p[1] << 16 | <unsigned int>p[2] << 8 | p[3])
        & 0xDFDFDFDFu
    )


cdef inline int verb_of(const unsigned char *p) noexcept nogil:
    """The verbs of four letters that every message needs; 0 for all others."""
    cdef unsigned int word = word_of(p)
    if word == 0x4D41494Cu:  # MAIL
        return 3
    if word == 0x52435054u:  # RCPT
        return 4
    if word == 0x44415441u:  # DATA
        return 5
    if word == 0x52534554u:  # RSET
        return 6
    if word == 0x45484C4Fu:  # EHLO
        return 2
    if word == 0x51554954u:  # QUIT
        return 11
    return 0


cdef inline int scan_line(
    const unsigned char *begin, Py_ssize_t size, Py_ssize_t line_max, Py_ssize_t *count
) noexcept nogil:
    """Find the end of a command line. `count` octets belong to the answer.

    COMMAND: the line with its CR LF. BARE_CR_OR_LF: up to the lone octet. TOO_LONG: line_max.
    """
    cdef Py_ssize_t window = size if size < line_max else line_max
    cdef const unsigned char *lf = <const unsigned char *>memchr(begin, LF, <size_t>window)
    cdef Py_ssize_t line_end = lf - begin if lf != NULL else window
    cdef const unsigned char *cr = <const unsigned char *>memchr(begin, CR, <size_t>line_end)
    if cr != NULL and cr - begin + 1 < line_end:
        count[0] = cr - begin + 1
        return BARE_CR_OR_LF
    if lf != NULL:
        count[0] = line_end + 1
        return COMMAND if cr != NULL else BARE_CR_OR_LF
    if window == line_max:
        count[0] = window
        return TOO_LONG
    count[0] = 0
    return NEED_MORE


cdef inline Py_ssize_t skip_line(
    const unsigned char *begin, Py_ssize_t size, bint *is_after_cr
) noexcept nogil:
    """How many octets there are up to CR LF, that included; 0 when it is not among them.

    `is_after_cr` tells whether the octet before `begin` is a CR, and then whether the last one is.
    """
    cdef const unsigned char *pos = begin
    cdef const unsigned char *end = begin + size
    cdef const unsigned char *lf
    while pos < end:
        lf = <const unsigned char *>memchr(pos, LF, <size_t>(end - pos))
        if lf == NULL:
            is_after_cr[0] = end[-1] == CR
            return 0
        if lf[-1] == CR if lf > begin else is_after_cr[0]:
            return lf - begin + 1
        is_after_cr[0] = False
        pos = lf + 1
    return 0


cdef inline Py_ssize_t split_line(
    const unsigned char *line, Py_ssize_t size, Py_ssize_t *begin, Py_ssize_t *end
) noexcept nogil:
    """How long the first word is; the argument, without blanks around it, is [begin, end)."""
    cdef Py_ssize_t word = 0
    while word < size and line[word] != SPACE and line[word] != TAB:
        word += 1
    begin[0] = word
    while begin[0] < size and (line[begin[0]] == SPACE or line[begin[0]] == TAB):
        begin[0] += 1
    end[0] = size
    while end[0] > begin[0] and (line[end[0] - 1] == SPACE or line[end[0] - 1] == TAB):
        end[0] -= 1
    return word
