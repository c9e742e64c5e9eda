"""The reading end of the log: finding records in a segment, and reading one message.

Owns       Nothing: the scanned segment is a buffer of the caller's, held for the call.
Threads    Any. Checksums, searches and reads run without the GIL.
Statuses   A record is valid when its length fits, its epoch and position are those of the place
           where it stands, and its checksum is right. Nothing else is ever believed.
Never      Decides whether damage is a torn tail or rot (recovery does, by proof); writes.
"""

from libc.errno cimport EINTR, EIO, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy
from posix.types cimport off_t
from posix.unistd cimport pread

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from crc32c cimport crc32c, crc32c_start
from logform cimport (
    BATCH_OCTETS,
    BATCH_PAYLOAD_OCTETS,
    KIND_BATCH,
    KIND_MESSAGE,
    KIND_REFERENCE,
    PAGE_OCTETS,
    PAYLOAD_HEAD_OCTETS,
    RECORD_OCTETS,
    REFERENCE_HEAD_OCTETS,
    align,
    get32,
    get64,
)

BATCH = KIND_BATCH

crc32c_start()

cdef struct View:
    const unsigned char *data
    size_t count
    uint64_t base
    uint64_t epoch


cdef bint is_record(const View *view, size_t pos, size_t stop) noexcept nogil:
    """Whether a valid record stands at `pos` and ends by `stop`."""
    cdef const unsigned char *p = view.data + pos
    cdef size_t length
    if pos >= stop or stop > view.count or stop - pos < RECORD_OCTETS:
        return False
    if get64(p + 8) != view.epoch or get64(p + 16) != view.base + pos:
        return False
    length = get32(p + 4)
    if length > stop - pos - RECORD_OCTETS:
        return False
    return crc32c(0, p + 4, RECORD_OCTETS - 4 + length) == get32(p)


cdef size_t group_octets(const View *view, size_t pos) noexcept nogil:
    """Octets of the group whose valid BATCH stands at `pos`; 0 when there is none."""
    cdef const unsigned char *p = view.data + pos
    cdef size_t total
    if not is_record(view, pos, view.count):
        return 0
    if p[24] != KIND_BATCH or get32(p + 4) < BATCH_PAYLOAD_OCTETS:
        return 0
    total = get32(p + 48)
    if total == 0 or total % PAGE_OCTETS or total > view.count - pos:
        return 0
    return total


cdef size_t search(const View *view, size_t pos, size_t stop, size_t step, bint batches) \
        noexcept nogil:
    """The first valid record (or BATCH) at a multiple of `step` from `pos` on; `stop` if none."""
    pos = align(pos, step)
    while pos < stop:
        if batches:
            if group_octets(view, pos):
                return pos
        elif is_record(view, pos, stop):
            return pos
        pos += step
    return stop


cdef size_t padding_end(const View *view, size_t pos, size_t stop) noexcept nogil:
    """Where the zeros that begin at `pos` end."""
    while pos < stop and view.data[pos] == 0:
        pos += 1
    return pos


cdef int read_whole(int fd, unsigned char *out, size_t count, uint64_t offset) noexcept nogil:
    cdef ssize_t got
    while count:
        got = pread(fd, out, count, <off_t>offset)
        if got > 0:
            out += got
            offset += <uint64_t>got
            count -= <size_t>got
        elif got == 0:
            return EIO
        elif errno != EINTR:
            return errno
    return 0


cdef View view_of(const unsigned char[::1] segment, uint64_t base, uint64_t epoch) noexcept:
    cdef View view
    view.data = &segment[0]
    view.count = <size_t>segment.shape[0]
    view.base = base
    view.epoch = epoch
    return view


def scan_groups(
    const unsigned char[::1] segment not None, uint64_t base, uint64_t epoch, size_t pos,
    size_t group_end, size_t records_max=0
):
    """Walk groups from `pos` on until something is not valid, or `records_max` were found.

    With `group_end` the walk begins inside a group that ends there. Returns the records as (kind,
    offset, payload octets), BATCH records among them; where the walk stopped; and the end of the
    group it stopped in, 0 when it stopped between groups.
    """
    cdef View view = view_of(segment, base, epoch)
    cdef list records = []
    cdef size_t length, total, walked = 0, expected = 0
    cdef bint is_counted = False
    while True:
        if group_end == 0:
            if pos >= view.count:
                return records, view.count, 0
            if records_max and <size_t>len(records) >= records_max:
                return records, pos, 0
            with nogil:
                total = group_octets(&view, pos)
            if total == 0:
                return records, pos, 0
            group_end = pos + total
            expected = get32(view.data + pos + 52)
            walked = 0
            is_counted = True
            records.append((KIND_BATCH, pos, get32(view.data + pos + 4)))
            pos += BATCH_OCTETS
        # A BATCH only opens a group; within one it is damage, and perhaps too short to be read.
        while is_record(&view, pos, group_end) and view.data[pos + 24] != KIND_BATCH:
            length = get32(view.data + pos + 4)
            records.append((view.data[pos + 24], pos, length))
            pos += align(RECORD_OCTETS + length, 8)
            walked += 1
        # Only padding may follow: less than a page of zeros, behind as many records as BATCH says.
        if (
            (is_counted and walked != expected) or group_end - pos >= PAGE_OCTETS
            or padding_end(&view, pos, group_end) < group_end
        ):
            return records, pos, group_end
        pos = group_end
        group_end = 0


def find_record(
    const unsigned char[::1] segment not None, uint64_t base, uint64_t epoch, size_t pos,
    size_t stop
):
    """Offset of the first valid record from `pos` on that ends by `stop`; `stop` if none."""
    cdef View view = view_of(segment, base, epoch)
    cdef size_t found
    with nogil:
        found = search(&view, pos, stop, 8, False)
    return found


def find_batch(
    const unsigned char[::1] segment not None, uint64_t base, uint64_t epoch, size_t pos
):
    """Offset of the first valid BATCH from `pos` on; the segment's size if none."""
    cdef View view = view_of(segment, base, epoch)
    cdef size_t found
    with nogil:
        found = search(&view, pos, view.count, PAGE_OCTETS, True)
    return found


def is_padding(const unsigned char[::1] segment not None, size_t pos, size_t stop):
    """Whether there are only zeros from `pos` to `stop`."""
    cdef View view = view_of(segment, 0, 0)
    return padding_end(&view, pos, min(stop, view.count)) >= stop


def parse_batch(const unsigned char[::1] segment not None, size_t pos):
    """Number, durable position, octets and records of the valid BATCH at `pos`."""
    cdef const unsigned char *p = &segment[pos] + RECORD_OCTETS
    return get64(p), get64(p + 8), get32(p + 16), get32(p + 20)


def parse_record_head(const unsigned char[::1] segment not None, size_t pos):
    """Epoch and position that the record at `pos` claims."""
    cdef const unsigned char *p = &segment[pos]
    if segment.shape[0] - <Py_ssize_t>pos < BATCH_OCTETS:
        raise ValueError("too short")
    return get64(p + 8), get64(p + 16)


def parse_message(const unsigned char[::1] segment not None, size_t pos, size_t length):
    """Id, arrival, envelope octets and content size of the valid MSG at `pos`."""
    cdef const unsigned char *p = &segment[pos] + RECORD_OCTETS
    cdef uint32_t envelope, content
    if length < PAYLOAD_HEAD_OCTETS:
        raise ValueError("not a MSG record")
    envelope = get32(p + 24)
    content = get32(p + 28)
    if <uint64_t>envelope + content != length - PAYLOAD_HEAD_OCTETS:
        raise ValueError("not a MSG record")
    return p[:16], get64(p + 16), p[32:32 + envelope], content


def parse_reference(const unsigned char[::1] segment not None, size_t pos, size_t length):
    """Id, arrival, envelope octets, content size, content checksum, boot of the REF at `pos`."""
    cdef const unsigned char *p = &segment[pos] + RECORD_OCTETS
    if length < REFERENCE_HEAD_OCTETS or get32(p + 24) != length - REFERENCE_HEAD_OCTETS:
        raise ValueError("not a REF record")
    return p[:16], get64(p + 16), p[REFERENCE_HEAD_OCTETS:length], get64(p + 32), \
        get32(p + 28), get64(p + 40)


def parse_fold(const unsigned char[::1] segment not None, size_t pos, size_t length):
    """Id, applied position and states octets of the FOLD at `pos`."""
    cdef const unsigned char *p = &segment[pos] + RECORD_OCTETS
    if length < PAYLOAD_HEAD_OCTETS:
        raise ValueError("not a FOLD record")
    return p[:16], get64(p + 16), p[32:length]


def parse_id(const unsigned char[::1] segment not None, size_t pos, size_t length):
    """Id of a record of any kind but BATCH at `pos`."""
    if length < PAYLOAD_HEAD_OCTETS:
        raise ValueError("not a record of a message")
    cdef const unsigned char *p = &segment[pos] + RECORD_OCTETS
    return p[:16]


def parse_state(const unsigned char[::1] segment not None, size_t pos, size_t length):
    """Id, position of the MSG, time and states octets of the valid STATE at `pos`."""
    cdef const unsigned char *p = &segment[pos] + RECORD_OCTETS
    if length < PAYLOAD_HEAD_OCTETS:
        raise ValueError("not a STATE record")
    return p[:16], get64(p + 16), get64(p + 24), p[32:length]


def read_record(int fd, uint64_t base, uint64_t size_octets, uint64_t epoch, uint64_t position):
    """Read the record at `position`, of any kind: its header and payload as one bytes object.

    None when there is no valid record. Raises OSError when the disk cannot be read.
    """
    cdef unsigned char head[RECORD_OCTETS]
    cdef uint64_t offset = position - base
    cdef uint32_t length
    cdef int problem
    cdef bytes record
    cdef unsigned char *out
    if position < base or offset >= size_octets or size_octets - offset < sizeof(head):
        return None
    with nogil:
        problem = read_whole(fd, head, sizeof(head), offset)
    if problem:
        raise OSError(problem, "a message cannot be read from its segment")
    length = get32(head + 4)
    if (
        get64(head + 8) != epoch or get64(head + 16) != position
        or length > size_octets - offset - RECORD_OCTETS
    ):
        return None
    record = PyBytes_FromStringAndSize(NULL, RECORD_OCTETS + length)
    out = <unsigned char *>PyBytes_AS_STRING(record)
    memcpy(out, head, sizeof(head))
    with nogil:
        problem = read_whole(fd, out + sizeof(head), length, offset + sizeof(head))
    if problem:
        raise OSError(problem, "a message cannot be read from its segment")
    if crc32c(0, out + 4, RECORD_OCTETS - 4 + length) != get32(out):
        return None
    return record


def read_message(int fd, uint64_t base, uint64_t size_octets, uint64_t epoch, uint64_t position):
    """Read the MSG or REF at `position`: (id, arrived_at_ns, envelope octets, content).

    The content is read straight into its bytes object; of a REF it is the tuple (octets, checksum,
    boot) that names its file. None when what stands there is not that
    record. Raises OSError when the disk cannot be read.
    """
    cdef unsigned char head[RECORD_OCTETS + PAYLOAD_HEAD_OCTETS]
    cdef uint64_t offset = position - base
    cdef uint64_t room
    cdef uint32_t length, envelope_octets, content_octets, sum
    cdef int problem
    cdef bytes envelope, content
    cdef unsigned char *envelope_at
    cdef unsigned char *content_at
    if position < base or offset >= size_octets or size_octets - offset < sizeof(head):
        return None
    room = size_octets - offset - RECORD_OCTETS
    with nogil:
        problem = read_whole(fd, head, sizeof(head), offset)
    if problem:
        raise OSError(problem, "a message cannot be read from its segment")
    length = get32(head + 4)
    if head[24] == KIND_REFERENCE:
        record = read_record(fd, base, size_octets, epoch, position)
        if record is None:
            return None
        id, arrived_at_ns, reference, size, checksum, boot = parse_reference(record, 0, length)
        return id, arrived_at_ns, reference, (size, checksum, boot)
    envelope_octets = get32(head + RECORD_OCTETS + 24)
    content_octets = get32(head + RECORD_OCTETS + 28)
    if (
        get64(head + 8) != epoch or get64(head + 16) != position or head[24] != KIND_MESSAGE
        or length > room or length < PAYLOAD_HEAD_OCTETS
        or <uint64_t>envelope_octets + content_octets != length - PAYLOAD_HEAD_OCTETS
    ):
        return None
    envelope = PyBytes_FromStringAndSize(NULL, envelope_octets)
    content = PyBytes_FromStringAndSize(NULL, content_octets)
    envelope_at = <unsigned char *>PyBytes_AS_STRING(envelope)
    content_at = <unsigned char *>PyBytes_AS_STRING(content)
    offset += sizeof(head)
    with nogil:
        problem = read_whole(fd, envelope_at, envelope_octets, offset)
        if problem == 0:
            problem = read_whole(fd, content_at, content_octets, offset + envelope_octets)
        sum = crc32c(0, head + 4, sizeof(head) - 4)
        sum = crc32c(sum, envelope_at, envelope_octets)
        sum = crc32c(sum, content_at, content_octets)
    if problem:
        raise OSError(problem, "a message cannot be read from its segment")
    if sum != get32(head):
        return None
    return head[RECORD_OCTETS:RECORD_OCTETS + 16], get64(head + RECORD_OCTETS + 16), envelope, \
        content
