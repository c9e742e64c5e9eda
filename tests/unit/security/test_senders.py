"""Who may send as whom."""

from pathlib import Path

import pytest

from fastmta.security.senders import Senders, SenderSource, parse_senders
from fastmta.smtp import Problem, parse_mail

FILE = b"""# senders
boss@example.com alice@example.com,bob
@example.org\tcarol, dave

Mixed@Example.NET\talice@example.com
"""


def parse(octets: bytes) -> tuple[dict[bytes, frozenset[str]], list[str]]:
    warned: list[str] = []
    return parse_senders(octets, "senders", warned.append), warned


RULES, _ = parse(FILE)


def test_file_is_read_whole() -> None:
    rules, warned = parse(FILE)
    assert warned == []
    assert rules == {
        b"boss@example.com": {"alice@example.com", "bob"},
        b"@example.org": {"carol", "dave"},
        b"mixed@example.net": {"alice@example.com"},
    }


@pytest.mark.parametrize(
    ("login", "path", "expected"),
    [
        ("bob", b"boss@example.com", True),
        ("alice@example.com", b"boss@example.com", True),
        ("carol", b"boss@example.com", False),
        ("", b"boss@example.com", False),
        ("carol", b"BOSS@example.com", False),
        ("bob", b"BoSS@example.com", True),
        ("carol", b"any@example.org", True),
        ("bob", b"any@example.org", False),
        ("", b"any@example.org", False),
        ("bob", b"any@sub.example.org", True),
        ("alice@example.com", b"MIXED@example.net", True),
        ("bob", b"mixed@example.net", False),
        ("bob", b"unlisted@example.com", True),
        ("", b"unlisted@example.com", True),
        ("bob", b"", True),
        ("", b"", True),
        ("bob", b"local@", True),
    ],
)
def test_listed_senders_belong_to_their_logins(login: str, path: bytes, expected: bool) -> None:
    assert Senders(RULES, is_strict=False).may(login, path) is expected


@pytest.mark.parametrize(
    ("login", "path", "expected"),
    [
        ("bob", b"boss@example.com", True),
        ("bob", b"unlisted@example.com", False),
        ("bob", b"bob@", False),
        ("bob", b"bob", False),
        ("bob@example.com", b"bob@example.com", True),
        ("bob@example.com", b"Bob@example.com", True),
        ("bob@example.com", b"bob@example.com.evil.test", False),
        ("bob@example.com", b"alice@example.com", False),
        ("boss@example.com", b"boss@example.com", False),
        ("bob@example.com", b"", True),
        ("", b"unlisted@example.com", True),
        ("", b"boss@example.com", False),
        ("j\u00f6rg@example.com", "j\u00f6rg@example.com".encode(), True),
        ("j\u00f6rg@example.com", b"j\xf6rg@example.com", False),
        ("bob@b\u00fccher.example", b"bob@xn--bcher-kva.example", True),
        ("bob@xn--bcher-kva.example", b"bob@xn--bcher-kva.example", True),
        ("bob@b\u00fccher.example", b"bob@bucher.example", False),
    ],
)
def test_strict_login_sends_as_itself_only(login: str, path: bytes, expected: bool) -> None:
    assert Senders(RULES, is_strict=True).may(login, path) is expected


def test_address_wins_over_its_domain() -> None:
    rules, _ = parse(b"@example.com all\npress@example.com press\n")
    senders = Senders(rules, is_strict=False)
    assert senders.may("press", b"press@example.com")
    assert not senders.may("all", b"press@example.com")
    assert senders.may("all", b"other@example.com")


def test_domain_in_its_own_script_is_that_of_reverse_paths() -> None:
    """And a local part in another composition is the same one, as in reverse-paths."""
    rules, warned = parse(
        "@b\u00fccher.example carol\njo\u0308rg@m\u00fcnchen.example dave\n".encode()
    )
    assert warned == []
    senders = Senders(rules, is_strict=False)
    for problem, path, _ in (
        parse_mail("FROM:<x@B\u00dcCHER.example> SMTPUTF8".encode(), True),
        parse_mail(b"FROM:<x@xn--bcher-kva.example>", True),
    ):
        assert problem == Problem.NONE
        assert senders.may("carol", path)
        assert not senders.may("bob", path)
    _, path, _ = parse_mail("FROM:<j\u00f6rg@m\u00fcnchen.example> SMTPUTF8".encode(), True)
    assert senders.may("dave", path)
    assert not senders.may("bob", path)


def test_sender_on_two_lines_belongs_to_both() -> None:
    rules, _ = parse(b"a@x.test one\nA@x.test two\n")
    assert rules == {b"a@x.test": {"one", "two"}}


@pytest.mark.parametrize(
    "line",
    [
        b"boss bob",
        b"*@example.com bob",
        b"a*@example.com bob",
        b"boss@ bob",
        b"@ bob",
        b"boss@a..b bob",
        b"<boss@example.com> bob",
        b"boss@example.com> bob",
        "@\u00fc\u0600.example bob".encode(),
        ("@" + "\u00fc" * 64 + ".example bob").encode(),
        b"\xff@x bob",
        b"x@y.test " + b"a" * 5000,
    ],
)
def test_bad_sender_is_told_and_the_others_count(line: bytes) -> None:
    rules, warned = parse(b"a@x.test one\n" + line + b"\nb@x.test two\n")
    assert set(rules) == {b"a@x.test", b"b@x.test"}
    assert len(warned) == 1
    assert warned[0].startswith("senders:2: ")


@pytest.mark.parametrize("logins", [b"", b" ", b" ,", b" bad\x01name", b" bob,bad\x01name"])
def test_sender_with_bad_logins_belongs_to_nobody(logins: bytes) -> None:
    rules, warned = parse(b"boss@example.com" + logins + b"\n")
    assert rules == {b"boss@example.com": frozenset()}
    assert len(warned) == 1
    assert not Senders(rules, is_strict=False).may("bob", b"boss@example.com")


def test_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "senders"
    path.write_text("boss@example.com bob\n")
    warned: list[str] = []
    source = SenderSource(str(path), warned.append, is_strict=False)
    assert source.current(0.0).may("bob", b"boss@example.com")
    path.write_text("boss@example.com alice\n")
    assert not source.current(2.0).may("bob", b"boss@example.com")
    path.write_text("boss@example.com alice,bob\n")
    assert not source.current(2.5).may("bob", b"boss@example.com")  # looked at not long ago
    assert source.current(3.5).may("bob", b"boss@example.com")
    assert warned == []


def test_file_that_is_gone_leaves_the_rules_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "senders"
    path.write_text("boss@example.com bob\n")
    warned: list[str] = []
    source = SenderSource(str(path), warned.append, is_strict=False)
    path.unlink()
    for now_s in (10.0, 20.0, 30.0):
        assert not source.current(now_s).may("eve", b"boss@example.com")
    assert warned == [f"{path}: No such file or directory: the senders stay as they were"]
    path.write_text("boss@example.com eve\n")
    assert source.current(40.0).may("eve", b"boss@example.com")


def test_no_start_without_the_rules(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        SenderSource(str(tmp_path / "none"), lambda text: None, is_strict=False)
