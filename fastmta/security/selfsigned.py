"""A certificate of our own making, so that STARTTLS works before anybody bought or fetched one."""

from __future__ import annotations

import datetime
import os
from typing import TYPE_CHECKING

from .durable import replace_file, sync_directory

if TYPE_CHECKING:  # cryptography costs 12 MB: imported where it is used
    from cryptography import x509

_NAME = "selfsigned.pem"
_YEARS = 10
_MARGIN = datetime.timedelta(days=30)
_COMMON_NAME_MAX = 64  # RFC 5280 A.1: ub-common-name


def ensure_selfsigned(directory: str, hostname: str, now: datetime.datetime | None = None) -> str:
    """Path of a file in `directory` with a key and a certificate for `hostname` and localhost.

    The one that is there is kept if it can be read, is for this name and lasts another month. The
    file is durable, and for its owner only; of `directory` the last part is made if it is missing.
    Raises OSError, or ValueError for a name that none can be made for.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    path = os.path.join(directory, _NAME)
    names = tuple(dict.fromkeys((hostname.lower(), "localhost")))
    if _is_good(path, names, now):
        if os.stat(path).st_mode & 0o077:
            os.chmod(path, 0o600)
    else:
        octets = _make(names, now)
        _make_directory(directory)
        replace_file(path, octets)
    return path


def _make_directory(path: str) -> None:
    """Durably, in a parent that is there: the parent may be somebody's whose mode matters."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    sync_directory(os.path.dirname(path) or ".")


def _is_good(path: str, names: tuple[str, ...], now: datetime.datetime) -> bool:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        with open(path, "rb") as file:
            octets = file.read()
        certificate = x509.load_pem_x509_certificate(octets)
        key = load_pem_private_key(octets, None)
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        return False  # half a file, another's file, or none: a new one is made
    return (
        certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - _MARGIN
        and tuple(extension.value) == tuple(_general_names(names))
        and certificate.public_key() == key.public_key()
    )


def _general_names(names: tuple[str, ...]) -> list[x509.GeneralName]:
    from cryptography import x509

    return [x509.DNSName(name) for name in names]


def _make(names: tuple[str, ...], now: datetime.datetime) -> bytes:
    """Key (ECDSA P-256) and certificate in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    common = [names[0]] if len(names[0]) <= _COMMON_NAME_MAX else []
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one) for one in common])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS + _YEARS // 4))
        .add_extension(x509.SubjectAlternativeName(_general_names(names)), critical=not common)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    return key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    ) + certificate.public_bytes(Encoding.PEM)
