# What a filter's terms say of a recipient's row of the index, without an object: patterns, replies'
# codes, and msgpack as rows.py writes it. Inline only: no module, no state, no allocation.
#
# Owns nothing: spans point into rows and patterns of the caller's. Any thread may call, with or
# without the GIL. No length is believed before it is known to be within its row.

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memset

cdef enum:
    SIEVE_TERMS_MAX = 32
    SIEVE_GLOBS_MAX = 4_096
    SIEVE_KINDS = 7  # 0 id, 1 sender, 2 tenant; of recipients: 3 path, 4 domain, 5 next hop, 6 code
    SIEVE_NO = 0
    SIEVE_MAYBE = 1
    SIEVE_YES = 2
    SIEVE_STATUSES = 8

cdef struct Span:
    const unsigned char *data
    int64_t octets

cdef struct Term:  # one of its patterns must match
    int kind
    int first
    int count

cdef struct Suspension:  # nothing goes to that next hop; why, and the enhanced status of that
    Span next_hop
    Span text
    Span status

cdef struct Terms:
    Term terms[SIEVE_TERMS_MAX]
    int count
    Span *globs
    const Suspension *suspended  # by next hop
    int64_t suspended_count
    uint32_t statuses  # wanted ones, by bit; 0: whatever is not final
    uint32_t queues  # likewise, by the numbers of situation.py; 0: any
    bint has_recipients
    int64_t arrived_above, arrived_below, size_above, size_below

cdef struct Person:  # a recipient's row
    Span next_hop
    Span text
    Span path
    uint64_t status
    Span code  # of a text that has none; not in the row

cdef struct Packed:  # msgpack, read from `pos` on
    const unsigned char *pos
    const unsigned char *end


cdef inline uint64_t big(const unsigned char *p, int octets) noexcept nogil:
    cdef uint64_t value = 0
    cdef int at
    for at in range(octets):
        value = value << 8 | p[at]
    return value


cdef inline unsigned char lower(unsigned char octet) noexcept nogil:
    return octet + 32 if 65 <= octet <= 90 else octet


cdef inline bint glob_matches(Span glob, Span text, bint is_exact) noexcept nogil:
    """Whether the whole text is what the pattern says; `*` is any number of octets."""
    cdef int64_t p = 0, t = 0, star = -1, mark = 0
    cdef unsigned char one
    while t < text.octets:
        if p < glob.octets and glob.data[p] == b"*":
            star = p
            mark = t
            p += 1
            continue
        one = text.data[t] if is_exact else lower(text.data[t])
        if p < glob.octets and glob.data[p] == one:
            p += 1
            t += 1
        elif star >= 0:
            p = star + 1
            mark += 1
            t = mark
        else:
            return False
    while p < glob.octets and glob.data[p] == b"*":
        p += 1
    return p == glob.octets


cdef inline bint term_accepts(const Terms *terms, const Term *term, Span text) noexcept nogil:
    cdef int at
    for at in range(term.first, term.first + term.count):
        if glob_matches(terms.globs[at], text, term.kind == 0):
            return True
    return False


cdef inline Span find_octet(Span text, unsigned char octet, bint is_last) noexcept nogil:
    """What comes behind an octet: the whole text without one if the last is wanted, else none."""
    cdef Span rest = text
    cdef int64_t at, found = -1
    for at in range(text.octets):
        if text.data[at] == octet:
            found = at
            if not is_last:
                break
    if found < 0:
        if not is_last:
            rest.octets = 0
        return rest
    rest.data = text.data + found + 1
    rest.octets = text.octets - found - 1
    return rest


cdef inline Span plain_hop(Span hop) noexcept nogil:
    """A next hop without whose mail alone waits for it."""
    cdef Span plain = hop
    cdef int64_t at
    for at in range(hop.octets - 4):
        if memcmp(hop.data + at, b" for ", 5) == 0:
            plain.octets = at
            break
    return plain


cdef inline Span before_octet(Span text, unsigned char octet) noexcept nogil:
    """What comes before the first such octet; the whole text without one."""
    cdef Span front = text
    cdef int64_t at
    for at in range(text.octets):
        if text.data[at] == octet:
            front.octets = at
            break
    return front


cdef inline bint hop_accepted(const Terms *terms, const Term *term, Span hop) noexcept nogil:
    cdef Span plain = plain_hop(hop)
    cdef Span place = find_octet(plain, b":", False)
    return (
        term_accepts(terms, term, hop)
        or term_accepts(terms, term, plain)
        or term_accepts(terms, term, place)
        or term_accepts(terms, term, before_octet(place, b"#"))
    )


cdef inline bint is_digit(unsigned char octet) noexcept nogil:
    return 48 <= octet <= 57


cdef inline int64_t enhanced_octets(const unsigned char *p, int64_t count) noexcept nogil:
    """Octets of the enhanced status code that stands there; 0 when there is none."""
    cdef int64_t at = 2, part, first
    if count < 5 or (p[0] != 50 and p[0] != 52 and p[0] != 53) or p[1] != b".":
        return 0
    for part in range(2):
        first = at
        while at < count and at - first < 3 and is_digit(p[at]):
            at += 1
        if at == first:
            return 0
        if part == 0:
            if at >= count or p[at] != b".":
                return 0
            at += 1
    if at < count and (is_digit(p[at]) or p[at] == b"."):
        return 0
    return at


cdef inline bint code_accepted(const Terms *terms, const Term *term, Span text) noexcept nogil:
    """The reply in `text` begins behind the first ": " that three digits follow."""
    cdef int64_t at, octets
    cdef Span code
    cdef const unsigned char *p = text.data
    for at in range(text.octets - 4):
        if p[at] != b":" or p[at + 1] != b" " or p[at + 2] < 50 or p[at + 2] > 53:
            continue
        if not (is_digit(p[at + 3]) and is_digit(p[at + 4])):
            continue
        if at + 5 < text.octets and p[at + 5] != b" " and p[at + 5] != b"-":
            continue
        code.data = p + at + 2
        code.octets = 3
        if term_accepts(terms, term, code):
            return True
        octets = enhanced_octets(p + at + 6, text.octets - at - 6)
        code.data = p + at + 6
        code.octets = octets
        return octets > 0 and term_accepts(terms, term, code)
    return False


cdef inline int read_number(Packed *packed, uint64_t *out) noexcept nogil:
    """An unsigned number; -1: it is something else."""
    cdef int octets
    cdef unsigned char kind
    if packed.pos >= packed.end:
        return -1
    kind = packed.pos[0]
    if kind < 0x80:
        out[0] = kind
        packed.pos += 1
        return 0
    if kind < 0xCC or kind > 0xCF:
        return -1
    octets = 1 << (kind - 0xCC)
    if packed.end - packed.pos <= octets:
        return -1
    out[0] = big(packed.pos + 1, octets)
    packed.pos += 1 + octets
    return 0


cdef inline int read_span(Packed *packed, Span *out) noexcept nogil:
    """A string or octets; -1: it is something else."""
    cdef int octets
    cdef uint64_t count
    cdef unsigned char kind
    if packed.pos >= packed.end:
        return -1
    kind = packed.pos[0]
    packed.pos += 1
    if 0xA0 <= kind <= 0xBF:
        count = kind & 31
    else:
        if 0xC4 <= kind <= 0xC6:
            octets = 1 << (kind - 0xC4)
        elif 0xD9 <= kind <= 0xDB:
            octets = 1 << (kind - 0xD9)
        else:
            return -1
        if packed.end - packed.pos < octets:
            return -1
        count = big(packed.pos, octets)
        packed.pos += octets
    if count > <uint64_t>(packed.end - packed.pos):
        return -1
    out.data = packed.pos
    out.octets = <int64_t>count
    packed.pos += count
    return 0


cdef inline int read_state(Packed *packed, Person *out) noexcept nogil:
    """Status and text of a state, or of none; whatever comes behind them is passed over."""
    cdef unsigned char kind
    cdef int fields, at
    cdef uint64_t number = 0
    if packed.pos >= packed.end:
        return -1
    kind = packed.pos[0]
    packed.pos += 1
    if kind == 0xC0:
        return 0
    if kind & 0xF0 != 0x90:
        return -1
    fields = kind & 15
    if fields < 5 or fields > 6:
        return -1
    for at in range(4):
        if read_number(packed, &number):
            return -1
        if at == 1:
            out.status = number
    if read_span(packed, &out.text):
        return -1
    if fields == 6:
        if packed.pos >= packed.end or (packed.pos[0] != 0xC2 and packed.pos[0] != 0xC3):
            return -1
        packed.pos += 1
    return 0


cdef inline int read_person(
    const unsigned char *value, uint64_t octets, Person *out
) noexcept nogil:
    """A recipient's row; -1: it is not as rows.py makes them now."""
    cdef Packed packed
    cdef uint64_t due = 0
    memset(out, 0, sizeof(Person))
    packed.pos = value
    packed.end = value + octets
    if octets < 1 or value[0] != 0x94:
        return -1
    packed.pos += 1
    if read_span(&packed, &out.next_hop) or read_number(&packed, &due):
        return -1
    if read_state(&packed, out) or read_span(&packed, &out.path):
        return -1
    return 0 if packed.pos == packed.end and out.status < SIEVE_STATUSES else -1


cdef inline const Suspension *find_suspension(const Terms *terms, Span hop) noexcept nogil:
    """Why nothing goes to that next hop; NULL: it is not among them."""
    cdef int64_t low = 0, high = terms.suspended_count, middle, count
    cdef const Suspension *one
    cdef int order
    while low < high:
        middle = (low + high) >> 1
        one = &terms.suspended[middle]
        count = one.next_hop.octets if one.next_hop.octets < hop.octets else hop.octets
        order = memcmp(one.next_hop.data, hop.data, count)
        if order == 0:
            if one.next_hop.octets == hop.octets:
                return one
            order = -1 if one.next_hop.octets < hop.octets else 1
        if order < 0:
            low = middle + 1
        else:
            high = middle
    return NULL


cdef inline void suspend(const Terms *terms, Person *person) noexcept nogil:
    """What situation.py makes of a recipient to whose next hop nothing goes."""
    cdef const Suspension *found
    if person.status > 1 or (person.status == 1 and person.text.octets):
        return
    found = find_suspension(terms, person.next_hop)
    if found != NULL:
        person.status = 1
        if not person.text.octets:
            person.text = found.text
            person.code = found.status


cdef inline bint is_final(uint64_t status) noexcept nogil:
    return 2 <= status <= 4 or status == 6  # delivered, failed, expired; deleted


cdef inline int judge_person(const Terms *terms, const Person *person) noexcept nogil:
    cdef int at
    cdef bint is_certain = True
    cdef const Term *term
    if terms.statuses:
        if not terms.statuses >> person.status & 1:
            return SIEVE_NO
    elif is_final(person.status):
        return SIEVE_NO
    for at in range(terms.count):
        term = &terms.terms[at]
        if term.kind == 3:
            if not term_accepts(terms, term, person.path):
                return SIEVE_NO
        elif term.kind == 4:
            if not term_accepts(terms, term, find_octet(person.path, b"@", True)):
                return SIEVE_NO
        elif term.kind == 5:
            if not person.next_hop.octets:
                is_certain = False
            elif not hop_accepted(terms, term, person.next_hop):
                return SIEVE_NO
        elif term.kind == 6 and not (
            code_accepted(terms, term, person.text)
            or (person.code.octets and term_accepts(terms, term, person.code))
        ):
            return SIEVE_NO
    return SIEVE_YES if is_certain else SIEVE_MAYBE
