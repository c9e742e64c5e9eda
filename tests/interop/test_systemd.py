"""Our unit files in the eyes of systemd's own tools."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
UNITS = ROOT / "conf" / "systemd"
EXPOSURE_MAX = 1.5  # of 10; Debian's unit of Postfix has 9 or so
pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian: systemd)"
)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as they are installed, but for the place of the program."""
    program = tmp_path / "fastmta"
    program.symlink_to(sys.executable)
    for name in ("fastmta.service", "fastmta.socket"):
        text = (UNITS / name).read_text()
        (tmp_path / name).write_text(text.replace("/usr/local/bin/fastmta", str(program)))
    return tmp_path


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        env={**os.environ, "MANPATH": str(ROOT / "docs" / "man")},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("name", ["fastmta.service", "fastmta.socket"])
def test_a_unit_has_no_faults(units: Path, name: str) -> None:
    found = analyze("verify", units / name)
    assert (found.stderr, found.returncode) == ("", 0)


def test_the_service_is_hardened(units: Path) -> None:
    threshold = f"--threshold={int(EXPOSURE_MAX * 10)}"
    found = analyze("security", "--offline=true", threshold, units / "fastmta.service")
    assert found.returncode == 0, found.stdout[-200:]


def test_the_user_can_be_made() -> None:
    tool = shutil.which("systemd-sysusers")
    if tool is None:
        pytest.skip("needs systemd-sysusers (Debian: systemd)")
    found = subprocess.run(
        [tool, "--dry-run", str(UNITS / "fastmta.sysusers")],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert found.returncode == 0, found.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes directories of others")
def test_the_drop_directory_can_be_made(tmp_path: Path) -> None:
    tool = shutil.which("systemd-tmpfiles")
    if tool is None:
        pytest.skip("needs systemd-tmpfiles (Debian: systemd)")
    lines = (UNITS / "fastmta.tmpfiles").read_text().replace(" fastmta fastmta", " 0 0")
    (tmp_path / "fastmta.conf").write_text(lines)
    found = subprocess.run(
        [tool, "--create", f"--root={tmp_path}", str(tmp_path / "fastmta.conf")],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert found.returncode == 0, found.stderr
    made = tmp_path / "var" / "lib" / "fastmta-drop"
    assert made.stat().st_mode & 0o7777 == 0o755
    assert (made / "new").stat().st_mode & 0o7777 == 0o3733
