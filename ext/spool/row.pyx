"""Keys and fixed-width values of the index, octet by octet. All integers are big-endian, so that
LMDB's order of keys is the order of the numbers.

    message    key id 16
               value 0 position u64 | 8 size_octets u32 | 12 applied position u64
                     20 arrived_at_ns u64 | 28 expires_at_ns u64 | 36 recipients u32
                     40 pending u32 | 44 octets of the record in the log u32
                     48 octets of the reverse-path u16 | 50 reverse-path | tenant
    recipient  key id 16 | index u32                       value: msgpack, see rows.py
    hop        key next hop | 00 | due_at_ns u64 | id 16   value: recipients u32 [| long next hop]
    expiry     key expires_at_ns u64 | id 16               value: empty
    tenant     key tenant | 00 | id 16                     value: empty
    segment    key position of its first octet u64         value: live messages u64 | octets u64

Owns       Nothing; every door takes and returns whole bytes objects.
Threads    Any; no state.
Never      Reads LMDB, knows what the numbers mean.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

cdef enum:
    ID_OCTETS = 16
    MESSAGE_FIXED_OCTETS = 50
    PATH_OCTETS_MAX = 0xFFFF


cdef inline unsigned char *put32_big(unsigned char *p, uint32_t value) noexcept nogil:
    p[0] = value >> 24 & 255
    p[1] = value >> 16 & 255
    p[2] = value >> 8 & 255
    p[3] = value & 255
    return p + 4


cdef inline unsigned char *put64_big(unsigned char *p, uint64_t value) noexcept nogil:
    put32_big(p, <uint32_t>(value >> 32))
    put32_big(p + 4, <uint32_t>value)
    return p + 8


cdef inline uint32_t get32_big(const unsigned char *p) noexcept nogil:
    return <uint32_t>p[0] << 24 | <uint32_t>p[1] << 16 | <uint32_t>p[2] << 8 | p[3]


cdef inline uint64_t get64_big(const unsigned char *p) noexcept nogil:
    return <uint64_t>get32_big(p) << 32 | get32_big(p + 4)


cdef int check_id(bytes id) except -1:
    if PyBytes_GET_SIZE(id) != ID_OCTETS:
        raise ValueError("a queue id has 16 octets")
    return 0


def pack_message(
    uint64_t position, uint32_t size_octets, uint64_t applied, uint64_t arrived_at_ns,
    uint64_t expires_at_ns, uint32_t recipients, uint32_t pending, uint32_t log_octets,
    bytes reverse_path not None=b"", bytes tenant not None=b""
):
    """Value of a `message` row."""
    cdef Py_ssize_t path_octets = min(PyBytes_GET_SIZE(reverse_path), <Py_ssize_t>PATH_OCTETS_MAX)
    cdef Py_ssize_t tenant_octets = PyBytes_GET_SIZE(tenant)
    cdef bytes value = PyBytes_FromStringAndSize(
        NULL, MESSAGE_FIXED_OCTETS + path_octets + tenant_octets
    )
    cdef unsigned char *p = <unsigned char *>PyBytes_AS_STRING(value)
    p = put64_big(p, position)
    p = put32_big(p, size_octets)
    p = put64_big(p, applied)
    p = put64_big(p, arrived_at_ns)
    p = put64_big(p, expires_at_ns)
    p = put32_big(p, recipients)
    p = put32_big(p, pending)
    p = put32_big(p, log_octets)
    p[0] = path_octets >> 8
    p[1] = path_octets & 255
    memcpy(p + 2, PyBytes_AS_STRING(reverse_path), path_octets)
    memcpy(p + 2 + path_octets, PyBytes_AS_STRING(tenant), tenant_octets)
    return value


def unpack_message(bytes value not None):
    """Position, size, applied position, arrival, expiry, recipients, pending, octets in the log,
    reverse-path, tenant."""
    cdef const unsigned char *p = <const unsigned char *>PyBytes_AS_STRING(value)
    cdef Py_ssize_t octets = PyBytes_GET_SIZE(value)
    cdef Py_ssize_t path_end = MESSAGE_FIXED_OCTETS
    if octets >= MESSAGE_FIXED_OCTETS:
        path_end += p[48] << 8 | p[49]
    if octets < path_end:
        raise ValueError("not a message row")
    return (
        get64_big(p), get32_big(p + 8), get64_big(p + 12), get64_big(p + 20),
        get64_big(p + 28), get32_big(p + 36), get32_big(p + 40),
        get32_big(p + 44), value[MESSAGE_FIXED_OCTETS:path_end], value[path_end:],
    )


def move_message(bytes value not None, uint64_t position):
    """The same `message` row at another position of the log."""
    cdef bytes moved
    if PyBytes_GET_SIZE(value) < MESSAGE_FIXED_OCTETS:
        raise ValueError("not a message row")
    moved = PyBytes_FromStringAndSize(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    put64_big(<unsigned char *>PyBytes_AS_STRING(moved), position)
    return moved


def pack_segment(uint64_t live, uint64_t octets):
    """Value of a `segment` row."""
    cdef bytes value = PyBytes_FromStringAndSize(NULL, 16)
    put64_big(put64_big(<unsigned char *>PyBytes_AS_STRING(value), live), octets)
    return value


def unpack_segment(bytes value not None):
    """Live messages and their octets of a `segment` row."""
    cdef const unsigned char *p = <const unsigned char *>PyBytes_AS_STRING(value)
    if PyBytes_GET_SIZE(value) != 16:
        raise ValueError("not a segment row")
    return get64_big(p), get64_big(p + 8)


def recipient_key(bytes id not None, uint32_t index):
    """Key of a `recipient` row."""
    cdef bytes key
    cdef unsigned char *p
    check_id(id)
    key = PyBytes_FromStringAndSize(NULL, ID_OCTETS + 4)
    p = <unsigned char *>PyBytes_AS_STRING(key)
    memcpy(p, PyBytes_AS_STRING(id), ID_OCTETS)
    put32_big(p + ID_OCTETS, index)
    return key


def hop_key(bytes next_hop not None, uint64_t due_at_ns, bytes id not None):
    """Key of a `hop` row."""
    cdef Py_ssize_t octets = PyBytes_GET_SIZE(next_hop)
    cdef bytes key
    cdef unsigned char *p
    check_id(id)
    key = PyBytes_FromStringAndSize(NULL, octets + 1 + 8 + ID_OCTETS)
    p = <unsigned char *>PyBytes_AS_STRING(key)
    memcpy(p, PyBytes_AS_STRING(next_hop), octets)
    p[octets] = 0
    p = put64_big(p + octets + 1, due_at_ns)
    memcpy(p, PyBytes_AS_STRING(id), ID_OCTETS)
    return key


def expiry_key(uint64_t expires_at_ns, bytes id not None):
    """Key of an `expiry` row."""
    cdef bytes key
    cdef unsigned char *p
    check_id(id)
    key = PyBytes_FromStringAndSize(NULL, 8 + ID_OCTETS)
    p = put64_big(<unsigned char *>PyBytes_AS_STRING(key), expires_at_ns)
    memcpy(p, PyBytes_AS_STRING(id), ID_OCTETS)
    return key


def tenant_key(bytes tenant not None, bytes id not None):
    """Key of a `tenant` row."""
    check_id(id)
    return tenant + b"\x00" + id


def unpack_due(bytes key not None):
    """Due time and id at the end of a `hop` or `expiry` key."""
    cdef Py_ssize_t octets = PyBytes_GET_SIZE(key)
    cdef const unsigned char *p = <const unsigned char *>PyBytes_AS_STRING(key)
    if octets < 8 + ID_OCTETS:
        raise ValueError("key too short")
    return get64_big(p + octets - 8 - ID_OCTETS), key[octets - ID_OCTETS:]


def unpack_index(bytes key not None):
    """Index of the recipient in a `recipient` key."""
    if PyBytes_GET_SIZE(key) != ID_OCTETS + 4:
        raise ValueError("not a recipient key")
    return get32_big(<const unsigned char *>PyBytes_AS_STRING(key) + ID_OCTETS)
