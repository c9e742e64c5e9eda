"""What commands look at without the schema: never another answer than the schema's."""

import subprocess
import sys
from pathlib import Path

import pytest

from fastmta.config import ConfigError, load
from fastmta.config.catalogue import ENTRIES
from fastmta.config.glimpse import (
    KEYS,
    LOG_KEYS,
    Glimpse,
    glimpse,
    glimpse_of,
    guess,
    guess_log,
    log_glimpse_of,
)

FILES = [
    "",
    'hostname = "a.example"\n',
    '[spool]\ndirectory = "/a"\n',
    'spool.directory = "/a"\ncontrol = { directory = "/b" }\n',
    '[spool]\r\n"directory" = "/\\u0061"\r\n[control]\r\ndirectory = ""\r\n',
    '[control]\ndirectory = "/run/x"\n[listen.smtp]\nbind = "127.0.0.1:2525"\n',
    '"spool.directory" = "/quoted"\n',
    '[spool]\ndirectory = "relative"\n',
    "[spool]\ndirectory = 7\n",
    '[drop]\ndirectory = "/d"\n[spool]\ndirectory = "/a/"\n',
    '[drop]\ndirectory = ""\n',
    '[spool]\ndirectory = ["/a"]\n',
    'spool = "/a"\n',
    'spool = [{ directory = "/a" }]\n',
    '[[spool]]\ndirectory = "/a"\n',
    '[spool\ndirectory = "/a"\n',
    '[control]\ndirectory = "/a"\ndirectory = "/b"\n',
]
ENVIRONMENTS: list[dict[str, str]] = [
    {},
    {"FASTMTA_SPOOL__DIRECTORY": "/env"},
    {"FASTMTA_SPOOL__DIRECTORY": ""},
    {"FASTMTA_CONTROL__DIRECTORY": ""},
    {"FASTMTA_CONTROL__DIRECTORY": "/env", "FASTMTA_SPOOL": "/no", "OTHER__X": "1"},
    {"FASTMTA_SPOOL__DIRECTORY": "/upper", "FASTMTA_spool__directory": "/lower"},
    {"FASTMTA_Control__Directory": "/odd"},
    {"FASTMTA_SPOOL__DIRECTORY_FILE": "FILE"},
    {"FASTMTA_SPOOL__DIRECTORY_FILE": "FILE", "FASTMTA_SPOOL__DIRECTORY": "/both"},
]
FLAGS = [
    (),
    ("spool.directory=/flag",),
    ("control.directory=/c", " control.directory =/d"),
    ("control.directory=",),
    ("spool.directory=",),
    ("spool.directory",),
    ("spool.directory=/a=b",),
    ("workers.count=1",),
]


@pytest.mark.parametrize("text", FILES)
def test_it_says_what_the_schema_says_or_nothing(tmp_path: Path, text: str) -> None:
    path, secret = tmp_path / "f.toml", tmp_path / "secret"
    path.write_bytes(text.encode())
    secret.write_text("/secret\n")
    answers = 0
    for environ in ENVIRONMENTS:
        environ = {name: str(secret) if v == "FILE" else v for name, v in environ.items()}
        for flags in FLAGS:
            seen = glimpse(str(path), environ, flags)
            try:
                said: Glimpse | None = glimpse_of(load(str(path), environ, flags, lambda: "a.b"))
            except ConfigError:
                said = None
            assert seen is None or seen == said
            answers += seen is not None
    assert answers == 0 or answers >= 20  # plain things are seen


def test_what_it_answers_is_most() -> None:
    spool = "/var/lib/fastmta"
    assert glimpse(None, {}) == (spool, spool, f"{spool}-drop")
    assert glimpse(None, {"FASTMTA_SPOOL__DIRECTORY": "/e"}, ["control.directory=/c"]) == (
        *("/e", "/c", "/e-drop"),
    )
    assert glimpse(None, {"FASTMTA_DROP__DIRECTORY": "/d"}) == (spool, spool, "/d")


def test_other_keys_are_not_judged(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text('nonsense = 1\n[spool]\ndirectory = "/a"\ndurability = "none"\n')
    assert glimpse(str(path), {}) == ("/a", "/a", "/a-drop")
    assert glimpse(str(tmp_path / "missing"), {}) is None


def test_a_file_that_somebody_is_writing_is_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text(
        '[spool]\n directory = "/a" # here\n[control]\ndirectory = "/c"\n[relay]\nhost = "\n'
    )
    assert glimpse(str(path), {}) is None
    assert guess(str(path), {}) == ("/a", "/c", "/a-drop")
    assert guess(str(path), {"FASTMTA_SPOOL__DIRECTORY": "/e"}) == ("/e", "/c", "/e-drop")
    path.write_text("hostname = \"\nspool.directory = '/b'\n")
    assert guess(str(path), {}) == ("/b", "/b", "/b-drop")
    path.write_text("[spool]\ndirectory = relative\n")
    assert guess(str(path), {}) is None
    assert guess(str(tmp_path / "missing"), {}) is None


def test_the_log_of_a_file_that_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text('[journal]\nfile = "/l" # here\njson_file = "/j"\n')
    assert guess_log(str(path), {}) == log_glimpse_of(load(str(path), {})) == ("file", "/l", "/j")
    for trouble in ('[relay]\nhost = "\n', "nonsense = 1\n"):
        path.write_text(trouble + '[journal]\ntarget = "file"\nfile = "/l"\n')
        assert guess_log(str(path), {}) == ("file", "/l", "")
        assert guess_log(str(path), {}, ["journal.file=/f"]) == ("file", "/f", "")
        environ = {"FASTMTA_JOURNAL__TARGET": "syslog"}
        assert guess_log(str(path), environ) == ("syslog", "/l", "")
    path.write_text("[journal]\nfile = relative\n")
    assert guess_log(str(path), {}) is None


def test_kinds_and_defaults_are_those_of_the_schema() -> None:
    for dotted, (kind, default) in (KEYS | LOG_KEYS).items():
        entry = ENTRIES[dotted]
        assert entry.default == default
        assert (type(kind), vars(kind)) == (type(entry.key.kind), vars(entry.key.kind))


def test_a_command_imports_little_before_it_talks_to_a_server() -> None:
    code = (
        "import sys; from fastmta.control.client import Client, ClientError; "
        "from fastmta.control.place import socket_paths; "
        "from fastmta.config.glimpse import glimpse; print(' '.join(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    heavy = {"asyncio", "uvloop", "lmdb", "dns", "click", "msgspec", "ssl", "cryptography"}
    ours = {"fastmta.config.schema", "fastmta.spool", "fastmta.scheduler", "fastmta.control.wire"}
    assert not (heavy | ours) & set(run.stdout.split())
