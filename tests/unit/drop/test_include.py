"""Lists that aliases include: who is in them, and which are not believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastmta.drop.alias import Aliases
from fastmta.drop.include import INCLUDE_OCTETS_MAX, included


def expanded(path: Path) -> tuple[list[bytes], list[str]]:
    found = Aliases.parse(b"x: :include:%b" % os.fsencode(path)).expand(b"x")
    assert found is not None
    return found


def problem(path: Path) -> str:
    addresses, (why,) = expanded(path)
    assert addresses == []
    return why.removeprefix(f":include:{path}: ")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "list"
    path.write_text("a@x.test\n")
    path.chmod(0o644)
    return path


def test_addresses_comments_names_and_lists(path: Path) -> None:
    path.write_text(
        "# a comment\n\n  a@x.test, Full Name <b@x.test>\r\nlocal\n\\nobody\n"
        f":include:{path}.more\n|command\nx"
    )
    Path(f"{path}.more").write_text("c@x.test\na@x.test\nother\n")
    aliases = Aliases.parse(
        f'list: ":include:{path}", d@x.test\nother: e@x.test\n'.encode() + b"x: list"
    )
    assert aliases.problems == []
    assert aliases.expand(b"LIST") == (
        [
            *(b"d@x.test", b"a@x.test", b"b@x.test", b"local", b"nobody", b"c@x.test"),
            b"e@x.test",
        ],
        [f":include:{path}: commands and files are not supported"],
    )


def test_a_list_is_read_when_mail_comes(path: Path) -> None:
    aliases = Aliases.parse(f"list: :include:{path}".encode())
    assert aliases.expand(b"list") == ([b"a@x.test"], [])
    path.write_text("b@x.test\n")
    assert aliases.expand(b"list") == ([b"b@x.test"], [])
    path.unlink()
    assert aliases.expand(b"list") == ([], [f":include:{path}: No such file or directory"])
    path.write_text("")
    assert aliases.expand(b"list") == ([], [])


def test_what_others_could_have_written_is_not_believed(path: Path) -> None:
    path.chmod(0o666)
    assert problem(path) == "everybody may write it"
    path.chmod(0o664)
    assert expanded(path) == ([b"a@x.test"], [])
    path.parent.chmod(0o777)
    assert problem(path) == "everybody may replace it"
    path.parent.chmod(0o1777)
    assert expanded(path) == ([b"a@x.test"], [])


def test_what_is_no_file_is_not_waited_for(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)
    assert problem(path) == "it is not a file"
    path.unlink()
    path.mkdir()
    assert problem(path) == "it is not a file"
    assert problem(Path("list")) == "it is not an absolute path"


def test_lists_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(f":include:{path}\na@x.test\n")
    assert expanded(path) == (
        [b"a@x.test"],
        [f":include:{path}: too many lists name lists"],
    )
    path.write_bytes(b"#" * (INCLUDE_OCTETS_MAX + 1))
    assert problem(path) == f"it is larger than {INCLUDE_OCTETS_MAX} octets"
    path.write_text("b@x.test\n")
    monkeypatch.setattr("fastmta.drop.include.OCTETS_MAX", 5)
    assert problem(path) == "the lists are larger than 5 octets together"
    monkeypatch.setattr("fastmta.drop.include.FILES_MAX", 0)
    assert problem(path) == "too many lists name lists"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_list_of_a_user_names_only_lists_of_that_user(path: Path) -> None:
    """Or they would see in a report what the server may read, and they may not."""
    inner = Path(f"{path}.inner")
    inner.write_text("secret@x.test\n")
    path.write_text(f":include:{inner}\n")
    os.chown(path, 1000, 1000)
    why = f":include:{inner}: it does not belong to the owner of the list that names it"
    assert expanded(path) == ([], [why])
    os.chown(inner, 1000, 1000)
    assert expanded(path) == ([b"secret@x.test"], [])


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_user_leads_nobody_to_files_of_others(path: Path) -> None:
    """A key would become addresses, and a report to that user would name them."""
    why = "others than its owner have a directory or a link on the way to it"
    home = path.parent / "home"
    home.mkdir()
    os.chown(home, 1000, 1000)
    (home / "list").symlink_to(path)
    assert problem(home / "list") == why
    (home / "list").unlink()
    os.link(path, home / "list")
    assert problem(home / "list") == why
    through = path.parent / "through"  # root's, by way of what is the user's
    through.symlink_to(home / "list")
    assert problem(through) == why
    os.chown(path, 1000, 1000)
    assert expanded(through) == ([b"a@x.test"], [])
    (home / "list").unlink()
    (home / "list").symlink_to("list")
    assert problem(home / "list") == "Too many levels of symbolic links"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_link_in_a_directory_for_everybody_is_its_owners(path: Path) -> None:
    path.parent.chmod(0o1777)
    link = Path(f"{path}.link")
    link.symlink_to(path.name)
    assert expanded(link) == ([b"a@x.test"], [])
    os.lchown(link, 1000, 1000)
    assert problem(link) == "others than its owner have a directory or a link on the way to it"


def test_words_that_are_no_lists() -> None:
    assert included(b"include@x.test") is None
    assert included(b' ":include:/a b" ') == b"/a b"
    assert included(b':INCLUDE:"/a b"') == b"/a b"
    assert included(b'"') is None
