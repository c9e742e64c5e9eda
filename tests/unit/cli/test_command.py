"""Arguments and exit statuses; nothing is started."""

import errno
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


def test_check_tries_what_a_start_would(runner: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "sub.toml"
    gone = tmp_path / "gone"
    path.write_text(
        f'hostname = "a.example"\n[spool]\ndirectory = "{tmp_path}/spool"\n'
        f'[listen.sub]\nbind = "127.0.0.1:2587"\nkind = "submission"\n'
        f'[auth]\naccounts_file = "{gone}"\n'
    )
    result = runner.invoke(main, ["check", "-c", str(path)])
    text = (
        f"{path}:8: auth.accounts_file: {gone}: No such file or directory: its users cannot log in"
    )
    assert (result.exit_code, result.stderr) == (0, f"warning: {text}\n")
    for settings, text in (
        ([f"auth.senders_file={gone}"], f"auth.senders_file: {gone}: No such file or directory\n"),
        (
            [f"tls.certificate={gone}"],
            f"tls.certificate: {gone}: not found: no certificate there\n",
        ),
        (["tls.ciphers=NONE"], "tls.ciphers: TLS ciphers 'NONE': OpenSSL knows none\n"),
        (["auth.hook=nosuch:x"], "auth.hook: nosuch:x: ModuleNotFoundError: No module named "),
    ):
        flags = [each for setting in settings for each in ("--set", setting)]
        result = runner.invoke(main, ["check", "-c", str(path), *flags])
        assert result.exit_code == 1
        assert result.stderr.startswith(f"--set: {text}")
    assert os.listdir(tmp_path) == ["sub.toml"]


def test_check_names_all_that_a_start_would_trip_over(runner: CliRunner, tmp_path: Path) -> None:
    path, gone = tmp_path / "out.toml", tmp_path / "gone"
    path.write_text(
        f'hostname = "a.example"\n[relay]\nhost = "[a.b]:587"\nusername = "u"\n'
        f'password_file = "{gone}"\nca_file = "{gone}"\n'
        f'[relays.x]\nhost = "[a.b]:587"\nusername = "u"\npassword_file = "{gone}"\n'
        f'[[tls_policy]]\nmx = "a.b"\nlevel = "verify"\nca_file = "{gone}"\n'
        f'[delivery]\nreply_rules = "{gone}"\n'
    )
    result = runner.invoke(main, ["check", "-c", str(path)])
    assert result.exit_code == 1
    assert result.stderr.split("\n") == [
        f"{path}:5: relay.password_file: {gone}: No such file or directory",
        f"{path}:10: relays.x.password_file: {gone}: No such file or directory",
        f"{path}:16: delivery.reply_rules: {gone}: No such file or directory",
        f"{path}:6: relay.ca_file: {gone}: not found: no certificate there",
        f"{path}:14: tls_policy.1.ca_file: {gone}: not found: no certificate there",
        "",
    ]


def test_check_warns_of_a_directory_that_is_not_there(runner: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "out.toml"
    path.write_text(
        'hostname = "a.example"\n[[route]]\nrecipient = "a.b"\nto = "file:/nosuch/dir"\n'
        f'[[route]]\nrecipient = "c.d"\nto = "file:{tmp_path}"\n'
    )
    result = runner.invoke(main, ["check", "-c", str(path)])
    text = "route.1.to: there is no directory /nosuch/dir: its mail waits for it"
    assert (result.exit_code, result.stderr) == (0, f"warning: {path}:4: {text}\n")


def test_run_of_what_cannot_start_ends_with_78(runner: CliRunner, tmp_path: Path) -> None:
    """In a process of its own; before there are workers."""
    arguments = [
        *("--set", f"spool.directory={tmp_path}/spool"),
        *("--set", "listen.sub.bind=127.0.0.1:0", "--set", "listen.sub.kind=submission"),
        *("--set", "hostname=a.example", "--set", "auth.users=a:b"),
        *("--set", "auth.senders_file=/nosuch", "--set", "workers.count=1"),
    ]
    command = [sys.executable, "-m", "fastmta", "run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    text = "fastmta: --set: auth.senders_file: /nosuch: No such file or directory\n"
    assert (done.returncode, done.stderr, done.stdout) == (78, text, "")
    assert sorted(os.listdir(tmp_path / "spool")) == ["secret", "tls"]


def test_what_only_a_worker_finds_ends_the_start_and_begins_no_shard(tmp_path: Path) -> None:
    """A module that can be imported once, which is in the trial."""
    seen = tmp_path / "seen"
    (tmp_path / "once.py").write_text(
        f"import pathlib\npathlib.Path({str(seen)!r}).touch(exist_ok=False)\n"
        "class Handler:\n    pass\n"
    )
    keys = {
        "spool.directory": f"{tmp_path}/spool",
        "listen.smtp.bind": "127.0.0.1:0",
        "hostname": "a.example",
        "hooks.aiosmtpd": "once:Handler",
        "hooks.directories": str(tmp_path),
        "journal.file": f"{tmp_path}/log",
        "workers.count": "1",
    }
    flags = [each for key, value in keys.items() for each in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "fastmta", "run", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 78
    text = 'fastmta: worker 0: hooks.aiosmtpd: "once:Handler": cannot import once: FileExistsError'
    assert done.stderr.startswith(text)
    assert "starting it again" not in done.stderr
    assert "hooks.aiosmtpd" in (tmp_path / "log").read_text()
    assert sorted(os.listdir(tmp_path / "spool")) == ["secret", "tls"]


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


def test_a_broken_file_that_names_no_directory_is_complained_of(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would look as if no server ran, wherever it is."""
    monkeypatch.setenv("FASTMTA_SPOOL__DIRECTORY", str(tmp_path / "usual"))
    path = tmp_path / "broken.toml"
    path.write_text("[[[\n")
    for words, status in ((["healthcheck"], 1), (["status"], 3), (["reload"], 3), (["drain"], 3)):
        result = runner.invoke(main, [*words, "-c", str(path)])
        assert result.exit_code == status
        problem, said = result.stderr.split("\n")[:2]
        assert problem.startswith(f"warning: {path}:1: not valid TOML: ")
        assert said.startswith("fastmta: no server runs")


def test_a_healthcheck_fails_with_1_whatever_the_reason(runner: CliRunner, tmp_path: Path) -> None:
    """Docker knows 0 and 1."""
    result = runner.invoke(main, ["healthcheck", "-c", str(tmp_path / "missing")])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)


def test_a_place_in_a_list_is_checked(runner: CliRunner) -> None:
    for words in (["queue", "list"], ["queue", "search", "to:x"]):
        result = runner.invoke(main, [*words, "--after", "bogus"])
        assert result.exit_code == 2
        assert "SHARD/ID is expected" in result.stderr


@pytest.mark.parametrize(
    "words",
    [["queue", "list"], ["top", "--once"], ["log", "tail"], ["dest", "list"], ["explain", "x"]],
)
def test_those_who_may_not_are_told_so(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """Not that no server runs, and not by a traceback."""

    def closed(*arguments: object) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    # This one first: it may only now be imported, with what the other one has then.
    monkeypatch.setattr("fastmta.cli.live.socket_paths", closed)
    monkeypatch.setattr("fastmta.control.place.socket_paths", closed)
    result = runner.invoke(main, [*words, "--set", f"spool.directory={tmp_path}"])
    text = f"{tmp_path}: Permission denied: be root, the server's user, or one of control.users"
    assert (result.exit_code, result.output) == (77, f"fastmta: {text}\n")
