"""What an operator is told of files and options that cannot be used for TLS."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fastmta.security import ServerContexts, TlsOptions, check_tls
from fastmta.security.certificate import TlsProblem
from tests.support.tls import authority, issue


def problem_of(options: TlsOptions) -> str:
    with pytest.raises(TlsProblem) as raised:
        ServerContexts(options)
    assert isinstance(raised.value, ValueError)
    return str(raised.value)


@pytest.fixture
def good(tmp_path: Path) -> str:
    return issue(tmp_path / "good", "mx.example.org")


def test_file_not_found(good: str, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    assert problem_of(TlsOptions(gone)) == f"{gone}: not found: no certificate there"
    assert problem_of(TlsOptions(good, gone)) == f"{gone}: not found: no private key there"
    assert gone in problem_of(TlsOptions(good, others=(gone,)))
    assert gone in problem_of(TlsOptions(good, client_ca=gone))


def test_file_that_cannot_be_read(good: str, tmp_path: Path) -> None:
    assert "not readable" in problem_of(TlsOptions(str(tmp_path)))
    assert "not readable" in problem_of(TlsOptions("a\0b"))
    locked = tmp_path / "locked"
    issue(locked, "mx.example.org")
    locked.chmod(0)
    if os.geteuid() != 0:
        assert "check owner and mode" in problem_of(TlsOptions(str(locked)))


def test_key_of_another_certificate(good: str, tmp_path: Path) -> None:
    other = issue(tmp_path / "other", "mx.example.org")
    text = f"{other}: the key does not match the certificate {good}: install both"
    assert problem_of(TlsOptions(good, other)) == text
    other_kind = authority().issue_cert("mx.example.org", key_type=trustme.KeyType.RSA)
    other_kind.private_key_pem.write_to_path(tmp_path / "rsa")
    assert "does not match" in problem_of(TlsOptions(good, str(tmp_path / "rsa")))


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_encrypted_key(good: str, tmp_path: Path, form: PrivateFormat) -> None:
    key = load_pem_private_key(Path(good).read_bytes(), None)
    octets = key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))
    (tmp_path / "key").write_bytes(octets)
    text = problem_of(TlsOptions(good, str(tmp_path / "key")))
    assert text == f"{tmp_path / 'key'}: the key is encrypted: store it without a passphrase"


@pytest.mark.parametrize("octets", [b"", b"hello", bytes(10), b"-----BEGIN CERTIFICATE-----\n"])
def test_file_of_something_else(good: str, tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "odd"
    path.write_bytes(octets)
    for options in (
        TlsOptions(str(path)),
        TlsOptions(good, str(path)),
        TlsOptions(good, others=(str(path),)),
        TlsOptions(good, client_ca=str(path)),
    ):
        assert problem_of(options).startswith(f"{path}: ")


def test_damaged_certificate(good: str, tmp_path: Path) -> None:
    octets = Path(good).read_bytes()
    for end in range(100, len(octets) - 1, 40):
        (tmp_path / "short").write_bytes(octets[:end])
        assert str(tmp_path / "short") in problem_of(TlsOptions(str(tmp_path / "short"), good))


def test_certificate_too_weak(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mx.example.org")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now.replace(year=2090))
    octets = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    octets += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "weak").write_bytes(octets)
    assert "too weak" in problem_of(TlsOptions(str(tmp_path / "weak")))


def test_options_that_make_no_sense(good: str) -> None:
    assert "1.1" in problem_of(TlsOptions(good, version_min="1.1"))
    assert "'NONSENSE'" in problem_of(TlsOptions(good, ciphers="NONSENSE"))
    text = problem_of(TlsOptions(good, is_client_certificate_required=True))
    assert "client_ca" in text


def test_certificate_without_key_says_where_the_key_may_be(good: str, tmp_path: Path) -> None:
    octets = Path(good).read_bytes()
    path = tmp_path / "certificate"
    path.write_bytes(octets[octets.index(b"-----BEGIN CERTIFICATE") :])
    text = f"{path}: has no private key in PEM format"
    assert problem_of(TlsOptions(str(path))) == f"{text}: put it there, or set key"
    assert problem_of(TlsOptions(good, others=(str(path),))) == text


def test_the_end_of_a_certificate_is_told_in_time_and_each_time_once(good: str) -> None:
    """Nothing changes on disk, only the clock."""
    ends = x509.load_pem_x509_certificates(Path(good).read_bytes())[0].not_valid_after_utc
    left = datetime.timedelta(days=22)
    held = ServerContexts(TlsOptions(good), lambda: ends - left)
    assert held.warnings == []
    said = []
    for hours in range(22 * 24, -3 * 24, -6):
        left = datetime.timedelta(hours=hours)
        said += [(hours, text.removeprefix(f"{good}: the certificate ")) for text in held.refresh()]
    date = f"{ends:%Y-%m-%d}"
    assert said == [
        (21 * 24, f"expires on {date}, within 21 days: renew it"),
        (7 * 24, f"expires on {date}, within 7 days: renew it"),
        (24, f"expires on {date}, within a day: renew it"),
        (0, f"expired on {date}: renew it"),
    ]
    os.unlink(good)  # what is in use has still expired, and that has been said
    assert ["not found" in text for text in held.refresh()] == [True]
    assert held.refresh() == []


def test_a_start_shortly_before_the_end_says_so_once(good: str) -> None:
    ends = x509.load_pem_x509_certificates(Path(good).read_bytes())[0].not_valid_after_utc
    held = ServerContexts(TlsOptions(good), lambda: ends - datetime.timedelta(days=3))
    assert ["within 7 days" in text for text in held.warnings] == [True]
    assert held.refresh() == []


def test_options_are_checked_without_a_certificate(good: str, tmp_path: Path) -> None:
    """One that is still to be made."""
    assert check_tls(TlsOptions("", others=(good,), client_ca=good)) == []
    gone = str(tmp_path / "gone")
    for options in (
        TlsOptions("", ciphers="NONSENSE"),
        TlsOptions("", others=(gone,)),
        TlsOptions("", client_ca=gone),
        TlsOptions(gone),
    ):
        with pytest.raises(TlsProblem):
            check_tls(options)
    assert os.listdir(tmp_path) == ["good"]


def test_expired_certificate_is_a_warning(good: str) -> None:
    def in_year(year: int) -> ServerContexts:
        now = datetime.datetime(year, 1, 1, tzinfo=datetime.UTC)
        return ServerContexts(TlsOptions(good), lambda: now)

    assert ServerContexts(TlsOptions(good)).warnings == []
    later, sooner = in_year(9999), in_year(1990)
    assert ["expired on" in text and good in text for text in later.warnings] == [True]
    assert ["not valid before" in text for text in sooner.warnings] == [True]
    os.utime(good, ns=(1, 1))
    assert later.refresh() == later.warnings
    assert later.refresh() == []
