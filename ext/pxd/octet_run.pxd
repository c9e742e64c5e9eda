# Runs of clean octets in a content, 64 at a time. Inline only: no module, no state, no allocation.
#
# Owns nothing; pointers are used during the call. Any thread may call, with or without the GIL.
# Clean means: each CR is followed by LF, each LF follows a CR, no NUL, no line begins with ".".

from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #endif
    #include <stdint.h>

    typedef struct { uint64_t cr, lf, nul, dot; } fastmta_masks;

    /* Bit i of each mask says whether octet i of the 64 at p is CR, LF, NUL, ".". */
    static inline fastmta_masks fastmta_masks_of(const unsigned char *p)
    {
        fastmta_masks m = {0, 0, 0, 0};
        int i;
    #if defined(__SSE2__)
        const __m128i cr = _mm_set1_epi8(13), lf = _mm_set1_epi8(10);
        const __m128i nul = _mm_setzero_si128(), dot = _mm_set1_epi8(46);
        for (i = 0; i < 64; i += 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
            m.cr |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, cr)) << i;
            m.lf |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, lf)) << i;
            m.nul |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, nul)) << i;
            m.dot |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, dot)) << i;
        }
    #else
        for (i = 0; i < 64; i++) {
            m.cr |= (uint64_t)(p[i] == 13) << i;
            m.lf |= (uint64_t)(p[i] == 10) << i;
            m.nul |= (uint64_t)(p[i] == 0) << i;
            m.dot |= (uint64_t)(p[i] == 46) << i;
        }
    #endif
        return m;
    }
    """
    ctypedef struct fastmta_masks:
        uint64_t cr
        uint64_t lf
        uint64_t nul
        uint64_t dot
    fastmta_masks fastmta_masks_of(const unsigned char *p) noexcept nogil
    int __builtin_ctzll(unsigned long long bits) noexcept nogil
    int __builtin_clzll(unsigned long long bits) noexcept nogil
    int __builtin_popcountll(unsigned long long bits) noexcept nogil


cdef struct Line:
    Py_ssize_t octets  # of the current line so far
    Py_ssize_t octets_max
    bint is_too_long  # some line was longer


cdef inline fastmta_masks masks_of(const unsigned char *p, Py_ssize_t count) noexcept nogil:
    """The masks of the first `count` octets (at most 64); what is behind them is not read."""
    cdef unsigned char tail[64]
    if count >= 64:
        return fastmta_masks_of(p)
    memset(tail, 120, 64)
    memcpy(tail, p, <size_t>count)
    return fastmta_masks_of(tail)


cdef inline uint64_t low_bits(Py_ssize_t count) noexcept nogil:
    """A mask of the lowest `count` bits, `count` below 64."""
    return ((<uint64_t>1) << count) - 1


cdef inline void count_line(Line *line, uint64_t lf, Py_ssize_t count) noexcept nogil:
    """Go on by `count` octets with line ends at the bits of `lf`."""
    if lf:
        if line.octets + __builtin_ctzll(lf) + 1 > line.octets_max:
            line.is_too_long = True
        line.octets = count - 64 + __builtin_clzll(lf)
    else:
        line.octets += count
        if line.octets > line.octets_max:
            line.is_too_long = True


cdef inline Py_ssize_t clean_run(
    const unsigned char *begin, Py_ssize_t size, bint is_line_start, Line *line
) noexcept nogil:
    """How many octets from `begin` on are clean, up to the first that is not.

    The octet before `begin` is no CR. A CR at the end, whose LF is not here, is not in the run.
    """
    cdef Py_ssize_t pos = 0, count
    cdef uint64_t after_cr = 0, after_lf = 1 if is_line_start else 0
    cdef uint64_t bad
    cdef fastmta_masks masks
    while pos < size:
        count = size - pos if size - pos < 64 else 64
        masks = masks_of(begin + pos, count)
        bad = (masks.lf ^ ((masks.cr << 1) | after_cr)) | masks.nul
        bad |= masks.dot & ((masks.lf << 1) | after_lf)
        if count < 64:
            bad &= low_bits(count)
        if bad:
            count = __builtin_ctzll(bad)
        if count < 64:
            masks.lf &= low_bits(count)
        count_line(line, masks.lf, count)
        pos += count
        if count < 64:
            break
        after_cr = masks.cr >> 63
        after_lf = masks.lf >> 63
    if pos > 0 and begin[pos - 1] == 13:
        pos -= 1
        line.octets -= 1
    return pos
