# The automaton of a content, one octet at a time. Inline only: no module, no allocation.
#
# Owns nothing. Any thread may call, with or without the GIL. It says what an octet does; whether a
# lone CR or LF is repaired or refused is its caller's business. The specification is framing_py.py.

cdef enum:
    DOT = 46

cdef enum:  # What the octets just before the next one were.
    BEGIN_LINE = 0  # CR LF, or nothing at all
    BEGIN_LINE_LF = 1  # a lone LF (repaired): a line begins, but not one that can end the data
    MIDDLE = 2  # anything else
    SEEN_CR = 3  # a CR in the middle of a line
    SEEN_DOT = 4  # BEGIN_LINE, then "."
    SEEN_DOT_CR = 5  # BEGIN_LINE, then "." CR
    SEEN_LF_DOT = 6  # BEGIN_LINE_LF, then "."
    SEEN_LF_DOT_CR = 7  # BEGIN_LINE_LF, then "." CR

cdef enum:  # What one octet does, in this order.
    LONE_CR = 1  # the CR before it is a lone one
    PUT_DOT = 2  # the "." before it is content
    LONE_LF = 4  # it is a lone LF
    PUT_LINE_END = 8  # CR LF is content
    PUT_OCTET = 16  # it is content itself
    END_OF_DATA = 32  # RFC 5321 4.1.1.4


cdef inline int step(int *state, unsigned char octet, bint is_stuffed) noexcept nogil:
    """Go on by one octet. Unless `is_stuffed`, a "." is an octet like others."""
    cdef int was = state[0]
    cdef int does = 0
    if was == SEEN_CR or was == SEEN_DOT_CR or was == SEEN_LF_DOT_CR:
        if octet == 10:
            state[0] = BEGIN_LINE
            if was == SEEN_DOT_CR:
                return END_OF_DATA
            # A lone "." after a repaired line end is content: it is not the end of data.
            return PUT_DOT | PUT_LINE_END if was == SEEN_LF_DOT_CR else PUT_LINE_END
        does = LONE_CR
        was = MIDDLE
    if octet == 13:
        if was == SEEN_DOT:
            state[0] = SEEN_DOT_CR
        elif was == SEEN_LF_DOT:
            state[0] = SEEN_LF_DOT_CR
        else:
            state[0] = SEEN_CR
        return does
    if octet == 10:
        state[0] = BEGIN_LINE_LF
        if was == SEEN_DOT or was == SEEN_LF_DOT:
            does |= PUT_DOT
        return does | LONE_LF | PUT_LINE_END
    if octet == DOT and is_stuffed and (was == BEGIN_LINE or was == BEGIN_LINE_LF):
        state[0] = SEEN_DOT if was == BEGIN_LINE else SEEN_LF_DOT
        return does
    # RFC 5321 4.5.2: a leading "." before something else is not content.
    state[0] = MIDDLE
    return does | PUT_OCTET
