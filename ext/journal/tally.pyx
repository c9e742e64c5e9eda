# Counting events as they happen. The specification is tally_py.py.
#
# Owns: nothing but its hold on the block's slots, as long as the Tally lives. Other processes read
# them meanwhile: every store is of one whole word, and nobody else stores there.
# Thread: any one at a time, with the GIL. Never waits, logs, reads a clock, or raises in `emit`.

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.string cimport memcpy
cimport cython

from shared_word cimport shared_set64

from fastmta.event import MessageActive, MessageReceived, MessageRemoved, RecipientTried

from . import family as families
from . import tally_py
from .book import STAGES

cdef enum:
    BOUND_COUNT = 15
    BOUNDS_KINDS = 3
    STAGE_COUNT = 4
    PLACES_MAX = 8192
    LOST = 0
    SECONDS_MAX = 1000000000

cdef enum:
    SHORT = 0
    STAGE = 1
    DELAY = 2

assert (BOUND_COUNT, BOUNDS_KINDS) == (families.BOUND_COUNT, len(families.BOUNDS_S))
assert (SHORT, STAGE, DELAY) == tuple(families.Bounds)
assert (STAGE_COUNT, PLACES_MAX, LOST) == (len(STAGES), tally_py.PLACES_MAX, tally_py.LOST)
assert SECONDS_MAX == tally_py.SECONDS_MAX

cdef double[BOUNDS_KINDS][BOUND_COUNT] BOUNDS

for _kind, _bounds in families.BOUNDS_S.items():
    for _place, _bound in enumerate(_bounds):
        BOUNDS[<int>_kind][<int>_place] = _bound


# --- Core ---------------------------------------------------------------------------------------

cdef inline void bump(uint64_t *word, uint64_t amount) noexcept nogil:
    shared_set64(word, word[0] + amount)


cdef void note(uint64_t *words, const double *bounds, double seconds) noexcept nogil:
    """Count a value in the histogram that begins at `words`."""
    cdef int place = 0
    if not seconds > 0:
        seconds = 0
    elif seconds > SECONDS_MAX:
        seconds = SECONDS_MAX
    while place < BOUND_COUNT and seconds > bounds[place]:
        place += 1
    bump(words + place, 1)
    bump(words + BOUND_COUNT + 1, <uint64_t>(seconds * 1e9))


# --- Holder and door ----------------------------------------------------------------------------

@cython.final
cdef class _Place:
    """Where attempts of one sort count."""

    cdef tuple slots
    cdef int64_t left
    cdef int64_t allotted


@cython.final
cdef class Tally:
    """Counts of one worker."""

    cdef uint64_t *_slots
    cdef Py_ssize_t _count
    cdef Py_buffer _view
    cdef bint _has_view
    cdef list _pending
    cdef object _book
    cdef dict _tried_places
    cdef dict _received_places
    cdef Py_ssize_t _removed
    cdef Py_ssize_t _delay
    cdef Py_ssize_t _accept
    cdef Py_ssize_t[STAGE_COUNT] _stages

    def __cinit__(self, block, list pending, book):
        self._has_view = False
        PyObject_GetBuffer(block.slots, &self._view, PyBUF_WRITABLE)
        self._has_view = True
        if self._view.len % 8 or <uintptr_t>self._view.buf % 8:
            raise ValueError("slots are whole words")
        self._slots = <uint64_t *>self._view.buf
        self._count = self._view.len // 8
        self._pending = pending
        self._book = book
        self._tried_places = {}
        self._received_places = {}
        self._removed = self.checked(book.slot(families.REMOVED), 1)
        self._delay = self.checked(book.slot(families.DELIVERY_DELAY), BOUND_COUNT + 2)
        self._accept = self.checked(book.slot(families.ACCEPT_SECONDS), BOUND_COUNT + 2)
        for number, stage in enumerate(STAGES):
            self._stages[<Py_ssize_t>number] = self.checked(
                book.slot(families.ATTEMPT_SECONDS, stage), BOUND_COUNT + 2
            )

    def __dealloc__(self):
        if self._has_view:
            PyBuffer_Release(&self._view)

    cdef Py_ssize_t checked(self, Py_ssize_t slot, Py_ssize_t width) except -1:
        """`slot`, if there are `width` words from there on."""
        if slot < 0 or slot > self._count - width:
            raise IndexError("no such slot")
        return slot

    cdef int tried(self, object event) except -1:
        cdef str kind = event.kind
        cdef str reply = event.reply
        cdef object known
        cdef _Place place
        cdef tuple key
        cdef double[STAGE_COUNT] delays
        cdef double total = 0
        cdef int number
        if not reply and kind == "sent":
            reply = event.text
        key = (event.next_hop, kind, event.status, reply[:3], event.category)
        known = self._tried_places.get(key)
        if known is None:
            place = self.ask(event, key, 0)
        else:
            place = <_Place>known
            if place.left == 0:
                place = self.ask(event, key, place.allotted)
            elif place.left > 0:
                place.left -= 1
        delays[0], delays[1], delays[2], delays[3] = event.delays_s
        for slot in place.slots:
            bump(self._slots + <Py_ssize_t>slot, 1)
        for number in range(STAGE_COUNT):
            note(self._slots + self._stages[number], BOUNDS[STAGE], delays[number])
            if delays[number] > 0:
                total += delays[number]
        if kind == "sent" or kind == "bounced":
            note(self._slots + self._delay, BOUNDS[DELAY], total)
        return 0

    cdef _Place ask(self, object event, tuple key, int64_t used):
        """The place of a sort of attempts, from now on."""
        cdef _Place place = _Place.__new__(_Place)
        slots, left = self._book.tried(event, key[3], used)
        for slot in slots:
            self.checked(slot, 1)
        place.slots = slots
        place.left = left
        place.allotted = max(place.left, 0)
        if len(self._tried_places) >= PLACES_MAX:
            self._tried_places.clear()
        self._tried_places[key] = place
        return place

    cdef int received(self, object event) except -1:
        cdef tuple key, place
        cdef object known
        cdef Py_ssize_t messages, recipients, octets
        cdef uint64_t recipient_count = event.recipient_count
        cdef uint64_t size_octets = event.size_octets
        cdef double stored_s = event.stored_s
        if not (event.client or event.listener):  # our own, a notification
            return 0
        key = (event.listener, event.tenant)
        known = self._received_places.get(key)
        if known is None:
            known = self._book.received(event)
            for slot in known:
                self.checked(slot, 1)
            if len(self._received_places) >= PLACES_MAX:
                self._received_places.clear()
            self._received_places[key] = known
        place = <tuple>known
        messages, recipients, octets = place
        bump(self._slots + messages, 1)
        bump(self._slots + recipients, recipient_count)
        bump(self._slots + octets, size_octets)
        note(self._slots + self._accept, BOUNDS[SHORT], stored_s)
        return 0

    cdef int count(self, object event) except -1:
        cdef object kind = type(event)
        cdef Py_ssize_t slot
        if kind is RecipientTried:
            return self.tried(event)
        if kind is MessageReceived:
            return self.received(event)
        if kind is MessageRemoved:
            bump(self._slots + self._removed, 1)
        elif kind is not MessageActive:
            slot = self._book.other(event)
            if slot >= 0:
                bump(self._slots + self.checked(slot, 1), 1)
        return 0

    def emit(self, event):
        self._pending.append(event)
        try:
            self.count(event)
        except Exception:
            bump(self._slots + LOST, 1)

    def add(self, Py_ssize_t slot, uint64_t amount):
        bump(self._slots + self.checked(slot, 1), amount)

    def put(self, Py_ssize_t slot, double value):
        cdef uint64_t word
        memcpy(&word, &value, 8)
        shared_set64(self._slots + self.checked(slot, 1), word)

    def observe(self, Py_ssize_t slot, int bounds, double seconds):
        if not 0 <= bounds < BOUNDS_KINDS:
            raise IndexError("no such bounds")
        note(self._slots + self.checked(slot, BOUND_COUNT + 2), BOUNDS[bounds], seconds)
