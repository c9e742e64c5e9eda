/*
 * Preloaded into a mail server: counts every flush, and makes it slower or fail on demand.
 *
 * Orders and counts live in one small file that every process of the server maps, so that counts
 * of short-lived daemons are not lost and orders can change while the server runs:
 *
 *   offset  0  u64  flushes: calls of fsync, fdatasync, sync_file_range, msync(MS_SYNC)
 *   offset  8  u64  nanoseconds that the flushes took, delay included
 *   offset 16  u64  processes that mapped the file: proof that the shim was loaded
 *   offset 24  u64  flushes that were delayed: proof that it fired
 *   offset 32  u64  flushes that were made to fail
 *   offset 40  u64  order: microseconds by which each flush is delayed first
 *   offset 48  u64  order: every flush from now on fails with EIO
 *
 * FASTMTA_SHIM_FILE names the file; it must exist and hold 4096 octets. FASTMTA_SHIM_DELAY_US, when
 * set, is written to offset 40 by each process that starts.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct shared {
    uint64_t flushes;
    uint64_t flush_ns;
    uint64_t processes;
    uint64_t delayed;
    uint64_t failed;
    uint64_t delay_us;
    uint64_t is_failing;
};

static struct shared nothing;
static struct shared *shared = &nothing;

static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_msync)(void *, size_t, int);
static int (*real_sync_file_range)(int, off64_t, off64_t, unsigned int);

__attribute__((constructor)) static void load(void)
{
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_msync = dlsym(RTLD_NEXT, "msync");
    real_sync_file_range = dlsym(RTLD_NEXT, "sync_file_range");

    const char *path = getenv("FASTMTA_SHIM_FILE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return;
    shared = map;
    __atomic_add_fetch(&shared->processes, 1, __ATOMIC_RELAXED);
    const char *delay = getenv("FASTMTA_SHIM_DELAY_US");
    if (delay)
        __atomic_store_n(&shared->delay_us, strtoull(delay, NULL, 10), __ATOMIC_RELAXED);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* 0 when the flush may go on, -1 with errno when it has to fail. */
static int before(void)
{
    uint64_t delay_us = __atomic_load_n(&shared->delay_us, __ATOMIC_RELAXED);
    __atomic_add_fetch(&shared->flushes, 1, __ATOMIC_RELAXED);
    if (delay_us) {
        struct timespec pause = {(time_t)(delay_us / 1000000), (long)(delay_us % 1000000) * 1000};
        while (nanosleep(&pause, &pause) && errno == EINTR)
            ;
        __atomic_add_fetch(&shared->delayed, 1, __ATOMIC_RELAXED);
    }
    if (__atomic_load_n(&shared->is_failing, __ATOMIC_RELAXED)) {
        __atomic_add_fetch(&shared->failed, 1, __ATOMIC_RELAXED);
        errno = EIO;
        return -1;
    }
    return 0;
}

static int after(int result, uint64_t begin_ns)
{
    int saved = errno;
    __atomic_add_fetch(&shared->flush_ns, now_ns() - begin_ns, __ATOMIC_RELAXED);
    errno = saved;
    return result;
}

int fsync(int fd)
{
    uint64_t begin_ns = now_ns();
    return after(before() ? -1 : real_fsync(fd), begin_ns);
}

int fdatasync(int fd)
{
    uint64_t begin_ns = now_ns();
    return after(before() ? -1 : real_fdatasync(fd), begin_ns);
}

int msync(void *address, size_t length, int flags)
{
    if (!(flags & MS_SYNC))
        return real_msync(address, length, flags);
    uint64_t begin_ns = now_ns();
    return after(before() ? -1 : real_msync(address, length, flags), begin_ns);
}

int sync_file_range(int fd, off64_t offset, off64_t count, unsigned int flags)
{
    uint64_t begin_ns = now_ns();
    return after(before() ? -1 : real_sync_file_range(fd, offset, count, flags), begin_ns);
}
