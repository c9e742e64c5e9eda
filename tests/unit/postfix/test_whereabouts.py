"""The quick look at the configuration never says anything else than the configuration."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastmta.config import ConfigError, load
from fastmta.config.glimpse import glimpse, glimpse_of
from fastmta.postfix.__main__ import main
from fastmta.postfix.file import config_file
from fastmta.postfix.option import Fatal
from fastmta.postfix.submission import find_place
from fastmta.postfix.talk import Place
from fastmta.postfix.whereabouts import drop_directory

PLAIN = [
    "",
    'hostname = "a.b"\n',
    '[spool]\ndirectory = "/a"\n',
    '[spool]\ndirectory = "/a/"\ndurability = "os"\n[drop]\ndirectory = "/d"\n',
    '# directory = "/no"\n[drop]\ndirectory = ""\n[spool]\n  directory="/b"\r\n',
    'spool.directory = "/a"\nheaders.drop = ["bcc"]\ndrop.messages = 5\nspool.durability = "os"\n',
    '[listen.smtp]\nbind = ["127.0.0.1:0"]\n[control]\ndirectory = "/c"\n'
    '[spool]\ndirectory = "/a"\n',
]
LINES = st.sampled_from(
    [
        *("[spool]", "[drop]", "[ spool ]", "[spool] # x", "[control]", "[[route]]", '["spool"]'),
        *('directory = "/a"', 'directory = "/b" # x', "directory = '/c'", 'directory = ""'),
        *('"directory" = "/d"', 'directory = "/e\\u0041"', 'directory = """/f"""', "directory"),
        *('spool.directory = "/g"', 'spool = { directory = "/h" }', 'durability = "os"', "x = ["),
        *('spool . directory = "/j"', '"spool".directory = "/k"', 'drop.directory = "/l"'),
        *('  ["a"],', "]", "# directory = ", 'hostname = "a.b"', "directory = 7", "directory=/i"),
    ]
)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTMTA_CONFIG", raising=False)


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_plain_is_seen(tmp_path: Path, text: str) -> None:
    path = tmp_path / "f.toml"
    path.write_bytes(text.encode())
    seen = glimpse(str(path), {})
    assert seen is not None
    found = drop_directory(str(path))
    assert found == seen.drop_directory or (found is None and 'directory = ""' in text)


def test_without_a_file_it_is_the_usual_place() -> None:
    seen = glimpse(None, {})
    assert seen is not None
    assert drop_directory(None) == seen.drop_directory


@pytest.mark.parametrize(
    ("command", "status"),
    [
        *((command, 75) for command in ("sendmail", "mailq", "newaliases")),
        ("postqueue -p", 69),
        *((command, 1) for command in ("postsuper -d ALL", "postcat -q X", "qshape")),
    ],
)
def test_a_file_that_is_named_and_missing_is_not_replaced_by_another(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str, status: int
) -> None:
    """With the statuses with which Postfix ends where there is no main.cf."""
    name, *arguments = command.split()
    for value in (str(tmp_path / "none.toml"), str(tmp_path), str(tmp_path / "none" / "x.toml")):
        pid = os.fork()
        if not pid:
            os.environ.update(FASTMTA_CONFIG=value, MAIL_CONFIG="/nowhere")
            sys.argv[:] = ["fastmta.postfix", name, *arguments]
            main()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status
        path = f"{value}/fastmta.toml" if value == str(tmp_path) else value
        said = capfd.readouterr().err
        assert re.fullmatch(rf"\w+: fatal: open {path}: No such file or directory\n", said), said


def test_a_file_that_may_not_be_seen_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users of the machine: mail goes to the usual place, then."""

    def deny(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "stat", deny)
    assert config_file(None, {"FASTMTA_CONFIG": "/closed/x.toml"}) == "/closed/x.toml"


def test_a_variable_leaves_it_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTMTA_CONFIG", "/x")
    assert drop_directory(None) is not None
    monkeypatch.setenv("FASTMTA_spool__directory", "/x")
    assert drop_directory(None) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.lists(LINES, max_size=6))
def test_it_agrees_or_says_nothing(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "f.toml"
    path.write_text("\n".join(lines) + "\n")
    found = drop_directory(str(path))
    if found is None:
        return
    try:
        config = load(str(path), {}, (), lambda: "a.b")
    except ConfigError:
        return  # no server runs with it
    assert found == glimpse_of(config).drop_directory


def test_a_file_that_somebody_is_writing_hides_no_server(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text('[spool]\ndirectory = "/a" # here\n[relay]\nhost = "\n')
    assert drop_directory(str(path)) is None
    place = Place(str(path))
    assert place.look() == ("/a", "/a", "/a-drop")
    assert str(find_place(str(path)).new).startswith("/a-drop/")
    with pytest.raises(Fatal, match=r"bad configuration: .*not valid TOML"):
        place.load()
    path.write_text('[spool]\ndirectory = "relative\n')
    with pytest.raises(Fatal, match="bad configuration: "):
        place.look()
