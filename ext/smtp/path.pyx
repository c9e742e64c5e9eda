# Plain arguments of MAIL and RCPT: `FROM:<dot-string@domain>` with parameters, and `FROM:<>`.
# Everything else goes to path_py.py, which is the specification and the grammar of the rest.
#
# Owns nothing; pointers into the argument are used during the call only.
# Thread: any, with the GIL. Never decides policy. No answer of its own but Problem.NONE.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from . import limit, path_py, problem

cdef enum:
    ATEXT = 1  # RFC 5322 3.2.3
    LET_DIG_HYP = 2  # RFC 5321 4.1.2, and "_"
    NOT_DIGIT = 4  # of LET_DIG_HYP
    KEYWORD = 8  # esmtp-keyword
    VALUE = 16  # esmtp-value

cdef struct Plain:
    Py_ssize_t local_begin
    Py_ssize_t at
    Py_ssize_t domain_end
    Py_ssize_t end  # behind ">"

cdef unsigned char CLASSES[256]
cdef Py_ssize_t LOCAL_PART_OCTETS_MAX = limit.LOCAL_PART_OCTETS_MAX
cdef Py_ssize_t DOMAIN_OCTETS_MAX = limit.DOMAIN_OCTETS_MAX
cdef Py_ssize_t LABEL_OCTETS_MAX = limit.LABEL_OCTETS_MAX
cdef object NONE = problem.Problem.NONE
cdef object parse_mail_slowly = path_py.parse_mail
cdef object parse_rcpt_slowly = path_py.parse_rcpt


cdef int fill_classes() except -1:
    """The octets of each class; a test compares them with the twin's octet by octet."""
    cdef int octet
    letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    digits = b"0123456789"
    for octet in range(256):
        CLASSES[octet] = 0
        if octet in letters + digits + b"!#$%&'*+-/=?^_`{|}~":
            CLASSES[octet] |= ATEXT
        if octet in letters + digits + b"-_":
            CLASSES[octet] |= LET_DIG_HYP
        if octet in letters + b"-_":
            CLASSES[octet] |= NOT_DIGIT
        if octet in letters + digits + b"-":
            CLASSES[octet] |= KEYWORD
        if 33 <= octet <= 126 and octet != 61:
            CLASSES[octet] |= VALUE
    return 0


fill_classes()


# --- Core ---------------------------------------------------------------------------------------

cdef Py_ssize_t scan_dot_string(
    const unsigned char *p, Py_ssize_t pos, Py_ssize_t end
) noexcept nogil:
    """The "@" behind a dot-string that begins at pos; -1 when it is not that plain."""
    cdef Py_ssize_t begin = pos
    while pos < end:
        if CLASSES[p[pos]] & ATEXT:
            pos += 1
        elif p[pos] == 46 and pos > begin and p[pos - 1] != 46:
            pos += 1
        else:
            break
    if pos == begin or pos >= end or p[pos] != 64 or p[pos - 1] == 46 or p[begin] == 45:
        return -1
    return pos if pos - begin <= LOCAL_PART_OCTETS_MAX else -1


cdef Py_ssize_t scan_domain(const unsigned char *p, Py_ssize_t pos, Py_ssize_t end) noexcept nogil:
    """The ">" behind a domain name that begins at pos; -1 when it is not that plain."""
    cdef Py_ssize_t begin = pos, label = pos
    cdef bint has_name = False
    while pos < end:
        if CLASSES[p[pos]] & LET_DIG_HYP:
            if CLASSES[p[pos]] & NOT_DIGIT:
                has_name = True
            pos += 1
            continue
        if pos == label or pos - label > LABEL_OCTETS_MAX or p[label] == 45 or p[pos - 1] == 45:
            return -1
        if p[pos] != 46:
            break
        pos += 1
        label = pos
    if pos >= end or p[pos] != 62 or not has_name or pos - begin > DOMAIN_OCTETS_MAX:
        return -1
    return pos


cdef bint scan_plain(
    const unsigned char *p, Py_ssize_t pos, Py_ssize_t size, Plain *plain
) noexcept nogil:
    """Whether a plain path in angle brackets stands behind the colon at `pos - 1`."""
    while pos < size and (p[pos] == 32 or p[pos] == 9):
        pos += 1
    if pos >= size or p[pos] != 60:
        return False
    plain.local_begin = pos + 1
    if pos + 1 < size and p[pos + 1] == 62:
        plain.at = plain.domain_end = pos + 1
        plain.end = pos + 2
        return True
    plain.at = scan_dot_string(p, pos + 1, size)
    if plain.at < 0:
        return False
    plain.domain_end = scan_domain(p, plain.at + 1, size)
    plain.end = plain.domain_end + 1
    return plain.domain_end > 0


# --- Door ---------------------------------------------------------------------------------------

cdef bytes path_of(const unsigned char *p, Plain *plain):
    """`local-part@domain`, the domain in lower case."""
    cdef Py_ssize_t pos
    cdef Py_ssize_t size = plain.domain_end - plain.local_begin
    cdef bytes path = PyBytes_FromStringAndSize(<const char *>p + plain.local_begin, size)
    cdef char *octets = PyBytes_AS_STRING(path)
    for pos in range(plain.at - plain.local_begin, size):
        if 65 <= octets[pos] <= 90:
            octets[pos] |= 32
    return path


cdef tuple parameters_of(const unsigned char *p, Py_ssize_t pos, Py_ssize_t size):
    """The parameters, or None when something is wrong with them."""
    cdef Py_ssize_t begin, equals
    cdef list parameters = []
    cdef bytes keyword, value, other
    while pos < size:
        if p[pos] == 32 or p[pos] == 9:
            pos += 1
            continue
        begin = pos
        while pos < size and CLASSES[p[pos]] & KEYWORD:
            pos += 1
        if pos == begin or p[begin] == 45:
            return None
        keyword = p[begin:pos].upper()
        value = b""
        if pos < size and p[pos] == 61:
            pos += 1
            equals = pos
            while pos < size and CLASSES[p[pos]] & VALUE:
                pos += 1
            if pos == equals:
                return None
            value = p[equals:pos]
        if pos < size and p[pos] != 32 and p[pos] != 9:
            return None
        for other, _ in parameters:
            if other == keyword:
                return None
        parameters.append((keyword, value))
    return tuple(parameters)


cdef object parse_plain(const unsigned char *p, Py_ssize_t size, Py_ssize_t pos, bint may_be_null):
    """(NONE, path, parameters), or None when the twin has to look at it."""
    cdef Plain plain
    cdef tuple parameters = ()
    if not scan_plain(p, pos, size, &plain):
        return None
    if plain.at == plain.local_begin:
        if not may_be_null:
            return None
        path = b""
    else:
        path = path_of(p, &plain)
    if plain.end < size:
        if p[plain.end] != 32 and p[plain.end] != 9:
            return None
        parameters = parameters_of(p, plain.end, size)
        if parameters is None:
            return None
    return NONE, path, parameters


def parse_mail(bytes argument not None, bint is_utf8=False):
    """The argument of MAIL: (Problem, reverse-path, parameters)."""
    cdef const unsigned char *p = <const unsigned char *>PyBytes_AS_STRING(argument)
    cdef Py_ssize_t size = len(argument)
    if (
        size > 5 and p[0] | 32 == 102 and p[1] | 32 == 114 and p[2] | 32 == 111
        and p[3] | 32 == 109 and p[4] == 58
    ):
        parsed = parse_plain(p, size, 5, True)
        if parsed is not None:
            return parsed
    return parse_mail_slowly(argument, is_utf8)


def parse_rcpt(bytes argument not None, bint is_utf8=False):
    """The argument of RCPT: (Problem, forward-path, parameters)."""
    cdef const unsigned char *p = <const unsigned char *>PyBytes_AS_STRING(argument)
    cdef Py_ssize_t size = len(argument)
    if size > 3 and p[0] | 32 == 116 and p[1] | 32 == 111 and p[2] == 58:
        parsed = parse_plain(p, size, 3, False)
        if parsed is not None:
            return parsed
    return parse_rcpt_slowly(argument, is_utf8)
