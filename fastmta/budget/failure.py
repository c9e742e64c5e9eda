"""Refused logins, which are never let through uncounted.

Other limits are there to keep mail flowing: what finds no place in a full table is granted. Here
that would be a way in: made-up login names fill the table, and then passwords may be guessed. So a
failure without a place is counted in one of the table's shared places (see tally_py.py), which one
by its key, together with all others that came there. What is counted of a key is its own count and
that of its shared place: never less than its failures, more only once the table has been full. The
worst that whoever fills the table can do, from some thousand networks, is to lock accounts; he can
lock any one of them from two.
"""

from fastmta.smtp.use import Use

from .tally import Tally

_USE = Use.AUTH_FAILURE


def failures(tally: Tally, key: int, now_ns: int) -> int:
    """Failures of `key` in this window, over all workers; or more."""
    count = tally.count(key, _USE, now_ns)
    shared = _shared(tally, key)
    return count + tally.count(shared, _USE, now_ns) if shared else count


def spend_failure(
    tally: Tally, key: int, amount: int, limit: int, window_ns: int, now_ns: int
) -> bool:
    """`ClientLimits.spend` of one key. True for an amount above 0: it is counted."""
    if amount == 0:
        return failures(tally, key, now_ns) < limit
    if amount < 0:
        left = -amount - tally.give_back(key, _USE, -amount, now_ns)
        shared = _shared(tally, key)
        if left and shared:
            tally.give_back(shared, _USE, left, now_ns)
        return True
    return _count(tally, key, amount, limit, window_ns, now_ns)


def _count(tally: Tally, key: int, amount: int, limit: int, window_ns: int, now_ns: int) -> bool:
    shared = _shared(tally, key)
    elsewhere = tally.count(shared, _USE, now_ns) if shared else 0
    at, overflow = key, tally.overflow
    is_granted = tally.spend(at, _USE, amount, max(0, limit - elsewhere), window_ns, now_ns)
    if tally.overflow != overflow:  # there was no place
        at, elsewhere = shared, tally.count(key, _USE, now_ns)
        is_granted = shared > 0 and tally.spend(
            at, _USE, amount, max(0, limit - elsewhere), window_ns, now_ns
        )
    if not is_granted:
        return False
    # Another worker may have counted in the other of the two places since we looked there.
    if failures(tally, key, now_ns) <= limit:
        return True
    tally.give_back(at, _USE, amount, now_ns)
    return False


def _shared(tally: Tally, key: int) -> int:
    """The key of its shared place; 0: the table is too small to have any."""
    return key % tally.shared + 1 if tally.shared else 0
