"""Postfix's names as links: ours come and go, others' files stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastmta.cli import main
from fastmta.cli.install import NAMES


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the installed commands are."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in NAMES:
        (directory / f"fastmta-{name}").touch(0o755)
    monkeypatch.setattr("sys.argv", [str(directory / "fastmta")])
    monkeypatch.setattr("sys.executable", str(directory / "python"))
    monkeypatch.setenv("PATH", str(directory))
    return directory


@pytest.fixture
def target(tmp_path: Path) -> Path:
    directory = tmp_path / "sbin"
    directory.mkdir()
    return directory


def install(target: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["install-commands", "--directory", str(target), *arguments])


def test_links_come_and_go(scripts: Path, target: Path) -> None:
    for _ in range(2):  # again changes nothing
        assert install(target).exit_code == 0
        assert sorted(os.listdir(target)) == sorted(NAMES)
        for name in NAMES:
            assert os.readlink(target / name) == str(scripts / f"fastmta-{name}")
    assert install(target, "--remove", "mailq").exit_code == 0
    assert not (target / "mailq").is_symlink()
    assert install(target, "--remove").exit_code == 0
    assert os.listdir(target) == []


def test_a_file_of_others_stays(scripts: Path, target: Path) -> None:
    (target / "sendmail").write_text("theirs")
    result = install(target, "sendmail", "mailq")
    assert result.exit_code == 1
    assert f"{target}/sendmail: is not ours and stays" in result.stderr
    assert (target / "sendmail").read_text() == "theirs"
    assert (target / "mailq").is_symlink()
    assert install(target, "--remove").exit_code == 0
    assert os.listdir(target) == ["sendmail"]


def test_force_puts_aside_and_remove_puts_back(scripts: Path, target: Path) -> None:
    (target / "sendmail").symlink_to("../lib/theirs")
    assert install(target, "--force", "--dry-run", "sendmail").exit_code == 0
    assert os.readlink(target / "sendmail") == "../lib/theirs"
    assert install(target, "--force", "sendmail").exit_code == 0
    assert os.readlink(target / "sendmail.before-fastmta") == "../lib/theirs"
    assert install(target, "--remove").exit_code == 0
    assert os.listdir(target) == ["sendmail"]
    assert os.readlink(target / "sendmail") == "../lib/theirs"


def test_what_cannot_be_done(scripts: Path, target: Path) -> None:
    (scripts / "fastmta-qshape").unlink()
    result = install(target, "qshape")
    assert (result.exit_code, os.listdir(target)) == (1, [])
    assert install(target, "--force", "--remove").exit_code == 2
    assert install(target, "postfix").exit_code == 2
    assert install(target / "none").exit_code == 73
