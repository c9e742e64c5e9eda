"""What the fuzzer found, as tests of its own."""

import struct

import msgspec
import pytest

from fastmta.spool._log import checksum
from fastmta.spool._scan import scan_groups
from fastmta.spool.codec import decode_states, encode
from fastmta.spool.recovery import scan_segment
from fastmta.spool.rows import decode_recipient
from fastmta.spool.segment import Segment

SIZE = 64 * 1024
PAGE = 4096
EPOCH = 7


@pytest.mark.parametrize("left", [0, 1, 8, 40, 56, 4096])
def test_a_log_that_ends_right_before_the_end_of_its_segment(left: int) -> None:
    segment = Segment("zeros", -1, SIZE)
    scan = scan_segment(memoryview(bytes(SIZE)), segment, SIZE - left, SIZE)
    assert scan.dropped == 0
    assert scan.holes


@pytest.mark.parametrize("values", [(-1, 1, 0, 0, ""), (0, 1, -1, 0, ""), (0, 1, 0, -1, "")])
def test_a_state_below_zero_is_damage(values: tuple[object, ...]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_states(encode([values]))


def test_a_row_that_is_due_before_time_began_is_damage() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_recipient(encode((b"smtp:x", -1, None)))


def put_record(octets: bytearray, at: int, kind: int, payload: bytes) -> None:
    struct.pack_into("<IQQQ", octets, at + 4, len(payload), EPOCH, at, kind)
    octets[at + 32 : at + 32 + len(payload)] = payload
    sum = checksum(octets[at + 4 : at + 32 + len(payload)])
    struct.pack_into("<I", octets, at, sum)


def test_a_batch_within_a_group_is_damage() -> None:
    octets = bytearray(SIZE)
    last = SIZE - PAGE
    tail = SIZE - 40
    put_record(octets, last, 1, struct.pack("<QQII", 1, 0, PAGE, 2))
    put_record(octets, last + 56, 3, bytes(tail - last - 56 - 32))
    put_record(octets, tail, 1, b"short")  # nothing of a BATCH's payload is there
    records, stop, group_end = scan_groups(octets, 0, EPOCH, last, 0)
    assert [(kind, at) for kind, at, _ in records] == [(1, last), (3, last + 56)]
    assert (stop, group_end) == (tail, SIZE)
    segment = Segment("crafted", -1, SIZE)
    segment.epoch = EPOCH
    scan = scan_segment(memoryview(octets), segment, SIZE, SIZE)
    assert scan.holes[-1].start == tail
