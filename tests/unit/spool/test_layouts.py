"""What stands on the disk, octet by octet: checksums, records, headers, index keys and values."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmta.message import RecipientState, RecipientStatus
from fastmta.spool import SpoolFormat, SpoolOptions
from fastmta.spool._log import checksum, checksum_hard, checksum_soft, encode_id
from fastmta.spool._row import (
    expiry_key,
    hop_key,
    move_message,
    pack_message,
    pack_segment,
    recipient_key,
    tenant_key,
    unpack_due,
    unpack_index,
    unpack_message,
    unpack_segment,
)
from fastmta.spool.codec import apply_states, is_final
from fastmta.spool.layout import Layout, make_directory
from fastmta.spool.segment import Segment, SegmentTable
from tests.support.spool import DEFERRED, DELIVERED, Shard

ID = b"0123456789abcdef"
VECTORS = {  # RFC 3720 B.4, and the usual check value
    b"": 0,
    b"123456789": 0xE3069283,
    bytes(32): 0x8A9136AA,
    b"\xff" * 32: 0x62A8AB43,
    bytes(range(32)): 0x46DD794E,
    bytes(range(31, -1, -1)): 0x113FDB5C,
}


@pytest.mark.parametrize("octets", VECTORS, ids=len)
def test_checksum_of_known_octets_both_ways(octets: bytes) -> None:
    assert checksum(octets) == checksum_soft(octets) == VECTORS[octets]
    assert checksum_hard(octets) in (VECTORS[octets], None)


@given(st.binary(max_size=300), st.integers(0, 8))
def test_both_ways_agree_at_every_alignment(octets: bytes, skip: int) -> None:
    view = memoryview(octets)[skip:]
    assert checksum_hard(view) in (checksum_soft(view), None)


def read_records(octets: bytes, base: int) -> list[tuple[int, bytes]]:
    """The specification of the log as plain code: (kind, payload) of every record."""
    found = []
    pos = 4096
    while pos < len(octets):
        group_end = pos
        while True:
            head = struct.unpack_from("<IIQQB7x", octets, pos)
            crc, length, _, position, kind = head
            if crc == 0 or position != base + pos:
                break
            assert checksum(octets[pos + 4 : pos + 32 + length]) == crc
            payload = octets[pos + 32 : pos + 32 + length]
            found.append((kind, payload))
            if kind == 1:
                number, durable, group_octets, _ = struct.unpack("<QQII", payload)
                assert (number, durable) == (
                    len([1 for k, _ in found if k == 1]),
                    base + pos * (number > 1),
                )
                assert group_octets % 4096 == 0
                group_end = pos + group_octets
            pos += -(-(32 + length) // 8) * 8
            if pos >= group_end:
                break
        if group_end == pos and (pos >= len(octets) or not any(octets[pos : pos + 32])):
            return found
        assert not any(octets[pos:group_end])
        pos = group_end
        if not any(octets[pos : pos + 32]):
            return found
    return found


def test_log_reads_as_specified(tmp_path: Path) -> None:
    with Shard(tmp_path / "spool", SpoolOptions(segment_octets=128 * 1024)) as shard:
        one = shard.accept_new(content=b"first\r\n")
        two = shard.accept_new(content=b"x" * 9000)
        assert shard.record(one, RecipientState(0, DEFERRED, 2, 77, "why")) is None
        path = next(iter(shard.spool._logs.hot)).path
        records = read_records(Path(path).read_bytes()[: shard.spool._writer.end], 0)
    assert [kind for kind, _ in records] == [1, 2, 1, 2, 1, 3]
    contents = (b"first\r\n", b"x" * 9000)
    for (_, payload), message, text in zip(records[1:4:2], (one, two), contents, strict=True):
        id, arrived, envelope, content = struct.unpack_from("<16sQII", payload)
        assert (id, arrived) == (message.id, message.arrived_at_ns)
        assert payload[32 + envelope :] == text
        assert len(payload) == 32 + envelope + content
    id, position, _ = struct.unpack_from("<16sQQ", records[5][1])
    assert (id, position) == (one.id, one.position)


def test_segment_header_octet_by_octet(tmp_path: Path) -> None:
    segment = Segment("x", -1, 65536)
    segment.epoch, segment.sequence, segment.base, segment.boot = 1, 2, 3, 4
    segment.previous_end = 5
    block = segment.encode_header()
    expected = b"fmtaLOG\n" + struct.pack("<IIQQQQQQ", 2, 1, 1, 2, 3, 4, 65536, 5)
    assert block == (expected + struct.pack("<I", checksum(expected))).ljust(4096, b"\0")
    again = Segment("x", -1, 65536)
    assert again.parse_header(block)
    assert again.encode_header() == block
    for at in range(68):
        broken = bytearray(block)
        broken[at] ^= 1
        assert not Segment("x", -1, 65536).parse_header(bytes(broken))
    assert not Segment("x", -1, 65536).parse_header(bytes(4096))
    newer = b"fmtaLOG\n" + struct.pack("<IIQQQQQQ", 3, 1, 1, 2, 3, 4, 65536, 5)
    with pytest.raises(SpoolFormat):
        again.parse_header((newer + struct.pack("<I", checksum(newer))).ljust(4096, b"\0"))


def test_segments_are_found_by_position() -> None:
    table = SegmentTable()
    assert table.find(0) is None
    segments = []
    for base in (100, 200, 400):
        segment = Segment("x", -1, 100)
        segment.base = base
        table.append(segment)
        segments.append(segment)
    found = [table.find(position) for position in (99, 100, 199, 200, 300, 399, 400, 499, 500)]
    one, two, three = segments
    assert found == [None, one, one, two, None, None, three, three, None]
    with pytest.raises(ValueError, match="overlap"):
        table.append(one)
    assert table.take_oldest(2) == [one, two]
    assert table.find(100) is None


def test_index_rows_octet_by_octet() -> None:
    value = pack_message(1, 2, 3, 4, 5, 6, 7, 8, b"a@b.example", b"acme")
    assert value == struct.pack(">QIQQQIIIH", 1, 2, 3, 4, 5, 6, 7, 8, 11) + b"a@b.exampleacme"
    assert unpack_message(value) == (1, 2, 3, 4, 5, 6, 7, 8, b"a@b.example", b"acme")
    assert unpack_message(pack_message(1, 2, 3, 4, 5, 6, 7, 8))[8:] == (b"", b"")
    long = pack_message(1, 2, 3, 4, 5, 6, 7, 8, b"x" * 70_000, b"acme")
    assert unpack_message(long)[8:] == (b"x" * 65_535, b"acme")
    assert move_message(value, 9) == pack_message(9, 2, 3, 4, 5, 6, 7, 8, b"a@b.example", b"acme")
    assert pack_segment(1, 2) == struct.pack(">QQ", 1, 2)
    assert unpack_segment(pack_segment(1, 2)) == (1, 2)
    assert recipient_key(ID, 258) == ID + b"\0\0\1\2"
    assert unpack_index(recipient_key(ID, 2**32 - 1)) == 2**32 - 1
    assert hop_key(b"smtp:x", 2**63 + 1, ID) == b"smtp:x\0" + b"\x80\0\0\0\0\0\0\1" + ID
    assert unpack_due(hop_key(b"smtp:x", 2**63 + 1, ID)) == (2**63 + 1, ID)
    assert expiry_key(259, ID) == b"\0\0\0\0\0\0\1\3" + ID
    assert tenant_key(b"t", ID) == b"t\0" + ID


@pytest.mark.parametrize("id", [b"", ID[:15], ID + b"x"])
def test_index_keys_refuse_other_ids(id: bytes) -> None:
    for make in (
        lambda: recipient_key(id, 0),
        lambda: hop_key(b"h", 0, id),
        lambda: expiry_key(0, id),
        lambda: tenant_key(b"t", id),
    ):
        with pytest.raises(ValueError, match="16 octets"):
            make()
    with pytest.raises(ValueError, match="not a message row"):
        unpack_message(b"x" * 49)
    with pytest.raises(ValueError, match="not a message row"):
        unpack_message(bytes(48) + b"\0\1")
    with pytest.raises(ValueError, match="not a message row"):
        move_message(b"x" * 49, 1)
    with pytest.raises(ValueError, match="too short"):
        unpack_due(b"x" * 23)


@given(st.integers(0, 52**8 - 1), st.integers(0, 52**8 - 1), st.integers(0, 52**8 - 1))
def test_ids_sort_as_their_numbers(prefix: int, one: int, two: int) -> None:
    first, second = encode_id(prefix, one), encode_id(prefix, two)
    assert len(first) == 16
    assert first.isalnum()
    assert not set(first) & set(b"AEIOUaeiou")
    assert (first < second) == (one < two)


def test_is_final_agrees_with_the_status() -> None:
    assert not is_final(None)
    for status in RecipientStatus:
        assert is_final(RecipientState(0, status)) == status.is_final


def test_apply_states_counts_what_remains() -> None:
    states: dict[int, RecipientState] = {}
    assert apply_states(states, 3, [RecipientState(0, DELIVERED), RecipientState(1, DEFERRED)]) == 2
    assert apply_states(states, 2, [RecipientState(0, DELIVERED)]) == 2
    assert apply_states(states, 2, [RecipientState(1, RecipientStatus.DELETED)]) == 1


FINAL = sorted(status for status in RecipientStatus if status.is_final)


@pytest.mark.parametrize("final", FINAL)
@pytest.mark.parametrize("change", sorted(set(RecipientStatus) - {RecipientStatus.REQUEUED}))
def test_a_final_outcome_stands(final: RecipientStatus, change: RecipientStatus) -> None:
    outcome = RecipientState(0, final, 3, 0, "how it ended")
    states = {0: outcome}
    assert apply_states(states, 1, [RecipientState(0, change, 4, 7, "later")]) == 1
    assert states == {0: outcome}


@pytest.mark.parametrize("status", sorted(RecipientStatus))
def test_only_a_requeue_reopens(status: RecipientStatus) -> None:
    states = {0: RecipientState(0, status, 3, 9, "before")}
    pending = 1 if status.is_final else 2
    assert apply_states(states, pending, [RecipientState(0, RecipientStatus.REQUEUED, 9)]) == 2
    assert states == {0: RecipientState(0, RecipientStatus.QUEUED)}
    assert is_final(RecipientState(0, status)) == status.is_final


def test_number_of_the_start_only_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(str(tmp_path / "spool"), 3)
    layout.prepare()
    first = layout.begin_boot(0)
    monkeypatch.setattr(
        "fastmta.spool.layout.time.time_ns", lambda: 5 * 10**9
    )  # the clock went back
    assert layout.begin_boot(0) == first + 1
    assert layout.begin_boot(first + 10) == first + 11
    (tmp_path / "spool" / "shard-03" / "boot").unlink()
    assert layout.begin_boot(9) == 10
    layout.release()


def test_directories_are_made_with_every_parent(tmp_path: Path) -> None:
    make_directory(str(tmp_path / "a" / "b" / "c"))
    assert (tmp_path / "a" / "b" / "c").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        make_directory(str(tmp_path / "file" / "x"))


def test_options_refuse_nonsense() -> None:
    for octets in (4096, 65537):
        with pytest.raises(ValueError, match="segment_octets"):
            SpoolOptions(segment_octets=octets)
    with pytest.raises(ValueError, match="shard"):
        SpoolOptions(shard=4096)
