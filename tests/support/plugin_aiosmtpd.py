"""A pytest plug-in that points aiosmtpd's own test_smtp.py at a server that already runs.

    FASTMTA_SUITE_PORT=2525 python -m pytest -p tests.support.plugin_aiosmtpd .../test_smtp.py

Its `Controller` is replaced by one that starts nothing, and its expected replies equal every reply
of the same class (first digit). Left out is what looks into aiosmtpd itself or at its texts: AUTH,
HELP, lists of extensions, its handlers and their limits. What came of each test goes to the file
FASTMTA_SUITE_RESULTS as JSON.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import types
from pathlib import Path
from typing import Any

import aiosmtpd.controller
import pytest
from aiosmtpd.testing.statuscodes import StatusCode

_PORT = "FASTMTA_SUITE_PORT"
_RESULTS = "FASTMTA_SUITE_RESULTS"
_LEFT_OUT = re.compile(
    r"::(TestProtocol|TestSMTPAuth|TestAuth\w*|TestRequiredAuthentication|TestResetCommands"
    r"|TestCustomization|TestLimits|TestTimeout|TestSanitize|TestStrictASCII|TestSleepingHandler)::"
    r"|::test_(help\w*|ehlo|custom\w*|exception\w*|unexpected\w*|process\w*|bad_encodings"
    r"|dots_escaped|long_line_leak|esmtp_no_size_limit|mail_with_compatible_smtputf8)(\[|$)"
)
_outcomes: dict[str, str] = {}


class _RunsAlready:
    """In place of aiosmtpd's Controller."""

    def __init__(self, handler: Any, *_: Any, **__: Any) -> None:
        self.handler = handler
        self.hostname = "127.0.0.1"
        self.port = int(os.environ[_PORT])
        self.smtpd = None

    def start(self) -> None:
        """It runs already."""

    def stop(self) -> None:
        """It runs on."""


def _is_same_class(expected: Any, reply: Any) -> bool:
    if not isinstance(reply, tuple):
        return False
    return bool(expected.code // 100 == reply[0] // 100)


def _resource_filename(package: str, name: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / name)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Before any of its modules is imported."""
    aiosmtpd.controller.Controller = _RunsAlready  # type: ignore[misc, assignment]  # see above
    StatusCode.__eq__ = _is_same_class  # type: ignore[method-assign]  # see above
    if importlib.util.find_spec("pkg_resources") is None:  # newer setuptools has no such module
        stand_in = types.ModuleType("pkg_resources")
        vars(stand_in)["resource_filename"] = _resource_filename
        sys.modules["pkg_resources"] = stand_in


def pytest_configure(config: pytest.Config) -> None:
    """Its markers, which its own configuration would have declared."""
    for marker in ("client_data", "controller_data", "handler_data"):
        config.addinivalue_line("markers", marker)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only what can be asked of any server."""
    items[:] = [item for item in items if not _LEFT_OUT.search(item.nodeid)]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """The worst of set-up and call; a client that cannot say QUIT any more is no failure."""
    if report.when == "call" or (report.when == "setup" and report.failed):
        name = report.nodeid.partition("::")[2]
        _outcomes[name] = report.outcome


def pytest_sessionfinish() -> None:
    Path(os.environ[_RESULTS]).write_text(json.dumps(_outcomes))
