# Reading the B-trees of an LMDB file (engine 0.9, format 1, 64-bit little-endian) without LMDB: a
# look at every row costs tens of nanoseconds, and no GIL. Inline only: no state, no allocation.
#
#   page    0 number u64 | 8 pad u16 | 10 flags u16 | 12 lower u16 | 14 upper u16 | 16 offsets of
#           the nodes u16 each, (lower - 16) / 2 of them; an overflow page has its data from 16 on
#   node    0 lo u16 | 2 hi u16 | 4 flags u16 | 6 key octets u16 | 8 key | data
#           leaf: data octets are lo | hi << 16; branch: child page is lo | hi << 16 | flags << 32
#   meta    page 0 or 1; from 16 on: 0 magic u32 | 4 version u32 | 8 address u64 | 16 map octets u64
#           24 tree of free pages | 72 main tree | 120 last page u64 | 128 transaction u64
#   tree    0 page octets u32 | 4 flags u16 | 6 depth u16 | 8 three counts of pages u64 | 32 entries
#           u64 | 40 root page u64, all ones when it is empty
#
# Owns nothing: a cursor points into the file's octets, which the caller keeps mapped. Any thread
# may call, with or without the GIL, while nobody commits. Every number is held against the size of
# the file and of its page before it is used: what does not fit is DAMAGED, never read.

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef enum:
    TREE_OK = 0
    TREE_OVER = 1
    TREE_DAMAGED = 2
    TREE_DEPTH_MAX = 32
    TREE_HEAD_OCTETS = 16
    TREE_NODE_OCTETS = 8
    TREE_BRANCH = 1
    TREE_LEAF = 2
    TREE_OVERFLOW = 4
    TREE_META = 8
    TREE_BIG = 1  # flag of a node: its data is the number of an overflow page
    TREE_SUB = 2  # its data is a tree
    TREE_OCTETS = 48
    TREE_META_OCTETS = 136

cdef struct TreeFile:
    const unsigned char *data
    uint64_t octets
    uint64_t page_octets

cdef struct TreeCursor:
    TreeFile file
    const unsigned char *pages[TREE_DEPTH_MAX]
    uint32_t at[TREE_DEPTH_MAX]
    uint32_t counts[TREE_DEPTH_MAX]
    int depth  # of the leaf; -1: the tree is empty
    const unsigned char *key
    const unsigned char *value
    uint64_t key_octets
    uint64_t value_octets


cdef inline uint16_t tree16(const unsigned char *p) noexcept nogil:
    cdef uint16_t value
    memcpy(&value, p, 2)
    return value


cdef inline uint32_t tree32(const unsigned char *p) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, p, 4)
    return value


cdef inline uint64_t tree64(const unsigned char *p) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, p, 8)
    return value


cdef inline int tree_compare(
    const unsigned char *one, uint64_t one_octets, const unsigned char *two, uint64_t two_octets
) noexcept nogil:
    """As LMDB orders keys."""
    cdef uint64_t count = one_octets if one_octets < two_octets else two_octets
    cdef int order = memcmp(one, two, count)
    if order:
        return order
    return (one_octets > two_octets) - (one_octets < two_octets)


cdef inline const unsigned char *tree_page(
    const TreeFile *file, uint64_t number, uint16_t kind
) noexcept nogil:
    """The page, if there is one of that kind; else NULL."""
    cdef const unsigned char *page
    if number >= file.octets // file.page_octets:
        return NULL
    page = file.data + number * file.page_octets
    if tree64(page) != number or not tree16(page + 10) & kind:
        return NULL
    return page


cdef inline const unsigned char *tree_node(
    const TreeFile *file, const unsigned char *page, uint32_t index
) noexcept nogil:
    """A node whose key is within its page; else NULL."""
    cdef uint64_t offset = tree16(page + TREE_HEAD_OCTETS + 2 * index)
    if offset < TREE_HEAD_OCTETS or offset + TREE_NODE_OCTETS > file.page_octets:
        return NULL
    if offset + TREE_NODE_OCTETS + tree16(page + offset + 6) > file.page_octets:
        return NULL
    return page + offset


cdef inline int tree_push(TreeCursor *cursor, uint64_t number) noexcept nogil:
    """One page further down."""
    cdef const unsigned char *page = tree_page(&cursor.file, number, TREE_BRANCH | TREE_LEAF)
    cdef uint64_t lower
    if page == NULL or cursor.depth + 1 >= TREE_DEPTH_MAX:
        return TREE_DAMAGED
    lower = tree16(page + 12)
    if lower < TREE_HEAD_OCTETS + 2 or lower > cursor.file.page_octets:
        return TREE_DAMAGED
    cursor.depth += 1
    cursor.pages[cursor.depth] = page
    cursor.counts[cursor.depth] = <uint32_t>((lower - TREE_HEAD_OCTETS) >> 1)
    cursor.at[cursor.depth] = 0
    return TREE_OK


cdef inline bint tree_at_leaf(const TreeCursor *cursor) noexcept nogil:
    return tree16(cursor.pages[cursor.depth] + 10) & TREE_LEAF != 0


cdef inline int tree_step_down(TreeCursor *cursor) noexcept nogil:
    """From a branch to the page below where the cursor stands."""
    cdef const unsigned char *node
    node = tree_node(&cursor.file, cursor.pages[cursor.depth], cursor.at[cursor.depth])
    if node == NULL:
        return TREE_DAMAGED
    return tree_push(
        cursor, tree16(node) | <uint64_t>tree16(node + 2) << 16 | <uint64_t>tree16(node + 4) << 32
    )


cdef inline int tree_down(TreeCursor *cursor) noexcept nogil:
    """From where the cursor stands to the first leaf below."""
    while not tree_at_leaf(cursor):
        if tree_step_down(cursor):
            return TREE_DAMAGED
    return TREE_OK


cdef inline int tree_load(TreeCursor *cursor) noexcept nogil:
    """Key and value of the row where the cursor stands; up and on when its leaf is over."""
    cdef const TreeFile *file = &cursor.file
    cdef const unsigned char *node
    cdef const unsigned char *page
    cdef uint64_t count, end
    while cursor.at[cursor.depth] >= cursor.counts[cursor.depth]:
        if cursor.depth == 0:
            return TREE_OVER
        cursor.depth -= 1
        cursor.at[cursor.depth] += 1
    if not tree_at_leaf(cursor) and tree_down(cursor):
        return TREE_DAMAGED
    page = cursor.pages[cursor.depth]
    node = tree_node(file, page, cursor.at[cursor.depth])
    if node == NULL:
        return TREE_DAMAGED
    cursor.key = node + TREE_NODE_OCTETS
    cursor.key_octets = tree16(node + 6)
    cursor.value = cursor.key + cursor.key_octets
    count = tree16(node) | <uint64_t>tree16(node + 2) << 16
    cursor.value_octets = count
    end = <uint64_t>(cursor.value - page)
    if tree16(node + 4) & TREE_BIG:
        if end + 8 > file.page_octets:
            return TREE_DAMAGED
        page = tree_page(file, tree64(cursor.value), TREE_OVERFLOW)
        if page == NULL or count > file.octets - <uint64_t>(page - file.data) - TREE_HEAD_OCTETS:
            return TREE_DAMAGED
        cursor.value = page + TREE_HEAD_OCTETS
    elif end + count > file.page_octets:
        return TREE_DAMAGED
    return TREE_OK


cdef inline int tree_next(TreeCursor *cursor) noexcept nogil:
    """On to the next row."""
    cursor.at[cursor.depth] += 1
    return tree_load(cursor)


cdef inline int tree_previous(TreeCursor *cursor) noexcept nogil:
    """Back to the row before; from beyond the last row to that."""
    if cursor.depth < 0:
        return TREE_OVER
    while cursor.at[cursor.depth] == 0:
        if cursor.depth == 0:
            return TREE_OVER
        cursor.depth -= 1
    cursor.at[cursor.depth] -= 1
    while not tree_at_leaf(cursor):
        if tree_step_down(cursor):
            return TREE_DAMAGED
        cursor.at[cursor.depth] = cursor.counts[cursor.depth] - 1
    return tree_load(cursor)


cdef inline int tree_seek(
    TreeCursor *cursor, uint64_t root, const unsigned char *key, uint64_t key_octets
) noexcept nogil:
    """To the first row at or beyond `key`."""
    cdef uint32_t low, high, middle
    cdef const unsigned char *node
    cdef bint is_leaf
    cdef int order
    cursor.depth = -1
    if root == <uint64_t>-1:
        return TREE_OVER
    if tree_push(cursor, root):
        return TREE_DAMAGED
    while True:
        is_leaf = tree_at_leaf(cursor)
        low = 0 if is_leaf else 1  # the first key of a branch says nothing
        high = cursor.counts[cursor.depth]
        while low < high:
            middle = (low + high) >> 1
            node = tree_node(&cursor.file, cursor.pages[cursor.depth], middle)
            if node == NULL:
                return TREE_DAMAGED
            order = tree_compare(node + TREE_NODE_OCTETS, tree16(node + 6), key, key_octets)
            if order < 0 or (order == 0 and not is_leaf):
                low = middle + 1
            else:
                high = middle
        cursor.at[cursor.depth] = low if is_leaf else low - 1
        if is_leaf:
            return tree_load(cursor)
        node = tree_node(&cursor.file, cursor.pages[cursor.depth], cursor.at[cursor.depth])
        if node == NULL:
            return TREE_DAMAGED
        if tree_push(
            cursor,
            tree16(node) | <uint64_t>tree16(node + 2) << 16 | <uint64_t>tree16(node + 4) << 32,
        ):
            return TREE_DAMAGED


cdef inline int tree_open(
    TreeFile *file, const unsigned char *data, uint64_t octets, uint64_t *main
) noexcept nogil:
    """Find the latest state of the file: its page size, and the root of its main tree."""
    cdef const unsigned char *meta
    cdef uint64_t newest = 0, number
    cdef bint is_found = False
    file.data = data
    file.octets = octets
    file.page_octets = 4_096
    for number in range(2):
        if (number + 1) * file.page_octets > octets:
            break
        meta = tree_page(file, number, TREE_META)
        if meta == NULL or tree32(meta + 16) != <uint32_t>0xBEEFC0DEU:
            return TREE_DAMAGED
        if tree32(meta + 20) & 0xFFFF != 1:
            return TREE_DAMAGED
        if number == 0:
            file.page_octets = tree32(meta + 40)
            if file.page_octets < 512 or file.page_octets > 65_536:
                return TREE_DAMAGED
            if file.page_octets & (file.page_octets - 1):
                return TREE_DAMAGED
        if not is_found or tree64(meta + 144) > newest:
            is_found = True
            newest = tree64(meta + 144)
            main[0] = tree64(meta + 128)
    return TREE_OK if is_found else TREE_DAMAGED


cdef inline int tree_find(
    const TreeFile *file, uint64_t main, const unsigned char *name, uint64_t name_octets,
    uint64_t *root
) noexcept nogil:
    """The root of a named tree; TREE_OVER when there is none of that name."""
    cdef TreeCursor cursor
    cdef int status
    cursor.file = file[0]
    status = tree_seek(&cursor, main, name, name_octets)
    if status:
        return status
    if tree_compare(cursor.key, cursor.key_octets, name, name_octets):
        return TREE_OVER
    if cursor.value_octets != TREE_OCTETS:
        return TREE_DAMAGED
    root[0] = tree64(cursor.value + 40)
    return TREE_OK
