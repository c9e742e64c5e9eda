"""Passwords: preparation, hashes, verifiers."""

import base64
import hashlib

import pytest

from fastmta.security import password as room
from fastmta.security.password import (
    COST,
    NAME_OCTETS_MAX,
    PASSWORD_OCTETS_MAX,
    BadPassword,
    dummy_hash,
    hash_password,
    make_verifier,
    parse_hash,
    parse_verifier,
    prepare_name,
    prepare_password,
    verify_password,
)
from tests.support.sasl import CHEAP

SALT = "c2FsdHNhbHRzYWx0c2FsdA"
KEY = "A" * 43


def test_hash_is_known_again_and_another_password_is_not() -> None:
    text = hash_password(b"correct horse", CHEAP)
    assert verify_password(parse_hash(text), b"correct horse")
    assert not verify_password(parse_hash(text), b"correct horsE")
    assert not verify_password(parse_hash(text), b"correct hors")
    assert text.startswith("$scrypt$ln=4,r=1,p=1$")


def test_same_password_has_another_hash_each_time() -> None:
    assert hash_password(b"x", CHEAP) != hash_password(b"x", CHEAP)


def test_new_hashes_have_the_cost_that_is_promised() -> None:
    stored = parse_hash(hash_password(b"x"))
    assert (stored.cost.ln, stored.cost.r, stored.cost.p) == (14, 8, 1)
    assert stored.cost == COST
    assert len(stored.salt) == 16


def test_vector_of_rfc_7914() -> None:
    """RFC 7914 12, the third one: N=16384, r=8, p=1; its first 32 octets."""
    salt = base64.b64encode(b"SodiumChloride").decode().rstrip("=")
    key = bytes.fromhex("7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2")
    bare = base64.b64encode(key).decode().rstrip("=")
    stored = parse_hash(f"$scrypt$ln=14,r=8,p=1${salt}${bare}")
    assert verify_password(stored, b"pleaseletmein")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        f"$scrypt$ln=14,r=8,p=1${SALT}",
        f"$scrypt$ln=14,r=8,p=1${SALT}${KEY}=",
        f"$scrypt$ln=14,r=8,p=1${SALT}${KEY}\n",
        f"$scrypt$ln=14,r=8,p=1${SALT}${KEY[1:]}",
        f"$scrypt$ln=+4,r=8,p=1${SALT}${KEY}",
        f"$scrypt$ln=0,r=8,p=1${SALT}${KEY}",
        f"$scrypt$ln=14,r=8,p=1$${KEY}",
        f"$scrypt$ln=14,r=8,p=1${SALT}é${KEY}",
        f"$argon2id$v=19$m=65536,t=3,p=4${SALT}${KEY}",
    ],
)
def test_other_forms_of_hash_are_refused(text: str) -> None:
    with pytest.raises(BadPassword, match="not a hash of the form"):
        parse_hash(text)


@pytest.mark.parametrize("cost", ["ln=17,r=8,p=1", "ln=99,r=99,p=1", "ln=14,r=8,p=5"])
def test_hash_that_would_cost_too_much_is_refused(cost: str) -> None:
    with pytest.raises(BadPassword, match="cost too much"):
        parse_hash(f"$scrypt${cost}${SALT}${KEY}")


def test_hash_that_scrypt_would_refuse_is_refused_before() -> None:
    with pytest.raises(BadPassword, match="too large for r"):
        parse_hash(f"$scrypt$ln=16,r=1,p=1${SALT}${KEY}")
    largest = parse_hash(f"$scrypt$ln=16,r=8,p=1${SALT}${KEY}")
    assert not verify_password(largest, b"x")


def test_no_password_is_that_of_a_dummy() -> None:
    dummy = dummy_hash(CHEAP)
    assert dummy.cost == CHEAP
    assert not verify_password(dummy, b"")
    assert not verify_password(dummy, b"\0")


def test_hashes_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(room.hmac, "compare_digest", compare)
    stored = parse_hash(hash_password(b"x", CHEAP))
    assert not verify_password(stored, b"y")
    assert [pair[1] for pair in compared] == [stored.key]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # RFC 4013 3
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        # spaces, composed forms, what Unicode 3.2 did not have
        ("a\u00a0b\u3000c", "a b c"),
        ("e\u0301", "\u00e9"),
        ("\U0001f40e", "\U0001f40e"),
    ],
)
def test_preparation(text: str, expected: str) -> None:
    assert prepare_password(text) == expected.encode()
    assert prepare_name(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\u00ad",
        "a\0b",
        "a\tb",
        "a\rb",
        "a\nb",
        "a\x7fb",
        "a\x85b",
        "a\u2028b",
        "a\ufdd0",
        "\ud800",
    ],
)
def test_what_neither_name_nor_password_may_have(text: str) -> None:
    with pytest.raises(BadPassword):
        prepare_password(text)
    with pytest.raises(BadPassword):
        prepare_name(text)


@pytest.mark.parametrize("text", ["a\u202eb", "a\u2066b", "a\ue000b"])
def test_name_that_a_log_would_show_wrong_is_refused(text: str) -> None:
    with pytest.raises(BadPassword):
        prepare_name(text)


def test_length_is_that_of_the_prepared_form() -> None:
    assert len(prepare_password("x" * PASSWORD_OCTETS_MAX)) == PASSWORD_OCTETS_MAX
    with pytest.raises(BadPassword, match="longer than"):
        prepare_password("x" * (PASSWORD_OCTETS_MAX + 1))
    with pytest.raises(BadPassword, match="longer than"):
        prepare_password("\ufdfa" * 40)  # 18 characters each
    assert prepare_name("x" * NAME_OCTETS_MAX)
    with pytest.raises(BadPassword, match="longer than"):
        prepare_name("x" * (NAME_OCTETS_MAX + 1))


def test_verifier_is_stored_and_read_back() -> None:
    verifier = make_verifier(b"pencil", 4096)
    text = verifier.render()
    assert text.startswith("SCRAM-SHA-256$4096:")
    assert parse_verifier(text) == verifier
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", verifier.salt, 4096)
    assert (
        verifier.server_key
        == hashlib.new(
            "sha256",
            bytes(b ^ 0x5C for b in salted.ljust(64, b"\0"))
            + hashlib.sha256(
                bytes(b ^ 0x36 for b in salted.ljust(64, b"\0")) + b"Server Key"
            ).digest(),
        ).digest()
    )


GOOD = f"{KEY}="


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"SCRAM-SHA-256$4096:{SALT}==${GOOD}",
        f"SCRAM-SHA-256$4095:{SALT}==${GOOD}:{GOOD}",
        f"SCRAM-SHA-256$99999999:{SALT}==${GOOD}:{GOOD}",
        f"SCRAM-SHA-256$+4096:{SALT}==${GOOD}:{GOOD}",
        f"SCRAM-SHA-1$4096:{SALT}==${GOOD}:{GOOD}",
        f"SCRAM-SHA-256$4096:${GOOD}:{GOOD}",
        f"SCRAM-SHA-256$4096:AAAAA${GOOD}:{GOOD}",
        f"SCRAM-SHA-256$4096:{SALT}==${GOOD}:{KEY}",
    ],
)
def test_bad_verifier_is_refused(text: str) -> None:
    with pytest.raises(BadPassword):
        parse_verifier(text)
