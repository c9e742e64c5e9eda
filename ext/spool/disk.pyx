"""What Python's os module lacks: blocks for a file beyond its end.

Owns       Nothing.
Threads    Any; the GIL is released during the call.
Never      Changes the size of a file, or what is in it.
"""

from libc.errno cimport EINTR, errno

from os import strerror

cdef extern from "<fcntl.h>" nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <fcntl.h>
    #include <linux/falloc.h>
    """
    int fallocate(int fd, int mode, long long offset, long long count)
    int FALLOC_FL_KEEP_SIZE


def reserve_blocks(int fd, long long offset, long long count):
    """Allocate the blocks of `count` octets at `offset` and leave the file's size alone.

    What is written there later needs no new space. Raises OSError: ENOSPC (some blocks may have
    been taken all the same), EOPNOTSUPP (the file system cannot).
    """
    cdef int result, problem = 0
    with nogil:
        while True:
            result = fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, count)
            if result == 0:
                break
            problem = errno
            if problem != EINTR:
                break
    if result != 0:
        raise OSError(problem, strerror(problem))
