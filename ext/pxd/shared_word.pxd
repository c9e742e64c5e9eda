# Words in memory that processes share: one writes, the others look. Static C only.
#
# Owns nothing; pointers are aligned and used during the call. Any thread, with or without the GIL.
# A store is seen whole or not at all, and what was stored before it is seen with it. After `fence`
# nothing is read that was looked up before what stands in front of it could be seen by everybody:
# of two processes that each store, fence and look, at least one sees the other's store. It never
# waits for anybody.

from libc.stdint cimport uint32_t, uint64_t

cdef extern from *:
    """
    #ifndef FASTMTA_SHARED_WORD
    #define FASTMTA_SHARED_WORD
    #include <stdint.h>
    #define shared_get32(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define shared_get64(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define shared_set32(p, value) __atomic_store_n((p), (uint32_t)(value), __ATOMIC_RELEASE)
    #define shared_set64(p, value) __atomic_store_n((p), (uint64_t)(value), __ATOMIC_RELEASE)
    #define shared_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #endif
    """
    uint32_t shared_get32(const uint32_t *p) noexcept nogil
    uint64_t shared_get64(const uint64_t *p) noexcept nogil
    void shared_set32(uint32_t *p, uint32_t value) noexcept nogil
    void shared_set64(uint64_t *p, uint64_t value) noexcept nogil
    void shared_fence() noexcept nogil
