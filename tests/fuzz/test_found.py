"""What the fuzzer found, as tests of its own."""

import msgspec
import pytest

from fastmta.spool.codec import decode_states, encode
from fastmta.spool.recovery import scan_segment
from fastmta.spool.rows import decode_recipient
from fastmta.spool.segment import Segment

SIZE = 64 * 1024


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
