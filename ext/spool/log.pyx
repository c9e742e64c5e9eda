"""The writing end of the log: two group buffers and the committer that flushes them.

Owns       Two malloc'ed group buffers and a copy of the header block to write. Nothing is borrowed
           beyond a call: every append copies its octets in.
Threads    `run` belongs to the committer thread and never takes the GIL between groups. Everything
           else belongs to the loop's thread. A buffer passes to the committer with `post` (one
           eventfd write) and back with `finish` (one eventfd read); no lock is ever taken.
Statuses   `finish` returns 0 or the errno of the write or flush that failed; of a failed group
           nothing may be acknowledged and its file must not be written again. Its octets are kept
           until `post_again` sends them to another file or `abandon` forgets them.
Never      Logs, reads the wall clock, decides where a group goes, retries a failed flush.
"""

cimport cython
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport read, write

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from crc32c cimport crc32c, crc32c_hard, crc32c_is_hard, crc32c_soft, crc32c_start
from group cimport Group, Order, commit, empty, grow
from logform cimport (
    BATCH_OCTETS,
    KIND_FOLD,
    KIND_MESSAGE,
    KIND_REFERENCE,
    KIND_STATE,
    KIND_TOMB,
    PAGE_OCTETS,
    PAYLOAD_HEAD_OCTETS,
    RECORD_OCTETS,
    REFERENCE_HEAD_OCTETS,
    align,
    put32,
    put64,
)

cdef extern from *:
    """
    #define fmta_publish(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define fmta_take(p) __atomic_exchange_n((p), 0, __ATOMIC_ACQ_REL)
    #define fmta_look(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    """
    void fmta_publish(int *p, int value) noexcept nogil
    int fmta_take(int *p) noexcept nogil
    int fmta_look(int *p) noexcept nogil

crc32c_start()


cdef int64_t monotonic_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef int wait_signal(int fd) noexcept nogil:
    cdef uint64_t value
    while read(fd, &value, 8) < 0:
        if errno != EINTR:
            return errno
    return 0


cdef int send_signal(int fd) noexcept nogil:
    cdef uint64_t value = 1
    while write(fd, &value, 8) < 0:
        if errno != EINTR:
            return errno
    return 0


cdef enum:
    ID_HALF_OCTETS = 8
    DIGIT_COUNT = 52

# Those of Postfix's long queue ids, without vowels: some log tools take nothing else for one.
cdef const unsigned char *DIGITS = b"0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"


cdef void encode_half(unsigned char *out, uint64_t value) noexcept nogil:
    cdef int at = ID_HALF_OCTETS
    while at:
        at -= 1
        out[at] = DIGITS[value % DIGIT_COUNT]
        value //= DIGIT_COUNT


@cython.final
cdef class Log:
    """Two group buffers: the open one takes records, the flying one is being made durable."""

    cdef Group groups[2]
    cdef Order order
    cdef unsigned char header[PAGE_OCTETS]
    cdef int open_index
    cdef int go_fd
    cdef int done_fd
    cdef int has_order  # published to the committer
    cdef int is_stopping  # published to the committer
    cdef int problem
    cdef int64_t spent_ns
    cdef size_t group_octets_max
    cdef size_t record_octets_max
    cdef readonly bint is_flying  # a group is with the committer, or it failed and is kept
    cdef readonly bint is_failed  # ... the latter

    def __cinit__(
        self, int go_fd, int done_fd, size_t group_octets_max, size_t record_octets_max
    ):
        memset(&self.groups[0], 0, 2 * sizeof(Group))
        self.groups[0].used = self.groups[1].used = BATCH_OCTETS
        self.go_fd = go_fd
        self.done_fd = done_fd
        self.group_octets_max = group_octets_max
        self.record_octets_max = record_octets_max

    def __dealloc__(self):
        free(self.groups[0].data)
        free(self.groups[1].data)

    @property
    def open_count(self):
        """Records in the open group."""
        return self.groups[self.open_index].count

    @property
    def open_octets(self):
        """What the open group would take in its segment."""
        return align(self.groups[self.open_index].used, PAGE_OCTETS)

    @property
    def flush_ns(self):
        """How long the last finished group took to write and flush."""
        return self.spent_ns

    def is_possible(self, size_t octets):
        """Whether a record with `octets` of variable payload can ever be written."""
        return octets <= self.record_octets_max

    def has_room(self, size_t octets):
        """Whether records with `octets` of payload and up to two heads go into the open group."""
        cdef Group *group = &self.groups[self.open_index]
        cdef size_t need = octets + 2 * (RECORD_OCTETS + PAYLOAD_HEAD_OCTETS + 8)
        return group.count == 0 or group.used + need <= self.group_octets_max

    cdef unsigned char *reserve(self, int kind, size_t length) except NULL:
        """Room for one record in the open group, its header begun; the address of its payload."""
        cdef Group *group = &self.groups[self.open_index]
        cdef size_t octets = align(RECORD_OCTETS + length, 8)
        cdef unsigned char *data
        grow(group, align(group.used + octets, PAGE_OCTETS))
        data = group.data + group.used
        memset(data, 0, RECORD_OCTETS)
        memset(data + octets - 8, 0, 8)
        put32(data + 4, <uint32_t>length)
        data[24] = kind
        group.used += octets
        group.count += 1
        return data + RECORD_OCTETS

    cdef unsigned char *begin(
        self, int kind, bytes id, size_t head_octets, size_t octets
    ) except NULL:
        """Room for a record of message `id`, which opens its payload; the payload's address.

        `octets` of it are variable and bounded, behind a head of fixed size.
        """
        cdef unsigned char *payload
        if PyBytes_GET_SIZE(id) != 16:
            raise ValueError("a queue id has 16 octets")
        if octets > self.record_octets_max:
            raise ValueError("record too large")
        payload = self.reserve(kind, head_octets + octets)
        memcpy(payload, PyBytes_AS_STRING(id), 16)
        return payload

    cdef size_t append_states(
        self, int kind, bytes id, uint64_t first, uint64_t second, bytes states
    ) except? 0:
        """Append a record of two numbers and the states of recipients."""
        cdef size_t octets = PyBytes_GET_SIZE(states)
        cdef size_t offset = self.groups[self.open_index].used
        cdef unsigned char *payload = self.begin(kind, id, PAYLOAD_HEAD_OCTETS, octets)
        put64(payload + 16, first)
        put64(payload + 24, second)
        memcpy(payload + PAYLOAD_HEAD_OCTETS, PyBytes_AS_STRING(states), octets)
        return offset

    def append_message(
        self, bytes id not None, uint64_t arrived_at_ns, bytes envelope not None,
        bytes content not None
    ):
        """Append a MSG record; its offset in the open group."""
        cdef size_t envelope_octets = PyBytes_GET_SIZE(envelope)
        cdef size_t content_octets = PyBytes_GET_SIZE(content)
        cdef size_t offset = self.groups[self.open_index].used
        cdef unsigned char *payload = self.begin(
            KIND_MESSAGE, id, PAYLOAD_HEAD_OCTETS, envelope_octets + content_octets
        )
        put64(payload + 16, arrived_at_ns)
        put32(payload + 24, <uint32_t>envelope_octets)
        put32(payload + 28, <uint32_t>content_octets)
        payload += PAYLOAD_HEAD_OCTETS
        memcpy(payload, PyBytes_AS_STRING(envelope), envelope_octets)
        memcpy(payload + envelope_octets, PyBytes_AS_STRING(content), content_octets)
        return offset

    def append_state(
        self, bytes id not None, uint64_t position, uint64_t recorded_at_ns, bytes states not None
    ):
        """Append a STATE record for the message at `position`; its offset in the open group."""
        return self.append_states(KIND_STATE, id, position, recorded_at_ns, states)

    def append_reference(
        self, bytes id not None, uint64_t arrived_at_ns, bytes envelope not None,
        uint64_t content_octets, uint32_t content_checksum, uint64_t boot
    ):
        """Append a REF record; its offset in the open group."""
        cdef size_t octets = PyBytes_GET_SIZE(envelope)
        cdef size_t offset = self.groups[self.open_index].used
        cdef unsigned char *payload = self.begin(
            KIND_REFERENCE, id, REFERENCE_HEAD_OCTETS, octets
        )
        put64(payload + 16, arrived_at_ns)
        put32(payload + 24, <uint32_t>octets)
        put32(payload + 28, content_checksum)
        put64(payload + 32, content_octets)
        put64(payload + 40, boot)
        memcpy(payload + REFERENCE_HEAD_OCTETS, PyBytes_AS_STRING(envelope), octets)
        return offset

    def append_fold(self, bytes id not None, uint64_t applied, bytes states not None):
        """Append a FOLD: `states` holds everything recorded below `applied` in the hot log."""
        return self.append_states(KIND_FOLD, id, applied, 0, states)

    def append_tomb(self, bytes id not None):
        """Append a TOMB: what the cold log holds of this message is void."""
        return self.append_states(KIND_TOMB, id, 0, 0, b"")

    def append_copy(self, int kind, const unsigned char[::1] payload not None):
        """Append a record with the payload of another one, a MSG or REF that moves."""
        cdef size_t octets = <size_t>payload.shape[0]
        cdef size_t offset = self.groups[self.open_index].used
        cdef unsigned char *out
        if kind != KIND_MESSAGE and kind != KIND_REFERENCE:
            raise ValueError("only a MSG or a REF moves")
        if octets < PAYLOAD_HEAD_OCTETS or octets > PAYLOAD_HEAD_OCTETS + self.record_octets_max:
            raise ValueError("record too large or too short")
        out = self.reserve(kind, octets)
        memcpy(out, &payload[0], octets)
        return offset

    def commit_here(self, uint64_t number, uint64_t durable, bytes header not None,
                    bint is_flushing):
        """Write and flush the open group in the calling thread, where `place` said; 0 or an errno.

        For a log without a committer. The group is empty afterwards, whatever came of it.
        """
        cdef int problem
        cdef Group *group = &self.groups[self.open_index]
        if self.is_flying or group.count == 0:
            raise RuntimeError("nothing to commit, or a committer is busy")
        self.instruct(number, durable, header, is_flushing)
        with nogil:
            problem = commit(group, &self.order, self.header)
        self.discard()
        return problem

    def discard(self):
        """Forget the records of the open group."""
        cdef Group *group = &self.groups[self.open_index]
        group.used = BATCH_OCTETS
        group.count = 0

    cdef int instruct(
        self, uint64_t number, uint64_t durable, bytes header, bint is_flushing
    ) except -1:
        """Complete the order."""
        self.order.number = number
        self.order.durable = durable
        self.order.is_flushing = is_flushing
        self.order.has_header = PyBytes_GET_SIZE(header) == PAGE_OCTETS
        if self.order.has_header:
            memcpy(self.header, PyBytes_AS_STRING(header), PAGE_OCTETS)
        return 0

    cdef int hand_over(self) except -1:
        """Wake the committer."""
        fmta_publish(&self.has_order, 1)
        if send_signal(self.go_fd):
            raise RuntimeError("the committer's eventfd is broken")
        return 0

    def prepare(self):
        """See to it that even a group without records can be posted. Raises MemoryError."""
        grow(&self.groups[self.open_index], PAGE_OCTETS)

    def place(self, int fd, uint64_t offset, uint64_t position, uint64_t epoch):
        """Say where the next posted group goes."""
        if self.is_flying and not self.is_failed:
            raise RuntimeError("a group is being written")
        self.order.fd = fd
        self.order.offset = offset
        self.order.position = position
        self.order.epoch = epoch

    def post(self, uint64_t number, uint64_t durable, bytes header not None, bint is_flushing):
        """Hand the open group to the committer; `header` is empty or the segment's first block.

        A group without records is a BATCH alone: it shows whether the log can be written.
        """
        if self.is_flying or self.groups[self.open_index].data == NULL:
            raise RuntimeError("the committer is busy, or there is no buffer to post")
        self.instruct(number, durable, header, is_flushing)
        self.is_flying = True
        self.open_index ^= 1
        self.hand_over()

    def post_again(
        self, uint64_t number, uint64_t durable, bytes header not None, bint is_flushing
    ):
        """Hand the group that failed to the committer once more, for a new place.

        Offsets within the group stay; epochs, positions and checksums are made anew.
        """
        if not self.is_failed:
            raise RuntimeError("no group has failed")
        self.instruct(number, durable, header, is_flushing)
        self.is_failed = False
        self.hand_over()

    def abandon(self):
        """Forget the group that failed."""
        if not self.is_failed:
            raise RuntimeError("no group has failed")
        self.is_flying = self.is_failed = False
        empty(&self.groups[self.open_index ^ 1])

    def finish(self):
        """Take the flying group back after the done-eventfd fired; 0 or an errno, -1: not yet.

        After an errno the group is kept and `is_failed`.
        """
        cdef uint64_t value
        if not self.is_flying or self.is_failed:
            return -1
        while read(self.done_fd, &value, 8) < 0:
            if errno == EAGAIN:
                return -1
            if errno != EINTR:
                raise RuntimeError("the committer's eventfd is broken")
        if self.problem:
            self.is_failed = True
            return self.problem
        self.is_flying = False
        empty(&self.groups[self.open_index ^ 1])
        return 0

    def run(self):
        """The committer's life: a group for every signal, until `stop`. Target of its thread."""
        with nogil:
            self.serve()

    cdef void serve(self) noexcept nogil:
        cdef int64_t began_ns
        while wait_signal(self.go_fd) == 0:
            if fmta_take(&self.has_order):
                began_ns = monotonic_ns()
                self.problem = commit(
                    &self.groups[self.open_index ^ 1], &self.order, self.header
                )
                self.spent_ns = monotonic_ns() - began_ns
                if send_signal(self.done_fd):
                    return
            if fmta_look(&self.is_stopping):
                return

    def stop(self):
        """Let the committer end after the group it may be writing; join its thread afterwards."""
        fmta_publish(&self.is_stopping, 1)
        if send_signal(self.go_fd):
            raise RuntimeError("the committer's eventfd is broken")


def encode_id(uint64_t prefix, uint64_t counter):
    """A queue id: 8 digits base 52 of each number, in ASCII order, so ids sort as the numbers.

    Ids of earlier versions, of base 62, cannot come again: a boot number is seconds since 1970, and
    of those of this century the first digit is another one.
    """
    cdef bytes id = PyBytes_FromStringAndSize(NULL, 2 * ID_HALF_OCTETS)
    cdef unsigned char *out = <unsigned char *>PyBytes_AS_STRING(id)
    encode_half(out, prefix)
    encode_half(out + ID_HALF_OCTETS, counter)
    return id


def checksum(const unsigned char[::1] octets not None, uint32_t start=0):
    """CRC32C of `octets`, the way this machine does it best; `start`: that of what came before."""
    cdef uint32_t sum = start
    if octets.shape[0]:
        with nogil:
            sum = crc32c(start, &octets[0], octets.shape[0])
    return sum


def checksum_soft(const unsigned char[::1] octets not None, uint32_t start=0):
    """CRC32C by tables; for the test that both ways agree."""
    return crc32c_soft(start, &octets[0], octets.shape[0]) if octets.shape[0] else start


def checksum_hard(const unsigned char[::1] octets not None):
    """CRC32C by the processor's instruction where there is one, else None."""
    if not crc32c_is_hard:
        return None
    return crc32c_hard(0, &octets[0], octets.shape[0]) if octets.shape[0] else 0
