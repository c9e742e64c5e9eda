"""The slots of the in-doubt table, in a mapped file: see fastmta/spool/doubt.py for its layout.

Owns       A list of free slots. The mapped octets are held by a buffer until the slots are gone.
Threads    The loop's only.
Never      Grows, reads or writes the file, forgets a slot that nobody gave back.
"""

cimport cython
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

cdef enum:
    ID_OCTETS = 16
    SLOT_OCTETS = 24  # the id, then why it is there, then zeros


cdef bint is_free(const unsigned char *slot) noexcept nogil:
    cdef int at
    for at in range(ID_OCTETS):
        if slot[at]:
            return False
    return True


@cython.final
cdef class Slots:
    """Slots by number. Those that are not free when this is made were left by somebody."""

    cdef unsigned char[::1] octets
    cdef unsigned char *slots
    cdef size_t *unused
    cdef size_t unused_count
    cdef readonly size_t count

    def __cinit__(self, unsigned char[::1] octets not None):
        """`octets`: those of the slots, without a header."""
        cdef size_t at
        self.octets = octets
        self.count = <size_t>octets.shape[0] // SLOT_OCTETS
        if self.count == 0:
            raise ValueError("no slots")
        self.slots = &octets[0]
        self.unused = <size_t *>malloc(self.count * sizeof(size_t))
        if self.unused == NULL:
            raise MemoryError("no memory for a list of slots")
        for at in reversed(range(self.count)):  # the first ones are used first
            if is_free(self.slots + at * SLOT_OCTETS):
                self.unused[self.unused_count] = at
                self.unused_count += 1

    def __dealloc__(self):
        free(self.unused)

    def begin(self, bytes id not None, int why=0):
        """Put an id into a free slot; its number, or -1 when there is none."""
        cdef size_t at
        cdef unsigned char *slot
        if PyBytes_GET_SIZE(id) != ID_OCTETS:
            raise ValueError("a queue id has 16 octets")
        if self.unused_count == 0:
            return -1
        self.unused_count -= 1
        at = self.unused[self.unused_count]
        slot = self.slots + at * SLOT_OCTETS
        memset(slot + ID_OCTETS, 0, SLOT_OCTETS - ID_OCTETS)
        slot[ID_OCTETS] = <unsigned char>why
        memcpy(slot, PyBytes_AS_STRING(id), ID_OCTETS)
        return at

    def end(self, Py_ssize_t at):
        """Free the slot; no-op for -1."""
        if at < 0:
            return
        if <size_t>at >= self.count or self.unused_count == self.count:
            raise ValueError("not a slot in use")
        memset(self.slots + at * SLOT_OCTETS, 0, ID_OCTETS)
        self.unused[self.unused_count] = <size_t>at
        self.unused_count += 1

    def used(self):
        """Number, id and why, of every slot in use."""
        cdef list found = []
        cdef const unsigned char *slot
        cdef size_t at
        for at in range(self.count):
            slot = self.slots + at * SLOT_OCTETS
            if not is_free(slot):
                id = PyBytes_FromStringAndSize(<char *>slot, ID_OCTETS)
                found.append((at, id, slot[ID_OCTETS]))
        return found
