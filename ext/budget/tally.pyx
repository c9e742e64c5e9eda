# Counts of one worker and limits over all of them. The specification is tally_py.py.
#
# Owns: nothing but its hold on the buffer, which lives as long as the Tally. Other processes write
# the other regions meanwhile: every look at a region and every store in ours is of one whole word.
# Thread: any one at a time, with the GIL. Never waits, logs, reads a clock or decides a limit.
# REFUSED, COUNTED and UNCOUNTED are answers; exceptions mean broken use.

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
cimport cython

from shared_word cimport shared_fence, shared_get32, shared_get64, shared_set32, shared_set64

from fastmta.smtp.use import Use

from . import tally_py

cdef enum:
    BUCKET = 8
    KEY_OCTETS = 8
    ENTRY_OCTETS = 40
    USES = 6

cdef enum:
    REFUSED = 0
    COUNTED = 1
    UNCOUNTED = 2

cdef enum:
    SHARED_PART = 5

cdef uint64_t COUNT_MAX = 2147483648u

assert (BUCKET, KEY_OCTETS, ENTRY_OCTETS, USES) == (
    tally_py.BUCKET, tally_py.KEY_OCTETS, tally_py.ENTRY_OCTETS, len(Use),
)
assert (REFUSED, COUNTED, UNCOUNTED) == (tally_py.REFUSED, tally_py.COUNTED, tally_py.UNCOUNTED)
assert (SHARED_PART, COUNT_MAX) == (tally_py.SHARED_PART, tally_py.COUNT_MAX)


cdef struct Entry:
    uint64_t until
    uint32_t counts[6]
    uint32_t live
    uint32_t nothing

cdef struct Region:
    uint64_t *keys
    Entry *entries

cdef struct Sum:
    uint64_t total
    uint64_t earliest  # end of a window that runs, with any worker; 0: none does
    uint64_t latest  # end of the last window that any began

cdef struct Table:
    unsigned char *begin
    size_t region_octets
    uint64_t entries  # of a region
    uint64_t buckets  # of a region, but for the shared ones, which are behind these
    uint64_t shared  # keys from 1 to this one have places of their own there
    Py_ssize_t workers
    Py_ssize_t index  # of our region


# --- Core ---------------------------------------------------------------------------------------

cdef inline Region region_of(const Table *table, Py_ssize_t index) noexcept nogil:
    cdef Region region
    region.keys = <uint64_t *>(table.begin + <size_t>index * table.region_octets)
    region.entries = <Entry *>(region.keys + table.entries)
    return region


cdef inline uint64_t first_place(const Table *table, uint64_t key) noexcept nogil:
    if key <= table.shared:
        return (table.buckets + (key - 1) // BUCKET) * BUCKET
    return (key & 0xFFFFFFFFu) % table.buckets * BUCKET


cdef inline uint64_t second_place(const Table *table, uint64_t key) noexcept nogil:
    if key <= table.shared:
        return first_place(table, key)
    return (key >> 32) % table.buckets * BUCKET


cdef Entry *find(
    const Table *table, Py_ssize_t index, uint64_t key, uint64_t first, uint64_t second
) noexcept nogil:
    """The entry of a key whose buckets begin at `first` and `second`; NULL: there is none."""
    cdef Region region = region_of(table, index)
    cdef Py_ssize_t at
    for at in range(BUCKET):
        if shared_get64(region.keys + first + at) == key:
            return region.entries + first + at
    for at in range(BUCKET):
        if shared_get64(region.keys + second + at) == key:
            return region.entries + second + at
    return NULL


cdef bint is_free(const Region *region, uint64_t place, uint64_t now_ns) noexcept nogil:
    cdef const Entry *entry = region.entries + place
    if region.keys[place] == 0:
        return True
    return entry.until <= now_ns and entry.live == 0


cdef int64_t free_place(
    const Table *table, uint64_t first, uint64_t second, uint64_t now_ns
) noexcept nogil:
    """The first free place in the emptier of two buckets of ours; -1: there is none."""
    cdef Region region = region_of(table, table.index)
    cdef uint64_t[2] buckets
    cdef int64_t[2] found
    cdef int[2] counts
    cdef uint64_t at
    cdef int which
    buckets[0] = first
    buckets[1] = second
    for which in range(2):
        found[which] = -1
        counts[which] = 0
        for at in range(buckets[which], buckets[which] + BUCKET):
            if is_free(&region, at, now_ns):
                counts[which] += 1
                if found[which] < 0:
                    found[which] = <int64_t>at
    return found[1] if counts[1] > counts[0] else found[0]


cdef Sum count_of(const Table *table, uint64_t key, int use, uint64_t now_ns) noexcept nogil:
    """What all workers counted in this window, and when it ends."""
    cdef uint64_t first = first_place(table, key), second = second_place(table, key)
    cdef const Entry *entry
    cdef Py_ssize_t index
    cdef uint64_t until
    cdef Sum found
    found.total = found.earliest = found.latest = 0
    for index in range(table.workers):
        entry = find(table, index, key, first, second)
        if entry == NULL:
            continue
        until = shared_get64(&entry.until)
        if until > now_ns:
            found.total += shared_get32(&entry.counts[use])
            if found.earliest == 0 or until < found.earliest:
                found.earliest = until
        if until > found.latest:
            found.latest = until
    return found


cdef Entry *place_of(
    const Table *table, uint64_t key, uint64_t now_ns, uint64_t window_ns
) noexcept nogil:
    """Our entry of the key, with a window that runs; NULL when there is none to be had."""
    cdef uint64_t first = first_place(table, key), second = second_place(table, key)
    cdef Entry *entry = find(table, table.index, key, first, second)
    cdef Region region = region_of(table, table.index)
    cdef int64_t place = -1
    cdef uint64_t until
    cdef int use
    if entry != NULL and entry.until > now_ns:
        return entry
    if entry == NULL:
        place = free_place(table, first, second, now_ns)
        if place < 0:
            return NULL
        entry = region.entries + place
        shared_set64(region.keys + place, 0)  # first: nobody takes these counts for another's
        shared_set32(&entry.live, 0)
    for use in range(USES):  # before the window: nobody sees old counts in a new one
        shared_set32(&entry.counts[use], 0)
    until = count_of(table, key, 0, now_ns).earliest
    shared_set64(&entry.until, until if until else now_ns + window_ns)
    if place >= 0:
        shared_set64(region.keys + place, key)
    return entry


cdef uint64_t live_of(const Table *table, uint64_t key) noexcept nogil:
    """Connections over all workers."""
    cdef uint64_t first = first_place(table, key), second = second_place(table, key)
    cdef uint64_t total = 0
    cdef const Entry *entry
    cdef Py_ssize_t index
    for index in range(table.workers):
        entry = find(table, index, key, first, second)
        if entry != NULL:
            total += shared_get32(&entry.live)
    return total


# --- Holder and door ----------------------------------------------------------------------------

@cython.final
cdef class Tally:
    """Counts of one worker, and limits over the counts of all."""

    cdef Table _table
    cdef Py_buffer _view
    cdef bint _has_view
    cdef readonly uint64_t overflow

    def __cinit__(self, buffer, Py_ssize_t workers, Py_ssize_t index):
        """Take region `index` of `workers`; raises ValueError when there is no such region."""
        cdef Table *table = &self._table
        cdef Region region
        cdef uint64_t place
        self._has_view = False
        self.overflow = 0
        PyObject_GetBuffer(buffer, &self._view, PyBUF_WRITABLE)
        self._has_view = True
        if workers < 1 or self._view.len % workers or <uintptr_t>self._view.buf % 8:
            raise ValueError("the table is no whole number of buckets for each worker")
        table.begin = <unsigned char *>self._view.buf
        table.region_octets = <size_t>(self._view.len // workers)
        table.entries = table.region_octets // (KEY_OCTETS + ENTRY_OCTETS)
        table.buckets = table.entries // BUCKET
        table.workers = workers
        table.index = index
        if table.buckets < 1 or table.region_octets != (
            table.buckets * BUCKET * (KEY_OCTETS + ENTRY_OCTETS)
        ):
            raise ValueError("the table is no whole number of buckets for each worker")
        if not 0 <= index < workers:
            raise ValueError("there is no such region")
        table.buckets -= table.buckets // SHARED_PART
        table.shared = table.entries - table.buckets * BUCKET
        region = region_of(table, index)
        for place in range(table.entries):
            if region.entries[place].live:  # do not touch what nobody ever used
                shared_set32(&region.entries[place].live, 0)

    def __dealloc__(self):
        if self._has_view:
            PyBuffer_Release(&self._view)

    def spend(
        self,
        uint64_t key,
        int use,
        int64_t amount,
        uint64_t limit,
        uint64_t window_ns,
        uint64_t now_ns,
    ):
        """Count `amount` more, unless that makes more than `limit` in this window."""
        cdef Table *table = &self._table
        cdef Entry *entry
        cdef uint64_t after
        cdef uint32_t before
        cdef Sum found
        check(key, use, amount)
        for _ in range(2):
            entry = place_of(table, key, now_ns, window_ns)
            if entry == NULL:
                found = count_of(table, key, use, now_ns)
                return self._without_place(found.total + <uint64_t>amount <= limit)
            before = entry.counts[use]
            after = before + <uint64_t>amount
            if after > limit or after > COUNT_MAX:
                return False
            shared_set32(&entry.counts[use], <uint32_t>after)
            shared_fence()
            found = count_of(table, key, use, now_ns)
            if found.latest - entry.until < window_ns:
                if found.earliest < entry.until:  # another began at the same moment
                    shared_set64(&entry.until, found.earliest)
                if found.total <= limit:
                    return True
                shared_set32(&entry.counts[use], before)
                return False
            shared_set32(&entry.counts[use], before)
            now_ns = found.latest - window_ns  # we are late: they have begun the next window
        return False

    @property
    def shared(self):
        """Keys from 1 to this one always have a place."""
        return self._table.shared

    def give_back(self, uint64_t key, int use, int64_t amount, uint64_t now_ns):
        """Count `amount` less, as far as this worker counted that much in this window: how much."""
        cdef Entry *entry
        cdef uint64_t less
        check(key, use, amount)
        entry = self._own(key)
        if entry == NULL or entry.until <= now_ns:
            return 0
        less = min(<uint64_t>amount, <uint64_t>entry.counts[use])
        shared_set32(&entry.counts[use], <uint32_t>(entry.counts[use] - less))
        return less

    def count(self, uint64_t key, int use, uint64_t now_ns):
        """What all workers counted in this window."""
        check(key, use, 0)
        return count_of(&self._table, key, use, now_ns).total

    def enter(self, uint64_t key, uint64_t limit, uint64_t window_ns, uint64_t now_ns):
        """One connection more: COUNTED, REFUSED (there are `limit`), or UNCOUNTED (no place)."""
        cdef Entry *entry
        cdef uint32_t before
        check(key, 0, 0)
        entry = place_of(&self._table, key, now_ns, window_ns)
        if entry == NULL:
            return UNCOUNTED if self._without_place(live_of(&self._table, key) < limit) else REFUSED
        before = entry.live
        if before >= limit or before >= COUNT_MAX:
            return REFUSED
        shared_set32(&entry.live, before + 1)
        shared_fence()
        if live_of(&self._table, key) > limit:
            shared_set32(&entry.live, before)
            return REFUSED
        return COUNTED

    def leave(self, uint64_t key):
        """One connection that was COUNTED here is gone."""
        cdef Entry *entry
        check(key, 0, 0)
        entry = self._own(key)
        if entry != NULL and entry.live:
            shared_set32(&entry.live, entry.live - 1)

    def live(self, uint64_t key):
        """Connections over all workers."""
        check(key, 0, 0)
        return live_of(&self._table, key)

    cdef Entry *_own(self, uint64_t key) noexcept:
        cdef const Table *table = &self._table
        return find(table, table.index, key, first_place(table, key), second_place(table, key))

    cdef bint _without_place(self, bint is_granted) noexcept:
        """Limits are there to keep mail flowing: what cannot be counted is granted."""
        self.overflow += is_granted
        return is_granted


cdef int check(uint64_t key, int use, int64_t amount) except -1:
    if key == 0 or use < 0 or use >= USES or amount < 0 or <uint64_t>amount > COUNT_MAX:
        raise ValueError("a key, a use or an amount is out of bounds")
    return 0
