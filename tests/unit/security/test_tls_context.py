"""Contexts of a listener: certificates by name, client certificates, renewal, tickets, problems."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from fastmta.security import ServerContexts, TlsOptions, ensure_selfsigned
from tests.conftest import ROOT
from tests.support.tls import (
    Pair,
    authority,
    client_context,
    contexts,
    failure_of,
    fingerprint,
    issue,
    octet_by_octet,
)

HELLO = b"EHLO client.example\r\n"


@pytest.fixture(params=["1.2", "1.3"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# Options.


def test_version_13_only(tmp_path: Path) -> None:
    held = ServerContexts(TlsOptions(issue(tmp_path / "a", "mx.example.org"), version_min="1.3"))
    assert failure_of(Pair(held.context, client_context("1.2"))) == "unsupported protocol"
    assert Pair(held.context, client_context("1.3")).shake().server.facts.protocol == "TLSv1.3"


def test_ciphers_of_tls_12(tmp_path: Path) -> None:
    path = issue(tmp_path / "a", "mx.example.org")
    held = ServerContexts(TlsOptions(path, ciphers="ECDHE-ECDSA-CHACHA20-POLY1305"))
    facts = Pair(held.context, client_context("1.2")).shake().server.facts
    assert (facts.cipher, facts.bits) == ("ECDHE-ECDSA-CHACHA20-POLY1305", 256)
    client = client_context("1.2")
    client.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    assert failure_of(Pair(held.context, client)) == "no shared cipher"


def test_ciphers_left_to_us_keep_past_sessions_secret(tmp_path: Path) -> None:
    names = [one["name"] for one in contexts(tmp_path / "a", "a").context.get_ciphers()]
    assert len(names) > 8
    assert all(name.startswith(("TLS_", "ECDHE-")) for name in names)
    assert not any(name.endswith("-SHA") for name in names)


@pytest.mark.parametrize("weak", ["AES256-SHA", "NULL", "ADH-AES256-GCM-SHA384"])
def test_weak_ciphers_are_off(tmp_path: Path, weak: str) -> None:
    held = contexts(tmp_path / "a", "mx.example.org")
    client = client_context("1.2")
    client.set_ciphers(f"{weak}:@SECLEVEL=0")
    assert failure_of(Pair(held.context, client)) == "no shared cipher"


def test_renegotiation_and_compression_are_off(tmp_path: Path) -> None:
    context = contexts(tmp_path / "a", "mx.example.org").context
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert Pair(context, client_context("1.2")).shake().client.compression() is None


def test_key_in_a_file_of_its_own(tmp_path: Path) -> None:
    issued = authority().issue_cert("mx.example.org")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    (tmp_path / "chain").write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
    held = ServerContexts(TlsOptions(str(tmp_path / "chain"), str(tmp_path / "key")))
    pair = Pair(held.context, client_context()).shake()
    assert pair.shown() == fingerprint(tmp_path / "chain")


# Names.


@pytest.fixture
def named(tmp_path: Path) -> ServerContexts:
    """`a` is the default; `b` is a wildcard's, `c` has an exact name below it, `d` comes late."""
    options = TlsOptions(
        issue(tmp_path / "a", "mx.example.org"),
        others=(
            issue(tmp_path / "b", "*.example.net", "example.net"),
            issue(tmp_path / "c", "exact.example.net", "*.deep.example.net"),
            issue(tmp_path / "d", "mx.example.org", "exact.example.net"),
        ),
    )
    return ServerContexts(options)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mx.example.org", "a"),
        ("example.net", "b"),
        ("any.example.net", "b"),
        ("ANY.Example.Net", "b"),
        ("exact.example.net", "c"),
        ("x.deep.example.net", "c"),
        ("deep.example.net", "b"),
        ("a.b.example.net", "a"),
        ("unknown.example.com", "a"),
        ("net", "a"),
        (None, "a"),
    ],
)
def test_certificate_by_name(
    named: ServerContexts, tmp_path: Path, version: str, name: str | None, expected: str
) -> None:
    client = client_context(version)
    client.check_hostname = False
    pair = Pair(named.context, client, name).shake(octet_by_octet)
    assert pair.shown() == fingerprint(tmp_path / expected)
    assert pair.server.facts.server_name == (name or "").lower()
    assert pair.to_server(pair.encrypt(HELLO)) == HELLO


@pytest.mark.parametrize("odd", [b"\xc3\xbc", b"\xff\xff", b" x", b"*."])
def test_odd_name_gets_the_default(named: ServerContexts, tmp_path: Path, odd: bytes) -> None:
    """The name is changed under way, so the client ends it: what counts is who was shown."""
    pair = Pair(named.context, client_context("1.2"), "zz.example.net")
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.do_handshake()
    hello = pair.encrypt(b"")
    assert hello.count(b"zz.example.net") == 1
    assert pair.to_server(hello.replace(b"zz", odd)) == b""
    pem = (tmp_path / "a").read_text(encoding="ascii")
    first = pem[pem.index("-----BEGIN CERT") :].partition("-----END CERTIFICATE-----")
    shown = ssl.PEM_cert_to_DER_cert(first[0] + first[1])
    assert shown in pair.server.take_output()


# Client certificates.


@pytest.fixture
def asking(tmp_path: Path) -> ServerContexts:
    """Takes what `listed` signed, and the certificate `own` by itself; of `b`, another name."""
    listed, stranger = trustme.CA(), trustme.CA()
    issue(tmp_path / "client", "client.example", ca=listed)
    issue(tmp_path / "stranger", "client.example", ca=stranger)
    ensure_selfsigned(str(tmp_path), "own.example")
    (tmp_path / "selfsigned.pem").rename(tmp_path / "own")
    ensure_selfsigned(str(tmp_path), "own.example")
    pem = (tmp_path / "own").read_bytes()
    certificate = pem[pem.index(b"-----BEGIN CERTIFICATE") :]
    (tmp_path / "trust").write_bytes(listed.cert_pem.bytes() + certificate)
    return ServerContexts(
        TlsOptions(
            issue(tmp_path / "a", "mx.example.org"),
            others=(issue(tmp_path / "b", "mx.example.net"),),
            client_ca=str(tmp_path / "trust"),
        )
    )


@pytest.mark.parametrize("server_name", ["mx.example.org", "mx.example.net"])
@pytest.mark.parametrize("who", ["client", "own"])
def test_client_certificate(
    asking: ServerContexts, tmp_path: Path, version: str, who: str, server_name: str
) -> None:
    client = client_context(version, str(tmp_path / who))
    pair = Pair(asking.context, client, server_name).shake(octet_by_octet, octet_by_octet)
    assert pair.server.facts.fingerprint == fingerprint(tmp_path / who)
    assert pair.to_server(pair.encrypt(HELLO)) == HELLO


@pytest.mark.parametrize("who", ["stranger", "selfsigned.pem"])
def test_unknown_client_certificate(
    asking: ServerContexts, tmp_path: Path, version: str, who: str
) -> None:
    pair = Pair(asking.context, client_context(version, str(tmp_path / who)))
    assert failure_of(pair).startswith("certificate verify failed: ")
    with pytest.raises(ssl.SSLError, match="ALERT"):
        pair.from_server()


def test_client_without_certificate(asking: ServerContexts, version: str) -> None:
    assert Pair(asking.context, client_context(version)).shake().server.facts.fingerprint == ""


def test_client_certificate_required(asking: ServerContexts, tmp_path: Path, version: str) -> None:
    options = asking.options
    held = ServerContexts(
        TlsOptions(
            options.certificate,
            client_ca=options.client_ca,
            is_client_certificate_required=True,
        )
    )
    text = failure_of(Pair(held.context, client_context(version)))
    assert text == "peer did not return a certificate"
    pair = Pair(held.context, client_context(version, str(tmp_path / "own"))).shake()
    assert pair.server.facts.fingerprint == fingerprint(tmp_path / "own")


def test_client_certificate_unasked(tmp_path: Path, version: str) -> None:
    held = contexts(tmp_path / "a", "mx.example.org")
    client = client_context(version, issue(tmp_path / "client", "client.example"))
    assert Pair(held.context, client).shake().server.facts.fingerprint == ""


# Renewal.


def replace(path: Path, octets: bytes) -> None:
    """As certbot and its like do it: a new file under the old name."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(octets)
    new.rename(path)


def test_renewal_leaves_sessions_alone(tmp_path: Path, version: str) -> None:
    held = contexts(tmp_path / "a", "mx.example.org")
    before = fingerprint(tmp_path / "a")
    first = held.context
    pair = Pair(held.context, client_context(version)).shake()
    halfway = Pair(held.context, client_context(version))
    assert held.refresh() == []
    assert held.context is first
    issue(tmp_path / "new", "mx.example.org")
    replace(tmp_path / "a", (tmp_path / "new").read_bytes())
    assert held.refresh() == []
    assert held.context is not first
    assert pair.to_server(pair.encrypt(HELLO)) == HELLO
    pair.server.write(b"250 ok\r\n")
    assert pair.from_server() == b"250 ok\r\n"
    assert halfway.shake().shown() == before
    assert Pair(held.context, client_context(version)).shake().shown() == fingerprint(
        tmp_path / "new"
    )


def test_renewal_of_another_name(named: ServerContexts, tmp_path: Path) -> None:
    issue(tmp_path / "b", "only.example.net")
    assert named.refresh() == []
    assert Pair(named.context, client_context(), "only.example.net").shake().shown() == (
        fingerprint(tmp_path / "b")
    )


def test_half_written_pair_keeps_the_old(tmp_path: Path) -> None:
    one, two = (authority().issue_cert("mx.example.org") for _ in range(2))
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    certificate.write_bytes(one.cert_chain_pems[0].bytes())
    key.write_bytes(one.private_key_pem.bytes())
    held = ServerContexts(TlsOptions(str(certificate), str(key)))
    before, old = held.context, fingerprint(certificate)

    replace(certificate, two.cert_chain_pems[0].bytes())
    said = held.refresh()
    assert len(said) == 1
    assert str(key) in said[0]
    assert "does not match" in said[0]
    assert held.refresh() == held.refresh() == []  # said once
    assert held.context is before
    assert Pair(held.context, client_context()).shake().shown() == old

    replace(key, two.private_key_pem.bytes()[:100])
    assert ["cannot be read" in text for text in held.refresh()] == [True]
    assert held.context is before

    replace(key, two.private_key_pem.bytes())
    assert held.refresh() == []
    assert Pair(held.context, client_context()).shake().shown() == fingerprint(certificate)


def test_file_that_vanishes_and_returns(tmp_path: Path) -> None:
    held = contexts(tmp_path / "a", "mx.example.org")
    before = held.context
    (tmp_path / "a").rename(tmp_path / "away")
    assert ["not found" in text for text in held.refresh()] == [True]
    assert held.refresh() == []
    assert held.context is before
    (tmp_path / "away").rename(tmp_path / "a")
    assert held.refresh() == []
    assert Pair(held.context, client_context()).shake().shown() == fingerprint(tmp_path / "a")


def test_cause_that_no_stamp_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mode set right changes no stamp: after a failure each refresh tries again."""
    held = contexts(tmp_path / "a", "mx.example.org")
    before = held.context
    issue(tmp_path / "a", "mx.example.org")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        assert ["not readable" in text for text in held.refresh()] == [True]
        assert held.refresh() == []
    assert held.refresh() == []
    assert held.context is not before


def test_client_certificate_no_longer_listed(asking: ServerContexts, tmp_path: Path) -> None:
    client = client_context("1.3", str(tmp_path / "own"))
    pair = Pair(asking.context, client).shake()
    pair.client_reads()
    trust = tmp_path / "trust"
    end = b"-----END CERTIFICATE-----\n"
    replace(trust, trust.read_bytes().partition(end)[0] + end)  # the authority stays
    assert asking.refresh() == []
    again = Pair(asking.context, client, session=pair.client.session)
    assert failure_of(again).startswith("certificate verify failed: ")


# Tickets.


def resumable(held: ServerContexts, client: ssl.SSLContext) -> ssl.SSLSession:
    pair = Pair(held.context, client).shake()
    pair.server.write(b"220 hello\r\n")
    assert pair.from_server() == b"220 hello\r\n"
    assert not pair.client.session_reused
    session = pair.client.session
    assert session is not None
    assert session.has_ticket
    return session


def test_ticket_resumes(tmp_path: Path, version: str) -> None:
    held, client = contexts(tmp_path / "a", "mx.example.org"), client_context(version)
    session = resumable(held, client)
    pair = Pair(held.context, client, session=session).shake(octet_by_octet, octet_by_octet)
    assert pair.client.session_reused
    assert pair.server.facts.server_name == "mx.example.org"
    assert pair.to_server(pair.encrypt(HELLO)) == HELLO


def test_resumed_session_knows_the_client(
    asking: ServerContexts, tmp_path: Path, version: str
) -> None:
    client = client_context(version, str(tmp_path / "own"))
    pair = Pair(asking.context, client, session=resumable(asking, client)).shake()
    assert pair.client.session_reused
    assert pair.server.facts.fingerprint == fingerprint(tmp_path / "own")


def test_ticket_under_another_name_of_the_listener(asking: ServerContexts, version: str) -> None:
    client = client_context(version)
    session = resumable(asking, client)
    pair = Pair(asking.context, client, "mx.example.net", session).shake()
    assert pair.to_server(pair.encrypt(HELLO)) == HELLO


def test_ticket_of_another_listener(tmp_path: Path, version: str) -> None:
    path, client = issue(tmp_path / "a", "mx.example.org"), client_context(version)
    one, other = ServerContexts(TlsOptions(path)), ServerContexts(TlsOptions(path))
    pair = Pair(other.context, client, session=resumable(one, client)).shake()
    assert not pair.client.session_reused
    assert pair.to_server(pair.encrypt(HELLO)) == HELLO


def test_ticket_from_before_a_refresh(tmp_path: Path, version: str) -> None:
    held, client = contexts(tmp_path / "a", "mx.example.org"), client_context(version)
    session = resumable(held, client)
    issue(tmp_path / "a", "mx.example.org")
    assert held.refresh() == []
    pair = Pair(held.context, client, session=session).shake()
    assert not pair.client.session_reused
    assert pair.shown() == fingerprint(tmp_path / "a")


def test_ticket_at_another_worker(tmp_path: Path, version: str) -> None:
    """Contexts made before the fork: the parent's ticket is good in each child."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from tests.support.tls import Pair, client_context, contexts\n"
        "from tests.unit.security.test_tls_context import resumable\n"
        "held = contexts(Path(sys.argv[1]), 'mx.example.org')\n"
        "client = client_context(sys.argv[2])\n"
        "session = resumable(held, client)\n"
        "for _ in range(2):\n"
        "    if not (pid := os.fork()):\n"
        "        pair = Pair(held.context, client, session=session).shake()\n"
        "        os._exit(10 + bool(pair.client.session_reused))\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 11\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a"), version], cwd=ROOT, check=True
    )
