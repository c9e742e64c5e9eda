"""The rooms import strictly downwards, and only what the table of the design names."""

import pytest

from tests.tidy import layers
from tests.tidy.source import Finding, Source, assert_clean, extension_files, package_files


def compiled() -> list[Source]:
    return [source for source in extension_files() if not source.path.startswith("ext/pxd/")]


def found(check: object, path: str, text: str) -> list[Finding]:
    assert callable(check)
    return list(check(Source(path, text)))


def test_rooms_import_only_what_the_table_names() -> None:
    sources = package_files() + compiled()
    assert_clean(one for source in sources for one in layers.check_table(source))


def test_pure_rooms_import_nothing_impure() -> None:
    sources = package_files() + compiled()
    assert_clean(one for source in sources for one in layers.check_pure(source))


def test_private_modules_stay_in_their_room() -> None:
    sources = package_files() + compiled()
    assert_clean(one for source in sources for one in layers.check_private(source))


def test_every_import_is_a_statement() -> None:
    checked = [source for source in package_files() if source.room != "hooks"]
    assert_clean(one for source in checked for one in layers.check_dynamic(source))


def test_every_module_is_imported_by_another() -> None:
    assert_clean(layers.unused_modules(package_files()))


def test_table_leads_strictly_downwards() -> None:
    for room, allowed in layers.ALLOWED.items():
        for other in allowed - {"daemon"} if room == "lab" else allowed:
            assert layers.RANKS[other] < layers.RANKS.get(room, 0), (room, other)
    assert set(layers.ALLOWED) - {"__init__"} == set(layers.RANKS)
    assert set(layers.RANKS) >= layers.PURE_ROOMS


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("fastmta/scheduler/a.py", "from fastmta.delivery import Client"),
        ("fastmta/scheduler/a.py", "from fastmta import delivery"),
        ("fastmta/scheduler/a.py", "from ..delivery.client import Client"),
        ("fastmta/scheduler/a.py", "from .. import delivery"),
        ("fastmta/scheduler/deep/a.py", "from ...delivery import Client"),
        ("fastmta/scheduler/a.py", "def f():\n    import fastmta.delivery.client"),
        ("fastmta/smtp/a.py", "import fastmta.message"),
        ("fastmta/listener/a.py", "from fastmta.config import Config"),
        ("fastmta/session/a.py", "if TYPE_CHECKING:\n    from ..listener import x"),
        ("fastmta/lab/a.py", "from fastmta.daemon.worker import Worker"),
        ("fastmta/cli/a.py", "from fastmta.spool import Spool"),
        ("ext/smtp/a.pyx", "from fastmta.message import Envelope"),
        ("fastmta/stray.py", ""),
    ],
)
def test_upward_import_is_found(path: str, text: str) -> None:
    assert len(found(layers.check_table, path, text)) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("fastmta/scheduler/a.py", "from ..route import Site\nfrom .port import Deliver"),
        ("fastmta/daemon/a.py", "from fastmta.delivery.client import Client"),
        ("fastmta/lab/a.py", "from fastmta.daemon import run"),
        ("fastmta/smtp/a.py", "from fastmta import __version__"),
        ("fastmta/__main__.py", "from fastmta.cli import main"),
    ],
)
def test_downward_import_passes(path: str, text: str) -> None:
    assert found(layers.check_table, path, text) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("fastmta/smtp/a.py", "import os.path"),
        ("fastmta/route/a.py", "from asyncio import sleep"),
        ("fastmta/budget/a.py", "def f():\n    from time import monotonic"),
        ("ext/session/a.pyx", "import random"),
    ],
)
def test_impure_import_is_found(path: str, text: str) -> None:
    assert len(found(layers.check_pure, path, text)) == 1
    assert found(layers.check_pure, "fastmta/listener/a.py", "import os") == []


@pytest.mark.parametrize(
    "text",
    [
        "from fastmta.smtp._framing import Framing",
        "from ..smtp import _framing",
        "import fastmta.smtp._framing",
        "from fastmta.smtp.reply import _table",
    ],
)
def test_private_import_is_found(text: str) -> None:
    assert len(found(layers.check_private, "fastmta/session/a.py", text)) == 1
    assert found(layers.check_private, "fastmta/smtp/a.py", "from . import _framing") == []


@pytest.mark.parametrize("text", ["importlib.import_module('x')", "__import__('x')"])
def test_dynamic_import_is_found(text: str) -> None:
    assert len(found(layers.check_dynamic, "fastmta/smtp/a.py", text)) == 1


def test_dead_module_is_found() -> None:
    used = Source("fastmta/smtp/a.py", "")
    dead = Source("fastmta/smtp/b.py", "from .a import x")
    room = Source("fastmta/smtp/__init__.py", "")
    assert [one.path for one in layers.unused_modules([used, dead, room])] == [dead.path]
