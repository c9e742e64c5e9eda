# CRC32C (Castagnoli, reflected 0x82F63B78) for every compiled module: static C only, nothing to
# link. `crc32c_start` fills the tables and picks the way once per module, at import; after that
# `crc32c` may be called by any thread without the GIL. Owns no memory but its static tables.
# It never reads past `count` octets and needs no alignment. `start` is 0, or the checksum of what
# came before.

from libc.stdint cimport uint32_t

cdef extern from *:
    """
    #ifndef FASTMTA_CRC32C
    #define FASTMTA_CRC32C
    #include <stddef.h>
    #include <stdint.h>
    #include <string.h>

    static uint32_t crc32c_table[8][256];
    static int crc32c_is_hard;

    static inline uint32_t crc32c_soft(uint32_t crc, const unsigned char *p, size_t count) {
        crc = ~crc;
        while (count >= 8) {
            uint32_t low, high;
            low = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16
                         | (uint32_t)p[3] << 24);
            high = (uint32_t)p[4] | (uint32_t)p[5] << 8 | (uint32_t)p[6] << 16
                   | (uint32_t)p[7] << 24;
            crc = crc32c_table[7][low & 255] ^ crc32c_table[6][low >> 8 & 255]
                ^ crc32c_table[5][low >> 16 & 255] ^ crc32c_table[4][low >> 24]
                ^ crc32c_table[3][high & 255] ^ crc32c_table[2][high >> 8 & 255]
                ^ crc32c_table[1][high >> 16 & 255] ^ crc32c_table[0][high >> 24];
            p += 8;
            count -= 8;
        }
        while (count--) crc = crc >> 8 ^ crc32c_table[0][(crc ^ *p++) & 255];
        return ~crc;
    }

    #if defined(__x86_64__)
    #include <immintrin.h>

    enum { CRC32C_WORDS_MAX = 256, CRC32C_WORDS_MIN = 10 };  /* of each of the three streams */

    /* [n]: x^(64n - 33) mod P. A checksum times that, times x^33 (the product is one bit short,
       and the instruction appends 32), is the checksum with 8n octets of zeros behind it. */
    static uint64_t crc32c_power[2 * CRC32C_WORDS_MAX + 1];
    static int crc32c_has_product;

    __attribute__((target("sse4.2")))
    static uint64_t crc32c_run(uint64_t crc, const unsigned char *p, size_t words) {
        uint64_t word;
        for (; words; words--, p += 8) {
            memcpy(&word, p, 8);
            crc = __builtin_ia32_crc32di(crc, word);
        }
        return crc;
    }

    __attribute__((target("sse4.2,pclmul")))
    static uint64_t crc32c_shift(uint64_t crc, size_t words) {
        __m128i product = _mm_clmulepi64_si128(
            _mm_cvtsi64_si128((long long)crc),
            _mm_cvtsi64_si128((long long)crc32c_power[words]), 0);
        return __builtin_ia32_crc32di(0, (uint64_t)_mm_cvtsi128_si64(product));
    }

    /* The instruction starts every cycle but ends after three: three streams at a time. */
    __attribute__((target("sse4.2,pclmul")))
    static uint64_t crc32c_run_three(uint64_t crc, const unsigned char *p, size_t words) {
        const unsigned char *q = p + 8 * words, *r = q + 8 * words;
        uint64_t second = 0, third = 0, word;
        size_t n;
        for (n = words; n; n--, p += 8, q += 8, r += 8) {
            memcpy(&word, p, 8);
            crc = __builtin_ia32_crc32di(crc, word);
            memcpy(&word, q, 8);
            second = __builtin_ia32_crc32di(second, word);
            memcpy(&word, r, 8);
            third = __builtin_ia32_crc32di(third, word);
        }
        return crc32c_shift(crc, 2 * words) ^ crc32c_shift(second, words) ^ third;
    }

    __attribute__((target("sse4.2")))
    static uint32_t crc32c_hard(uint32_t start, const unsigned char *p, size_t count) {
        uint64_t crc = (uint32_t)~start;
        size_t words;
        if (crc32c_has_product)
            while ((words = count / 24) >= CRC32C_WORDS_MIN) {
                if (words > CRC32C_WORDS_MAX) words = CRC32C_WORDS_MAX;
                crc = crc32c_run_three(crc, p, words);
                p += 24 * words;
                count -= 24 * words;
            }
        crc = crc32c_run(crc, p, count / 8);
        for (p += count & ~(size_t)7, count &= 7; count--; p++)
            crc = __builtin_ia32_crc32qi((uint32_t)crc, *p);
        return ~(uint32_t)crc;
    }

    __attribute__((target("sse4.2")))
    static void crc32c_start_power(void) {
        uint64_t power = 1;  /* x^31, reflected */
        size_t n;
        for (n = 1; n <= 2 * CRC32C_WORDS_MAX; n++) {
            crc32c_power[n] = power;
            power = __builtin_ia32_crc32di(power, 0);
        }
    }
    #else
    static inline uint32_t crc32c_hard(uint32_t start, const unsigned char *p, size_t count) {
        return crc32c_soft(start, p, count);
    }
    #endif

    static inline void crc32c_start(void) {
        uint32_t n, k, crc;
        for (n = 0; n < 256; n++) {
            for (crc = n, k = 0; k < 8; k++) crc = crc & 1 ? crc >> 1 ^ 0x82F63B78u : crc >> 1;
            crc32c_table[0][n] = crc;
        }
        for (k = 1; k < 8; k++)
            for (n = 0; n < 256; n++)
                crc32c_table[k][n] = crc32c_table[k - 1][n] >> 8
                    ^ crc32c_table[0][crc32c_table[k - 1][n] & 255];
    #if defined(__x86_64__)
        __builtin_cpu_init();
        crc32c_is_hard = __builtin_cpu_supports("sse4.2") != 0;
        crc32c_has_product = crc32c_is_hard && __builtin_cpu_supports("pclmul");
        if (crc32c_has_product) crc32c_start_power();
    #endif
    }

    static inline uint32_t crc32c(uint32_t start, const unsigned char *p, size_t count) {
        return crc32c_is_hard ? crc32c_hard(start, p, count) : crc32c_soft(start, p, count);
    }
    #endif
    """
    int crc32c_is_hard
    void crc32c_start() noexcept nogil
    uint32_t crc32c(uint32_t start, const unsigned char *p, size_t count) noexcept nogil
    uint32_t crc32c_soft(uint32_t start, const unsigned char *p, size_t count) noexcept nogil
    uint32_t crc32c_hard(uint32_t start, const unsigned char *p, size_t count) noexcept nogil
