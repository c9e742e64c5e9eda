"""The certificate of our own making: what is in it, when it is kept, when it is made again."""

from __future__ import annotations

import datetime
import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fastmta.security import ServerContexts, TlsOptions, ensure_selfsigned, selfsigned
from tests.support.tls import Pair, fingerprint

NOW = datetime.datetime(2030, 5, 1, tzinfo=datetime.UTC)


def read(path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


@pytest.mark.parametrize(
    "hostname", ["mx.example.org", "localhost", "MX.Example.ORG", "a." * 99 + "b"]
)
@pytest.mark.parametrize("name", ["hostname", "localhost"])
def test_a_client_that_trusts_it_connects(tmp_path: Path, hostname: str, name: str) -> None:
    path = ensure_selfsigned(str(tmp_path), hostname)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(path)
    held = ServerContexts(TlsOptions(path))
    assert held.warnings == []
    pair = Pair(held.context, client, hostname if name == "hostname" else name).shake()
    assert pair.shown() == fingerprint(path)


def test_what_is_in_it(tmp_path: Path) -> None:
    path = ensure_selfsigned(str(tmp_path), "mx.example.org", NOW)
    certificate = read(path)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mx.example.org", "localhost"]
    assert certificate.not_valid_before_utc < NOW
    assert (certificate.not_valid_after_utc - NOW).days in range(3650, 3654)
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == [os.path.basename(path)]


def test_umask_does_not_matter(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = ensure_selfsigned(str(tmp_path / "new"), "mx.example.org")
    finally:
        os.umask(before)
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(tmp_path / "new").st_mode & 0o777 == 0o700


def test_only_the_last_directory_is_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ensure_selfsigned(str(tmp_path / "spool" / "tls"), "mx.example.org")
    assert os.listdir(tmp_path) == []


def test_a_good_one_of_somebody_else_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ensure_selfsigned(str(tmp_path), "mx.example.org")

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(selfsigned.os, "chmod", refuse)
    assert ensure_selfsigned(str(tmp_path), "mx.example.org") == path


def test_kept_for_the_same_name(tmp_path: Path) -> None:
    path = ensure_selfsigned(str(tmp_path), "mx.example.org")
    before = Path(path).read_bytes()
    os.chmod(path, 0o644)
    assert ensure_selfsigned(str(tmp_path), "MX.example.org") == path
    assert Path(path).read_bytes() == before
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_made_again_for_another_name(tmp_path: Path) -> None:
    path = ensure_selfsigned(str(tmp_path), "mx.example.org")
    before = Path(path).read_bytes()
    assert ensure_selfsigned(str(tmp_path), "mx2.example.org") == path
    assert Path(path).read_bytes() != before
    assert [one.value for one in read(path).subject] == ["mx2.example.org"]


@pytest.mark.parametrize(
    ("days", "is_kept"), [(0, True), (3600, True), (3640, False), (4000, False), (-10, False)]
)
def test_made_again_when_it_ends(tmp_path: Path, days: int, is_kept: bool) -> None:
    path = ensure_selfsigned(str(tmp_path), "mx.example.org", NOW)
    before = Path(path).read_bytes()
    ensure_selfsigned(str(tmp_path), "mx.example.org", NOW + datetime.timedelta(days=days))
    assert (Path(path).read_bytes() == before) == is_kept


def test_made_again_when_damaged(tmp_path: Path) -> None:
    path = ensure_selfsigned(str(tmp_path), "mx.example.org")
    good = Path(path).read_bytes()
    other = Path(ensure_selfsigned(str(tmp_path / "other"), "mx.example.org")).read_bytes()
    mark = b"-----BEGIN CERTIFICATE"
    mixed = good.partition(mark)[0] + mark + other.partition(mark)[2]
    for octets in (b"", good[:100], good[:-60], good.partition(mark)[0], mixed, b"\xff" * 100):
        Path(path).write_bytes(octets)
        assert ensure_selfsigned(str(tmp_path), "mx.example.org") == path
        assert ServerContexts(TlsOptions(path)).warnings == []


def test_order_of_what_makes_it_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def noting(name: str) -> None:
        original = getattr(os, name)

        def noted(*arguments: object) -> object:
            is_directory = name == "fsync" and os.path.isdir(f"/proc/self/fd/{arguments[0]}")
            done.append(f"{name} directory" if is_directory else name)
            return original(*arguments)

        monkeypatch.setattr(selfsigned.os, name, noted)

    for name in ("write", "fsync", "rename"):
        noting(name)
    ensure_selfsigned(str(tmp_path), "mx.example.org")
    assert done == ["write", "fsync", "rename", "fsync directory"]
    done.clear()
    ensure_selfsigned(str(tmp_path / "new"), "mx.example.org")
    assert done == ["fsync directory", "write", "fsync", "rename", "fsync directory"]


@pytest.mark.parametrize("name", ["write", "fsync", "rename"])
def test_failure_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = ensure_selfsigned(str(tmp_path), "mx.example.org")
    before = Path(path).read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(selfsigned.os, name, fail)
    with pytest.raises(OSError, match="No space"):
        ensure_selfsigned(str(tmp_path), "mx2.example.org")
    assert Path(path).read_bytes() == before
    assert os.listdir(tmp_path) == [os.path.basename(path)]


def test_name_that_no_certificate_can_have(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"A-label|ascii|ASCII|IDNA"):
        ensure_selfsigned(str(tmp_path), "bücher.example")
    assert os.listdir(tmp_path) == []
