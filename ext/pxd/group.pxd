# A group of records on its way to the log: its buffer, where it is to go, and the writing of it.
# Shared by whatever appends to a log. `commit` needs no GIL; it returns 0 or an errno, and after
# an errno nobody knows what of the group is on the disk. A buffer belongs to its Group and is
# freed by `empty`, if it is unusually large, or by whoever owns the Group.

from libc.errno cimport EINTR, ENOSPC, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset
from posix.types cimport off_t
from posix.unistd cimport fdatasync, pwrite

from crc32c cimport crc32c
from logform cimport (
    BATCH_OCTETS,
    BATCH_PAYLOAD_OCTETS,
    KIND_BATCH,
    PAGE_OCTETS,
    RECORD_OCTETS,
    align,
    get32,
    put32,
    put64,
)

cdef enum:
    CAPACITY_FIRST = 262_144
    CAPACITY_KEPT_MAX = 8_388_608  # a larger buffer is given back after its group

cdef struct Group:
    unsigned char *data
    size_t capacity
    size_t used  # BATCH_OCTETS when empty: room for the BATCH record is kept in front
    uint32_t count

cdef struct Order:  # what the committer is to do with a group; valid from post to finish
    int fd
    uint64_t offset  # in the segment
    uint64_t position  # of the group in the log
    uint64_t epoch
    uint64_t number
    uint64_t durable
    int has_header
    int is_flushing


cdef inline void seal_record(
    unsigned char *record, uint32_t length, uint64_t epoch, uint64_t position
) noexcept nogil:
    put64(record + 8, epoch)
    put64(record + 16, position)
    put32(record, crc32c(0, record + 4, RECORD_OCTETS - 4 + length))


cdef inline size_t seal_group(Group *group, const Order *order) noexcept nogil:
    """Pad to whole pages, fill in BATCH, epochs, positions and checksums; the octets to write."""
    cdef size_t total = align(group.used, PAGE_OCTETS)
    cdef size_t pos = BATCH_OCTETS
    cdef unsigned char *batch = group.data
    cdef uint32_t length
    memset(group.data + group.used, 0, total - group.used)
    memset(batch, 0, BATCH_OCTETS)
    put32(batch + 4, BATCH_PAYLOAD_OCTETS)
    batch[24] = KIND_BATCH
    put64(batch + 32, order.number)
    put64(batch + 40, order.durable)
    put32(batch + 48, <uint32_t>total)
    put32(batch + 52, group.count)
    seal_record(batch, BATCH_PAYLOAD_OCTETS, order.epoch, order.position)
    while pos < group.used:
        length = get32(group.data + pos + 4)
        seal_record(group.data + pos, length, order.epoch, order.position + pos)
        pos += align(RECORD_OCTETS + length, 8)
    return total


cdef inline int write_whole(int fd, const unsigned char *data, size_t count, uint64_t offset) \
        noexcept nogil:
    cdef ssize_t written
    while count:
        written = pwrite(fd, data, count, <off_t>offset)
        if written > 0:
            data += written
            offset += <uint64_t>written
            count -= <size_t>written
        elif written == 0:
            return ENOSPC
        elif errno != EINTR:
            return errno
    return 0


cdef inline int flush_whole(int fd) noexcept nogil:
    """One fdatasync. An EINTR comes before the kernel has reported anything, so it may go on."""
    while fdatasync(fd) != 0:
        if errno != EINTR:
            return errno
    return 0


cdef inline int commit(Group *group, const Order *order, const unsigned char *header) \
        noexcept nogil:
    cdef size_t total = seal_group(group, order)
    cdef int problem
    if order.has_header:
        problem = write_whole(order.fd, header, PAGE_OCTETS, 0)
        if problem:
            return problem
    problem = write_whole(order.fd, group.data, total, order.offset)
    if problem or not order.is_flushing:
        return problem
    return flush_whole(order.fd)


cdef inline int grow(Group *group, size_t need) except -1:
    """See to it that `need` octets have room."""
    cdef size_t capacity = group.capacity
    cdef unsigned char *data
    if need > capacity:
        if capacity == 0:
            capacity = CAPACITY_FIRST
        while capacity < need:
            capacity *= 2
        data = <unsigned char *>realloc(group.data, capacity)
        if data == NULL:
            raise MemoryError("no memory for a group of the log")
        group.data = data
        group.capacity = capacity
    return 0


cdef inline void empty(Group *group) noexcept:
    """Forget the group's records, and give an unusually large buffer back."""
    group.used = BATCH_OCTETS
    group.count = 0
    if group.capacity > CAPACITY_KEPT_MAX:
        free(group.data)
        group.data = NULL
        group.capacity = 0
