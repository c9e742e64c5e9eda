"""What is committed is what the schema generates, and it loads."""

import re
from pathlib import Path

import pytest

from fastmta.config import Config, load
from fastmta.config.catalogue import ENTRIES
from fastmta.config.document import DOCUMENT_PATH, SAMPLE_PATH, render_document, render_sample

ROOT = Path(__file__).parents[3]
STALE = "stale: run `python -m fastmta.config` at the top level"


def test_committed_document_is_the_generated_one() -> None:
    assert (ROOT / DOCUMENT_PATH).read_text() == render_document(), STALE


def test_committed_sample_is_the_generated_one() -> None:
    assert (ROOT / SAMPLE_PATH).read_text() == render_sample(), STALE


def test_sample_holds_every_default() -> None:
    plain = load(find_hostname=lambda: "relay.example")
    assert load(str(ROOT / SAMPLE_PATH), {}, (), lambda: "relay.example") == plain
    assert len(re.findall(r"^#?[a-z_0-9]+ = ", render_sample(), re.MULTILINE)) == len(ENTRIES)


@pytest.mark.parametrize("path", sorted((ROOT / "conf").glob("*.toml")), ids=lambda path: path.name)
def test_every_sample_loads(path: Path) -> None:
    assert isinstance(load(str(path), {}, (), lambda: "relay.example"), Config)


@pytest.mark.parametrize("dotted", sorted(ENTRIES))
def test_every_default_is_allowed_and_documented(dotted: str) -> None:
    entry = ENTRIES[dotted]
    default = entry.default
    if isinstance(default, tuple):
        default = [one if isinstance(one, int | float) else str(one) for one in default]
    assert entry.key.kind.check(default) == entry.default
    assert entry.key.doc.endswith(".")
    assert re.fullmatch(r"[a-z0-9_.*]+", dotted)
