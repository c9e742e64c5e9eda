"""What the chain of a certificate is worth, where OpenSSL was told not to insist.

With CERT_NONE the ssl module does not tell whether the chain was good. So it is verified here, by
the `cryptography` package and the authorities of the same context. That is the more careful of the
two (RSA keys of 2048 bits at least, say), and where it cannot tell, the answer is no. It takes half
a millisecond, the first time in a process also the import of that package.
"""

from __future__ import annotations

import datetime
import hashlib
import ssl
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from .peer_name import AltName

if TYPE_CHECKING:
    from cryptography import x509

_CHAIN_CERTIFICATES_MAX: Final = 10
_DEPTH_MAX: Final = 8
_DER: Final = 2  # as the ssl module's private part numbers encodings

# The authorities in a context, parsed once. Few contexts live, and none longer than its context.
_stores: weakref.WeakKeyDictionary[ssl.SSLContext, tuple[int, Any]] = weakref.WeakKeyDictionary()


def chain_of(sslobj: ssl.SSLObject) -> tuple[bytes, ...]:
    """What the peer sent, in DER, its own certificate first; () also when a session is resumed."""
    public = getattr(sslobj, "get_unverified_chain", None)  # since Python 3.13
    if public is not None:
        return tuple(public()[:_CHAIN_CERTIFICATES_MAX])
    inner = getattr(sslobj, "_sslobj", None)
    certificates: Any = inner.get_unverified_chain() if inner is not None else ()
    return tuple(one.public_bytes(_DER) for one in (certificates or ())[:_CHAIN_CERTIFICATES_MAX])


def trusted_names(
    chain: Sequence[bytes], context: ssl.SSLContext, now: datetime.datetime
) -> list[AltName]:
    """The names of a certificate whose chain leads to an authority of `context`; []: it does not.

    `now` is aware of its zone.
    """
    from cryptography import x509
    from cryptography.x509.verification import PolicyBuilder

    try:
        certificates = [x509.load_der_x509_certificate(one) for one in chain]
        extensions = certificates[0].extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        subject = _subject(names)
        if subject is None:
            return []
        authority_policy, leaf_policy = _policies()
        builder = PolicyBuilder().store(_store(context)).time(now).max_chain_depth(_DEPTH_MAX)
        builder = builder.extension_policies(ca_policy=authority_policy, ee_policy=leaf_policy)
        builder.build_server_verifier(subject).verify(certificates[0], certificates[1:])
        found = [("DNS", one) for one in names.get_values_for_type(x509.DNSName)]
        addresses = names.get_values_for_type(x509.IPAddress)
        return found + [("IP Address", str(one)) for one in addresses]
    except Exception:  # many kinds, by which part of which certificate is broken
        return []


def prepare_opinion(context: ssl.SSLContext) -> None:
    """Import and parse what the first `trusted_names` of `context` takes; in any thread."""
    _store(context)
    _policies()


def _subject(names: x509.SubjectAlternativeName) -> Any:
    """A name that the certificate is in: who it should be for is judged elsewhere."""
    from cryptography import x509

    for name in names.get_values_for_type(x509.DNSName):
        return x509.DNSName(f"a{name[1:]}" if name.startswith("*.") else name)
    for address in names.get_values_for_type(x509.IPAddress):
        return x509.IPAddress(address)
    return None


def _store(context: ssl.SSLContext) -> Any:
    """The authorities that OpenSSL has in `context` by now: from a directory it takes them when
    it needs them."""
    from cryptography import x509
    from cryptography.x509.verification import Store

    count = context.cert_store_stats()["x509_ca"]
    known = _stores.get(context)
    if known is not None and known[0] == count:
        return known[1]
    authorities = context.get_ca_certs(binary_form=True)
    store = Store([x509.load_der_x509_certificate(one) for one in authorities])
    _stores[context] = (count, store)
    return store


def _policies() -> tuple[Any, Any]:
    """What extensions authorities and leaves must have: what RFC 5280 6.1 looks at, no more, for
    an operator's own authority need not keep the rules that browsers made."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID
    from cryptography.x509.verification import Criticality, ExtensionPolicy

    purposes = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)

    def check_authority(policy: object, certificate: object, value: Any) -> None:
        if not value.ca:
            raise ValueError("an authority that is none")

    def check_signing(policy: object, certificate: object, value: Any) -> None:
        if value is not None and not value.key_cert_sign:
            raise ValueError("an authority that may not sign")

    def check_purpose(policy: object, certificate: object, value: Any) -> None:
        if value is not None and not any(one in value for one in purposes):
            raise ValueError("not for servers")

    any_way = Criticality.AGNOSTIC
    authority = (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, any_way, check_authority)
        .may_be_present(x509.KeyUsage, any_way, check_signing)
        .may_be_present(x509.ExtendedKeyUsage, any_way, check_purpose)
    )
    leaf = (
        ExtensionPolicy.permit_all()
        .require_present(x509.SubjectAlternativeName, any_way, None)
        .may_be_present(x509.ExtendedKeyUsage, any_way, check_purpose)
    )
    return authority, leaf


def has_fingerprint(certificate: bytes, fingerprints: frozenset[str]) -> bool:
    """Whether SHA-256 of a certificate in DER, or of its public key, is one of these."""
    if hashlib.sha256(certificate).hexdigest() in fingerprints:
        return True
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
        octets = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except Exception:  # many kinds, as above
        return False
    return hashlib.sha256(octets).hexdigest() in fingerprints
