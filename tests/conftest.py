"""Rules for every test: compiled modules are rebuilt first, and a skip can be a failure.

Environment: FASTMTA_NO_SKIP=1 turns each skip whose reason starts with "needs" into a failure (set
by `.ci/run` where everything can be installed); FASTMTA_NO_BUILD=1 trusts the modules as they are.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support.long import LongRun

ROOT = Path(__file__).parent.parent
BUILD_LOCK = Path(tempfile.gettempdir()) / "fastmta-build.lock"
MARKERS = (
    "long: random harness of `make test-long`; not part of `make test`",
    "interop: talks to another program (Postfix, swaks)",
)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers and rebuild what is compiled, once per run; a failed build ends it."""
    settings.register_profile("fastmta", deadline=None)  # a busy machine is not a failure
    settings.load_profile("fastmta")
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    is_distributed = hasattr(config, "workerinput")  # the process that started us has built
    if is_distributed or os.environ.get("FASTMTA_NO_BUILD") == "1":
        return
    with BUILD_LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build = subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    if build.returncode:
        pytest.exit(f"the build of ext/ failed:\n{build.stdout[-6000:]}", returncode=1)


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip for want of something into a failure that keeps its reason."""
    if not report.skipped or not isinstance(report.longrepr, tuple):
        return
    path, line, message = report.longrepr
    reason = message.removeprefix("Skipped: ")
    if reason.startswith("needs"):
        report.outcome = "failed"
        report.longrepr = f"{path}:{line}: skipped though nothing may be here: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if os.environ.get("FASTMTA_NO_SKIP") == "1":
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if os.environ.get("FASTMTA_NO_SKIP") == "1":
        _refuse_skip(report)
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name what was skipped: a run that proves less must say so."""
    skipped = terminalreporter.stats.get("skipped", [])
    for report in skipped:
        terminalreporter.write_line(f"skipped: {report.nodeid}: {report.longrepr[2]}")


@pytest.fixture
def long_run(request: pytest.FixtureRequest) -> LongRun:
    """Seeds for a test marked `long`: its share of FASTMTA_LONG_MINUTES, or one seed."""
    minutes = float(os.environ.get("FASTMTA_LONG_MINUTES", "0"))
    tests = [item for item in request.session.items if item.get_closest_marker("long")]
    return LongRun(request.node.nodeid, minutes * 60 / max(1, len(tests)))
