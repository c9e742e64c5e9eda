"""Looking through the rows of the index at the speed of reading them: which messages a filter
means, and what all of them come to.

Owns       `Sieve` and `Suspended` own copies of their texts; `Rows` holds a view of the mapped
           index file.
Threads    Any, one at a time per `Rows`, and only while nobody commits: the index thread's own
           calls. Walks run without the GIL, for at most as many rows as they are told.
Statuses   YES and NO are what `Filter` says of the same rows. MAYBE: the rows alone cannot tell
           (held mail has no next hop there), or are not as expected; the caller looks again.
Never      Writes, believes an octet of the file before its bounds are checked, reads the log.
"""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from sieve cimport (
    SIEVE_GLOBS_MAX,
    SIEVE_KINDS,
    SIEVE_MAYBE,
    SIEVE_NO,
    SIEVE_STATUSES,
    SIEVE_TERMS_MAX,
    SIEVE_YES,
    Person,
    Span,
    Suspension,
    Term,
    Terms,
    big,
    judge_person,
    read_person,
    suspend,
    term_accepts,
)
from btree cimport (
    TREE_DAMAGED,
    TREE_OK,
    TREE_OVER,
    TreeCursor,
    TreeFile,
    tree_find,
    tree_next,
    tree_open,
    tree_previous,
    tree_seek,
)

ID, SENDER, TENANT, RECIPIENT, DOMAIN, HOP, CODE = range(7)

cdef enum:
    ID_OCTETS = 16
    FIXED_OCTETS = 50  # of a message row, see row.pyx
    ROWS_STEPPED = 8  # recipients' rows that are passed over one by one before it is looked for
    AGES_MAX = 32


cdef int judge_message(const Terms *terms, const TreeCursor *row) noexcept nogil:
    """What its own row says."""
    cdef const unsigned char *value = row.value
    cdef Span id, sender, tenant
    cdef const Term *term
    cdef int at
    cdef int64_t arrived = <int64_t>big(value + 20, 8), size = <int64_t>big(value + 8, 4)
    if arrived <= terms.arrived_above or arrived >= terms.arrived_below:
        return SIEVE_NO
    if size <= terms.size_above or size >= terms.size_below:
        return SIEVE_NO
    id.data = row.key
    id.octets = ID_OCTETS
    sender.data = value + FIXED_OCTETS
    sender.octets = <int64_t>big(value + 48, 2)
    tenant.data = sender.data + sender.octets
    tenant.octets = <int64_t>row.value_octets - FIXED_OCTETS - sender.octets
    if tenant.octets < 0:
        return SIEVE_MAYBE
    if sender.octets == 0:
        sender.data = b"<>"  # as people write it
        sender.octets = 2
    for at in range(terms.count):
        term = &terms.terms[at]
        if (
            (term.kind == 0 and not term_accepts(terms, term, id))
            or (term.kind == 1 and not term_accepts(terms, term, sender))
            or (term.kind == 2 and not term_accepts(terms, term, tenant))
        ):
            return SIEVE_NO
    return SIEVE_YES


cdef int catch_up(TreeCursor *people, uint64_t root, const unsigned char *id) noexcept nogil:
    """Bring the recipients' cursor to the first row of message `id`, or beyond."""
    cdef int _stepped, status = TREE_OK
    for _stepped in range(ROWS_STEPPED):
        if people.key_octets >= ID_OCTETS and memcmp(people.key, id, ID_OCTETS) >= 0:
            return TREE_OK
        status = tree_next(people)
        if status:
            return status
    return tree_seek(people, root, id, ID_OCTETS)


cdef struct Totals:  # of what a census has seen
    uint64_t messages
    uint64_t octets
    uint64_t recipients[SIEVE_STATUSES]
    uint64_t queues[3]  # messages: some recipient is deferred; else some is queued; all are held
    int64_t oldest[3]  # arrival; 0: there is none
    uint64_t ages[AGES_MAX]
    int ages_count
    int64_t arrived_by[AGES_MAX]  # a message is of the first age whose moment it did not precede

cdef struct Look:  # one walk
    TreeFile file
    uint64_t messages, recipients  # roots
    int64_t rows_max
    int64_t limit
    const unsigned char *skipped  # sorted ids that are not looked at
    int64_t skipped_count
    unsigned char last[ID_OCTETS]  # where it begins, and how far it came
    bint is_beyond  # not at, but beyond `last`
    bint is_backward  # from the end, or from before `last`, towards the beginning
    int64_t rows
    bint is_end
    int64_t found
    unsigned char *ids  # room for `limit`
    unsigned char *certain


cdef bint is_skipped(const Look *look, const unsigned char *id) noexcept nogil:
    cdef int64_t low = 0, high = look.skipped_count, middle
    cdef int order
    while low < high:
        middle = (low + high) >> 1
        order = memcmp(look.skipped + middle * ID_OCTETS, id, ID_OCTETS)
        if order == 0:
            return True
        if order < 0:
            low = middle + 1
        else:
            high = middle
    return False


cdef int queue_of(const uint64_t *statuses) noexcept nogil:
    """By the numbers of situation.py, of a message that is not active."""
    if statuses[1]:
        return 0
    return 1 if statuses[0] else 2


cdef void note(Totals *totals, const unsigned char *value, const uint64_t *statuses) noexcept nogil:
    """Count one message, whose recipients have these statuses."""
    cdef int64_t arrived = <int64_t>big(value + 20, 8)
    cdef int at, queue = queue_of(statuses)
    totals.messages += 1
    totals.octets += big(value + 8, 4)
    for at in range(SIEVE_STATUSES):
        totals.recipients[at] += statuses[at]
    totals.queues[queue] += 1
    if totals.oldest[queue] == 0 or arrived < totals.oldest[queue]:
        totals.oldest[queue] = arrived
    for at in range(totals.ages_count):
        if arrived >= totals.arrived_by[at]:
            totals.ages[at] += 1
            break


cdef int judge_people(
    TreeCursor *people, const Terms *terms, const TreeCursor *row, uint64_t *statuses, int *out
) noexcept nogil:
    """What the rows of its recipients say; the cursor is left behind them."""
    cdef Person person
    cdef int verdict = SIEVE_NO, one, status = TREE_OK
    cdef const unsigned char *id = row.key
    cdef uint64_t left = big(row.value + 36, 4)
    while left and people.key_octets == ID_OCTETS + 4 and memcmp(people.key, id, ID_OCTETS) == 0:
        if read_person(people.value, people.value_octets, &person):
            one = SIEVE_MAYBE
        else:
            if terms.suspended_count:
                suspend(terms, &person)
            statuses[person.status] += 1
            one = judge_person(terms, &person) if terms.has_recipients else SIEVE_NO
        if one > verdict:
            verdict = one
        left -= 1
        status = tree_next(people)
        if status:
            break
    out[0] = verdict
    return status


cdef int begin(Look *look, TreeCursor *rows) noexcept nogil:
    """To the first row of a walk."""
    cdef int status
    if look.is_backward:
        if not look.is_beyond:
            memset(look.last, 255, ID_OCTETS)  # beyond every id
        status = tree_seek(rows, look.messages, look.last, ID_OCTETS)
        return status if status == TREE_DAMAGED else tree_previous(rows)
    status = tree_seek(rows, look.messages, look.last, ID_OCTETS if look.is_beyond else 0)
    if status == TREE_OK and rows.key_octets != ID_OCTETS:
        return TREE_DAMAGED
    if status == TREE_OK and look.is_beyond and memcmp(rows.key, look.last, ID_OCTETS) == 0:
        status = tree_next(rows)
    return status


cdef int walk(Look *look, const Terms *terms, Totals *totals) noexcept nogil:
    """From beyond `look.last` on, until enough is found or looked at."""
    cdef TreeCursor rows, people
    cdef uint64_t statuses[SIEVE_STATUSES]
    cdef int verdict, of_people, status, people_status = TREE_OVER
    cdef bint needs_people = terms.has_recipients or totals != NULL
    rows.file = people.file = look.file
    status = begin(look, &rows)
    if status == TREE_OK and needs_people:
        if rows.key_octets != ID_OCTETS:
            return TREE_DAMAGED
        people_status = tree_seek(&people, look.recipients, rows.key, ID_OCTETS)
    while status == TREE_OK:
        if look.rows >= look.rows_max or look.found >= look.limit:
            return TREE_OK
        if rows.key_octets != ID_OCTETS or rows.value_octets < FIXED_OCTETS:
            return TREE_DAMAGED
        memcpy(look.last, rows.key, ID_OCTETS)
        look.rows += 1
        verdict = SIEVE_NO
        if not is_skipped(look, rows.key):
            verdict = judge_message(terms, &rows)
        if verdict and needs_people:
            memset(statuses, 0, sizeof(statuses))
            of_people = SIEVE_NO
            if look.is_backward:
                people_status = tree_seek(&people, look.recipients, rows.key, ID_OCTETS)
            elif people_status == TREE_OK:
                people_status = catch_up(&people, look.recipients, rows.key)
            if people_status == TREE_OK:
                people_status = judge_people(&people, terms, &rows, statuses, &of_people)
            if people_status == TREE_DAMAGED:
                return TREE_DAMAGED
            if terms.has_recipients:
                verdict = of_people
            if verdict == SIEVE_YES and terms.queues and not terms.queues >> queue_of(statuses) & 1:
                verdict = SIEVE_NO
        if verdict == SIEVE_YES and totals != NULL:
            note(totals, rows.value, statuses)
        if verdict and (totals == NULL or verdict == SIEVE_MAYBE):
            memcpy(look.ids + look.found * ID_OCTETS, rows.key, ID_OCTETS)
            look.certain[look.found] = verdict == SIEVE_YES
            look.found += 1
        status = tree_previous(&rows) if look.is_backward else tree_next(&rows)
    look.is_end = status == TREE_OVER
    return TREE_OK if look.is_end else TREE_DAMAGED


cdef tuple collect(Look *look):
    """What was found, as objects; its room is given back."""
    cdef list ids = [], certain = []
    cdef int64_t at
    for at in range(look.found):
        ids.append(look.ids[at * ID_OCTETS:(at + 1) * ID_OCTETS])
        certain.append(look.certain[at] != 0)
    free(look.ids)
    free(look.certain)
    last = look.last[:ID_OCTETS] if look.is_beyond or look.rows else b""
    return ids, certain, last, look.is_end


@cython.final
cdef class Suspended:
    """Next hops to which nothing goes, with the reasons."""

    cdef Suspension *found
    cdef int64_t count
    cdef list held  # what they point to

    def __init__(self, list suspensions not None):
        """`suspensions`: (next hop, text, enhanced status), all octets."""
        self.held = sorted(suspensions)
        self.found = <Suspension *>malloc((len(self.held) + 1) * sizeof(Suspension))
        if self.found == NULL:
            raise MemoryError
        for hop, text, status in self.held:
            self.found[self.count].next_hop = span_of(<bytes?>hop)
            self.found[self.count].text = span_of(<bytes?>text)
            self.found[self.count].status = span_of(<bytes?>status)
            self.count += 1

    def __dealloc__(self):
        free(self.found)


cdef Span span_of(bytes octets) noexcept:
    """Of octets that somebody keeps."""
    cdef Span span
    span.data = <const unsigned char *>PyBytes_AS_STRING(octets)
    span.octets = PyBytes_GET_SIZE(octets)
    return span


@cython.final
cdef class Sieve:
    """The terms of a filter. Letters of patterns are lower-case, but for ids."""

    cdef Terms terms
    cdef list held  # what the patterns point to
    cdef Suspended suspended

    def __cinit__(self):
        memset(&self.terms, 0, sizeof(Terms))
        self.terms.globs = NULL
        self.terms.arrived_above = self.terms.size_above = -1
        self.terms.arrived_below = self.terms.size_below = <int64_t>((<uint64_t>1 << 63) - 1)

    def __init__(self, list patterns not None, uint32_t statuses, bint has_recipients):
        """`patterns`: (kind, [pattern, ...]) of each term. Raises ValueError: too many."""
        cdef Term *term
        cdef int count = 0
        self.held = []
        total = sum(len(found) for _, found in patterns)
        if len(patterns) > SIEVE_TERMS_MAX or total > SIEVE_GLOBS_MAX:
            raise ValueError("too many patterns")
        self.terms.globs = <Span *>malloc(SIEVE_GLOBS_MAX * sizeof(Span))
        if self.terms.globs == NULL:
            raise MemoryError
        for kind, found in patterns:
            if not 0 <= kind < SIEVE_KINDS:
                raise ValueError("no such kind")
            term = &self.terms.terms[self.terms.count]
            term.kind = kind
            term.first = count
            term.count = <int>len(found)
            for pattern in found:
                octets = <bytes?>pattern
                self.held.append(octets)
                self.terms.globs[count] = span_of(octets)
                count += 1
            self.terms.count += 1
        self.terms.statuses = statuses
        self.terms.has_recipients = has_recipients

    def __dealloc__(self):
        free(self.terms.globs)

    def situate(self, Suspended suspended not None, uint32_t queues):
        """Nothing goes to these; only messages of these queues, by bit; 0: of all."""
        self.suspended = suspended
        self.terms.suspended = suspended.found
        self.terms.suspended_count = suspended.count
        self.terms.queues = queues

    def bound(self, int64_t arrived_above, int64_t arrived_below, int64_t size_above,
              int64_t size_below):
        """Only messages that arrived, and are of a size, strictly between these."""
        self.terms.arrived_above = arrived_above
        self.terms.arrived_below = arrived_below
        self.terms.size_above = size_above
        self.terms.size_below = size_below


@cython.final
cdef class Rows:
    """The rows of an index file, as its last commit left them."""

    cdef const unsigned char[::1] data
    cdef TreeFile file
    cdef uint64_t messages
    cdef uint64_t recipients

    def __init__(self, data):
        """`data`: the whole file, mapped. Raises ValueError: it is not as expected."""
        self.data = data
        self.refresh()

    def refresh(self):
        """See what has been committed since. Raises ValueError."""
        cdef uint64_t main = 0
        cdef int status
        self.messages = self.recipients = <uint64_t>-1
        if self.data.shape[0] < 8_192:
            raise ValueError("the index file is too short")
        if tree_open(&self.file, &self.data[0], <uint64_t>self.data.shape[0], &main):
            raise ValueError("not an index file")
        status = tree_find(&self.file, main, b"message", 7, &self.messages)
        status |= tree_find(&self.file, main, b"recipient", 9, &self.recipients)
        if status & TREE_DAMAGED:
            raise ValueError("the index file is damaged")

    cdef int prepare(self, Look *look, bytes after, int64_t limit, int64_t rows_max) except -1:
        memset(look, 0, sizeof(Look))
        if PyBytes_GET_SIZE(after) not in (0, ID_OCTETS) or limit < 1 or rows_max < 1:
            raise ValueError("an id, or nothing, and limits are wanted")
        look.file = self.file
        look.messages = self.messages
        look.recipients = self.recipients
        look.limit = limit
        look.rows_max = rows_max
        look.is_beyond = PyBytes_GET_SIZE(after) > 0
        memcpy(look.last, PyBytes_AS_STRING(after), PyBytes_GET_SIZE(after))
        look.ids = <unsigned char *>malloc(limit * ID_OCTETS)
        look.certain = <unsigned char *>malloc(limit)
        if look.ids == NULL or look.certain == NULL:
            free(look.ids)
            free(look.certain)
            raise MemoryError
        return 0

    def find(self, Sieve sieve not None, bytes after not None, Py_ssize_t limit,
             Py_ssize_t rows_max, bint is_backward=False):
        """At most `limit` ids beyond `after` of messages that are meant, or may be; backward:
        before it, from the end if it is empty.

        Returns them, whether each is certain, the last id looked at, and whether that was all.
        Raises ValueError: the file is damaged.
        """
        cdef Look look
        cdef int status = TREE_DAMAGED
        self.prepare(&look, after, limit, rows_max)
        look.is_backward = is_backward
        try:
            with nogil:
                status = walk(&look, &sieve.terms, NULL)
        finally:
            found = collect(&look)
        if status:
            raise ValueError("the index file is damaged")
        return found

    def count(self, Sieve sieve not None, bytes after not None, list arrived_by not None,
              bytes skipped not None, Py_ssize_t limit, Py_ssize_t rows_max):
        """What the messages beyond `after` that are meant come to, `skipped` (sorted ids) apart.

        Returns messages, octets, recipients by status, messages by queue, by age, the oldest
        arrival by queue; then as `find` does: at most `limit` that may be meant, and where it
        ended.
        """
        cdef Look look
        cdef Totals totals
        cdef int status = TREE_DAMAGED, at
        memset(&totals, 0, sizeof(totals))
        if len(arrived_by) > AGES_MAX:
            raise ValueError("too many ages")
        totals.ages_count = <int>len(arrived_by)
        for at in range(totals.ages_count):
            totals.arrived_by[at] = arrived_by[at]
        self.prepare(&look, after, limit, rows_max)
        look.skipped = <const unsigned char *>PyBytes_AS_STRING(skipped)
        look.skipped_count = PyBytes_GET_SIZE(skipped) // ID_OCTETS
        try:
            with nogil:
                status = walk(&look, &sieve.terms, &totals)
        finally:
            found = collect(&look)
        if status:
            raise ValueError("the index file is damaged")
        return (
            totals.messages,
            totals.octets,
            [totals.recipients[at] for at in range(SIEVE_STATUSES)],
            [totals.queues[at] for at in range(3)],
            [totals.ages[at] for at in range(totals.ages_count)],
            [totals.oldest[at] for at in range(3)],
            *found,
        )
