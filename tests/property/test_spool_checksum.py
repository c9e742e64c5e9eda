"""CRC32C: three interleaved streams, one stream and tables say the same of everything."""

import random

from hypothesis import given
from hypothesis import strategies as st

from fastmta.spool._log import checksum, checksum_soft

OCTETS = random.Random(1).randbytes(20_000)
SIZES = [*range(520), *range(6100, 6200), *range(12_200, 12_400, 7)]  # around every change of way


def test_every_size_at_every_alignment() -> None:
    view = memoryview(OCTETS)
    for size in SIZES:
        for start in range(8) if size < 300 else (size % 8,):
            piece = view[start : start + size]
            assert checksum(piece) == checksum_soft(piece), (start, size)


@given(st.binary(max_size=700), st.integers(0, 2**32 - 1), st.integers(1, 25))
def test_any_octets_after_any_beginning(octets: bytes, start: int, times: int) -> None:
    octets *= times
    assert checksum(octets, start) == checksum_soft(octets, start)


@given(st.integers(0, 20_000), st.integers(0, 20_000), st.integers(0, 7))
def test_a_checksum_goes_on_where_another_ended(one: int, two: int, skipped: int) -> None:
    first, last = sorted((one, two))
    whole = checksum(OCTETS[skipped:last])
    first = max(first, skipped)
    if last >= first:
        assert checksum(OCTETS[first:last], checksum(OCTETS[skipped:first])) == whole
