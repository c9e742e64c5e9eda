"""Arguments and exit statuses; nothing is started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import fastmta
from fastmta.cli import main

GOOD = 'hostname = "relay.example"\n'
BAD = 'hostnam = "relay.example"\n[dns]\ntries = 0\n'


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    for name in [name for name in os.environ if name.startswith("FASTMTA_")]:
        monkeypatch.delenv(name)
    return CliRunner()


def test_check_of_a_good_file_says_nothing(runner: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "good.toml"
    path.write_text(GOOD)
    result = runner.invoke(main, ["check", "-c", str(path)])
    assert (result.exit_code, result.output) == (0, "")


def test_check_prints_every_problem(runner: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(BAD)
    result = runner.invoke(main, ["check", "-c", str(path)])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.split("\n") == [
        f"{path}:1: hostnam: is not a setting; did you mean hostname?",
        f"{path}:3: dns.tries: must be 1 to 10, not 0",
        "",
    ]


def test_run_never_starts_on_a_bad_configuration(runner: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(BAD)
    result = runner.invoke(main, ["run", "-c", str(path)])
    assert result.exit_code == 78
    assert "hostnam" in result.stderr


def test_flags_and_environment_are_heard(runner: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "good.toml"
    path.write_text(GOOD)
    arguments = ["check", "-c", str(path), "--set", "dns.tries=99", "--set", "dns.timeout_s=99"]
    result = runner.invoke(main, arguments, env={"FASTMTA_RETRY__FIRST_S": "x"})
    assert result.stderr.count("\n") == 3


def test_warnings_are_printed_and_do_not_fail(runner: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "bare.toml"
    path.write_text('hostname = "box"\n')
    result = runner.invoke(main, ["check", "-c", str(path)])
    assert result.exit_code == 0
    assert result.stderr.startswith(f'warning: {path}:1: hostname: "box" is not fully qualified')


def test_version(runner: CliRunner) -> None:
    assert runner.invoke(main, ["version"]).output == f"{fastmta.__version__}\n"


def test_unknown_command_is_wrong_usage(runner: CliRunner) -> None:
    assert runner.invoke(main, ["relay"]).exit_code == 2


def test_help_imports_no_room_but_cli() -> None:
    script = (
        "import sys; from fastmta.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('fastmta.')}\n"
        "assert rooms == {'cli'}, rooms\n"
        "assert 'asyncio' not in sys.modules and 'uvloop' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
