"""Our client's TLS: who is let through at each level, and what is known of whom."""

from __future__ import annotations

import hashlib
import ssl
import threading
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fastmta.security import ServerTls, ensure_selfsigned
from fastmta.security.certificate import TlsProblem
from fastmta.security.client_context import make_context
from fastmta.security.client_tls import (
    ClientContexts,
    ClientTlsOptions,
    TlsFailure,
    Trust,
    check_client_tls,
)
from tests.support.tls import authority, every, octet_by_octet
from tests.support.tls_client import (
    ClientPair,
    ca_file,
    failure_of,
    intermediate,
    pair_of,
    server_context,
    stranger,
)

PATTERN = hashlib.sha512(b"pattern").digest() * (1024 * 1024 // 64)  # 1 MB


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    return ca_file(tmp_path_factory.mktemp("client"))


def options(level: str, ca: str, **more: object) -> ClientTlsOptions:
    return ClientTlsOptions(level, ca_file=ca, **more)  # type: ignore[arg-type]  # any field


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("level", ["may", "encrypt", "verify", "secure"])
def test_the_right_peer_is_verified_at_every_level(ca: str, level: str, version: str) -> None:
    pair = pair_of(server_context("mx.example.org", version=version), options(level, ca)).shake()
    facts = pair.client.facts
    assert facts.protocol == f"TLSv{version}"
    assert (facts.server_name, facts.is_resumed) == ("mx.example.org", False)
    assert facts.is_verified is (level in ("verify", "secure"))
    assert (pair.client.trust, pair.client.is_trusted) == (Trust.VERIFIED, True)
    assert pair.server.facts.server_name == "mx.example.org"
    assert pair.say(b"EHLO a\r\n") == b"EHLO a\r\n"
    assert pair.hear(b"250 b\r\n") == b"250 b\r\n"


@pytest.mark.parametrize("cut", [octet_by_octet, every(3), every(1000)])
def test_dribbled(ca: str, cut: object) -> None:
    pair = pair_of(server_context("mx.example.org"), options("secure", ca))
    pair.shake(cut)  # type: ignore[arg-type]  # is a Cut
    assert pair.hear(b"220 hello\r\n", octet_by_octet) == b"220 hello\r\n"


def test_large_content_both_ways(ca: str) -> None:
    pair = pair_of(server_context("mx.example.org"), options("secure", ca)).shake()
    assert pair.say(PATTERN) == PATTERN
    assert pair.hear(PATTERN[:300_000], every(10_000)) == PATTERN[:300_000]


def test_what_is_said_at_once_leaves_with_the_end_of_the_handshake(ca: str) -> None:
    client = ClientContexts().begin(options("secure", ca), "mx.example.org", ("example.org",))
    assert not client.handshake()
    server = ServerTls(server_context("mx.example.org", version="1.3"))
    server.feed(client.take_output())
    server.handshake()
    client.feed(server.take_output())
    assert client.handshake()
    client.write(b"EHLO a\r\n")
    server.feed(client.take_output())
    assert server.handshake()
    buffer = memoryview(bytearray(100))
    assert bytes(buffer[: server.read_into(buffer)]) == b"EHLO a\r\n"


BAD = {
    "stranger": "unable to get local issuer certificate",
    "expired": "certificate has expired",
    "selfsigned": "self-signed certificate",
    "name": "name not matched",
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ssl.SSLContext]:
    """Servers by what is wrong with them."""
    folder = tmp_path_factory.mktemp("bad")
    selfsigned = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    selfsigned.load_cert_chain(ensure_selfsigned(str(folder), "mx.example.org"))
    return {
        "stranger": server_context("mx.example.org", ca=stranger()),
        "expired": server_context("mx.example.org", is_expired=True),
        "selfsigned": selfsigned,
        "name": server_context("mx.example.net"),
    }


@pytest.mark.parametrize("level", ["verify", "secure"])
@pytest.mark.parametrize("kind", BAD)
def test_the_wrong_peer_is_refused(
    ca: str, bad: dict[str, ssl.SSLContext], kind: str, level: str
) -> None:
    pair = pair_of(bad[kind], options(level, ca))
    failure = failure_of(pair)
    assert str(failure) == f"Server certificate not verified: {BAD[kind]}"
    reason = f"certificate verification failed for mx.example.org: {BAD[kind]}"
    assert failure.detail == reason
    assert not pair.client.is_trusted
    pair.client.write(b"secret")
    goodbye = pair.client.take_output()
    assert goodbye  # an alert
    assert b"secret" not in goodbye
    with pytest.raises(TlsFailure, match="not verified"):
        pair.client.handshake()
    with pytest.raises(TlsFailure, match="not verified"):
        pair.client.read_into(pair.buffer)


@pytest.mark.parametrize("level", ["may", "encrypt"])
@pytest.mark.parametrize("kind", BAD)
def test_the_wrong_peer_is_let_through_but_known(
    ca: str, bad: dict[str, ssl.SSLContext], kind: str, level: str
) -> None:
    pair = pair_of(bad[kind], options(level, ca)).shake()
    trust = Trust.TRUSTED if kind == "name" else Trust.UNTRUSTED
    assert (pair.client.trust, pair.client.is_trusted) == (trust, False)
    assert not pair.client.facts.is_verified
    assert pair.say(b"x") == b"x"


def test_nothing_is_known_before_the_handshake(ca: str) -> None:
    pair = pair_of(server_context("mx.example.org"), options("may", ca))
    assert pair.client.trust is Trust.UNTRUSTED
    assert pair.shake().client.trust is Trust.VERIFIED


@pytest.mark.parametrize("level", ["may", "secure"])
def test_chain_with_an_intermediate(ca: str, level: str) -> None:
    pair = pair_of(server_context("mx.example.org", ca=intermediate()), options(level, ca))
    assert pair.shake().client.is_trusted


def test_without_the_intermediate(ca: str) -> None:
    """A server that sends its own certificate only: nobody knows who signed it."""
    issued = intermediate().issue_cert("mx.example.org", key_type=trustme.KeyType.ECDSA)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with issued.private_key_pem.tempfile() as key, issued.cert_chain_pems[0].tempfile() as leaf:
        context.load_cert_chain(leaf, key)
    failure = failure_of(pair_of(context, options("secure", ca)))
    assert "unable to get local issuer certificate" in str(failure)
    assert pair_of(context, options("may", ca)).shake().client.trust is Trust.UNTRUSTED


def test_a_leaf_is_no_authority(ca: str, tmp_path: Path) -> None:
    """A certificate signed by a leaf of the trusted authority."""
    leaf = authority().issue_cert("evil.example.net", key_type=trustme.KeyType.ECDSA)
    pem = leaf.cert_chain_pems[0].bytes()
    fake = trustme.CA.from_pem(pem, leaf.private_key_pem.bytes())
    context = server_context("mx.example.org", ca=fake)
    chain = tmp_path / "chain.pem"
    issued = fake.issue_cert("mx.example.org", key_type=trustme.KeyType.ECDSA)
    chain.write_bytes(issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes() + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    assert "not verified" in str(failure_of(pair_of(context, options("secure", ca))))
    assert pair_of(context, options("may", ca)).shake().client.trust is Trust.UNTRUSTED


def test_an_authority_that_is_dropped_from_the_file(tmp_path: Path) -> None:
    """It takes effect with the next session, also for one that could have been resumed."""
    path = ca_file(tmp_path)
    server = server_context("mx.example.org")
    contexts = ClientContexts()
    wanted = options("secure", path)
    pair = pair_of(server, wanted, contexts=contexts).shake()
    assert pair.hear(b"x") == b"x"
    assert contexts.sessions_count == 1
    stranger().cert_pem.write_to_path(path)
    pair = pair_of(server, wanted, contexts=contexts)
    assert "not verified" in str(failure_of(pair))
    authority().cert_pem.write_to_path(path)
    assert pair_of(server, wanted, contexts=contexts).shake().client.is_trusted


def test_an_authority_file_that_breaks_does_not_break_what_is_known(tmp_path: Path) -> None:
    path = ca_file(tmp_path)
    contexts = ClientContexts()
    server = server_context("mx.example.org")
    assert pair_of(server, options("secure", path), contexts=contexts).shake().client.is_trusted
    Path(path).write_text("half", encoding="ascii")
    assert pair_of(server, options("secure", path), contexts=contexts).shake().client.is_trusted


def test_what_takes_long_can_be_done_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ca_file(tmp_path)
    contexts = ClientContexts()
    made: list[str] = []

    def make(wanted: ClientTlsOptions) -> ssl.SSLContext:
        made.append(wanted.level)
        return make_context(wanted)

    monkeypatch.setattr("fastmta.security.client_context.make_context", make)
    for wanted in (options("secure", path), options("may", path)):
        prepare = contexts.preparation(wanted, is_judged=True)
        assert prepare is not None
        threads = [threading.Thread(target=prepare) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert contexts.preparation(wanted) is None
        assert pair_of(server_context("mx.example.org"), wanted, contexts=contexts).shake()
    assert made == ["secure", "may"]
    stranger().cert_pem.write_to_path(path)
    assert contexts.preparation(options("may", path)) is not None
    broken = contexts.preparation(options("may", str(tmp_path / "none.pem")), is_judged=True)
    assert broken is not None
    broken()  # `begin` says what is wrong
    with pytest.raises(TlsProblem, match=r"none\.pem: not found"):
        contexts.begin(options("may", str(tmp_path / "none.pem")), "mx.example.org")


@pytest.mark.parametrize(
    ("level", "names", "certificate", "is_good"),
    [
        ("verify", (), "mx.example.org", True),
        ("verify", (), "example.org", False),
        ("secure", (), "example.org", True),
        ("secure", (), "mx7.in.example.org", True),
        ("secure", (), "mx.example.net", False),
        ("secure", ("hostname",), "mx.example.org", True),
        ("secure", ("nexthop",), "mx.example.org", False),
        ("verify", ("other.example.net",), "mx.example.org", False),
        ("verify", ("other.example.net",), "other.example.net", True),
        ("secure", (".example.net", "example.com"), "a.b.example.net", True),
        ("secure", (".example.net", "example.com"), "example.net", False),
        ("secure", (".example.net", "example.com"), "example.com", True),
    ],
)
def test_names_of_levels_and_policies(
    ca: str, level: str, names: tuple[str, ...], certificate: str, is_good: bool
) -> None:
    pair = pair_of(server_context(certificate), options(level, ca, names=names))
    if is_good:
        assert pair.shake().client.is_trusted
    else:
        assert "name not matched" in str(failure_of(pair))


@pytest.mark.parametrize(
    ("host", "certificate", "is_good"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("[192.0.2.7]", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("2001:db8:0::7", "2001:db8::7", True),
        ("[IPv6:2001:db8::7]", "2001:db8::7", True),
        ("bücher.example", "bücher.example", True),
        ("xn--bcher-kva.example", "bücher.example", True),
        ("mx.example.org", "*.example.org", True),
        ("example.org", "*.example.org", False),
        ("a.mx.example.org", "*.example.org", False),
    ],
)
def test_hosts_of_every_kind(ca: str, host: str, certificate: str, is_good: bool) -> None:
    pair = pair_of(server_context(certificate), options("verify", ca), host)
    if is_good:
        assert pair.shake().client.is_trusted
        is_address = certificate[0] in "12"
        assert bool(pair.server.facts.server_name) is not is_address  # no SNI for addresses
        same = pair_of(server_context(certificate), options("may", ca), host, (host,)).shake()
        assert same.client.is_trusted
    else:
        assert "name not matched" in str(failure_of(pair))


def test_server_name_of_the_policy(ca: str) -> None:
    wanted = options("verify", ca, server_name="Shared.Example.NET", names=("mx.example.org",))
    pair = pair_of(server_context("mx.example.org"), wanted).shake()
    assert pair.server.facts.server_name == "shared.example.net"


@pytest.mark.parametrize("host", ["", "a..b", "x" * 64 + ".org", "-.org", ".org", "a b", "a\0b"])
def test_hosts_that_no_certificate_can_be_in(ca: str, host: str) -> None:
    assert "name not matched" in str(
        failure_of(pair_of(server_context("mx.example.org"), options("verify", ca), host))
    )
    pair = pair_of(server_context("mx.example.org"), options("may", ca), host, (host,)).shake()
    assert pair.client.trust is Trust.TRUSTED


def test_fingerprints(ca: str) -> None:
    server = server_context("other.example.net", ca=stranger())
    first = pair_of(server, options("encrypt", ca)).shake()
    certificate = first.client._sslobj.getpeercert(binary_form=True)
    assert certificate is not None
    key = x509.load_der_x509_certificate(certificate).public_key()
    of_key = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    whole = hashlib.sha256(certificate).hexdigest()
    assert first.client.facts.fingerprint == whole
    with_colons = ":".join(whole[i : i + 2] for i in range(0, 64, 2)).upper()
    for one in (whole, of_key.hexdigest(), with_colons):
        wanted = options("fingerprint", "", fingerprints=("0" * 64, one))
        pair = pair_of(server, wanted).shake()
        assert (pair.client.is_trusted, pair.client.facts.is_verified) == (True, True)
    failure = failure_of(pair_of(server, options("fingerprint", "", fingerprints=("0" * 64,))))
    assert str(failure) == "Server certificate not verified: fingerprint not matched"


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (ClientTlsOptions("none"), "TLS level 'none' is not known"),
        (ClientTlsOptions(ca_file="/nowhere.pem"), "/nowhere.pem: not found"),
        (ClientTlsOptions(ciphers="NONSENSE"), "OpenSSL knows none"),
        (ClientTlsOptions(version_min="1.1"), "TLS version '1.1' is not known"),
        (ClientTlsOptions("fingerprint"), "there are no fingerprints"),
        (ClientTlsOptions("fingerprint", fingerprints=("ab",)), "not SHA-256"),
        (ClientTlsOptions("secure", names=("a b",)), "'a b' is no name"),
        (ClientTlsOptions(server_name="a..b"), "'a..b' is no name"),
    ],
)
def test_options_that_cannot_be_used(wanted: ClientTlsOptions, text: str) -> None:
    with pytest.raises(TlsProblem, match=text):
        check_client_tls(wanted)
    with pytest.raises(TlsProblem, match=text):
        ClientContexts().begin(wanted, "mx.example.org", ("example.org",))


def test_options_of_every_level_can_be_used(ca: str) -> None:
    for level in ("may", "encrypt", "verify", "secure"):
        check_client_tls(options(level, ca))
    check_client_tls(ClientTlsOptions("fingerprint", fingerprints=("A" * 64,)))


def test_an_old_version_and_a_peer_that_speaks_no_tls(ca: str) -> None:
    strict = options("encrypt", ca, version_min="1.3")
    client = ClientContexts().begin(strict, "mx.example.org")
    client.handshake()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    pair = ClientPair(server, client)
    with pytest.raises(TlsFailure):
        pair.shake()
    client = ClientContexts().begin(options("may", ca), "mx.example.org")
    client.handshake()
    client.take_output()
    client.feed(b"220 plain text\r\n")
    with pytest.raises(TlsFailure, match="wrong version number"):
        client.handshake()


def test_the_end_by_the_server(ca: str) -> None:
    pair = pair_of(server_context("mx.example.org"), options("secure", ca)).shake()
    pair.server.close()
    pair.client.feed(pair.server.take_output())
    assert pair.client.read_into(pair.buffer) == 0
    assert pair.client.is_at_end


def test_settings_of_contexts(ca: str) -> None:
    client = ClientContexts().begin(options("may", ca), "mx.example.org")
    context = client._sslobj.context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    names = [str(one["name"]) for one in context.get_ciphers()]
    assert not [name for name in names if name.startswith(("ADH", "AECDH")) or "NULL" in name]
