"""Our units under a real systemd: started by a connection, watched, reloaded, confined, logged."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastmta.lab.process import name
from tests.support.machine import Machine, Missing, booted
from tests.support.service import open_place, open_python

ROOT = Path(__file__).parent.parent.parent
CONF = ROOT / "conf" / "systemd"
PROGRAM = "/opt/fastmta/bin/fastmta"
CONFIGURATION = """
hostname = "fastmta.test"
spool.segment_octets = "4 MiB"
pressure.volume_free = [0.003, 0.002, 0.001]
listen.smtp.bind = "127.0.0.1:1"
listen.smtp.tls = "none"
listen.other.bind = "127.0.0.1:26"
listen.other.tls = "none"
journal.target = "journald"
relay.host = "[127.0.0.1]:2"
workers.count = 2
"""
DROP_IN = "[Service]\nWatchdogSec=1\nRestartSec=0.1\n"
NET_BIND = 1 << 10
CLIENT = """
import smtplib, sys
with smtplib.SMTP("127.0.0.1", int(sys.argv[1]), timeout=20) as client:
    client.sendmail("a@source.example", ["b@there.example"], "Subject: x\\r\\n\\r\\nx\\r\\n")
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    found = open_python()
    if found is None or not found[0].startswith("/usr/"):
        pytest.skip("no Python below /usr, with our packages outside root's home")
    python, environment = found
    places = environment["PYTHONPATH"].split(os.pathsep)
    seen = {place: f"/opt/fastmta/{number}" for number, place in enumerate(places)}
    service = (CONF / "fastmta.service").read_text().replace("/usr/local/bin/fastmta", PROGRAM)
    units = {
        "fastmta.service": service,
        "fastmta.service.d/test.conf": DROP_IN,
        "fastmta.socket": (CONF / "fastmta.socket").read_text(),
    }
    with open_place() as place:
        (place / "bin").mkdir()
        (place / "bin" / "fastmta").write_text(
            f"#!/bin/sh\nexport PYTHONPATH={':'.join(seen.values())}\n"
            f'exec {python} -m fastmta "$@"\n'
        )
        (place / "bin" / "client").write_text(f"#!{python}\n{CLIENT}")
        for name in ("fastmta", "client"):
            (place / "bin" / name).chmod(0o755)
        (place / "machine").mkdir()
        try:
            with booted(
                place / "machine", units, {**seen, str(place / "bin"): "/opt/fastmta/bin"}
            ) as one:
                install(one)
                yield one
        except Missing as missing:
            pytest.skip(str(missing))


def install(machine: Machine) -> None:
    """As docs/service.md says."""
    for kind in ("sysusers", "tmpfiles"):
        text = (CONF / f"fastmta.{kind}").read_text()
        machine.path(f"/etc/{kind}.conf").write_text(text)
        machine.do(f"systemd-{kind}", *(["--create"] if kind == "tmpfiles" else []),
                   f"/etc/{kind}.conf")  # fmt: skip
    machine.path("/etc/fastmta").mkdir()
    machine.path("/etc/fastmta/fastmta.toml").write_text(CONFIGURATION)
    machine.do("systemctl", "start", "systemd-journald.service", "fastmta.socket")


def send(machine: Machine, port: int = 25) -> None:
    machine.do("/opt/fastmta/bin/client", str(port))


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    until_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def test_the_first_connection_starts_it(machine: Machine) -> None:
    assert machine.show("fastmta", "ActiveState") == ["inactive"]
    send(machine)  # which waits meanwhile
    until(lambda: machine.show("fastmta", "ActiveState") == ["active"])
    assert machine.show("fastmta", "StatusText") == ["2 of 2 workers serve"]
    send(machine, 26)  # what it has bound by itself


def test_it_is_confined(machine: Machine) -> None:
    supervisor, *rest = machine.processes("fastmta.service")
    assert len(rest) == 3, [name(pid) for pid in rest]
    for pid in (supervisor, *rest):
        lines = Path(f"/proc/{pid}/status").read_text().rstrip("\n").split("\n")
        found = dict(line.split(":\t", 1) for line in lines)
        assert found["Uid"].split()[0] != "0"
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
        assert int(found["CapBnd"], 16) == NET_BIND
        assert int(found["CapPrm"], 16) == (NET_BIND if pid == supervisor else 0)
        mounts = Path(f"/proc/{pid}/mountinfo").read_text().rstrip("\n").split("\n")
        options = {line.split(" ")[4]: line.split(" ")[5].split(",") for line in mounts}
        assert "ro" in options["/"]
        assert "rw" in options["/var/lib/fastmta"]
        assert "rw" in options["/var/lib/fastmta-drop"]
        assert os.listdir(f"/proc/{pid}/root/home") == []
    state = machine.path("/var/lib/fastmta").stat()
    assert (state.st_uid, state.st_mode & 0o777) == (int(found["Uid"].split()[0]), 0o700)


def test_the_journal_has_its_log(machine: Machine) -> None:
    send(machine)

    def lines(program: str) -> list[dict[str, str]]:
        text = machine.do("journalctl", "-o", "json", f"SYSLOG_IDENTIFIER=postfix/{program}")
        return [json.loads(line) for line in text.split("\n") if line]

    until(lambda: any("FASTMTA_QID" in line for line in lines("cleanup")))
    taken = [line for line in lines("cleanup") if "FASTMTA_QID" in line][-1]
    assert taken["_SYSTEMD_UNIT"] == "fastmta.service"
    assert taken["SYSLOG_FACILITY"] == "2"
    told = machine.do(PROGRAM, "trace", taken["FASTMTA_QID"])
    assert "b@there.example" in told
    assert "fastmta.test" in machine.do(PROGRAM, "status")


def test_a_reload_is_waited_for_and_a_bad_one_fails(machine: Machine) -> None:
    file = machine.path("/etc/fastmta/fastmta.toml")
    before = machine.processes("fastmta.service")
    file.write_text(CONFIGURATION + "limits.recipients = 333\n")
    machine.do("systemctl", "reload", "fastmta")
    last = json.loads(machine.do(PROGRAM, "status", "-o", "json"))["reload"]["last"]
    assert last["changed"] == ["limits.recipients"]
    file.write_text(CONFIGURATION + "limits.recipiens = 333\n")
    assert machine.run("systemctl", "reload", "fastmta").returncode != 0
    file.write_text(CONFIGURATION)
    machine.do("systemctl", "reload", "fastmta")
    assert machine.show("fastmta", "ActiveState", "NRestarts") == ["active", "0"]
    assert set(before) <= set(machine.processes("fastmta.service"))
    send(machine)


@pytest.mark.long
def test_a_worker_that_hangs_has_the_service_restarted(machine: Machine) -> None:
    (main,) = machine.show("fastmta", "MainPID")
    supervisor, *rest = machine.processes("fastmta.service")
    worker = next(pid for pid in rest if name(pid) != "fastmta-broker")
    os.kill(worker, signal.SIGSTOP)
    until(lambda: machine.show("fastmta", "ActiveState", "NRestarts") == ["active", "1"])
    assert machine.show("fastmta", "MainPID") != [main]
    assert not {worker, supervisor} & set(machine.processes("fastmta.service"))
    send(machine)


def test_a_stop_is_clean_and_the_next_connection_starts_it(machine: Machine) -> None:
    machine.do("systemctl", "stop", "fastmta.service")
    found = machine.show("fastmta", "ActiveState", "Result", "ExecMainStatus")
    assert found == ["inactive", "success", "0"]
    send(machine)
    until(lambda: machine.show("fastmta", "ActiveState") == ["active"])


@pytest.mark.long
def test_what_a_person_has_to_mend_is_not_tried_again(machine: Machine) -> None:
    machine.do("systemctl", "stop", "fastmta.service", "fastmta.socket")
    machine.path("/etc/fastmta/fastmta.toml").write_text("hostnam = 1\n")
    assert machine.run("systemctl", "start", "fastmta").returncode != 0
    found = machine.show("fastmta", "ActiveState", "ExecMainStatus", "NRestarts")
    assert found == ["failed", "78", "0"]
