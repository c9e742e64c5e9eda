/* A preload library that stands between a program and its flushes (fsync, fdatasync) or writes.
 *
 * Environment:
 *   FASTMTA_SHIM_COUNTS   a file of five 64-bit numbers, shared by every process that names it:
 *                         calls, delayed, failed, skipped, passed to the kernel
 *   FASTMTA_SHIM_DELAY_US wait this long before each call
 *   FASTMTA_SHIM_ERRNO    fail each call with this error, and do not flush
 *   FASTMTA_SHIM_FIRST    leave the first n calls alone
 *   FASTMTA_SHIM_LIMIT    act on at most n calls after that
 *   FASTMTA_SHIM_TIMES    fail at most n calls
 *   FASTMTA_SHIM_WRITES   1: act on pwrite, not on flushes
 *   FASTMTA_SHIM_SKIP     answer 0 and do not flush
 *   FASTMTA_SHIM_MATCH    only files whose path contains this
 *   FASTMTA_SHIM_WHILE    act only while this file exists; a wait ends with it
 * Calls are counted whether the shim acts on them or not (but only on files that match).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { CALLS, DELAYED, FAILED, SKIPPED, PASSED, COUNTS };

static uint64_t private_counts[COUNTS];
static uint64_t *counts = private_counts;
static long delay_us, error, first, limit = -1, times = -1;
static int is_skipping, is_writing;
static const char *match, *while_path;
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtol(text, NULL, 10) : otherwise;
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("FASTMTA_SHIM_COUNTS");
    real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    real_pwrite = (ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
    delay_us = number("FASTMTA_SHIM_DELAY_US", 0);
    error = number("FASTMTA_SHIM_ERRNO", 0);
    first = number("FASTMTA_SHIM_FIRST", 0);
    limit = number("FASTMTA_SHIM_LIMIT", -1);
    times = number("FASTMTA_SHIM_TIMES", -1);
    is_writing = number("FASTMTA_SHIM_WRITES", 0) != 0;
    is_skipping = number("FASTMTA_SHIM_SKIP", 0) != 0;
    match = getenv("FASTMTA_SHIM_MATCH");
    while_path = getenv("FASTMTA_SHIM_WHILE");
    if (path) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (fd >= 0 && ftruncate(fd, sizeof private_counts) == 0) {
            int access = PROT_READ | PROT_WRITE;
            void *map = mmap(NULL, sizeof private_counts, access, MAP_SHARED, fd, 0);
            if (map != MAP_FAILED) counts = map;
        }
        if (fd >= 0) close(fd);
    }
}

static uint64_t count(int which) {
    return __atomic_add_fetch(&counts[which], 1, __ATOMIC_SEQ_CST);
}

static int is_matching(int fd) {
    char link[64], path[4096];
    ssize_t octets;
    if (!match || !*match) return 1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    octets = readlink(link, path, sizeof path - 1);
    if (octets < 0) return 0;
    path[octets] = 0;
    return strstr(path, match) != NULL;
}

static int is_acting(void) { return !while_path || access(while_path, F_OK) == 0; }

static void delay(void) {
    enum { SLICE_US = 10000 };
    long left_us = delay_us;
    while (left_us > 0 && is_acting()) {
        long now_us = while_path && left_us > SLICE_US ? SLICE_US : left_us;
        struct timespec left = {now_us / 1000000, now_us % 1000000 * 1000};
        while (nanosleep(&left, &left) && errno == EINTR) continue;
        left_us -= now_us;
    }
}

/* What to do with a call on `fd`: 0: let it pass, 1: answer 0, -1: fail with errno. */
static int judge(int fd) {
    uint64_t call;
    if (!is_matching(fd)) return 0;
    call = count(CALLS);
    if ((long)call > first && (limit < 0 || (long)call <= first + limit) && is_acting()) {
        if (delay_us) {
            delay();
            count(DELAYED);
        }
        if (error && (times < 0 || (long)counts[FAILED] < times)) {
            count(FAILED);
            errno = (int)error;
            return -1;
        }
        if (is_skipping) {
            count(SKIPPED);
            return 1;
        }
    }
    count(PASSED);
    return 0;
}

static int flush(int fd, int (*real)(int)) {
    int verdict = is_writing ? 0 : judge(fd);
    return verdict == 0 ? real(fd) : verdict < 0 ? -1 : 0;
}

ssize_t pwrite(int fd, const void *data, size_t octets, off_t offset) {
    int verdict = is_writing ? judge(fd) : 0;
    if (verdict == 0) return real_pwrite(fd, data, octets, offset);
    return verdict < 0 ? -1 : (ssize_t)octets;
}
ssize_t pwrite64(int fd, const void *data, size_t octets, off_t offset) {
    return pwrite(fd, data, octets, offset);
}

int fsync(int fd) { return flush(fd, real_fsync); }
int fdatasync(int fd) { return flush(fd, real_fdatasync); }
