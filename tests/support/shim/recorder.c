/* A preload library that writes down, in order and with contents, every change of the files below
 * one directory, and every flush of them. tests/support/recording.py reads what it wrote.
 *
 * Environment:
 *   FASTMTA_RECORD_ROOT      the directory, a real path; it must exist
 *   FASTMTA_RECORD_LOG       where the events go; appended to
 *   FASTMTA_RECORD_MARKS     what is written to this path becomes MARK events
 *   FASTMTA_RECORD_DELAY_US  each flush takes up to this much longer; others write meanwhile
 *   FASTMTA_RECORD_SEED      of those delays
 *   FASTMTA_RECORD_MAPPED    names of files that may be mapped shared and writable, between colons:
 *                            what they hold is not recorded. Any other such mapping is refused.
 *
 * One lock is held over each change and its event, so the order of events is the order of changes,
 * whatever thread makes them. A flush is two events, and the lock is free between them: it covers
 * what stands before the first one, and is known to be done at the second.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { /* as in recording.py */
    ROOT = 1, CREATE, MKDIR, WRITE, RESIZE, EXTEND, LINK, UNLINK, RENAME,
    SYNC_BEGIN, SYNC_END, WRITE_SYNCED, MARK, DENIED
};
enum { PATH_OCTETS = 4096, FDS = 4096, PIECES = 1024 };
enum { NOT_OURS, OURS, MARKS };
#define DIE "[\"die\"" /* a mark that begins so ends the process, between two changes */

struct event { /* little-endian hosts only, like the tests that read it */
    uint32_t kind, thread;
    uint64_t node, parent, other, offset;
    uint32_t name_octets, data_octets;
};

struct file { /* what a descriptor stands for */
    int whose, is_synced, is_appending;
    ino_t node;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct file files[FDS];
static char root[PATH_OCTETS];
static size_t root_octets;
static const char *marks, *mapped;
static int log_fd = -1;
static long delay_us;
static uint64_t chance, flushes;

static void give_up(const char *why) {
    dprintf(2, "recorder: %s: %s\n", why, strerror(errno));
    abort();
}

static void append(struct event event, const char *name, const struct iovec *data, size_t count) {
    struct iovec pieces[PIECES + 2];
    int kept = errno;
    size_t total, at;
    event.thread = (uint32_t)syscall(SYS_gettid);
    event.name_octets = name ? (uint32_t)strlen(name) : 0;
    pieces[0] = (struct iovec){&event, sizeof event};
    pieces[1] = (struct iovec){(void *)name, event.name_octets};
    total = sizeof event + event.name_octets + event.data_octets;
    if (count > PIECES) give_up("too many pieces");
    if (count) memcpy(pieces + 2, data, count * sizeof *data);
    for (at = 2; at < count + 2; at++) { /* a short write: only what was written */
        if (pieces[at].iov_len > event.data_octets) pieces[at].iov_len = event.data_octets;
        event.data_octets -= (uint32_t)pieces[at].iov_len;
    }
    event.data_octets = (uint32_t)(total - sizeof event - event.name_octets);
    if (syscall(SYS_writev, log_fd, pieces, count + 2) != (long)total) give_up("log");
    errno = kept;
}

__attribute__((constructor)) static void start(void) {
    const char *directory = getenv("FASTMTA_RECORD_ROOT"), *log = getenv("FASTMTA_RECORD_LOG");
    const char *delay = getenv("FASTMTA_RECORD_DELAY_US"), *seed = getenv("FASTMTA_RECORD_SEED");
    struct stat stat_of;
    if (!directory || !log) return;
    marks = getenv("FASTMTA_RECORD_MARKS");
    mapped = getenv("FASTMTA_RECORD_MAPPED");
    delay_us = delay ? atol(delay) : 0;
    chance = seed ? strtoull(seed, NULL, 10) : 0;
    root_octets = strlen(directory);
    if (root_octets >= sizeof root || stat(directory, &stat_of)) give_up("root");
    memcpy(root, directory, root_octets + 1);
    log_fd = (int)syscall(
        SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0) give_up("log");
    append((struct event){.kind = ROOT, .node = stat_of.st_ino}, NULL, NULL, 0);
}

/* Whether `path` is below the root; then `full` is its absolute form. */
static int is_below(int dirfd, const char *path, char *full) {
    size_t octets = 0;
    if (log_fd < 0 || !path) return 0;
    if (path[0] != '/') {
        char link[64];
        ssize_t got;
        if (dirfd == AT_FDCWD) strcpy(link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
        got = readlink(link, full, PATH_OCTETS - 2);
        if (got < 0) return 0;
        octets = (size_t)got;
        full[octets++] = '/';
    }
    if (octets + strlen(path) >= PATH_OCTETS) return 0;
    strcpy(full + octets, path);
    octets = strlen(full);
    while (octets > 1 && full[octets - 1] == '/') full[--octets] = 0;
    return !strncmp(full, root, root_octets) && (full[root_octets] == '/' || !full[root_octets]);
}

static ino_t node_of(const char *path) {
    struct stat found;
    return lstat(path, &found) ? 0 : found.st_ino;
}

/* The name in `full` and the node of the directory that it stands in. */
static const char *split(const char *full, uint64_t *parent) {
    char directory[PATH_OCTETS];
    const char *slash = strrchr(full, '/');
    memcpy(directory, full, (size_t)(slash - full));
    directory[slash - full] = 0;
    *parent = node_of(directory);
    return slash + 1;
}

static void append_name(enum kind kind, uint64_t node, const char *full) {
    struct event event = {.kind = kind, .node = node};
    const char *name = split(full, &event.parent);
    append(event, name, NULL, 0);
}

static struct file *ours(int fd) {
    struct stat found;
    int kept = errno;
    struct file *file = NULL;
    if (fd >= 0 && fd < FDS && files[fd].whose != NOT_OURS) {
        /* A descriptor that was closed behind our back may stand for something else by now. */
        if (!fstat(fd, &found) && found.st_ino == files[fd].node) file = &files[fd];
        else files[fd].whose = NOT_OURS;
    }
    errno = kept;
    return file;
}

static void remember(int fd, int flags, int whose) {
    struct stat found;
    if (fd < 0) return;
    if (fd >= FDS || fstat(fd, &found)) give_up("descriptor");
    files[fd].node = found.st_ino;
    files[fd].is_synced = (flags & O_DSYNC) != 0;
    files[fd].is_appending = (flags & O_APPEND) != 0;
    files[fd].whose = whose;
}

static int open_any(int dirfd, const char *path, int flags, mode_t mode) {
    char full[PATH_OCTETS];
    int fd, is_new;
    if (!is_below(dirfd, path, full)) {
        fd = (int)syscall(SYS_openat, dirfd, path, flags, mode);
        if (fd >= 0 && fd < FDS) files[fd].whose = NOT_OURS;
        if (fd >= 0 && marks && path && !strcmp(path, marks)) remember(fd, flags, MARKS);
        return fd;
    }
    pthread_mutex_lock(&mutex);
    is_new = (flags & O_CREAT) && !node_of(full);
    fd = (int)syscall(SYS_openat, dirfd, path, flags, mode);
    remember(fd, flags, OURS);
    if (fd >= 0 && is_new) append_name(CREATE, files[fd].node, full);
    else if (fd >= 0 && flags & O_TRUNC)
        append((struct event){.kind = RESIZE, .node = files[fd].node}, NULL, NULL, 0);
    pthread_mutex_unlock(&mutex);
    return fd;
}

#define MODE(flags, last, mode)                                   \
    do {                                                          \
        va_list list;                                             \
        va_start(list, last);                                     \
        mode = (flags) & O_CREAT ? va_arg(list, mode_t) : 0;      \
        va_end(list);                                             \
    } while (0)

int openat(int dirfd, const char *path, int flags, ...) {
    mode_t mode;
    MODE(flags, flags, mode);
    return open_any(dirfd, path, flags, mode);
}
int openat64(int, const char *, int, ...) __attribute__((alias("openat")));
int open(const char *path, int flags, ...) {
    mode_t mode;
    MODE(flags, flags, mode);
    return open_any(AT_FDCWD, path, flags, mode);
}
int open64(const char *, int, ...) __attribute__((alias("open")));
int creat(const char *path, mode_t mode) {
    return open_any(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}
int creat64(const char *, mode_t) __attribute__((alias("creat")));

int close(int fd) {
    if (fd >= 0 && fd < FDS) files[fd].whose = NOT_OURS;
    if (fd >= 0 && fd == log_fd) return 0; /* "close everything" loops */
    return (int)syscall(SYS_close, fd);
}

static int copied(int from, int to) {
    if (to >= 0 && to < FDS) files[to] = ours(from) ? files[from] : (struct file){0};
    return to;
}
int dup(int fd) { return copied(fd, (int)syscall(SYS_dup, fd)); }
int dup2(int fd, int to) {
    return fd == to ? fd : copied(fd, (int)syscall(SYS_dup3, fd, to, 0));
}
int dup3(int fd, int to, int flags) { return copied(fd, (int)syscall(SYS_dup3, fd, to, flags)); }
int fcntl(int fd, int command, ...) {
    va_list list;
    void *argument;
    int result;
    va_start(list, command);
    argument = va_arg(list, void *);
    va_end(list);
    result = (int)syscall(SYS_fcntl, fd, command, argument);
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copied(fd, result) : result;
}
int fcntl64(int, int, ...) __attribute__((alias("fcntl")));

/* All writes. An offset of -1 is where the descriptor stands. */
static ssize_t write_any(int fd, const struct iovec *data, int count, off_t offset) {
    struct file *file;
    struct event event = {.kind = WRITE};
    ssize_t written;
    if (!ours(fd)) {
        if (offset < 0) return syscall(SYS_writev, fd, data, count);
        return syscall(SYS_pwritev, fd, data, count, offset, 0);
    }
    pthread_mutex_lock(&mutex);
    file = ours(fd);
    if (!file) give_up("descriptor closed while written to");
    if (offset < 0) {
        event.offset = (uint64_t)lseek(fd, 0, file->is_appending ? SEEK_END : SEEK_CUR);
        written = syscall(SYS_writev, fd, data, count);
    } else {
        event.offset = (uint64_t)offset;
        written = syscall(SYS_pwritev, fd, data, count, offset, 0);
    }
    if (written > 0) {
        event.kind = file->whose == MARKS ? MARK : WRITE;
        event.node = file->node;
        event.data_octets = (uint32_t)written;
        append(event, NULL, data, (size_t)count);
        if (file->is_synced && event.kind == WRITE)
            append((struct event){.kind = WRITE_SYNCED, .node = file->node}, NULL, NULL, 0);
        if (event.kind == MARK && !strncmp(data->iov_base, DIE, strlen(DIE)))
            syscall(SYS_kill, getpid(), SIGKILL);
    }
    pthread_mutex_unlock(&mutex);
    return written;
}

ssize_t write(int fd, const void *data, size_t count) {
    struct iovec piece = {(void *)data, count};
    if (fd < 0 || fd >= FDS || files[fd].whose == NOT_OURS)
        return syscall(SYS_write, fd, data, count);
    return write_any(fd, &piece, 1, -1);
}
ssize_t pwrite(int fd, const void *data, size_t count, off_t offset) {
    struct iovec piece = {(void *)data, count};
    return write_any(fd, &piece, 1, offset);
}
ssize_t pwrite64(int, const void *, size_t, off_t) __attribute__((alias("pwrite")));
ssize_t writev(int fd, const struct iovec *data, int count) {
    return write_any(fd, data, count, -1);
}
ssize_t pwritev(int fd, const struct iovec *data, int count, off_t offset) {
    return write_any(fd, data, count, offset);
}
ssize_t pwritev64(int, const struct iovec *, int, off_t) __attribute__((alias("pwritev")));
ssize_t pwritev2(int fd, const struct iovec *data, int count, off_t offset, int flags) {
    if (!ours(fd)) return syscall(SYS_pwritev2, fd, data, count, offset, 0, flags);
    if (flags) give_up("pwritev2 with flags");
    return write_any(fd, data, count, offset);
}
ssize_t pwritev64v2(int, const struct iovec *, int, off_t, int) __attribute__((alias("pwritev2")));

/* Octets that would come into one of our files without passing here are refused. */
static ssize_t refuse(const char *call) {
    pthread_mutex_lock(&mutex);
    append((struct event){.kind = DENIED}, call, NULL, 0);
    pthread_mutex_unlock(&mutex);
    errno = EINVAL;
    return -1;
}
ssize_t sendfile(int out, int in, off_t *offset, size_t count) {
    return ours(out) ? refuse("sendfile") : syscall(SYS_sendfile, out, in, offset, count);
}
ssize_t sendfile64(int, int, off_t *, size_t) __attribute__((alias("sendfile")));
ssize_t copy_file_range(int in, off_t *from, int out, off_t *to, size_t count, unsigned flags) {
    if (ours(out)) return refuse("copy_file_range");
    return syscall(SYS_copy_file_range, in, from, out, to, count, flags);
}
void *mmap(void *at, size_t octets, int access, int flags, int fd, off_t offset) {
    char link[64], path[PATH_OCTETS];
    ssize_t got;
    if (flags & MAP_SHARED && access & PROT_WRITE && !(flags & MAP_ANONYMOUS) && ours(fd)) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        got = readlink(link, path, sizeof path - 2);
        if (got < 0) give_up("mmap");
        strcpy(path + got, ":");
        if (!mapped || !strstr(mapped, strrchr(path, '/') + 1)) {
            path[got] = 0;
            refuse(path);
            errno = EACCES;
            return MAP_FAILED;
        }
    }
    return (void *)syscall(SYS_mmap, at, octets, access, flags, fd, offset);
}
void *mmap64(void *, size_t, int, int, int, off_t) __attribute__((alias("mmap")));

static int resize(int fd, enum kind kind, off_t from, off_t size, int mode) {
    struct file *file;
    int result;
    pthread_mutex_lock(&mutex);
    result = (int)(kind == RESIZE ? syscall(SYS_ftruncate, fd, size)
                                  : syscall(SYS_fallocate, fd, mode, from, size - from));
    file = ours(fd);
    if (!result && file)
        append((struct event){.kind = kind, .node = file->node, .offset = (uint64_t)size},
               NULL, NULL, 0);
    pthread_mutex_unlock(&mutex);
    return result;
}
int ftruncate(int fd, off_t size) { return resize(fd, RESIZE, 0, size, 0); }
int ftruncate64(int, off_t) __attribute__((alias("ftruncate")));
int truncate(const char *path, off_t size) {
    int fd = open(path, O_WRONLY | O_CLOEXEC), result;
    if (fd < 0) return -1;
    result = ftruncate(fd, size);
    close(fd);
    return result;
}
int truncate64(const char *, off_t) __attribute__((alias("truncate")));
int fallocate(int fd, int mode, off_t offset, off_t octets) {
    if (mode == FALLOC_FL_KEEP_SIZE) /* blocks, and nothing that can be read */
        return (int)syscall(SYS_fallocate, fd, mode, offset, octets);
    if (mode && ours(fd)) return (int)refuse("fallocate");
    return resize(fd, EXTEND, offset, offset + octets, mode);
}
int fallocate64(int, int, off_t, off_t) __attribute__((alias("fallocate")));
int posix_fallocate(int fd, off_t offset, off_t octets) {
    return fallocate(fd, 0, offset, octets) ? errno : 0;
}
int posix_fallocate64(int, off_t, off_t) __attribute__((alias("posix_fallocate")));

int mkdirat(int dirfd, const char *path, mode_t mode) {
    char full[PATH_OCTETS];
    int result;
    if (!is_below(dirfd, path, full)) return (int)syscall(SYS_mkdirat, dirfd, path, mode);
    pthread_mutex_lock(&mutex);
    result = (int)syscall(SYS_mkdirat, dirfd, path, mode);
    if (!result) append_name(MKDIR, node_of(full), full);
    pthread_mutex_unlock(&mutex);
    return result;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int unlinkat(int dirfd, const char *path, int flags) {
    char full[PATH_OCTETS];
    int result;
    ino_t node;
    if (!is_below(dirfd, path, full)) return (int)syscall(SYS_unlinkat, dirfd, path, flags);
    pthread_mutex_lock(&mutex);
    node = node_of(full);
    result = (int)syscall(SYS_unlinkat, dirfd, path, flags);
    if (!result) append_name(UNLINK, node, full);
    pthread_mutex_unlock(&mutex);
    return result;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags) {
    char full[PATH_OCTETS];
    int result;
    if (!is_below(to_fd, to, full))
        return (int)syscall(SYS_linkat, from_fd, from, to_fd, to, flags);
    pthread_mutex_lock(&mutex);
    result = (int)syscall(SYS_linkat, from_fd, from, to_fd, to, flags);
    if (!result) append_name(LINK, node_of(full), full);
    pthread_mutex_unlock(&mutex);
    return result;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags) {
    char source[PATH_OCTETS], target[PATH_OCTETS];
    struct event event = {.kind = RENAME};
    struct iovec name;
    const char *old;
    int result, is_from = is_below(from_fd, from, source), is_to = is_below(to_fd, to, target);
    if (!is_from && !is_to) return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
    if (!is_from || !is_to || flags) return (int)refuse("rename");
    pthread_mutex_lock(&mutex);
    result = (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
    if (!result) {
        event.node = node_of(target);
        old = split(source, &event.parent);
        name.iov_base = (void *)split(target, &event.other);
        event.data_octets = (uint32_t)(name.iov_len = strlen(name.iov_base));
        append(event, old, &name, 1);
    }
    pthread_mutex_unlock(&mutex);
    return result;
}
int renameat(int from_fd, const char *from, int to_fd, const char *to) {
    return renameat2(from_fd, from, to_fd, to, 0);
}
int rename(const char *from, const char *to) {
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

static void nap(void) {
    struct timespec left = {0, 0};
    pthread_mutex_lock(&mutex);
    chance = chance * 6364136223846793005u + 1442695040888963407u;
    left.tv_nsec = (long)((chance >> 33) % (uint64_t)(delay_us + 1)) * 1000;
    pthread_mutex_unlock(&mutex);
    if (delay_us) nanosleep(&left, NULL);
}

/* `node` 0: of everything there is (sync, syncfs). */
static int flush(int fd, long call, int is_all) {
    struct file *file = ours(fd);
    struct event event = {.kind = SYNC_BEGIN, .node = file && !is_all ? file->node : 0};
    int result;
    if (!file) return (int)syscall(call, fd);
    pthread_mutex_lock(&mutex);
    event.other = ++flushes;
    append(event, NULL, NULL, 0);
    pthread_mutex_unlock(&mutex);
    nap();
    result = (int)syscall(call, fd);
    event.kind = SYNC_END;
    event.offset = result ? (uint64_t)errno : 0;
    pthread_mutex_lock(&mutex);
    append(event, NULL, NULL, 0);
    pthread_mutex_unlock(&mutex);
    return result;
}
int fsync(int fd) { return flush(fd, SYS_fsync, 0); }
int fdatasync(int fd) { return flush(fd, SYS_fdatasync, 0); }
int syncfs(int fd) { return flush(fd, SYS_syncfs, 1); }
