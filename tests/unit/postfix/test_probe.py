"""`sendmail -bv`: what is left with the server, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastmta.drop import Place, Submission
from fastmta.postfix import probe as module
from fastmta.postfix.option import EX_USAGE, Fatal
from fastmta.postfix.probe import probe
from fastmta.postfix.request import Request, read_request
from fastmta.smtp import limit


def asked(*arguments: str) -> Request:
    return read_request(("-bv", *arguments), "enqueue", lambda text: None)


def left(root: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Submission, bytes]:
    """The one file that a call leaves."""
    place = Place(str(root / "drop"))
    place.prepare()
    monkeypatch.setattr(module, "find_place", lambda config: place)
    monkeypatch.setattr("fastmta.postfix.submission.full_name", lambda: "Full Name")
    probe(asked(*arguments))
    (name,) = Path(place.new).iterdir()
    octets = name.read_bytes()
    submission, at = Submission.decode(octets)
    return submission, octets[at:].rpartition(b"\nend ")[0]


def test_a_file_with_a_content_that_says_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("-f", "Me <me@here.test>", "a@x.test, Some Body <b@x.test>", "joe", "a@x.test")
    submission, content = left(tmp_path, monkeypatch, *words)
    assert submission.sender == b"me@here.test"
    assert submission.recipients == [b"a@x.test", b"b@x.test", b"joe"]
    assert submission.options == {b"probe": b"", b"name": b"Full Name"}
    assert content == (
        b"From: me@here.test\nSubject: probe\nTo:\ta@x.test,\n\tb@x.test,\n\tjoe\n\n"
    )


def test_the_null_sender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submission, content = left(tmp_path, monkeypatch, "-f", "", "a@x.test")
    assert submission.sender == b""
    assert content == b"Subject: probe\nTo:\ta@x.test\n\n"


def test_very_many_recipients_leave_a_header_section_that_is_taken() -> None:
    many = [b"%060d@x.test" % number for number in range(limit.RECIPIENTS_MAX * 10)]
    content = module._content(b"me@here.test", many)
    assert len(content) < 70_000


@pytest.mark.parametrize("word", ["-t", "-Nnever", "-Rfull", "-v"])
def test_options_that_are_for_mail(word: str) -> None:
    """As at Postfix, whose exit status is 75 for whatever is wrong with a command line."""
    with pytest.raises(Fatal, match=f"{word[:2]} option cannot be used with -bv") as raised:
        asked(word, "a@x.test")
    assert raised.value.status == EX_USAGE


def test_without_recipients() -> None:
    with pytest.raises(Fatal, match="must be specified") as raised:
        probe(asked())
    assert raised.value.status == EX_USAGE


def test_the_last_mode_that_is_named_does_not_undo_it() -> None:
    assert asked("-bm", "a@x.test").is_verifying
