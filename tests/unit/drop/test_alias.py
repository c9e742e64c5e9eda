"""Aliases: what a name stands for, and what is said of lines that make no sense."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmta.drop.alias import Aliases, AliasFile

UNSUPPORTED = "a command or file, which is not supported"
DEBIAN = b"""# See man 5 aliases for format
mailer-daemon: postmaster
postmaster:    root
nobody: root
Root: admin@example.test,
\tsecond@example.test
www: "|/usr/bin/prog a, b", web@example.test
log: /var/log/mail
list: :include:/nowhere/list
loop: pool
pool: loop
self: self, other@example.test
back: \\back
"quoted name": x@example.test
"""


def test_a_file_as_systems_have_it() -> None:
    aliases = Aliases.parse(DEBIAN)
    admins = ([b"admin@example.test", b"second@example.test"], [])
    assert aliases.expand(b"root") == admins
    assert aliases.expand(b"Mailer-Daemon") == admins
    assert aliases.expand(b"unknown") is None
    assert aliases.expand(b"www") == ([b"web@example.test"], [UNSUPPORTED])
    assert aliases.expand(b"log") == ([], [UNSUPPORTED])
    assert aliases.expand(b"list") == ([], [":include:/nowhere/list: No such file or directory"])
    assert aliases.expand(b"loop") == ([], [])
    assert aliases.expand(b"self") == ([b"self", b"other@example.test"], [])
    assert aliases.expand(b"back") == ([b"back"], [])
    assert aliases.expand(b"quoted name") == ([b"x@example.test"], [])
    assert len(aliases.problems) == 2
    assert "line 7: " in aliases.problems[0]


def test_lines_that_make_no_sense_are_named_and_skipped() -> None:
    aliases = Aliases.parse(b" lost\nno colon\na: b@x.test\na: c@x.test\nempty:\r\n:x\n")
    assert aliases.expand(b"a") == ([b"b@x.test"], [])
    assert [text.partition(":")[0] for text in aliases.problems] == [
        *("line 1", "line 2", "line 4", "line 5", "line 6")
    ]


def test_an_explosion_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [b"a%d: a%d, a%d, %d@x.test\n" % (n, n + 1, n + 2, n) for n in range(3000)]
    found = Aliases.parse(b"".join(lines)).expand(b"a0")
    assert found is not None
    assert (len(found[0]), found[1]) == (3002, [])
    monkeypatch.setattr("fastmta.drop.alias.EXPANSION_MAX", 1000)
    found = Aliases.parse(b"".join(lines)).expand(b"a0")
    assert found is not None
    assert len(found[0]) == 1000
    assert found[1] == ["more than 1000 addresses, not all of which get it"]


@given(st.binary(max_size=300))
def test_anything_can_be_parsed(octets: bytes) -> None:
    aliases = Aliases.parse(octets)
    for name in aliases.targets:
        aliases.expand(name)


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "aliases"
    file = AliasFile(str(path))
    assert file.read().targets == {}
    path.write_bytes(b"a: b@x.test\n")
    assert file.read().expand(b"a") == ([b"b@x.test"], [])
    assert file.read() is file.read()
    path.write_bytes(b"a: cc@x.test\n")
    assert file.read().expand(b"a") == ([b"cc@x.test"], [])
    os.unlink(path)
    assert file.read().targets == {}
    path.mkdir()
    assert file.read().targets == {}
    assert file.trouble
