"""Walking a whole segment at the speed of reading it: every record checked, none made an object.

Owns       A `Walker` owns one window of the file and the list of references of its last walk.
Threads    Any, one at a time per `Walker`. A walk runs without the GIL from end to end.
Statuses   A walk ends at `limit`, or at the first place where no valid group or record stands;
           what that means (the end, a torn end, rot) is for `recovery` to judge.
Never      Writes, maps the file (a bad disk is then an errno and not a signal), believes a length
           before the octets that it counts are known to be inside the group.
"""

cimport cython
from libc.errno cimport EINTR, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset
from posix.types cimport off_t
from posix.unistd cimport pread

from cpython.bytes cimport PyBytes_FromStringAndSize

from crc32c cimport crc32c, crc32c_start
from logform cimport (
    BATCH_OCTETS,
    BATCH_PAYLOAD_OCTETS,
    KIND_BATCH,
    KIND_MESSAGE,
    KIND_REFERENCE,
    KIND_TOMB,
    PAGE_OCTETS,
    PAYLOAD_HEAD_OCTETS,
    RECORD_OCTETS,
    REFERENCE_HEAD_OCTETS,
    align,
    get32,
    get64,
)

cdef enum:
    WINDOW_OCTETS = 131_072  # small enough for the second-level cache
    LOOK_OCTETS = 4_096  # what can be looked at in one piece; room in front of the window
    HEAD_OCTETS = 80  # a record's header and what is read of its payload
    KINDS = 7
    NOT_VALID = 1

cdef struct Window:  # `first` to `last` of the buffer are what comes next
    int fd
    unsigned char *data
    size_t first
    size_t last
    uint64_t next  # offset in the file of what is read next

cdef struct Reference:
    unsigned char id[16]
    uint64_t position
    uint64_t octets
    uint64_t boot
    uint32_t checksum

cdef struct Walk:
    uint64_t base
    uint64_t epoch
    uint64_t size
    uint64_t pos
    uint64_t group_end  # of the group it is in; 0 between groups
    uint64_t counts[KINDS]
    Reference *references
    size_t reference_count
    size_t reference_room

crc32c_start()


cdef int refill(Window *window) noexcept nogil:
    """Read on, keeping what was not used; what is missing at the end of the file reads as zeros."""
    cdef size_t kept = window.last - window.first
    cdef size_t got = 0
    cdef ssize_t count
    memmove(window.data + LOOK_OCTETS - kept, window.data + window.first, kept)
    while got < WINDOW_OCTETS:
        count = pread(
            window.fd, window.data + LOOK_OCTETS + got, WINDOW_OCTETS - got,
            <off_t>(window.next + got)
        )
        if count > 0:
            got += <size_t>count
        elif count == 0:
            memset(window.data + LOOK_OCTETS + got, 0, WINDOW_OCTETS - got)
            break
        elif errno != EINTR:
            return errno
    window.first = LOOK_OCTETS - kept
    window.last = LOOK_OCTETS + WINDOW_OCTETS
    window.next += WINDOW_OCTETS
    return 0


cdef inline int look(Window *window, size_t count) noexcept nogil:
    """Have `count` octets (LOOK_OCTETS at most) in one piece; 0 or an errno."""
    return 0 if window.last - window.first >= count else refill(window)


cdef int skip(Window *window, size_t count, uint32_t *sum) noexcept nogil:
    """Go `count` octets on; take them into the checksum if there is one. 0 or an errno."""
    cdef size_t some
    cdef int problem
    while count:
        if window.first == window.last:
            problem = refill(window)
            if problem:
                return problem
        some = min(count, window.last - window.first)
        if sum != NULL:
            sum[0] = crc32c(sum[0], window.data + window.first, some)
        window.first += some
        count -= some
    return 0


cdef int keep_reference(Walk *walk, const unsigned char *payload) noexcept nogil:
    cdef size_t room = 64
    cdef Reference *grown
    cdef Reference *reference
    if walk.reference_count == walk.reference_room:
        if walk.reference_room:
            room = 2 * walk.reference_room
        grown = <Reference *>realloc(walk.references, room * sizeof(Reference))
        if grown == NULL:
            return errno
        walk.references = grown
        walk.reference_room = room
    reference = &walk.references[walk.reference_count]
    memcpy(reference.id, payload, 16)
    reference.position = walk.base + walk.pos
    reference.octets = get64(payload + 32)
    reference.checksum = get32(payload + 28)
    reference.boot = get64(payload + 40)
    walk.reference_count += 1
    return 0


cdef bint is_sane(int kind, const unsigned char *payload, size_t length) noexcept nogil:
    """Whether the payload's own lengths fit into it."""
    if kind == KIND_MESSAGE:
        return length >= PAYLOAD_HEAD_OCTETS and (
            <uint64_t>get32(payload + 24) + get32(payload + 28) == length - PAYLOAD_HEAD_OCTETS
        )
    if kind == KIND_REFERENCE:
        return length >= REFERENCE_HEAD_OCTETS and (
            get32(payload + 24) == length - REFERENCE_HEAD_OCTETS
        )
    return KIND_BATCH < kind <= KIND_TOMB and length >= PAYLOAD_HEAD_OCTETS


cdef int walk_record(Window *window, Walk *walk, uint64_t stop) noexcept nogil:
    """Check the record at `walk.pos`, which must end by `stop`, and go behind it."""
    cdef unsigned char head[HEAD_OCTETS]
    cdef size_t length, octets
    cdef uint32_t sum = 0
    cdef int problem, kind
    if stop - walk.pos < RECORD_OCTETS:
        return NOT_VALID
    problem = look(window, HEAD_OCTETS)
    if problem:
        return -problem
    memcpy(head, window.data + window.first, HEAD_OCTETS)
    length = get32(head + 4)
    kind = head[24]
    if (
        get64(head + 8) != walk.epoch or get64(head + 16) != walk.base + walk.pos
        or length > stop - walk.pos - RECORD_OCTETS
        or not is_sane(kind, head + RECORD_OCTETS, length)
    ):
        return NOT_VALID
    window.first += 4
    problem = skip(window, RECORD_OCTETS - 4 + length, &sum)
    if problem:
        return -problem
    if sum != get32(head):
        return NOT_VALID
    if kind == KIND_REFERENCE:
        problem = keep_reference(walk, head + RECORD_OCTETS)
        if problem:
            return -problem
    octets = align(RECORD_OCTETS + length, 8)
    problem = skip(window, octets - RECORD_OCTETS - length, NULL)
    walk.counts[kind] += 1
    walk.pos += octets
    return -problem


cdef int walk_batch(Window *window, Walk *walk, uint32_t *count) noexcept nogil:
    """Check the BATCH at `walk.pos`, and go behind it; its group's end and number of records."""
    cdef unsigned char head[HEAD_OCTETS]
    cdef uint64_t total
    cdef size_t length
    cdef int problem
    if walk.size - walk.pos < BATCH_OCTETS:
        return NOT_VALID
    problem = look(window, HEAD_OCTETS)
    if problem:
        return -problem
    memcpy(head, window.data + window.first, HEAD_OCTETS)
    length = get32(head + 4)
    total = get32(head + 48)
    if (
        head[24] != KIND_BATCH or length != BATCH_PAYLOAD_OCTETS
        or get64(head + 8) != walk.epoch or get64(head + 16) != walk.base + walk.pos
        or total == 0 or total % PAGE_OCTETS or total > walk.size - walk.pos
        or crc32c(0, head + 4, BATCH_OCTETS - 4) != get32(head)
    ):
        return NOT_VALID
    count[0] = get32(head + 52)
    window.first += BATCH_OCTETS
    walk.counts[KIND_BATCH] += 1
    walk.group_end = walk.pos + total
    walk.pos += BATCH_OCTETS
    return 0


cdef int walk_padding(Window *window, Walk *walk) noexcept nogil:
    """Only zeros, less than a page of them, may be left in the group."""
    cdef size_t left = <size_t>(walk.group_end - walk.pos)
    cdef size_t at
    cdef int problem
    if left >= PAGE_OCTETS:
        return NOT_VALID
    problem = look(window, left)
    if problem:
        return -problem
    for at in range(window.first, window.first + left):
        if window.data[at]:
            return NOT_VALID
    window.first += left
    walk.pos = walk.group_end
    walk.group_end = 0
    return 0


cdef int walk_groups(Window *window, Walk *walk, uint64_t limit) noexcept nogil:
    """Until `limit`, the first place that is not valid (NOT_VALID), or a negative errno."""
    cdef uint32_t count = 0
    cdef int status
    while walk.pos < limit:
        status = walk_batch(window, walk, &count)
        while count and not status:
            status = walk_record(window, walk, walk.group_end)
            count -= 1
        if not status:
            status = walk_padding(window, walk)
        if status:
            return status
    return 0


@cython.final
cdef class Walker:
    """Walks one segment after another with one buffer."""

    cdef Window window
    cdef Walk walked

    def __cinit__(self):
        memset(&self.window, 0, sizeof(Window))
        memset(&self.walked, 0, sizeof(Walk))
        self.window.data = <unsigned char *>malloc(LOOK_OCTETS + WINDOW_OCTETS)
        if self.window.data == NULL:
            raise MemoryError("no memory for a window of a segment")

    def __dealloc__(self):
        free(self.window.data)
        free(self.walked.references)

    def walk(self, int fd, uint64_t base, uint64_t epoch, uint64_t size, uint64_t limit):
        """Check the groups of a segment up to offset `limit`. Raises OSError if it cannot be read.

        Returns where the walk stopped, the end of the group it stopped in (0: between groups), and
        how many records of each kind it found valid, indexed by kind.
        """
        cdef Walk *walked = &self.walked
        cdef int status
        self.window.fd = fd
        self.window.first = self.window.last = LOOK_OCTETS
        self.window.next = 0
        walked.base, walked.epoch, walked.size = base, epoch, size
        walked.pos = walked.group_end = walked.reference_count = 0
        memset(walked.counts, 0, sizeof(walked.counts))
        with nogil:
            status = -skip(&self.window, PAGE_OCTETS, NULL)
            walked.pos = PAGE_OCTETS
            if status == 0:
                status = walk_groups(&self.window, walked, limit)
        if status < 0:
            raise OSError(-status, f"cannot be read at offset {walked.pos}")
        return walked.pos, walked.group_end, [walked.counts[kind] for kind in range(KINDS)]

    def references(self):
        """Of the last walk, one for each REF: id, position, octets, checksum, boot of its file."""
        cdef Reference *one
        cdef list found = []
        cdef size_t at
        for at in range(self.walked.reference_count):
            one = &self.walked.references[at]
            id = PyBytes_FromStringAndSize(<char *>one.id, 16)
            found.append((id, one.position, one.octets, one.checksum, one.boot))
        return found
