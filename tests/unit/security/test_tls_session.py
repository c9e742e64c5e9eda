"""A TLS session in memory: handshakes in pieces, records in pieces, large data, its end."""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
import sys
import tracemalloc
from pathlib import Path

import pytest

from fastmta.security import ServerContexts, ServerTls, TlsFailure
from tests.support.memory import status_octets
from tests.support.tls import (
    ClientRecords,
    Cut,
    Pair,
    client_context,
    contexts,
    every,
    failure_of,
    octet_by_octet,
    split_at,
    whole,
)

VERSIONS = ["1.2", "1.3"]
PATTERN = hashlib.sha512(b"pattern").digest() * (1024 * 1024 // 64)  # 1 MB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> ServerContexts:
    return contexts(tmp_path_factory.mktemp("tls") / "mx.pem", "mx.example.org")


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pair(server: ServerContexts, version: str) -> Pair:
    return Pair(server.context, client_context(version)).shake()


def test_facts_after_handshake(pair: Pair, version: str) -> None:
    facts = pair.server.facts
    name, _, bits = pair.client.cipher() or ("", "", 0)
    assert (facts.protocol, facts.cipher, facts.bits) == (f"TLSv{version}", name, bits)
    assert (facts.server_name, facts.fingerprint) == ("mx.example.org", "")
    assert not pair.server.is_at_end


@pytest.mark.parametrize("cut", [octet_by_octet, every(2), every(7)])
def test_handshake_dribbled(server: ServerContexts, version: str, cut: Cut) -> None:
    pair = Pair(server.context, client_context(version)).shake(cut, cut)
    assert pair.server.facts.server_name == "mx.example.org"
    assert pair.to_server(pair.encrypt(b"EHLO a\r\n"), cut) == b"EHLO a\r\n"


def test_first_flight_split_at_each_point(server: ServerContexts, version: str) -> None:
    context = client_context(version)
    hello = Pair(server.context, context)
    with pytest.raises(ssl.SSLWantReadError):
        hello.client.do_handshake()
    size = len(hello.encrypt(b""))
    assert size > 150
    for position in range(1, size):
        pair = Pair(server.context, context).shake(split_at(position))
        assert pair.server.facts.server_name == "mx.example.org"


def test_second_flight_split_at_each_point(server: ServerContexts, version: str) -> None:
    context = client_context(version)
    for position in range(1, 100):
        pair = Pair(server.context, context).shake(whole, split_at(position))
        assert pair.to_server(pair.encrypt(b"NOOP\r\n")) == b"NOOP\r\n"


def test_plaintext_right_behind_the_handshake(server: ServerContexts) -> None:
    pair = Pair(server.context, client_context("1.3"))
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.do_handshake()
    assert pair.to_server(pair.encrypt(b"")) == b""
    pair._in.write(pair.server.take_output())
    pair.client.do_handshake()
    assert pair.to_server(pair.encrypt(b"EHLO early\r\n")) == b"EHLO early\r\n"


@pytest.mark.parametrize("cut", [whole, octet_by_octet, every(3)])
def test_records_in_pieces(pair: Pair, cut: Cut) -> None:
    octets = b"".join(pair.encrypt(b"%d\r\n" % number) for number in range(40))
    assert pair.to_server(octets, cut) == b"".join(b"%d\r\n" % number for number in range(40))


def test_record_split_at_each_point_with_a_tail(pair: Pair) -> None:
    for position in range(1, len(pair.encrypt(b"")) + 30):
        octets = pair.encrypt(b"MAIL FROM:<a@b.c>\r\n") + pair.encrypt(b"tail")
        assert pair.to_server(octets, split_at(position)) == b"MAIL FROM:<a@b.c>\r\ntail"


@pytest.mark.parametrize("cut", [whole, every(262144), every(65536), every(16384), every(1000)])
def test_a_megabyte_to_the_server(pair: Pair, cut: Cut) -> None:
    assert pair.to_server(pair.encrypt(PATTERN), cut) == PATTERN


def test_a_megabyte_to_the_client(pair: Pair) -> None:
    pair.server.write(b"before ")
    pair.server.write(PATTERN)
    pair.server.write(b" after")
    assert pair.from_server() == b"before " + PATTERN + b" after"
    assert pair.server.take_output() == b""


@pytest.mark.parametrize("size", [1, 10, 100, 16384, 20000])
def test_large_plaintext_through_a_small_buffer(server: ServerContexts, size: int) -> None:
    pair = Pair(server.context, client_context(), buffer_octets=size).shake()
    plaintext = PATTERN[: min(len(PATTERN), size * 3000)]
    assert pair.to_server(pair.encrypt(plaintext)) == plaintext


@pytest.mark.parametrize("size", [30, 4096, 16384, 300000])
def test_reading_whole_records_raises_nothing(pair: Pair, size: int) -> None:
    """What an exception costs is not paid per read, not even inside."""
    raised: list[object] = []

    def watch(_: object, event: str, function: object) -> None:
        if event == "c_exception":
            raised.append(function)

    octets = pair.encrypt(PATTERN[:size])
    sys.setprofile(watch)
    try:
        read = pair.to_server(octets)
    finally:
        sys.setprofile(None)
    assert len(read) == size
    assert raised == []


def test_one_read_fills_the_buffer_with_several_records(pair: Pair) -> None:
    octets = pair.encrypt(PATTERN[:60000])
    pair.server.feed(octets)
    assert pair.server.read_into(pair.buffer) == 60000
    assert pair.server.read_into(pair.buffer) == 0


def test_reply_of_no_octets_sends_nothing(pair: Pair) -> None:
    pair.server.write(b"")
    assert pair.server.take_output() == b""


def test_client_leaves_with_close_notify(pair: Pair) -> None:
    octets = pair.encrypt(b"QUIT\r\n") + pair.client_leaves()
    assert pair.to_server(octets, octet_by_octet) == b"QUIT\r\n"
    assert pair.server.is_at_end
    assert pair.server.read_into(pair.buffer) == 0
    pair.server.feed(b"more octets that nobody asked for" * 100000)
    assert pair.server.read_into(pair.buffer) == 0
    pair.server.write(b"221 bye\r\n")  # our half is open yet, RFC 8446 6.1
    assert pair.server.take_output() != b""


def test_we_leave_with_close_notify(pair: Pair) -> None:
    pair.server.write(b"bye\r\n")
    pair.server.close()
    assert pair.from_server() == b"bye\r\n"
    assert pair.client.read(1) == b""  # no SSLWantReadError: it knows that this is the end
    pair.server.close()
    assert pair.server.take_output() == b""


def test_nothing_passes_after_close(pair: Pair) -> None:
    pair.server.feed(pair.encrypt(b"unread"))
    pair.server.close()
    assert pair.read() == b""
    pair.server.take_output()
    pair.server.write(b"too late")
    assert pair.server.take_output() == b""
    assert pair.server.handshake()


def test_close_before_the_handshake_is_silent(server: ServerContexts) -> None:
    session = ServerTls(server.context)
    session.close()
    assert session.take_output() == b""


def test_nothing_is_written_before_the_handshake(server: ServerContexts) -> None:
    session = ServerTls(server.context)
    with pytest.raises(RuntimeError, match="before the TLS handshake"):
        session.write(b"220 in the clear\r\n")
    assert session.take_output() == b""


def test_old_protocol_is_refused(server: ServerContexts) -> None:
    for old in ("1.0", "1.1"):
        pair = Pair(server.context, client_context(old))
        assert failure_of(pair) == "unsupported protocol"
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            pair.from_server()


GARBAGE = {
    "smtp": (b"EHLO client.example\r\n", "wrong version number"),
    "http": (b"GET / HTTP/1.0\r\n\r\n", "http request"),
    "zeros": (bytes(600), "wrong version number"),
    "alert": (b"\x15\x03\x01\x00\x02\x02\x28", "unexpected message"),
    "empty record": (b"\x16\x03\x01\x00\x00" * 50, ""),
    "no hello": (b"\x16\x03\x01\x00\x04\x0e\x00\x00\x00" + bytes(100), "unexpected message"),
    "huge hello": (b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(16384), ""),
    "huge record": (b"\x16\x03\x01\xff\xff" + bytes(70000), ""),
    "plaintext record": (b"\x17\x03\x03\x00\x05hello" + bytes(100), ""),
    "broken hello": (b"\x16\x03\x01\x00\x08\x01\x00\x00\x04\xff\xff\xff\xff", ""),
}


@pytest.mark.parametrize("cut", [whole, octet_by_octet, every(5)])
@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_instead_of_hello(server: ServerContexts, name: str, cut: Cut) -> None:
    octets, expected = GARBAGE[name]
    pair = Pair(server.context, client_context())
    with pytest.raises(TlsFailure) as failed:
        pair.to_server(octets, cut)
    text = str(failed.value)
    assert text == text.lower() != ""
    assert "_" not in text
    assert expected in ("", text)
    if name not in ("smtp", "http", "zeros"):
        assert pair.server.take_output()[:1] == b"\x15"
    with pytest.raises(TlsFailure, match=text):
        pair.server.handshake()
    with pytest.raises(TlsFailure, match=text):
        pair.server.read_into(pair.buffer)
    pair.server.close()


def test_garbage_after_the_handshake(pair: Pair) -> None:
    good = pair.encrypt(b"DATA\r\n")
    pair.server.feed(good + b"\x17\x03\x03\x00\x40" + bytes(64))
    assert pair.server.read_into(pair.buffer) == 6  # what was said before counts
    with pytest.raises(TlsFailure, match="decryption failed or bad record mac"):
        pair.server.read_into(pair.buffer)
    pair.server.write(b"dropped")
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        pair.from_server()


def test_tampered_octet_anywhere_is_noticed(server: ServerContexts) -> None:
    context = client_context()
    for position in range(5, 30):
        pair = Pair(server.context, context).shake()
        octets = bytearray(pair.encrypt(b"RSET\r\n"))
        if position < len(octets):
            octets[position] ^= 1
            with pytest.raises(TlsFailure):
                pair.to_server(bytes(octets))


def test_client_that_trusts_us_not(server: ServerContexts, version: str) -> None:
    context = client_context(version)
    pair = Pair(server.context, context, name="other.example.net")
    with pytest.raises(ssl.SSLCertVerificationError):
        pair.shake()
    with pytest.raises(TlsFailure, match="alert from the client: bad certificate"):
        pair.to_server(pair._out.read())


def test_key_updates_are_followed(server: ServerContexts, tmp_path: Path) -> None:
    context = client_context()
    context.keylog_filename = str(tmp_path / "keys")
    pair = Pair(server.context, context).shake()
    records = ClientRecords(tmp_path / "keys")
    for number in range(200):
        octets = records.key_update() + records.record(b"%d" % number)
        assert pair.to_server(octets) == b"%d" % number
        assert len(pair.server.take_output()) < 100
    pair.server.close()


@pytest.mark.parametrize("tail", [b"", b"x"])
def test_flood_of_key_updates_ends_the_session(
    server: ServerContexts, tmp_path: Path, tail: bytes
) -> None:
    context = client_context()
    context.keylog_filename = str(tmp_path / "keys")
    pair = Pair(server.context, context).shake()
    records = ClientRecords(tmp_path / "keys")
    flood = b"".join(
        records.key_update() + (records.record(tail) if tail else b"") for _ in range(5000)
    )
    with pytest.raises(TlsFailure, match="too many messages after the handshake"):
        pair.to_server(flood)
    assert len(pair.server.take_output()) < 64 * 1024


def test_input_that_nobody_reads_is_bounded(pair: Pair) -> None:
    octets = pair.encrypt(PATTERN[:100000])
    for _ in range(11):
        pair.server.feed(octets)
    with pytest.raises(RuntimeError, match="faster than it is read"):
        pair.server.feed(octets)


def test_random_octets_fail_or_wait(server: ServerContexts) -> None:
    """Whatever comes: a TlsFailure, or more is needed. Nothing else."""
    for seed in range(300):
        noise = hashlib.shake_128(b"%d" % seed).digest(400)
        session = ServerTls(server.context)
        session.feed(b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03" + noise)
        with contextlib.suppress(TlsFailure):
            for _ in range(3):
                assert not session.handshake()
                session.feed(noise)
        assert len(session.take_output()) < 1000


def test_idle_sessions_are_small(server: ServerContexts) -> None:
    """Python's share of a session; OpenSSL's own is 17 kB."""
    context = client_context()
    idle = [Pair(server.context, context).shake().server for _ in range(3)]
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    idle += [Pair(server.context, context).shake().server for _ in range(200)]
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / 200 < 3000
    assert sys.getsizeof(idle[0]) < 200


def test_large_mail_leaves_little_behind(server: ServerContexts) -> None:
    """A BIO that had been given 256 kB at once would keep 350 kB: 70 MB here."""
    context = client_context()

    def serve() -> ServerTls:
        pair = Pair(server.context, context).shake()
        octets = b"".join(pair.encrypt(PATTERN[:16384]) for _ in range(16))
        assert len(pair.to_server(octets)) == 16 * 16384
        pair.server.write(PATTERN[:262144])
        pair.server.take_output()
        return pair.server

    kept = [serve() for _ in range(5)]
    before = status_octets(os.getpid(), "VmRSS")
    kept += [serve() for _ in range(200)]
    assert status_octets(os.getpid(), "VmRSS") - before < 35_000_000
    assert len(kept) == 205
