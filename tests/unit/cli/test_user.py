"""`fastmta user`: arguments, prompts and exit statuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastmta.cli import main


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


def run(path: Path, *arguments: str, input: str | bytes = "") -> Result:
    return CliRunner().invoke(main, ["user", *arguments, "--file", str(path)], input=input)


def test_life_of_a_user(path: Path) -> None:
    result = run(path, "add", "alice", "--stdin", input="secret\n")
    assert (result.exit_code, result.stdout) == (0, f"{path}: alice added\n")
    assert run(path, "list").stdout == "alice\n"
    assert run(path, "check", "alice", "--stdin", input="secret").stdout == "right\n"
    wrong = run(path, "check", "alice", "--stdin", input="Secret\n")
    assert (wrong.exit_code, wrong.stderr) == (1, "wrong password\n")
    again = run(path, "add", "alice", "--stdin", input="other")
    assert (again.exit_code, "--replace" in again.stderr) == (1, True)
    changed = run(path, "add", "alice", "--stdin", "--replace", "--scram", input="other")
    assert changed.stdout == f"{path}: alice changed\n"
    assert run(path, "list").stdout == "alice\tscram\n"
    assert run(path, "remove", "alice").exit_code == 0
    gone = run(path, "remove", "alice")
    assert (gone.exit_code, gone.stderr) == (1, "alice is not there\n")
    assert "secret" not in path.read_text()


def test_prompt_asks_twice_and_shows_nothing(path: Path) -> None:
    result = run(path, "add", "alice", input="secret\nsecret\n")
    assert result.exit_code == 0
    assert "secret" not in result.output
    assert run(path, "check", "alice", input="secret\n").exit_code == 0
    differs = run(path, "add", "bob", input="one\ntwo\n")
    assert differs.exit_code == 1
    assert run(path, "list").stdout == "alice\n"


@pytest.mark.parametrize(
    ("name", "password"),
    [("alice", b""), ("alice", b"\n"), ("alice", b"\xff\n"), ("a:b", b"x"), ("", b"x")],
)
def test_wrong_usage(path: Path, name: str, password: bytes) -> None:
    result = run(path, "add", name, "--stdin", input=password)
    assert result.exit_code == 2
    assert not path.exists()


def test_password_keeps_its_spaces(path: Path) -> None:
    run(path, "add", "alice", "--stdin", input=b" two  words \r\n")
    assert run(path, "check", "alice", "--stdin", input=" two  words ").exit_code == 0
    assert run(path, "check", "alice", "--stdin", input="two  words").exit_code == 1


def test_file_that_cannot_be_read(path: Path) -> None:
    for arguments in (["list"], ["check", "alice", "--stdin"]):
        result = run(path, *arguments, input="x")
        assert (result.exit_code, result.stderr) == (75, f"{path}: No such file or directory\n")
    nowhere = run(path / "below", "add", "alice", "--stdin", input="x")
    assert nowhere.exit_code == 75


def test_file_with_bad_lines_is_listed_and_told(path: Path) -> None:
    path.write_text("nonsense\n")
    result = run(path, "list")
    assert (result.exit_code, result.stderr) == (1, f"{path}:1: not name:hash\n")


def test_file_of_the_configuration(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FASTMTA_")]:
        monkeypatch.delenv(name)
    runner, toml = CliRunner(), path.parent / "fastmta.toml"

    def ask(*arguments: str) -> Result:
        return runner.invoke(main, ["user", *arguments], input="secret\n")

    toml.write_text(f'hostname = "a.example"\n[auth]\naccounts_file = "{path}"\n')
    added = ask("add", "alice", "--stdin", "-c", str(toml))
    assert (added.exit_code, added.stdout) == (0, f"{path}: alice added\n")
    monkeypatch.setattr("fastmta.cli.option.DEFAULT_FILE", str(toml))
    assert ask("list").stdout == "alice\n"
    assert ask("check", "alice", "--stdin").stdout == "right\n"
    other = path.parent / "other"
    wins = ask("add", "bob", "--stdin", "-c", str(toml), "--file", str(other))
    assert wins.stdout == f"{other}: bob added\n"
    monkeypatch.setenv("FASTMTA_AUTH__ACCOUNTS_FILE", str(other))
    assert ask("list").stdout == "bob\n"


def test_configuration_without_a_users_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml = path.parent / "fastmta.toml"
    toml.write_text('hostname = "a.example"\n')
    monkeypatch.setattr("fastmta.cli.user.DEFAULT_USERS", str(path))
    named = CliRunner().invoke(main, ["user", "list", "-c", str(toml)])
    assert (named.exit_code, "auth.accounts_file is not set" in named.stderr) == (2, True)
    monkeypatch.setattr("fastmta.cli.option.DEFAULT_FILE", str(toml))
    unnamed = CliRunner().invoke(main, ["user", "list"])
    assert (unnamed.exit_code, unnamed.stderr) == (75, f"{path}: No such file or directory\n")
    toml.write_text("[auth]\naccounts_file = 3\n")
    wrong = CliRunner().invoke(main, ["user", "list", "-c", str(toml)])
    assert wrong.exit_code == 78
    assert wrong.stderr.startswith(f"{toml}:2: auth.accounts_file: ")


def test_command_in_a_process_of_its_own(path: Path) -> None:
    """Through the real standard input, and in less than a second."""
    command = [sys.executable, "-m", "fastmta", "user", "add", "alice", "--stdin"]
    done = subprocess.run(
        [*command, "--file", str(path)], input=b"secret\n", capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert path.read_text().startswith("alice:$scrypt$ln=14,r=8,p=1$")
