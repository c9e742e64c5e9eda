"""Sorted octet strings: what an index does, in RAM, for a million of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

BLOCK_MAX = 1_024


class SortedKeys:
    """Distinct keys in order. To add or remove one costs a bisection and a short move.

    Keys stand in blocks of at most BLOCK_MAX; `_firsts` has the first key of each block.
    """

    __slots__ = ("_blocks", "_firsts", "count")

    def __init__(self) -> None:
        self._blocks: list[list[bytes]] = []
        self._firsts: list[bytes] = []
        self.count = 0

    def add(self, key: bytes) -> None:
        """`key`, which must not be there, is there from now on."""
        self.count += 1
        blocks, firsts = self._blocks, self._firsts
        if not blocks:
            blocks.append([key])
            firsts.append(key)
            return
        at = max(0, bisect_right(firsts, key) - 1)
        block = blocks[at]
        if key > block[-1]:  # most keys come in order
            if len(block) >= BLOCK_MAX and at == len(blocks) - 1:
                blocks.append([key])
                firsts.append(key)
                return
            block.append(key)
        else:
            block.insert(bisect_left(block, key), key)
            firsts[at] = block[0]
        if len(block) > BLOCK_MAX:
            half = len(block) // 2
            blocks.insert(at + 1, block[half:])
            firsts.insert(at + 1, block[half])
            del block[half:]

    def remove(self, key: bytes) -> None:
        """`key`, which must be there, is not there any more."""
        blocks, firsts = self._blocks, self._firsts
        at = bisect_right(firsts, key) - 1
        block = blocks[at]
        place = bisect_left(block, key)
        if block[place] != key:
            raise KeyError(key)
        self.count -= 1
        del block[place]
        if not block:
            del blocks[at], firsts[at]
        elif place == 0:
            firsts[at] = block[0]

    def between(self, after: bytes, before: bytes, limit: int) -> list[bytes]:
        """At most `limit` keys greater than `after` and less than `before`, in order."""
        found: list[bytes] = []
        blocks = self._blocks
        at = max(0, bisect_right(self._firsts, after) - 1)
        while at < len(blocks) and len(found) < limit:
            block = blocks[at]
            if block[0] >= before:
                break
            start = bisect_right(block, after)
            end = bisect_left(block, before, start)
            found += block[start : min(end, start + limit - len(found))]
            at += 1
        return found

    def first_from(self, key: bytes) -> bytes | None:
        """The least key that is not less than `key`."""
        blocks = self._blocks
        at = max(0, bisect_right(self._firsts, key) - 1)
        while at < len(blocks):
            block = blocks[at]
            place = bisect_left(block, key)
            if place < len(block):
                return block[place]
            at += 1
        return None
