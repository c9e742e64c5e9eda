"""Certificate and key files: what they say, and what is wrong with them in an operator's words."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass

_FILE_OCTETS_MAX = 1024 * 1024
_CERTIFICATE_MARK = b"CERTIFICATE-----"
_KEY_MARK = b"PRIVATE KEY-----"
_SOON_DAYS = (1, 7, 21)  # an operator is told so long before the end of a certificate


class TlsProblem(ValueError):
    """A file or an option of TLS cannot be used; the text names it and what to do."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is needed of the first certificate in a file."""

    path: str
    names: tuple[str, ...]  # DNS names in lower case, "*.example.org" among them
    begins: datetime.datetime
    ends: datetime.datetime

    def warning(self, now: datetime.datetime) -> str:
        """Why clients that verify will not like it, now or soon; "" if they will.

        It changes at each of `_SOON_DAYS` and at the end.
        """
        if now >= self.ends:
            return f"{self.path}: the certificate expired on {self.ends:%Y-%m-%d}: renew it"
        if now < self.begins:
            return f"{self.path}: the certificate is not valid before {self.begins:%Y-%m-%d}"
        for days in _SOON_DAYS:
            if self.ends - now <= datetime.timedelta(days=days):
                within = f"{days} days" if days > 1 else "a day"
                end = f"{self.ends:%Y-%m-%d}"
                return f"{self.path}: the certificate expires on {end}, within {within}: renew it"
        return ""


def read_certificate(path: str) -> Certificate:
    """The first certificate in a PEM file. Raises TlsProblem."""
    # Here, because it takes 60 ms and 12 MB: a server without TLS needs none of it.
    from cryptography import x509

    octets = _read_pem(path, _CERTIFICATE_MARK, "certificate")
    try:
        first = x509.load_pem_x509_certificates(octets)[0]
        return Certificate(
            path, _names_of(first), first.not_valid_before_utc, first.not_valid_after_utc
        )
    except Exception as error:  # many kinds, by which part of it is broken
        raise TlsProblem(f"{path}: the certificate cannot be read: {error}") from error


def _names_of(certificate: object) -> tuple[str, ...]:
    """Its DNS names (RFC 6125 6.4); of a certificate without alternative names the common name."""
    from cryptography import x509

    assert isinstance(certificate, x509.Certificate)
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = extension.value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        names = [one.value for one in common if isinstance(one.value, str)]
    return tuple(dict.fromkeys(name.lower().removesuffix(".") for name in names))


def load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Let `context` show the certificate; `key` "" means that it is in the same file.

    Raises TlsProblem. The certificate has been read before, so it is not looked at again.
    """
    missing = "" if key else ": put it there, or set key"
    key = key or certificate
    octets = _read_pem(key, _KEY_MARK, "private key", missing)
    if b"ENCRYPTED PRIVATE KEY" in octets or b"4,ENCRYPTED" in octets:
        # Asking for the passphrase, as OpenSSL would on the terminal, is not for a server.
        raise TlsProblem(f"{key}: the key is encrypted: store it without a passphrase")
    try:
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
            text = f"{key}: the key does not match the certificate {certificate}: install both"
        elif reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
            weakness = reason.replace("_", " ").lower()
            text = f"{certificate}: too weak to be used ({weakness}): have a new one made"
        else:
            text = f"{key}: the private key cannot be read: {reason.replace('_', ' ').lower()}"
        raise TlsProblem(text) from error
    except OSError as error:  # changed since it was read
        raise TlsProblem(f"{certificate}: {error.strerror}") from error


def load_authorities(context: ssl.SSLContext, path: str, what: str) -> None:
    """Let `context` accept certificates that are in the file or signed by one in it.

    `what` they are. Raises TlsProblem.
    """
    _read_pem(path, _CERTIFICATE_MARK, "certificate")
    try:
        context.load_verify_locations(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        text = f"{path}: the {what} cannot be read: {error.strerror or error}"
        raise TlsProblem(text) from error
    # So a peer's own certificate may stand in the file, without its issuer (RFC 5280 6.1.1).
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _read_pem(path: str, mark: bytes, what: str, missing: str = "") -> bytes:
    """The octets of a file that has such a thing in it; `missing`: what to do if it has none.

    Raises TlsProblem.
    """
    try:
        with open(path, "rb") as file:
            octets = file.read(_FILE_OCTETS_MAX)
    except FileNotFoundError as error:
        raise TlsProblem(f"{path}: not found: no {what} there") from error
    except PermissionError as error:
        raise TlsProblem(f"{path}: the {what} is not readable: check owner and mode") from error
    except (OSError, ValueError) as error:  # ValueError: NUL in the path
        raise TlsProblem(f"{path}: the {what} is not readable: {error}") from error
    if mark not in octets:
        raise TlsProblem(f"{path}: has no {what} in PEM format{missing}")
    return octets
