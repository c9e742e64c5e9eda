"""Programs that read Postfix's log come to the right totals from ours.

The log is that of a real run, in all situations of tests/vectors/situations.toml; what is right is
what its clients and receivers saw.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from fastmta.journal.record import HEAD, KEYS
from tests.support.situation.ours import Run
from tests.support.situation.table import load

pytestmark = pytest.mark.interop

PFLOGSUMM = shutil.which("pflogsumm") or shutil.which("/usr/sbin/pflogsumm")
LOGWATCH = Path("/usr/share/logwatch")
FAIL2BAN = shutil.which("fail2ban-regex")
SITUATIONS = load()
BOUNCED_THERE = r"relay=[^,]*\[.*status=bounced \("
UNREACHED = r"smtp\[[0-9]+\]: (?:connect to \S+: Connection|\w+: host \S+) refused"
BOUNCED_HERE = r"relay=none,.*status=bounced \("


def count(run: Run, pattern: str) -> int:
    return len(re.findall(pattern, run.log, re.MULTILINE))


def replies(run: Run, *beginnings: str) -> int:
    """How often clients were told that."""
    told = [one for shown in run.shown.values() for one in shown["replies"]]
    return sum(reply.startswith(beginnings) for reply in told)


def test_the_log_itself_is_right(run: Run) -> None:
    """Before anybody reads it: counts of lines are those of what clients and receivers saw."""
    assert count(run, r": client=") == run.accepted > 70
    assert count(run, r"status=sent \(") == run.delivered > 40
    assert count(run, r"smtpd\[[0-9]+\]: connect from ") == len(SITUATIONS) + probes(run)
    assert count(run, BOUNCED_THERE) == replied(run, "5")
    assert count(run, BOUNCED_HERE) > 4


def probes(run: Run) -> int:
    """Whatever looked whether the port is open."""
    return count(run, r"smtpd\[[0-9]+\]: connect from \S+\[127\.0\.0\.1\]")


def refused_logins(run: Run, login: str = r"\S+") -> int:
    return count(run, rf"SASL \w+ authentication failed: .*, sasl_username={login}$")


def replied(run: Run, first: str) -> int:
    """Recipients of whom a receiver, or what it announced, said no for good."""
    said = count(run, rf"status=bounced \(host \S+ (?:said|refused to talk to me): {first}")
    return said + count(run, r"status=bounced \((?:message size |SMTPUTF8 is required)")


@pytest.fixture(name="run")
def _run(situation_run: Run) -> Run:
    return situation_run


@pytest.fixture(name="log")
def _log(situation_run: Run, tmp_path: Path) -> Path:
    path = tmp_path / "mail.log"
    path.write_text(situation_run.log)
    return path


def squeezed(text: str) -> set[str]:
    return {re.sub(r" +", " ", line).strip() for line in text.split("\n")}


@pytest.mark.skipif(PFLOGSUMM is None, reason="needs Debian's pflogsumm")
def test_pflogsumm(run: Run, log: Path) -> None:
    assert PFLOGSUMM is not None
    done = subprocess.run([PFLOGSUMM, str(log)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    totals = squeezed(done.stdout.partition("Grand Totals")[2].partition("Per-Hour")[0])
    rejected = count(run, r": reject: ")
    deferred = set(re.findall(r"smtp\[[0-9]+\]: (\w+): .* status=deferred ", run.log))
    assert {
        f"{run.accepted} received",
        f"{run.delivered} delivered",
        f"{count(run, 'status=bounced')} bounced",
        f"{len(deferred)} deferred ({count(run, 'status=deferred')} deferrals)",
    } <= totals
    assert any(line.startswith(f"{rejected} rejected ") for line in totals)
    assert rejected == replies(run, "554 5.7.1", "552 5.3.4")


@pytest.mark.skipif(not LOGWATCH.exists(), reason="needs Debian's logwatch")
def test_logwatch(run: Run, log: Path) -> None:
    """It wants to be told of long queue ids, as with Postfix's own."""
    script = LOGWATCH / "scripts" / "services" / "postfix"
    with log.open("rb") as lines:
        done = subprocess.run(
            ["perl", f"-I{LOGWATCH}/lib", str(script)],
            stdin=lines,
            capture_output=True,
            text=True,
            check=True,
            env={
                **os.environ,
                "postfix_enable_long_queue_ids": "1",
                "LOGWATCH_DETAIL_LEVEL": "0",
            },
        )
    summary, _, unmatched = done.stdout.partition("**Unmatched Entries**")
    found = squeezed(summary)
    expected = {
        "Accepted": run.accepted,
        "Sent via SMTP": run.delivered,
        "Bounced (remote)": count(run, BOUNCED_THERE),
        "Bounced (local)": count(run, BOUNCED_HERE),
        "Deferrals": count(run, "status=deferred"),
        "Removed from queue": count(run, ": removed$"),
        "Notifications sent": count(run, "notification: "),
        "Expired and returned to sender": count(run, "status=expired"),
        "Connections lost (inbound)": count(run, ": lost connection after "),
        "Timeouts (inbound)": count(run, ": timeout after "),
        "TLS connections (server)": count(run, "TLS connection established from "),
        "TLS connections (client)": count(run, "TLS connection established to "),
        "SASL authenticated messages": count(run, "sasl_username=jo$") - refused_logins(run, "jo"),
        "SASL authentication failed": refused_logins(run),
        "Disconnections": count(run, ": disconnect from "),
        "Connection failures (outbound)": count(run, UNREACHED),
    }
    for name, number in expected.items():
        assert number, name
        assert any(
            re.fullmatch(rf"{number} {re.escape(name)}( [0-9.%]+)?", line) for line in found
        ), f"{number} {name}: {summary}"
    # Lines of our own: what keeps a site, or a report, from going on; what is known of the machine.
    ours = (": no delivery for ", "undeliverable bounce dropped", "/master[", "END-OF-MESSAGE from")
    left = [line for line in unmatched.split("\n") if line.strip()]
    assert [line for line in left if not any(one in line for one in ours)] == []


@pytest.mark.skipif(FAIL2BAN is None, reason="needs Debian's fail2ban")
@pytest.mark.parametrize("mode", ["normal", "aggressive"])
def test_fail2ban(run: Run, log: Path, mode: str) -> None:
    """Who was refused as a relay is a failure each time; who breaks off only where that counts."""
    assert FAIL2BAN is not None
    done = subprocess.run(
        [FAIL2BAN, "--out", "ip", str(log), f"postfix[mode={mode}]"],
        capture_output=True,
        text=True,
        check=True,
    )
    banned = Counter(done.stdout.split())
    refused = Counter(
        one.client
        for one in SITUATIONS
        for reply in run.shown[one.name]["replies"]
        if reply.startswith("554 5.7.1")
    )
    assert refused.total() > 8
    assert not refused - banned
    honest = {one.client for one in SITUATIONS if one.name.startswith(("sent", "rcpt-", "data-"))}
    assert not honest & banned.keys()
    broken = {one.client for one in SITUATIONS if one.name == "lost-after-mail"}
    assert (broken <= banned.keys()) == (mode == "aggressive")


# What readers that nobody packages look for, in our own words: tests of shapes, not of programs.
LINE = re.compile(r"[A-Z][a-z]{2} [ 0-9]\d \d\d:\d\d:\d\d \S+ postfix/(\w+)\[\d+\]: (.*)")
# An exporter of metrics asks of a line's text, by program:
EXPORTER: dict[str, Callable[[Run], int]] = {
    r"smtpd (?:NOQUEUE|\w+): client=\S+(?:, sasl_\w+=\S+)*": lambda run: run.accepted,
    r"smtpd connect from \S+\[\S+\]": lambda run: len(SITUATIONS) + probes(run),
    r"smtpd lost connection after (\w+)(?: \(\d+ bytes\))? from \S+": lambda run: (
        sum(
            "lost-after-" in one.name
            or one.name in ("reset-connection-after-mail", "starttls-then-no-tls")
            for one in SITUATIONS
        )
        - 2
    ),  # behind QUIT or the message nothing is lost
    r"smtpd NOQUEUE: reject: RCPT from \S+: 554 .*": lambda run: replies(run, "554 5.7.1"),
    r"smtp .*, relay=.*, delays=[\d.]+/[\d.]+/[\d.]+/[\d.]+, dsn=2\.\S+, status=sent .*": (
        lambda run: run.delivered
    ),
    r"qmgr \w{12,}: from=<.*>, size=\d+, nrcpt=\d+ \(queue active\)": lambda run: count(
        run, "queue active"
    ),
    r"cleanup \w{12,}: message-id=<.*>": lambda run: count(run, "message-id=<"),
}
# Grok patterns ask for an id, then keys and values up to the text in parentheses.
GROK = re.compile(
    r"(?P<id>NOQUEUE|[0-9A-Za-z]{12,}): (?:(?P<key>[a-z_-]+)=(?:<[^>]*>|[^,]*)(?:, |;| |$))+.*"
)


@pytest.mark.parametrize("pattern", EXPORTER)
def test_what_an_exporter_counts(run: Run, pattern: str) -> None:
    lines = [f"{match[1]} {match[2]}" for match in map(LINE.fullmatch, log_lines(run)) if match]
    found = sum(re.fullmatch(pattern, line) is not None for line in lines)
    assert found == EXPORTER[pattern](run)


def log_lines(run: Run) -> list[str]:
    return run.log.rstrip("\n").split("\n")


def test_every_line_has_the_shape_of_one(run: Run) -> None:
    for line in log_lines(run):
        match = LINE.fullmatch(line)
        assert match, line
        if "=" in match[2] and re.match(r"\w{12,}: [a-z_-]+=", match[2]):
            assert GROK.fullmatch(match[2]), line


def test_records_say_what_the_lines_say(run: Run) -> None:
    """The keys are those of the contract, and the counts those of the other log."""
    found: Counter[str] = Counter()
    waits = 0
    for line in run.records:
        record = msgspec.json.decode(line)
        kind = record["event"]
        assert tuple(record) == HEAD + KEYS[kind], line
        found[kind if kind != "attempt" else f"attempt {record['status']}"] += 1
        if kind == "attempt":
            domain = record["to"].rpartition("@")[2].removeprefix("nowhere.")
            assert record["from"] in ("", f"s@{domain}")
            assert record["next"] is None or record["status"] == "deferred"
            waits += record["next"] is not None
            assert record["delay"] == pytest.approx(sum(record["delays"]), abs=0.003)
    assert found["received"] - found["notification"] == run.accepted
    assert found["attempt sent"] == run.delivered
    assert found["attempt bounced"] == count(run, "status=bounced")
    assert found["attempt deferred"] == count(run, "status=deferred")
    assert found["connect"] == found["disconnect"] == count(run, ": connect from ")
    assert found["removed"] == count(run, ": removed$")
    assert found["reject"] == count(run, ": reject: ")
    assert found["expired"] == count(run, "status=expired")
    assert 10 < waits < found["attempt deferred"]  # a site's trouble has no time for each message
