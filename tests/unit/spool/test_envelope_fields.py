"""Every field of an envelope comes back, whatever way its record goes through the spool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.message import ClientIdentity, Envelope, Message, RecipientState
from fastmta.message.envelope import DSNRequest
from fastmta.spool import SpoolOptions
from fastmta.spool.backup import back_up
from fastmta.spool.codec import decode_envelope, encode
from fastmta.spool.layout import Layout
from fastmta.spool.reindex import check_index, rebuild_index
from fastmta.spool.rows import RowMaker
from fastmta.spool.verdict import Report
from fastmta.spool.verify import verify_shard
from tests.support.spool import DELIVERED, NOW_NS, Shard, copy_crashed, delete_index, next_hop

OPTIONS = SpoolOptions(segment_octets=64 * 1024)
MAKER = RowMaker.of(next_hop, OPTIONS)
DOMAIN = "bücher.example".encode()
CLIENT = ClientIdentity(
    *("2001:db8::1", "client.example", b"h\xff", "UTF8SMTPSA", "jörg"),
    "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)",
)
DSN = DSNRequest(
    "HDRS",
    b"QQ+2B314159",
    ("", "SUCCESS,FAILURE", "NEVER"),
    (b"rfc822;first+2Blast@x", b"", "utf-8;jörg@bücher.example".encode()),
)
RICH = Envelope(
    "jörg@origin.example".encode(),
    tuple(name + b"@" + DOMAIN for name in (b"a", b"\xc3\xb6", b"c", b"d")),
    CLIENT,
    True,
    "tenant",
    True,
    DSN,
    is_probe=True,
    original_paths=(b"root", b"", b"ops@x"),
)
ONE_DONE = RecipientState(0, DELIVERED, 1)
HOP = b"smtp:" + DOMAIN


def put(shard: Shard, *, is_large: bool = False) -> bytes:
    """A message with that envelope, one recipient done, held by nobody; its id."""
    message = Message(shard.spool.new_id(), RICH, b"Subject: x\r\n\r\ntext\r\n", NOW_NS)
    if is_large:
        message.file = shard.store_big(message.id, b"Subject: x\r\n\r\n" + b"x" * 9_000)
        message.content, message.size_octets = None, message.file.size_octets
    assert shard.accept(message) == [None]
    assert message.envelope is RICH
    assert shard.record(message, ONE_DONE) is None
    shard.spool.release(message)
    return message.id


def check(shard: Shard, *ids: bytes) -> None:
    """These wait, with all that they were accepted with."""
    messages, _ = shard.fetch(HOP, NOW_NS)
    assert sorted(message.id for message in messages) == sorted(ids)
    for message in messages:
        assert message.envelope == RICH
        assert message.envelope.dsn == DSN
        assert message.envelope.is_probe
        assert message.envelope.client.tls == CLIENT.tls
        assert message.states == {0: ONE_DONE}
        assert message.pending == 3
        shard.spool.release(message)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmta.spool.clerk.COMMIT_GAP_S", 0.0)
    monkeypatch.setattr("fastmta.spool.ledger.AGE_S", 0.0)
    monkeypatch.setattr("fastmta.spool.trimmer.PAUSE_S", 0.0)


def stay(shard: Shard, target: Path) -> Path:
    """Nothing happens."""
    shard.close()
    return shard.root


def crash(shard: Shard, target: Path) -> Path:
    """Killed at this moment; the index stays."""
    return copy_crashed(shard, target)


def lose_index(shard: Shard, target: Path) -> Path:
    """Killed, and the index is gone: all of it comes from the log."""
    copy_crashed(shard, target)
    delete_index(target)
    return target


def rebuild(shard: Shard, target: Path) -> Path:
    """The index made anew while nobody has the shard, and held against the logs."""
    shard.close()
    layout = Layout(str(shard.root), 0)
    rebuild_index(layout, OPTIONS, MAKER, lambda _: None, lambda _: None)
    report = Report(shard=0)
    check_index(layout, OPTIONS, MAKER, report)
    assert report.is_sound
    return shard.root


def save(shard: Shard, target: Path) -> Path:
    """A backup, opened."""
    target.mkdir()
    assert back_up(Layout(str(shard.root), 0), str(target), lambda text: None).is_sound
    return target


def trim(shard: Shard, target: Path) -> Path:
    """The records move to the cold log, and their segments are reused."""
    for turn in range(300):
        if turn >= 30 and len(shard.spool._logs.cold):
            break
        shard.deliver(shard.accept_new(content=b"x" * 9_000))
        for _ in range(4):
            shard.commit()
            shard.trim()
    assert len(shard.spool._logs.cold)
    shard.close()
    return shard.root


def trim_and_lose_index(shard: Shard, target: Path) -> Path:
    """The same, and then only the logs are left."""
    root = trim(shard, target)
    delete_index(root)
    return root


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("way", [stay, crash, lose_index, rebuild, save, trim, trim_and_lose_index])
def test_all_of_it_comes_back(tmp_path: Path, way: Callable[[Shard, Path], Path]) -> None:
    with Shard(tmp_path / "spool", OPTIONS) as shard:
        ids = [put(shard), put(shard, is_large=True)]
        check(shard, *ids)
        root = way(shard, tmp_path / "copy")
    report = verify_shard(Layout(str(root), 0))
    assert report.is_sound
    assert report.remarks == []
    with Shard(root, OPTIONS) as opened:
        check(opened, *ids)
        for message in opened.fetch(HOP, NOW_NS)[0]:
            changes = [RecipientState(index, DELIVERED, 1) for index in (1, 2, 3)]
            assert opened.record(message, *changes) is None
        opened.commit()
        assert not any(opened.dump().values())


def test_a_report_that_needs_smtputf8_says_so_after_a_restart(tmp_path: Path) -> None:
    with Shard(tmp_path / "spool", OPTIONS) as shard:
        message = shard.make()
        assert shard.accept(message) == [None]
        report = shard.make(b"x@" + DOMAIN)
        report.envelope = Envelope(b"", ("ö@".encode() + DOMAIN,), ClientIdentity(), is_utf8=True)
        assert shard.record(message, ONE_DONE, dsn=report) is None
        shard.spool.release(report)
    with Shard(tmp_path / "spool", OPTIONS) as opened:
        (found,), _ = opened.fetch(HOP, NOW_NS)
        assert found.envelope == report.envelope


# What is stored, by position.


class EarlierClient(msgspec.Struct, array_like=True):
    """As the release before knew it."""

    address: str = ""
    name: str = "unknown"
    helo: bytes = b""
    protocol: str = "ESMTP"
    login: str = ""


class EarlierEnvelope(msgspec.Struct, array_like=True):
    """As the release before knew it."""

    reverse_path: bytes
    forward_paths: tuple[bytes, ...]
    client: EarlierClient
    is_8bit: bool = False
    tenant: str = ""


def test_a_record_without_the_fields_is_read() -> None:
    earlier = EarlierEnvelope(b"a@b", (b"c@d",), EarlierClient("192.0.2.1"), True, "t")
    client = ClientIdentity("192.0.2.1")
    assert decode_envelope(encode(earlier)) == Envelope(b"a@b", (b"c@d",), client, True, "t")


def test_the_release_before_reads_a_record_with_them_and_sees_none() -> None:
    """So a downgrade loses the parameters, says UTF-8 addresses without SMTPUTF8, and sends what a
    probe that waits has as its content: that it is one."""
    seen = msgspec.msgpack.decode(encode(RICH), type=EarlierEnvelope)
    assert seen.forward_paths == RICH.forward_paths
    assert (seen.client.login, seen.is_8bit, seen.tenant) == ("jörg", True, "tenant")


def test_a_plain_message_pays_six_octets() -> None:
    earlier = EarlierEnvelope(b"a@b", (b"c@d",), EarlierClient())
    assert len(encode(Envelope(b"a@b", (b"c@d",), ClientIdentity()))) == len(encode(earlier)) + 6


TEXT = st.text(max_size=10)
REQUESTS = st.builds(
    DSNRequest,
    TEXT,
    st.binary(max_size=10),
    st.lists(TEXT, max_size=3).map(tuple),
    st.lists(st.binary(max_size=10), max_size=3).map(tuple),
)
ENVELOPES = st.builds(
    Envelope,
    st.binary(max_size=10),
    st.lists(st.binary(max_size=10), min_size=1, max_size=3).map(tuple),
    st.builds(ClientIdentity, TEXT, TEXT, st.binary(max_size=10), TEXT, TEXT, TEXT),
    st.booleans(),
    TEXT,
    st.booleans(),
    st.none() | REQUESTS,
    st.booleans(),
    st.booleans(),
    st.lists(st.binary(max_size=10), max_size=3).map(tuple),
)


@settings(deadline=None)
@given(ENVELOPES)
def test_any_envelope_comes_back(envelope: Envelope) -> None:
    assert decode_envelope(encode(envelope)) == envelope


@given(REQUESTS, st.integers(0, 5))
def test_a_recipient_that_nothing_was_said_of(request: DSNRequest, index: int) -> None:
    notify, original = request.notify_of(index), request.original_recipient_of(index)
    assert notify == (request.notify[index] if index < len(request.notify) else "")
    known = request.original_recipients
    assert original == (known[index] if index < len(known) else b"")
