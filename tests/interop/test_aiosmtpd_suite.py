"""aiosmtpd's own tests of the protocol, run against us and against Postfix.

They are fetched, not committed, and look at the class of each reply (support/plugin_aiosmtpd.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import running
from tests.support.fetched import python_source
from tests.support.mailbox import Mailbox
from tests.support.postfix import running_postfix

pytestmark = [pytest.mark.interop, pytest.mark.long]

ROOT = Path(__file__).parents[2]
SOURCE = ("1.4.6", "5a811826e1a5a06c25ebc3e6c4a704613eb9a1bcf6b78428fbe865f4f6c9a4b8")
HELD_BY_POSTFIX = 134  # of the selection that was counted first
SUITE_S = 300
IDLE_S = 3  # a client that hangs in DATA is waited for so long
MANY = 1000

# What Postfix holds and we do not, and why.
DIVERGENCES = {
    # Local parts of 65 and more octets: RFC 5321 4.5.3.1.1.
    "TestSMTP::test_mail_valid_address[38]",
    "TestSMTP::test_mail_valid_address[39]",
    "TestSMTP::test_rcpt_valid_address[38]",
    "TestSMTP::test_rcpt_valid_address[39]",
    "TestSMTP::test_rcpt_valid_address[41]",
    "TestSMTP::test_rcpt_valid_address[42]",
    # A line of a million octets is not read to its end: RFC 5321 4.5.3.1.4.
    "TestSMTP::test_way_too_long_command",
    # VRFY tells nothing, also not that this is no address: RFC 5321 7.3.
    "TestSMTP::test_vrfy_not_address",
}


def run_suite(port: int, results: Path) -> dict[str, str]:
    """What came of each test: "passed", "failed" or "skipped"."""
    source = python_source("aiosmtpd", *SOURCE)
    suite = source / "aiosmtpd" / "tests" / "test_smtp.py"
    options = [
        "-c",
        "/dev/null",
        "--rootdir",
        str(source),
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore",
    ]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.support.plugin_aiosmtpd",
            *options,
            str(suite),
        ],
        env={
            **os.environ,
            "PYTHONPATH": f"{source}:{ROOT}",
            "FASTMTA_SUITE_PORT": str(port),
            "FASTMTA_SUITE_RESULTS": str(results),
        },
        capture_output=True,
        text=True,
        timeout=SUITE_S,
        check=False,
    )
    assert results.exists(), done.stdout + done.stderr
    outcomes: dict[str, str] = json.loads(results.read_text())
    return outcomes


def test_we_hold_what_postfix_holds(tmp_path: Path) -> None:
    with Mailbox() as mailbox:
        with running(
            tmp_path / "ours",
            relay_host=mailbox.next_hop,
            limits__idle_s=IDLE_S,
            limits__errors_soft=MANY,
            limits__errors_hard=MANY,
        ) as server:
            ours = run_suite(server.port, tmp_path / "ours.json")
        with running_postfix(
            relay_host=mailbox.next_hop,
            smtpd_helo_required="yes",
            smtpd_peername_lookup="no",
            smtpd_timeout=f"{IDLE_S}s",
            smtpd_soft_error_limit=str(MANY),
            smtpd_hard_error_limit=str(MANY),
        ) as postfix:
            theirs = run_suite(postfix.port, tmp_path / "theirs.json")
    assert ours.keys() == theirs.keys()
    we_hold = {name for name, outcome in ours.items() if outcome == "passed"}
    they_hold = {name for name, outcome in theirs.items() if outcome == "passed"}
    print(f"\naiosmtpd's suite: {len(ours)} run, we hold {len(we_hold)}, Postfix {len(they_hold)}")
    assert they_hold - we_hold == DIVERGENCES
    assert len(we_hold) >= HELD_BY_POSTFIX
