"""What the fuzzer found, as tests of its own."""

import struct
from pathlib import Path

import msgspec
import pytest

from fastmta.spool._log import checksum
from fastmta.spool._scan import scan_groups
from fastmta.spool.codec import decode_states, encode
from fastmta.spool.recovery import scan_segment
from fastmta.spool.rows import decode_recipient
from fastmta.spool.segment import Segment
from tests.fuzz.wire.case import INPUTS, REGRESSIONS, read_cases
from tests.fuzz.wire.targets import WEIGHTS, Targets
from tests.support.session import Dialog

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


@pytest.mark.parametrize("path", sorted(REGRESSIONS.glob("*.txt")), ids=lambda path: path.stem)
def test_what_the_wire_did_once(path: Path) -> None:
    """One file for each bug that was found: what it is, and cases that show it."""
    targets = Targets()
    cases = list(read_cases(path))
    assert cases, path
    for case in cases:
        targets.run(case)
    targets.oracle.flush()


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_kept_inputs_without_sanitizers(name: str) -> None:
    """Each of them does something that no other one does, so all together go far."""
    targets = Targets()
    features: set[object] = set()
    for case in read_cases(INPUTS / f"{name}.txt"):
        found = targets.run(case)
        assert case.target == name
        features |= found
    targets.oracle.flush()
    assert len(features) > 3


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_content_that_begins_with_a_blank(is_chunked: bool) -> None:
    dialog = Dialog("192.0.2.1", domains=["ours.example"]).hello()
    dialog.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u@ours.example>\r\n")
    content = b" ; whatever the client wants us to have said\r\nSubject: x\r\n\r\n"
    if is_chunked:
        dialog.send(b"BDAT %d LAST\r\n" % len(content) + content)
    else:
        dialog.send(b"DATA\r\n")
        dialog.send(content + b".\r\n")
    (message,) = dialog.accept.messages
    assert message.content is not None
    assert message.content.endswith(content)
    trace = message.content.removesuffix(content)
    assert trace.endswith(b"\r\n\r\n"), "the header section has to end before it"
