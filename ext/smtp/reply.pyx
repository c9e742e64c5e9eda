# Replies that a server has given before, recognised by their octets. All others are read by
# reply_py.py, which is the specification; it also remembers them.
#
# Owns: a Python reader that holds the octets of an incomplete reply.
# Thread: any one at a time, with the GIL. Never raises for what a server sends.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memchr
cimport cython

from . import reply_py


@cython.final
cdef class ReplyReader:
    """Takes octets in pieces of any size and gives out whole replies; see the twin."""

    cdef object _reader
    cdef dict _known
    cdef bint _is_between_replies

    def __cinit__(self, dict known=None):
        self._known = {} if known is None else known
        self._reader = reply_py.ReplyReader(self._known)
        self._is_between_replies = True

    @property
    def problem(self):
        return self._reader.problem

    @property
    def garbage(self):
        return self._reader.garbage

    def buffered(self):
        """How many octets of an incomplete reply are here (0: the last reply ended cleanly)."""
        return 0 if self._is_between_replies else self._reader.buffered()

    def feed(self, octets):
        """The replies that are complete now, in order. A problem is in `problem`, after them."""
        cdef bytes wire = octets if type(octets) is bytes else bytes(octets)
        cdef const char *p = PyBytes_AS_STRING(wire)
        cdef const char *lf
        cdef Py_ssize_t pos = 0, size = len(wire)
        cdef list replies = []
        if self._is_between_replies:
            known = self._known.get(wire)
            if known is not None:
                return [known]
            while pos < size:
                lf = <const char *>memchr(p + pos, 10, <size_t>(size - pos))
                if lf == NULL:
                    break
                known = self._known.get(PyBytes_FromStringAndSize(p + pos, lf - p + 1 - pos))
                if known is None:
                    break
                replies.append(known)
                pos = lf - p + 1
            if pos == size:
                return replies
        replies += self._reader.feed(wire[pos:] if pos else wire)
        self._is_between_replies = self._reader.buffered() == 0 and self._reader.problem is None
        return replies
