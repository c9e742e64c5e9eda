"""The file of overrides: what is read is what was written, and what is wrong is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastmta.control.override import (
    OVERRIDES_MAX,
    Override,
    OverrideError,
    Overrides,
    name_of,
    parse_selector,
)
from fastmta.control.overridefile import (
    FILE_NAME,
    change_overrides,
    read_overrides,
)

PAUSE = Override(domain=("x.example",), is_paused=True, set_by="root", set_at_s=100.0)
LIMIT = Override(
    site=("mx.y.example",), tenant=("acme",), rate="100/min, burst 10", connections=2, until_s=500.0
)
BOTH = Overrides(shapes={name_of(PAUSE): PAUSE, name_of(LIMIT): LIMIT})


def put(*overrides: Override) -> Callable[[Overrides], Overrides]:
    """A change."""

    def change(old: Overrides) -> Overrides:
        for override in overrides:
            old = old.put(name_of(override), override)
        return old

    return change


def test_what_is_written_is_read_by_whoever_comes(tmp_path: Path) -> None:
    assert read_overrides(str(tmp_path)) == Overrides()
    assert change_overrides(str(tmp_path), put(PAUSE, LIMIT)) == BOTH
    assert read_overrides(str(tmp_path)) == BOTH
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    left = change_overrides(str(tmp_path), lambda old: old.drop(name_of(PAUSE)))
    assert list(left.shapes) == ["limit site:mx.y.example tenant:acme"]
    assert read_overrides(str(tmp_path)) == left


def test_words_for_people() -> None:
    assert (PAUSE.selector, PAUSE.effect) == ("domain:x.example", "paused")
    assert LIMIT.effect == "rate 100/min, burst 10, 2 connections"
    assert Override(site=("a",), connections=1).effect == "1 connection"
    assert not PAUSE.is_wide
    assert not LIMIT.is_wide
    for wide in (
        Override(tenant=("acme",), is_paused=True),
        Override(provider=("google",), is_paused=True),
        Override(domain=(".x.example",), is_paused=True),
        Override(site=("*",), is_paused=True),
        Override(domain=("a.example", "b.example"), is_paused=True),
    ):
        assert wide.is_wide


def test_an_end_is_an_end() -> None:
    assert BOTH.next_end_s == 500.0
    assert BOTH.at(499.9) == BOTH
    assert BOTH.at(500.0) == Overrides(shapes={name_of(PAUSE): PAUSE})
    assert BOTH.at(500.0).next_end_s is None


def test_as_a_shape() -> None:
    shape = LIMIT.shape("a name")
    assert (shape.name, shape.site, shape.tenant) == ("a name", ("mx.y.example",), ("acme",))
    assert shape.rate is not None
    assert (shape.rate.count, shape.rate.period_s, shape.rate.burst) == (100.0, 60.0, 10)
    assert (shape.connections, shape.is_paused) == (2, False)
    assert shape.until_ns == 500_000_000_000
    assert PAUSE.shape("p").until_ns == 0
    assert PAUSE.shape("p").note == "set by root at 1970-01-01 00:01 UTC"
    assert (LIMIT.origin, Override(set_by="me").origin) == ("", "set by me")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x.example", ("", "x.example")),
        ("X.Example", ("", "x.example")),
        ("domain:X.example", ("domain", "x.example")),
        ("site:(a|b).mx.example", ("site", "(a|b).mx.example")),
        ("provider:google", ("provider", "google")),
        ("tenant:Acme", ("tenant", "Acme")),
        ("[127.0.0.1]:2526", ("", "[127.0.0.1]:2526")),
        ("relay.example:587", ("", "relay.example:587")),
    ],
)
def test_selectors(text: str, expected: tuple[str, str]) -> None:
    assert parse_selector(text) == expected


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("provivder:google", "did you mean provider:google?"),
        ("Domain:x.example", "did you mean domain:x.example?"),
        ("dest:x.example", "there are site:, domain:, provider:"),
    ],
)
def test_a_mistaken_kind_is_no_domain(text: str, hint: str) -> None:
    with pytest.raises(OverrideError, match=re.escape(hint)):
        parse_selector(text)


@pytest.mark.parametrize("text", ["relay:587", "mx.example:25", "fd::1", "2001:db8::/64"])
def test_a_name_may_hold_a_colon(text: str) -> None:
    assert parse_selector(text) == ("", text)


@pytest.mark.parametrize("text", ["", "domain:", "domain:" + "x" * 301, "a\nb", "tenant:\x00"])
def test_what_is_no_selector(text: str) -> None:
    with pytest.raises(OverrideError, match="printable"):
        parse_selector(text)


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"version": 2}', "version 2 is not known here"),
        (b'{"shape": {}}', "unknown field `shape`"),
        (b'{"shapes": {"a": {"domain": ["x"], "pause": true}}}', "unknown field `pause`"),
        (b'{"shapes": {"a": {"domain": ["x"]}}}', r'shapes\["a"\]: it does nothing'),
        (b'{"shapes": {"a": {"paused": true}}}', r'shapes\["a"\]: it selects nothing'),
        (b'{"shapes": {"a": {"site": ["x"], "rate": "9/fortnight"}}}', r'shapes\["a"\]: rate: '),
        (b'{"shapes": {"a": {"site": ["x"], "connections": -1}}}', ">= 0"),
        (b'{"shapes": {"a": {"site": ["x"], "connections": 1, "until": 1e300}}}', "<= 1"),
        (b'{"shapes": {"a": {"site": [""], "connections": 1}}}', "site: '' is no value"),
        (b'{"shapes": {"": {"site": ["x"], "connections": 1}}}', "a name has"),
        (b'{"shapes": {"\xff": {}}}', "utf-8"),
        (b" " * (4 * 1024 * 1024 + 1), "more than 4194304 octets"),
    ],
)
def test_a_bad_file_is_named_with_what_to_do(tmp_path: Path, octets: bytes, said: str) -> None:
    (tmp_path / FILE_NAME).write_bytes(octets)
    with pytest.raises(OverrideError, match=said) as caught:
        read_overrides(str(tmp_path))
    assert str(caught.value).startswith(str(tmp_path / FILE_NAME))
    assert "move it away" in str(caught.value)
    with pytest.raises(OverrideError, match=said):
        change_overrides(str(tmp_path), put(PAUSE))
    assert (tmp_path / FILE_NAME).read_bytes() == octets


def test_a_change_that_makes_no_sense_changes_nothing(tmp_path: Path) -> None:
    change_overrides(str(tmp_path), put(PAUSE))
    many = [Override(domain=(f"d{number}",), connections=1) for number in range(OVERRIDES_MAX)]
    for bad in ([Override(domain=("x",), rate="often")], many):
        with pytest.raises(OverrideError):
            change_overrides(str(tmp_path), put(*bad))
    assert read_overrides(str(tmp_path)) == Overrides(shapes={name_of(PAUSE): PAUSE})


def test_no_spool_and_no_permission_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(OverrideError, match="nowhere: No such file"):
        change_overrides(str(tmp_path / "nowhere"), put(PAUSE))
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(OverrideError, match="Is a directory"):
        read_overrides(str(tmp_path))


def test_changes_of_many_processes_are_all_there(tmp_path: Path) -> None:
    code = """
import sys
from fastmta.control.override import Override
from fastmta.control.overridefile import change_overrides
for number in range(20):
    name = f"{sys.argv[2]} {number}"
    override = Override(domain=("x",), connections=1)
    change_overrides(sys.argv[1], lambda old: old.put(name, override))
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen([*command, str(number)]) for number in range(4)]
    assert [process.wait(30) for process in running] == [0] * 4
    assert len(read_overrides(str(tmp_path)).shapes) == 80


def test_who_has_the_lock_is_waited_for_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    from fastmta.control import overridefile

    monkeypatch.setattr(overridefile, "LOCK_WAIT_S", 0.05)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        with pytest.raises(OverrideError, match="somebody else is changing"):
            change_overrides(str(tmp_path), put(PAUSE))
    finally:
        os.close(fd)
    assert change_overrides(str(tmp_path), put(PAUSE)).shapes
