# The layout of the log on disk, shared by the writer (log.pyx) and the reader (scan.pyx).
# All integers are little-endian, whatever the machine.
#
#   record   0 crc32c u32 (of octets 4 to the end of the payload) | 4 payload length u32
#            8 epoch u64 | 16 position u64 | 24 kind u8 | 25 seven zeros | 32 payload
#            then zeros up to a multiple of 8
#   BATCH    opens each group, at a multiple of 4096 in its segment; payload:
#            0 number u64 | 8 durable position when written u64
#            16 octets of the whole padded group u32 | 20 records that follow u32
#   MSG      0 id 16 | 16 arrived_at_ns u64 | 24 envelope length u32 | 28 content length u32
#            32 envelope | content
#   STATE    0 id 16 | 16 position of the MSG u64 | 24 recorded_at_ns u64 | 32 states
#   REF      a MSG whose content is a file of its own:
#            0 id 16 | 16 arrived_at_ns u64 | 24 envelope length u32 | 28 crc32c of the content u32
#            32 content length u64 | 40 boot in the file's name u64 | 48 envelope
#   FOLD     cold log only: all that is known of a message's recipients.
#            0 id 16 | 16 position in the hot log below which every STATE is in it u64
#            24 zero u64 | 32 states
#   TOMB     cold log only: the message is final. 0 id 16 | 16 zeros 16

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    PAGE_OCTETS = 4096
    RECORD_OCTETS = 32
    BATCH_PAYLOAD_OCTETS = 24
    BATCH_OCTETS = 56
    PAYLOAD_HEAD_OCTETS = 32
    KIND_BATCH = 1
    KIND_MESSAGE = 2
    KIND_STATE = 3
    KIND_REFERENCE = 4
    KIND_FOLD = 5
    KIND_TOMB = 6
    REFERENCE_HEAD_OCTETS = 48

cdef extern from *:
    """
    #if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    #define fmta_order32(v) __builtin_bswap32(v)
    #define fmta_order64(v) __builtin_bswap64(v)
    #else
    #define fmta_order32(v) (v)
    #define fmta_order64(v) (v)
    #endif
    """
    uint32_t fmta_order32(uint32_t value) noexcept nogil
    uint64_t fmta_order64(uint64_t value) noexcept nogil


cdef inline void put32(unsigned char *p, uint32_t value) noexcept nogil:
    value = fmta_order32(value)
    memcpy(p, &value, 4)


cdef inline void put64(unsigned char *p, uint64_t value) noexcept nogil:
    value = fmta_order64(value)
    memcpy(p, &value, 8)


cdef inline uint32_t get32(const unsigned char *p) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, p, 4)
    return fmta_order32(value)


cdef inline uint64_t get64(const unsigned char *p) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, p, 8)
    return fmta_order64(value)


cdef inline size_t align(size_t value, size_t step) noexcept nogil:
    return (value + step - 1) & ~(step - 1)
