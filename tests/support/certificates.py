"""Certificates of every kind that a receiver may show, and the files that a client trusts.

    shown = Certificates(tmp_path, "relay.example")
    shown.right, shown.expired, ...     # key and chain in one file
    shown.trusted                       # the CA file that goes with them

Only `right`, `wildcard` and `by_intermediate` are good, and only in the name that was given.
"""

from __future__ import annotations

import datetime
from functools import cached_property
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.tls import authority, fingerprint, issue

_KEY = trustme.KeyType.ECDSA
_DAY = datetime.timedelta(days=1)


class Certificates:
    """Files below `directory`, each made when it is first asked for."""

    def __init__(self, directory: Path, name: str, *others: str) -> None:
        self._directory = directory
        self.name = name
        self._names = (name, *others)

    @cached_property
    def trusted(self) -> str:
        """The CA of the good ones, as PEM."""
        return _write(self._path("trusted"), authority().cert_pem.bytes())

    @cached_property
    def trusted_before(self) -> str:
        """That and the one that `revoked` is of: a file from before it was taken out."""
        octets = authority().cert_pem.bytes() + self._former.cert_pem.bytes()
        return _write(self._path("trusted-before"), octets)

    @cached_property
    def right(self) -> str:
        return issue(self._path("right"), *self._names)

    @cached_property
    def renewed(self) -> str:
        """As right as `right`, with another key."""
        return issue(self._path("renewed"), *self._names)

    @cached_property
    def wildcard(self) -> str:
        """For every host beside `name`."""
        return issue(self._path("wildcard"), "*." + self.name.partition(".")[2])

    @cached_property
    def wrong_name(self) -> str:
        return issue(self._path("wrong-name"), "other.invalid")

    @cached_property
    def expired(self) -> str:
        return self._at("expired", -_DAY)

    @cached_property
    def early(self) -> str:
        """Not valid yet."""
        return self._at("early", 30 * _DAY)

    @cached_property
    def other_authority(self) -> str:
        """In the right name by a CA that nobody knows."""
        return issue(self._path("other-authority"), *self._names, ca=trustme.CA(key_type=_KEY))

    @cached_property
    def revoked(self) -> str:
        """By a CA that was trusted once: it is in `trusted_before`, no longer in `trusted`."""
        return issue(self._path("revoked"), *self._names, ca=self._former)

    @cached_property
    def by_intermediate(self) -> str:
        """With the intermediate's certificate, as it should be."""
        return issue(self._path("by-intermediate"), *self._names, ca=self._intermediate)

    @cached_property
    def without_intermediate(self) -> str:
        """The server forgot to show the intermediate's certificate."""
        issued = self._intermediate.issue_cert(*self._names, key_type=_KEY)
        octets = issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes()
        return _write(self._path("without-intermediate"), octets)

    @cached_property
    def self_signed(self) -> str:
        """In the right name, by itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(
            name, name, key.public_key(), 4711, now - _DAY, now + _DAY
        )
        names = x509.SubjectAlternativeName([x509.DNSName(self.name)])
        certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
        pem = serialization.Encoding.PEM
        private = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return _write(self._path("self-signed"), private + certificate.public_bytes(pem))

    def fingerprint(self, file: str) -> str:
        """SHA-256 of the certificate in one of these files, lower-case hex."""
        return fingerprint(file)

    def key_fingerprint(self, file: str) -> str:
        """SHA-256 of its public key (SubjectPublicKeyInfo), lower-case hex."""
        certificate = x509.load_pem_x509_certificates(Path(file).read_bytes())[0]
        digest = hashes.Hash(hashes.SHA256())
        digest.update(
            certificate.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        return digest.finalize().hex()

    @cached_property
    def _former(self) -> trustme.CA:
        return trustme.CA(key_type=_KEY)

    @cached_property
    def _intermediate(self) -> trustme.CA:
        return authority().create_child_ca(_KEY)

    def _at(self, kind: str, offset: datetime.timedelta) -> str:
        """Valid for one day, which is off by `offset`."""
        begin = datetime.datetime.now(datetime.UTC) - _DAY + offset
        issued = authority().issue_cert(
            *self._names, not_before=begin, not_after=begin + _DAY / 2, key_type=_KEY
        )
        return _write(self._path(kind), issued.private_key_and_cert_chain_pem.bytes())

    def _path(self, kind: str) -> Path:
        return self._directory / f"{kind}.pem"


def _write(path: Path, octets: bytes) -> str:
    path.write_bytes(octets)
    return str(path)
