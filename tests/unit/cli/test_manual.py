"""The manual pages: as committed, complete, and sound in the eyes of the formatter."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fastmta.cli import main, roff
from fastmta.cli.install import NAMES
from fastmta.cli.lazy import LazyGroup
from fastmta.cli.manpostfix import PAGES
from fastmta.cli.manual import pages
from fastmta.config.catalogue import ENTRIES

ROOT = Path(__file__).parent.parent.parent.parent
MANUAL = ROOT / "docs" / "man"


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    assert isinstance(main, LazyGroup)
    return pages(main)


def test_pages_are_as_committed(made: dict[str, str]) -> None:
    committed = {str(path.relative_to(MANUAL)): path for path in MANUAL.glob("man?/*")}
    assert sorted(made) == sorted(committed), "write them anew: fastmta manual docs/man"
    for name, path in committed.items():
        assert path.read_text() == made[name], f"{name}: write it anew: fastmta manual docs/man"


def test_every_command_has_a_page_that_tells_its_options(made: dict[str, str]) -> None:
    assert isinstance(main, LazyGroup)
    ctx = click.Context(main)
    for name in main.list_commands(ctx):
        page = made[f"man1/fastmta-{name}.1"]
        command = main.get_command(ctx, name)
        inner = command.commands.values() if isinstance(command, click.Group) else [command]
        for one in inner:
            assert one is not None
            options = [one for one in one.params if isinstance(one, click.Option)]
            for option in options:
                assert roff.literal(option.opts[-1]) in page, (name, option.opts)
    for name in NAMES:
        assert f"man1/fastmta-{name}.1" in made


def test_every_key_is_in_the_page_of_the_configuration(made: dict[str, str]) -> None:
    page = made["man5/fastmta.toml.5"]
    for dotted, entry in ENTRIES.items():
        key = dotted.rpartition(".")[2]
        default = roff.literal(entry.key.kind.render(entry.default))
        assert rf"\fB{key}\fR = \fI{default}\fR" in page, dotted


def test_the_formatter_has_nothing_to_say(made: dict[str, str], tmp_path: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed (Debian: groff-base)")
    for name, text in made.items():
        (tmp_path / Path(name).name).write_text(text)
    files = sorted(str(path) for path in tmp_path.iterdir())
    found = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-P-cbou", *files], capture_output=True, text=True
    )
    assert (found.stderr, found.returncode) == ("", 0)
    for words in ("fastmta queue hold [OPTION ...]", "0      Done", "[pressure]"):
        assert words in found.stdout
    assert "\\" not in found.stdout.replace("\\n", "")


def test_the_command_writes_them(made: dict[str, str], tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["manual", str(tmp_path / "new")])
    assert (result.exit_code, result.output) == (0, "")
    written = {str(path.relative_to(tmp_path / "new")) for path in tmp_path.rglob("*.?")}
    assert written == set(made)
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["manual", str(tmp_path / "file" / "x")])
    assert result.exit_code == 75


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("say --yes, or -y", r"say \-\-yes, or \-y"),
        ("well-known", "well-known"),
        ("`a-b` it's", r"\fBa\-b\fR it's"),
        ("a\\b ~ ^ `'`", r"a\eb \(ti \(ha \fB\(aq\fR"),
    ],
)
def test_running_text(text: str, expected: str) -> None:
    assert roff.running(text) == expected


def test_no_line_looks_like_an_order() -> None:
    text = " ".join(["word"] * 17 + [".x.example", "'quoted'"] * 9)
    assert not [line for line in roff.filled(text) if line.startswith((".", "'"))]
    assert list(roff.block([".x", "", "'y"])) == [".nf", r"\&.x", r"\&", r"\(aqy", ".fi"]
    as_it_stands = "One.\n\n\b\n  a\n    b\n\nTwo."
    assert list(roff.paragraphs(as_it_stands)) == [
        "One.", ".PP", ".nf", "a", "  b", ".fi", ".PP", "Two.",
    ]  # fmt: skip


PARSED = re.compile(r'(?:read_options\(arguments, |^_KNOWN = )"([a-zA-Z:]+)"', re.MULTILINE)
PARSERS = {"sendmail": "request", "mailq": "postqueue"}  # else a module by the command's name
# These take all options of sendmail, and mean it with a few of them.
FEW = {"mailq": {"C"}, "newaliases": {"C", "o"}}
UNTOLD = {"qshape": {"h"}}  # prints the usage


@pytest.mark.parametrize("name", NAMES)
def test_pages_tell_the_options_that_the_parsers_know(name: str) -> None:
    source = ROOT / "fastmta" / "postfix" / f"{PARSERS.get(name, name)}.py"
    found = PARSED.search(source.read_text())
    assert found is not None
    known = set(found[1].replace(":", ""))
    told = set(re.findall(r"-([a-zA-Z])", " ".join(term for term, _ in PAGES[name].options)))
    if name == "sendmail":
        assert told <= known
        assert known - told <= set("ALUXcehmpnxd")  # ignored, as Postfix does, or refused
    else:
        assert told == FEW.get(name, known - UNTOLD.get(name, set()))
