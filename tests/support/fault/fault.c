/* A preload library that counts the system calls of another process, and fails or kills it at one.
 *
 * FASTMTA_FAULT_PAGE names a file of one `struct page`, shared by every process that names it. It
 * holds a rule (which calls, which of them, what then), written by a test at any time, and what
 * has come of it. Nothing is looked at while `armed` is 0. See __init__.py for the words.
 *
 * With ACT_LIE the octets that a file had before the writes since its last good flush are put back
 * when its flush fails: later flushes succeed, and the data of the failed one is gone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    OP_OPEN, OP_CREATE, OP_WRITE, OP_FLUSH, OP_RENAME, OP_UNLINK, OP_MKDIR, OP_RESIZE, OP_MAP,
    OP_MEMORY, OP_EVENT, OP_THREAD, OP_RANDOM, OPS
};
enum { ACT_COUNT, ACT_FAIL, ACT_SHORT, ACT_LIE, ACT_KILL, ACT_KILL_GROUP };
enum { CONTENT_ANY, CONTENT_VOID, CONTENT_LOG, CONTENT_FILL };
enum { DO_NOTHING, DO_BEFORE, DO_AFTER };
enum { OFFSET_NONE = -1, PATH_OCTETS = 512, PAGE_OCTETS = 4096 };

static const char *const op_names[OPS] = {
    "open", "create", "write", "flush", "rename", "unlink", "mkdir", "resize", "map",
    "memory", "event", "thread", "random",
};

struct page {
    uint64_t armed;      /* raised by one at each arming; 0: off */
    uint64_t pid;        /* only this process; 0: all */
    uint64_t operations; /* bits of OP_ */
    int64_t call;        /* the n-th of them, from 1 */
    uint64_t is_sticky;  /* and all that follow */
    uint64_t action;
    int64_t error;
    uint64_t is_after;   /* kill when the call has been done */
    int64_t below;       /* only writes at an offset below this; 0: all */
    uint64_t content;    /* of a write, one of CONTENT_; 0: all */
    uint64_t minimum;    /* OP_MEMORY: octets, whoever asks; 0: all that our own modules ask for */
    uint64_t trace_fd;   /* 0: none */
    uint64_t is_group;   /* the first process of a tree makes a process group of its own */
    uint64_t group;      /* the latest */
    uint64_t matched;    /* calls */
    uint64_t fired;
    uint64_t counts[OPS];
    char root[PATH_OCTETS];    /* files below it */
    char pattern[PATH_OCTETS]; /* with stars */
    char fired_path[PATH_OCTETS];
};

static struct page *page;

/* A call of the same form under another name (files are 64 bits wide here anyway). */
#define SAME(name, other) extern __typeof__(name) other __attribute__((alias(#name)))

/* Calls as the kernel has them: nothing of the C library is in the way, nothing is recursive. */

static int64_t sys(long number, long a, long b, long c, long d, long e, long f) {
    return syscall(number, a, b, c, d, e, f);
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("FASTMTA_FAULT_PAGE");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    void *map;
    if (fd < 0) return;
    map = (void *)syscall(
        SYS_mmap, NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (map == MAP_FAILED) return;
    page = map;
    if (page->is_group && page->group != (uint64_t)getpgrp() && setpgid(0, 0) == 0)
        page->group = (uint64_t)getpid();
}

static int is_like(const char *text, const char *pattern) {
    if (*pattern == '*') return is_like(text, pattern + 1) || (*text && is_like(text + 1, pattern));
    if (*pattern != *text) return 0;
    return !*text || is_like(text + 1, pattern + 1);
}

static void path_of(int fd, char *path) {
    char link[32];
    ssize_t octets;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    octets = syscall(SYS_readlink, link, path, PATH_OCTETS - 1);
    path[octets < 0 ? 0 : octets] = 0;
}

static void join_path(int directory, const char *name, char *path) {
    size_t octets = 0;
    if (*name != '/') {
        if (directory == AT_FDCWD) {
            if (syscall(SYS_getcwd, path, PATH_OCTETS - 1) < 0) path[0] = 0;
        } else {
            path_of(directory, path);
        }
        octets = strlen(path);
        path[octets++] = '/';
    }
    snprintf(path + octets, PATH_OCTETS - octets, "%s", name);
}

static void trace(const char *what, int op, const char *path, int problem) {
    char line[PATH_OCTETS + 100];
    int octets;
    if (!page->trace_fd) return;
    octets = snprintf(line, sizeof line, "[\"%s\", \"%s\", \"%s\", %d]\n", what, op_names[op],
                      path, problem);
    syscall(SYS_write, (int)page->trace_fd, line, (size_t)octets);
}

static void die(void) {
    if (page->action == ACT_KILL_GROUP && page->group) kill(-(pid_t)page->group, SIGKILL);
    for (;;) kill(getpid(), SIGKILL);
}

static int is_on(int op) {
    return page && page->armed && (page->operations >> op & 1)
        && (!page->pid || page->pid == (uint64_t)getpid());
}

/* Count this call; whether the rule's moment has come. */
static int is_due(int op, const char *path) {
    int64_t call;
    __atomic_add_fetch(&page->counts[op], 1, __ATOMIC_SEQ_CST);
    call = (int64_t)__atomic_add_fetch(&page->matched, 1, __ATOMIC_SEQ_CST);
    if (page->action == ACT_COUNT || call < page->call) return DO_NOTHING;
    if (call > page->call && !page->is_sticky) return DO_NOTHING;
    if (__atomic_add_fetch(&page->fired, 1, __ATOMIC_SEQ_CST) == 1)
        snprintf(page->fired_path, PATH_OCTETS, "%s", path);
    trace("fault", op, path, (int)page->error);
    if (page->action < ACT_KILL) return DO_BEFORE;
    if (page->is_after) return DO_AFTER;
    die();
    return DO_NOTHING;
}

static int is_matching(const char *path) {
    return strncmp(path, page->root, strlen(page->root)) == 0 && is_like(path, page->pattern);
}

/* What to do with a call on a path. */
static int look(int op, const char *path) {
    return is_matching(path) ? is_due(op, path) : DO_NOTHING;
}

/* After a call that went through. */
static int64_t done(int todo, int64_t result) {
    if (todo == DO_AFTER) die();
    return result;
}

static int fail(void) { return errno = (int)page->error, -1; }

/* What files held before writes that no flush has covered. */

struct undo {
    struct undo *next;
    dev_t device;
    ino_t inode;
    int64_t offset;
    int64_t octets;
    unsigned char old[];
};

static struct undo *undone;
static pthread_mutex_t undo_lock = PTHREAD_MUTEX_INITIALIZER;
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

static void remember(int fd, int64_t offset, size_t count) {
    struct undo *undo;
    struct stat facts;
    int64_t octets;
    if (page->action != ACT_LIE || (fcntl(fd, F_GETFL) & O_DSYNC) || fstat(fd, &facts)) return;
    if (!S_ISREG(facts.st_mode)) return;
    undo = __libc_malloc(sizeof *undo + count);
    if (!undo) return;
    memset(undo->old, 0, count);
    if (offset == OFFSET_NONE) offset = syscall(SYS_lseek, fd, 0, SEEK_CUR);
    octets = syscall(SYS_pread64, fd, undo->old, count, offset);
    if (octets < 0) memset(undo->old, 0, count); /* opened for writing only: a new file */
    undo->device = facts.st_dev, undo->inode = facts.st_ino;
    undo->offset = offset, undo->octets = (int64_t)count;
    pthread_mutex_lock(&undo_lock);
    undo->next = undone;
    undone = undo;
    pthread_mutex_unlock(&undo_lock);
}

/* Newest first, so that the oldest octets stay. */
static void forget(int fd, int is_lost) {
    struct undo **link = &undone, *undo;
    struct stat facts;
    if (page->action != ACT_LIE || fstat(fd, &facts)) return;
    pthread_mutex_lock(&undo_lock);
    while ((undo = *link)) {
        if (undo->device == facts.st_dev && undo->inode == facts.st_ino) {
            if (is_lost)
                syscall(SYS_pwrite64, fd, undo->old, (size_t)undo->octets, undo->offset);
            *link = undo->next;
            free(undo);
        } else {
            link = &undo->next;
        }
    }
    pthread_mutex_unlock(&undo_lock);
}

/* Writes */

/* A page of zeros voids a header, more of them allocate a new file. */
static uint64_t content_of(const void *octets, size_t count) {
    static const char zeros[PAGE_OCTETS];
    if (count < PAGE_OCTETS || memcmp(octets, zeros, PAGE_OCTETS)) return CONTENT_LOG;
    return count == PAGE_OCTETS ? CONTENT_VOID : CONTENT_FILL;
}

/* What to do with a write; `*count` is cut for a short one. */
static int look_at_write(int fd, const void *octets, size_t *count, int64_t offset) {
    char path[PATH_OCTETS];
    int todo;
    if (page->below && (offset == OFFSET_NONE || offset >= page->below)) return DO_NOTHING;
    if (page->content && content_of(octets, *count) != page->content) return DO_NOTHING;
    path_of(fd, path);
    if (!is_matching(path)) return DO_NOTHING;
    todo = is_due(OP_WRITE, path);
    if (todo == DO_BEFORE && page->action == ACT_SHORT) {
        *count = *count > 1 ? *count / 2 : *count;
        return DO_NOTHING;
    }
    return todo;
}

static void remember_write(int fd, int64_t offset, size_t count) {
    char path[PATH_OCTETS];
    if (!page || !page->armed || page->action != ACT_LIE) return;
    path_of(fd, path);
    if (is_matching(path)) remember(fd, offset, count);
}

static ssize_t put_raw(int fd, const void *octets, size_t count, int64_t offset) {
    if (offset == OFFSET_NONE) return sys(SYS_write, fd, (long)octets, (long)count, 0, 0, 0);
    return sys(SYS_pwrite64, fd, (long)octets, (long)count, offset, 0, 0);
}

static ssize_t put(int fd, const void *octets, size_t count, int64_t offset) {
    int todo = DO_NOTHING;
    if (is_on(OP_WRITE)) todo = look_at_write(fd, octets, &count, offset);
    if (todo == DO_BEFORE) return fail();
    remember_write(fd, offset, count);
    return done(todo, put_raw(fd, octets, count, offset));
}

static ssize_t put_vector(int fd, const struct iovec *vector, int pieces, int64_t offset) {
    int todo = DO_NOTHING;
    size_t count = 0, whole;
    int at;
    for (at = 0; at < pieces; at++) count += vector[at].iov_len;
    whole = count;
    if (is_on(OP_WRITE) && pieces)
        todo = look_at_write(fd, vector[0].iov_base, &count, offset);
    if (todo == DO_BEFORE) return fail();
    if (count < whole) { /* short: what the first piece allows */
        if (count > vector[0].iov_len) count = vector[0].iov_len;
        return put_raw(fd, vector[0].iov_base, count, offset);
    }
    remember_write(fd, offset, count);
    if (offset == OFFSET_NONE)
        return done(todo, sys(SYS_writev, fd, (long)vector, pieces, 0, 0, 0));
    return done(todo, sys(SYS_pwritev, fd, (long)vector, pieces, offset, 0, 0));
}

ssize_t write(int fd, const void *octets, size_t count) { return put(fd, octets, count, -1); }
ssize_t pwrite(int fd, const void *octets, size_t count, off_t offset) {
    return put(fd, octets, count, offset);
}
SAME(pwrite, pwrite64);
ssize_t writev(int fd, const struct iovec *vector, int pieces) {
    return put_vector(fd, vector, pieces, -1);
}
ssize_t pwritev(int fd, const struct iovec *vector, int pieces, off_t offset) {
    return put_vector(fd, vector, pieces, offset);
}
SAME(pwritev, pwritev64);

/* Flushes */

static int flush(int fd, long number) {
    char path[PATH_OCTETS] = "";
    int todo = DO_NOTHING, result;
    if (!page || !page->armed) return (int)sys(number, fd, 0, 0, 0, 0, 0);
    path_of(fd, path);
    if (is_on(OP_FLUSH)) todo = look(OP_FLUSH, path);
    if (todo == DO_BEFORE) return forget(fd, 1), fail();
    result = (int)sys(number, fd, 0, 0, 0, 0, 0);
    if (result == 0) forget(fd, 0);
    if (is_matching(path)) trace("flushed", OP_FLUSH, path, result);
    return (int)done(todo, result);
}

int fsync(int fd) { return flush(fd, SYS_fsync); }
int fdatasync(int fd) { return flush(fd, SYS_fdatasync); }

/* Names */

static int open_at(int directory, const char *name, int flags, mode_t mode) {
    char path[PATH_OCTETS];
    int op = flags & O_CREAT ? OP_CREATE : OP_OPEN, todo = DO_NOTHING;
    if (is_on(op)) {
        join_path(directory, name, path);
        todo = look(op, path);
    }
    if (todo == DO_BEFORE) return fail();
    return (int)done(todo, sys(SYS_openat, directory, (long)name, flags, mode, 0, 0));
}

static mode_t mode_in(int flags, va_list arguments) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

#define OPEN(name, place, directory) \
    int name place { \
        va_list arguments; \
        mode_t mode; \
        va_start(arguments, flags); \
        mode = mode_in(flags, arguments); \
        va_end(arguments); \
        return open_at(directory, path, flags, mode); \
    }
OPEN(open, (const char *path, int flags, ...), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD)
OPEN(openat, (int directory, const char *path, int flags, ...), directory)
OPEN(openat64, (int directory, const char *path, int flags, ...), directory)

static int name_call(int op, int directory, const char *name) {
    char path[PATH_OCTETS];
    if (!is_on(op)) return DO_NOTHING;
    join_path(directory, name, path);
    return look(op, path);
}

int rename(const char *old, const char *new) {
    int todo = name_call(OP_RENAME, AT_FDCWD, new);
    if (todo == DO_BEFORE) return fail();
    return (int)done(todo, sys(SYS_rename, (long)old, (long)new, 0, 0, 0, 0));
}

int unlinkat(int directory, const char *name, int flags) {
    int todo = name_call(OP_UNLINK, directory, name), result;
    char path[PATH_OCTETS];
    if (todo == DO_BEFORE) return fail();
    result = (int)sys(SYS_unlinkat, directory, (long)name, flags, 0, 0, 0);
    if (result == 0 && page && page->armed && page->trace_fd) {
        join_path(directory, name, path);
        trace("unlinked", OP_UNLINK, path, 0);
    }
    return (int)done(todo, result);
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }

int mkdir(const char *name, mode_t mode) {
    int todo = name_call(OP_MKDIR, AT_FDCWD, name);
    if (todo == DO_BEFORE) return fail();
    return (int)done(todo, sys(SYS_mkdir, (long)name, mode, 0, 0, 0, 0));
}

/* Sizes */

static int resize(int fd, int64_t size, long number, int64_t from) {
    char path[PATH_OCTETS];
    int todo = DO_NOTHING;
    if (is_on(OP_RESIZE)) {
        path_of(fd, path);
        todo = look(OP_RESIZE, path);
    }
    if (todo == DO_BEFORE) return fail();
    if (number == SYS_ftruncate) return (int)done(todo, sys(number, fd, size, 0, 0, 0, 0));
    return (int)done(todo, sys(number, fd, 0, from, size, 0, 0));
}

int ftruncate(int fd, off_t size) { return resize(fd, size, SYS_ftruncate, 0); }
SAME(ftruncate, ftruncate64);
/* These return their error. */
int posix_fallocate(int fd, off_t from, off_t size) {
    return resize(fd, size, SYS_fallocate, from) ? errno : 0;
}
SAME(posix_fallocate, posix_fallocate64);

/* Memory */

void *mmap(void *place, size_t size, int access, int flags, int fd, off_t offset) {
    char path[PATH_OCTETS];
    int todo = DO_NOTHING;
    if (fd >= 0 && is_on(OP_MAP)) {
        path_of(fd, path);
        todo = look(OP_MAP, path);
    }
    if (todo == DO_BEFORE) return fail(), MAP_FAILED;
    return (void *)done(todo, sys(SYS_mmap, (long)place, (long)size, access, flags, fd, offset));
}
SAME(mmap, mmap64);

enum { MODULES_MAX = 64 };
static struct { uintptr_t start, end; } modules[MODULES_MAX];
static int module_count;
static uint64_t modules_of; /* the arming for which they were listed */

static int note_module(struct dl_phdr_info *info, size_t size, void *unused) {
    int at;
    (void)size, (void)unused;
    if (!strstr(info->dlpi_name, "/fastmta/")) return 0;
    for (at = 0; at < info->dlpi_phnum && module_count < MODULES_MAX; at++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[at];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X)) continue;
        modules[module_count].start = info->dlpi_addr + part->p_vaddr;
        modules[module_count].end = info->dlpi_addr + part->p_vaddr + part->p_memsz;
        module_count++;
    }
    return 0;
}

static int is_ours(const void *caller) {
    int at;
    if (modules_of != page->armed) {
        modules_of = page->armed;
        module_count = 0;
        dl_iterate_phdr(note_module, NULL);
    }
    for (at = 0; at < module_count; at++)
        if ((uintptr_t)caller >= modules[at].start && (uintptr_t)caller < modules[at].end) return 1;
    return 0;
}

static int is_denied(size_t octets, const void *caller) {
    if (!is_on(OP_MEMORY)) return 0;
    if (page->minimum ? octets < page->minimum : !is_ours(caller)) return 0;
    if (is_due(OP_MEMORY, "") != DO_BEFORE) return 0;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t octets) {
    if (is_denied(octets, __builtin_return_address(0))) return NULL;
    return __libc_malloc(octets);
}
void *calloc(size_t count, size_t each) {
    if (is_denied(count * each, __builtin_return_address(0))) return NULL;
    return __libc_calloc(count, each);
}
void *realloc(void *old, size_t octets) {
    if (octets && is_denied(octets, __builtin_return_address(0))) return NULL;
    return __libc_realloc(old, octets);
}

/* Other resources */

static int resource(int op) { return is_on(op) && is_due(op, "") == DO_BEFORE; }

int eventfd(unsigned int count, int flags) {
    return resource(OP_EVENT) ? fail() : (int)sys(SYS_eventfd2, count, flags, 0, 0, 0, 0);
}
int epoll_create1(int flags) {
    return resource(OP_EVENT) ? fail() : (int)sys(SYS_epoll_create1, flags, 0, 0, 0, 0, 0);
}
int pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *), void *with) {
    static __typeof__(pthread_create) *real;
    if (resource(OP_THREAD)) return (int)page->error;
    if (!real) real = (__typeof__(real))dlsym(RTLD_NEXT, "pthread_create");
    return real(thread, how, run, with);
}
ssize_t getrandom(void *octets, size_t count, unsigned int flags) {
    if (resource(OP_RANDOM)) return fail();
    return sys(SYS_getrandom, (long)octets, (long)count, flags, 0, 0, 0);
}
