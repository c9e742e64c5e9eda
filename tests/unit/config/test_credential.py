"""Values about logins, certificates and hooks; a secret is never quoted in a problem."""

import pytest

from fastmta.config.address import TRUSTED, ExemptNetwork
from fastmta.config.credential import Credential, Credentials, Fingerprint, HookTarget, SocketPlace
from fastmta.config.kind import Kind

HEX = "0123456789abcdef" * 4
COLONS = ":".join(HEX[index : index + 2] for index in range(0, 64, 2)).upper()


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Credential(), "a:b", "a:b"),
        (Credential(), "a:b:c, d ", "a:b:c, d "),
        (Credential(), "\u00fc:\u00df", "\u00fc:\u00df"),
        (Fingerprint(), HEX, HEX),
        (Fingerprint(), COLONS, HEX),
        (HookTarget(), "", ""),
        (HookTarget(), "a:b", "a:b"),
        (HookTarget(), "a_1.b2.c:D.e", "a_1.b2.c:D.e"),
        (SocketPlace(), "", ""),
        (SocketPlace(), "/run/dovecot/auth", "/run/dovecot/auth"),
        (SocketPlace(), "Dove.example:12345", "dove.example:12345"),
        (SocketPlace(), "192.0.2.1:12345", "192.0.2.1:12345"),
        (SocketPlace(), "[::1]:12345", "[::1]:12345"),
        (ExemptNetwork(), "trusted", TRUSTED),
    ],
)
def test_good_values(kind: Kind, value: str, expected: str) -> None:
    assert kind.check(value) == expected


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        *((Credential(), value, "must be name:password, both not empty") for value in (
            "", ":", "a", "a:", ":s3cret", "a:s3cret\n", "a:s3\0cret", "a\t:s3cret", "a:s3cret\x7f",
        )),
        (Credential(), 3, "must be text in quotes: name:password"),
        (Fingerprint(), HEX[1:], "is not a SHA-256 fingerprint: 64 hex digits"),
        (Fingerprint(), HEX + "00", "is not a SHA-256 fingerprint"),
        (Fingerprint(), "g" + HEX[1:], "is not a SHA-256 fingerprint"),
        (Fingerprint(), COLONS + ":", "is not a SHA-256 fingerprint"),
        *((HookTarget(), value, "is not module:name") for value in (
            "a", ":b", "a:", "a:b:c", "a b:c", "1a:b", "a..b:c", "a:b()", "a-b:c", "\u00fc:b",
        )),
        (SocketPlace(), "run/auth", "is neither an absolute path nor host:port"),
        (SocketPlace(), "[x", "is neither an absolute path nor host:port"),
        (SocketPlace(), "host:0", "is neither an absolute path nor host:port"),
        (SocketPlace(), "dove.example", "lacks the port of an auth service"),
        (ExemptNetwork(), "Trusted", "is not a network such as 10.0.0.0/8"),
    ],
)  # fmt: skip
def test_bad_values(kind: Kind, value: object, problem: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        kind.check(value)
    assert problem in str(caught.value)
    assert "s3" not in str(caught.value)


def test_users_of_a_list_and_of_lines() -> None:
    kind = Credentials()
    assert kind.check(["a:b,c", "d:e"]) == ("a:b,c", "d:e")
    assert kind.from_text("a:b, d:e") == ("a:b", "d:e")
    assert kind.from_file("a:b, d:e\n") == ("a:b, d:e",)
    assert kind.from_text("") == kind.from_file("\n") == ()
    with pytest.raises(ValueError, match="must be name:password") as caught:
        kind.from_file("a:b\nonlyapassword\n")
    assert "onlyapassword" not in str(caught.value)
