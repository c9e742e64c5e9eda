"""Verdicts on chains that OpenSSL was told to let pass, hostile ones above all."""

from __future__ import annotations

import contextlib
import datetime
import ssl

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.security.certificate import TlsProblem
from fastmta.security.client_sasl import Credential, SaslFailure, choose
from fastmta.security.opinion import has_fingerprint, trusted_names
from fastmta.security.peer_name import make_names
from tests.support.tls import authority
from tests.support.tls_client import intermediate

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
_KEY = trustme.KeyType.ECDSA


@pytest.fixture(scope="module")
def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(made)
    return made


@pytest.fixture(scope="module")
def chain() -> list[bytes]:
    issued = intermediate().issue_cert("*.example.org", "192.0.2.1", key_type=_KEY)
    pems = [one.bytes().decode("ascii") for one in issued.cert_chain_pems]
    return [ssl.PEM_cert_to_DER_cert(one) for one in pems]


def signed(extensions: list[x509.ExtensionType], key: ec.EllipticCurvePrivateKey) -> bytes:
    """A leaf of the trusted authority with just these."""
    ca = x509.load_pem_x509_certificate(authority().cert_pem.bytes())
    ca_key = load_pem_private_key(authority().private_key_pem.bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.example.org")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
    )
    for one in extensions:
        builder = builder.add_extension(one, critical=False)
    return builder.sign(ca_key, SHA256()).public_bytes(Encoding.DER)


def test_good_and_its_order(chain: list[bytes], context: ssl.SSLContext) -> None:
    expected = [("DNS", "*.example.org"), ("IP Address", "192.0.2.1")]
    assert trusted_names(chain, context, NOW) == expected
    assert trusted_names([chain[0], *chain[1:], chain[0]], context, NOW) == expected
    assert trusted_names(chain[:1], context, NOW) == []
    assert trusted_names([], context, NOW) == []
    assert trusted_names(chain[1:], context, NOW) == []  # an authority is nobody's server


def test_time(context: ssl.SSLContext) -> None:
    name = x509.SubjectAlternativeName([x509.DNSName("mx.example.org")])
    leaf = signed([name], ec.generate_private_key(ec.SECP256R1()))
    good = [
        days for days in (-2, -0.9, 0, 0.9, 2) if trusted_names([leaf], context, NOW + days * DAY)
    ]
    assert good == [-0.9, 0, 0.9]


def test_nobody_is_trusted(chain: list[bytes]) -> None:
    assert trusted_names(chain, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), NOW) == []


def test_each_octet_of_the_leaf_changed(chain: list[bytes], context: ssl.SSLContext) -> None:
    for position in range(len(chain[0])):
        leaf = bytearray(chain[0])
        leaf[position] ^= 0x41
        assert trusted_names([bytes(leaf), *chain[1:]], context, NOW) == [], position
        assert not has_fingerprint(bytes(leaf), frozenset({"0" * 64}))


def test_leaves_of_every_kind(context: ssl.SSLContext) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.SubjectAlternativeName([x509.DNSName("mx.example.org")])
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    client = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    email = x509.SubjectAlternativeName([x509.RFC822Name("a@example.org")])
    found = [("DNS", "mx.example.org")]
    assert trusted_names([signed([name], key)], context, NOW) == found
    assert trusted_names([signed([name, server], key)], context, NOW) == found
    assert trusted_names([signed([name, client], key)], context, NOW) == []
    assert trusted_names([signed([], key)], context, NOW) == []  # its common name says nothing
    assert trusted_names([signed([email], key)], context, NOW) == []


@given(st.lists(st.binary(max_size=200), max_size=4))
@settings(max_examples=50)
def test_any_octets(chain: list[bytes]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert trusted_names(chain, context, NOW) == []
    assert not has_fingerprint(b"".join(chain), frozenset({"0" * 64}))


@given(
    st.text(max_size=40), st.text(max_size=40), st.text(alphabet="a.*-[]xn:8\0\u212a", max_size=20)
)
@settings(max_examples=200)
def test_any_names(wanted: str, host: str, shown: str) -> None:
    """Whatever mail goes to is no reason to fail, and no name of it is good for all."""
    names = make_names(("hostname", "nexthop", "dot-nexthop"), host, (shown, host))
    assert not names.has([("DNS", "attacker.example.invalid"), ("DNS", "*.invalid"), ("DNS", "*")])
    names.has([("DNS", shown), ("IP Address", shown), ("DNS", wanted)])
    with contextlib.suppress(TlsProblem):
        make_names((wanted,), host, ())


@given(
    st.sampled_from(["PLAIN", "LOGIN", "XOAUTH2", "SCRAM-SHA-256"]),
    st.lists(st.one_of(st.binary(max_size=60), st.from_regex(rb"r=n[!-+]{0,9},s=AAAA,i=4[0-9]{3}")),
             max_size=4),
)  # fmt: skip
@settings(max_examples=100)
def test_any_challenges(name: str, challenges: list[bytes]) -> None:
    """A server gets an answer or a SaslFailure, and no login ends well without the protocol."""
    credential = Credential("anna", "s3cret", "t0ken")
    exchange = choose([name], credential, is_confidential=True, make_nonce=lambda: b"n")
    assert exchange is not None
    failure = ""
    try:
        exchange.initial()
        for challenge in challenges:
            work = exchange.prepare(challenge)
            if work is not None:
                work()
            answer = exchange.respond(challenge)
            assert name != "SCRAM-SHA-256" or b"s3cret" not in answer
        exchange.finish(b"")
    except SaslFailure as error:
        failure = str(error)
    assert failure or name != "SCRAM-SHA-256"
    assert "s3cret" not in failure
    assert "t0ken" not in failure
