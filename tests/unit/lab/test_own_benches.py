"""Arguments, commands and tables of the cases with our own source, and of the other benches."""

import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fastmta.lab.bench.case import BY_NAME
from fastmta.lab.bench.certificate import Certificate, make_certificate
from fastmta.lab.bench.command import OWN, run_bench
from fastmta.lab.bench.contender import fastmta_tls, postfix_tls
from fastmta.lab.bench.handler import command as handler
from fastmta.lab.bench.handler.field import AIOSMTPD, FILTER, SINK, HandlerRun
from fastmta.lab.bench.hostile import command as hostile
from fastmta.lab.bench.hostile.field import Siege, SiegeFigures, hostile_command, parse_tally
from fastmta.lab.bench.idle import command as idle
from fastmta.lab.bench.idle.field import (
    Crowd,
    IdleFigures,
    Sample,
    hold_command,
    kernel_octets,
    require_descriptors,
)
from fastmta.lab.bench.measure import Run
from fastmta.lab.bench.plan import CaseResult, Result, tls_differences
from fastmta.lab.bench.report import render, values
from fastmta.lab.bench.source import Source, SourceReport, parse_report
from fastmta.lab.bench.workplace import settings_of
from fastmta.lab.loopback import LabError

REPORT = (
    b'{"messages": 9, "seconds": 1.5, "connections": 2, "handshakes": 2, "resumed": 0, '
    b'"tickets": 4, "protocol": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "held": 0, '
    b'"reply_p50_ms": 0.5, "reply_p99_ms": 1.25, "errors": 0}\n'
)
FACTS = {
    "fastmta": "0",
    "commit": "c",
    "postfix": "3",
    "durability": "full",
    "pairs": 1,
    "seconds": 1.0,
    "cpu_count": 2,
    "cpu": "x",
    "kernel": "6",
    "file_system": "ext4",
    "device": "/dev/x",
    "python": "3",
    "uvloop": "0",
    "lmdb": "1",
    "workers": 1,
}


def report(cipher: str = "TLS_AES_256_GCM_SHA384", p99_ms: float = 1.25) -> SourceReport:
    found = parse_report(REPORT)
    return SourceReport(
        **{name: getattr(found, name) for name in SourceReport.__slots__}
        | {"cipher": cipher, "reply_p99_ms": p99_ms}
    )


def run(rate: float, source: SourceReport | None = None) -> Run:
    return Run(1000, 1000 / rate, 1000 / rate, 0.1, 0.2, 0, source=source)


def test_last_line_of_a_source_is_read() -> None:
    found = parse_report(b'{"held": 3}\n' + REPORT)
    assert (found.messages, found.protocol, found.reply_p99_ms) == (9, "TLSv1.3", 1.25)
    assert found.tickets_per_handshake == 2.0


@pytest.mark.parametrize("said", [b"", b"\n", b"{}\n", b"[]\n", b"{\n", b"nonsense"])
def test_a_source_that_says_something_else_is_an_error(said: bytes) -> None:
    with pytest.raises(LabError, match=r"source\.c said"):
        parse_report(said)


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Programs are there already."""
    for name in ("source", "hostile"):
        (tmp_path / name).touch()
    return tmp_path


def test_tls_cases_are_sent_by_our_source_with_tls(no_compiler: Path) -> None:
    for name in ("4k-tls", "4k-tls-new"):
        command = Source(BY_NAME[name], no_compiler).command(2525, 7)
        assert command[0] == str(no_compiler / "source")
        assert command[command.index("--tls") + 1] == "starttls"
        assert command[command.index("--min") + 1] == "TLSv1.2"
        assert ("-d" in command) is (name == "4k-tls")
    plain = Source(BY_NAME["4k-source"], no_compiler).command(2525, 7)
    assert "--tls" not in plain
    assert plain[-1] == "127.0.0.1:2525"


def test_only_our_own_source_speaks_tls() -> None:
    assert all(case.has_own_source for case in BY_NAME.values() if case.has_tls)


def test_certificate_is_made_once_and_its_key_is_private(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    text = made.chain.read_text()
    assert "BEGIN CERTIFICATE" in text
    assert made.key.stat().st_mode & 0o077 == 0
    assert make_certificate(tmp_path) == made
    assert made.chain.read_text() == text


def test_both_servers_get_the_same_certificate() -> None:
    certificate = Certificate(Path("/c.pem"), Path("/k.pem"))
    theirs, ours = postfix_tls(certificate), fastmta_tls(certificate)
    assert theirs["smtpd_tls_cert_file"] == ours["tls.certificate"] == "/c.pem"
    assert theirs["smtpd_tls_key_file"] == ours["tls.key"] == "/k.pem"
    assert theirs["smtpd_tls_protocols"] == ">=TLSv1.2"


def test_ciphers_that_differ_are_a_problem() -> None:
    result = CaseResult(BY_NAME["4k-tls"])
    result.runs = {"postfix": [run(1, report())], "fastmta": [run(5, report())]}
    assert tls_differences(result) == []
    result.runs["fastmta"] = [run(5, report("TLS_AES_128_GCM_SHA256"))]
    (problem,) = tls_differences(result)
    assert "4k-tls: the ciphers differ: postfix TLSv1.3 TLS_AES_256" in problem


@pytest.mark.parametrize(("ours", "verdict"), [(510.0, "met"), (490.0, "MISSED")])
def test_table_says_whether_the_target_was_met(ours: float, verdict: str) -> None:
    result = CaseResult(BY_NAME["4k-tls"], ceilings=[9000.0])
    result.runs = {"postfix": [run(100, report())], "fastmta": [run(ours, report())]}
    whole = Result(cases=[result])
    text = render(whole, FACTS)
    assert f"target: 5 x Postfix relayed/s: {verdict}" in text
    assert "TLSv1.3 TLS_AES_256_GCM_SHA384, 2 handshakes, 0 resumed, 2.0 session tickets" in text
    assert "ceiling: bench/source.c into bench/responder.c, with TLS" in text
    (case,) = values(whole, FACTS)["cases"]
    assert case["runs"]["fastmta"][0]["source"]["tickets"] == 4


def test_list_names_every_bench(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_bench(["--list"]) == 0
    said = capsys.readouterr().out
    for name in (*BY_NAME, *OWN):
        assert f"\n{name} " in f"\n{said}"


@pytest.mark.parametrize(
    ("parse", "arguments"),
    [
        (idle.parse, ["--sessions", "0"]),
        (idle.parse, ["--sessions", "50001"]),
        (idle.parse, ["--addresses", "251"]),
        (idle.parse, ["--after", "1m"]),
        (hostile.parse, ["polite"]),
        (hostile.parse, ["--sessions", "0"]),
        (hostile.parse, ["--pace-ms", "1"]),
        (hostile.parse, ["--pairs", "0"]),
        (hostile.parse, ["--good-tls"]),
        (handler.parse, ["--only", "postfix"]),
        (handler.parse, ["--handler", "none"]),
        (handler.parse, ["--pairs", "0"]),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    parse: Callable[[Sequence[str]], Any], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    assert "usage: fastmta bench " in capsys.readouterr().err


def test_defaults_are_those_of_the_targets() -> None:
    assert idle.parse([]).sessions == 10_000
    assert idle.parse([]).after == ["none", "4k", "200k"]
    chosen = hostile.parse([])
    assert (chosen.sessions, chosen.good, chosen.kinds) == (1000, 20, ["mixed"])
    assert handler.parse([]).only == [AIOSMTPD, SINK, FILTER]


def test_settings_are_toml_or_text() -> None:
    asked = ["--set", "limits.idle_s=5", "--set", "relay.host=[127.0.0.1]:25", "--set", "a.b=[1]"]
    assert settings_of(idle.parse(asked)) == {
        "limits.idle_s": 5,
        "relay.host": "[127.0.0.1]:25",
        "a.b": [1],
    }
    for wrong in ("limits", "=5"):
        with pytest.raises(LabError):
            settings_of(idle.parse(["--set", wrong]))


def test_crowd_is_held_from_several_addresses(no_compiler: Path) -> None:
    certificate = Certificate(Path("/c.pem"), Path("/k.pem"))
    crowd = Crowd(sessions=10_000, addresses=10, octets=4096, certificate=certificate)
    command = hold_command(no_compiler, 2525, crowd)
    assert command[command.index("--addresses") + 1] == "10"
    assert command[command.index("-m") + 1] == "1"
    assert command[command.index("-l") + 1] == "4096"
    assert command[command.index("--tls") + 1] == "starttls"
    silent = hold_command(no_compiler, 2525, Crowd(sessions=1, addresses=1))
    assert silent[silent.index("-m") + 1] == "0"
    assert "--tls" not in silent


def test_missing_descriptors_are_said_with_what_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    require_descriptors(1000)
    with pytest.raises(LabError, match=r"10000 sessions need 16384 .* --sessions 2012 would do"):
        require_descriptors(10_000)


def test_kernel_has_a_slab() -> None:
    slab, tcp = kernel_octets()
    assert slab > 1 << 20
    assert tcp >= 0


def idle_figures(per_session: int, tls: str = "") -> IdleFigures:
    before = Sample(1000, 2000, 3000, 4000)
    during = Sample(1000 + per_session * 10, 2000 + 1024 * 10, 3000 + 20480, 4000)
    return IdleFigures("after EHLO", 10, before, during, before, 0.5, tls)


def test_growth_is_per_session_and_held_against_the_target() -> None:
    within, beyond = idle_figures(16 * 1024), idle_figures(16 * 1024 + 1)
    text = idle.render([within, beyond, idle_figures(99_999, "TLSv1.3 X")])
    assert [one.anonymous for one in (within, beyond)] == [16384, 16385]
    assert (within.slab, within.tcp, within.kept) == (2048, 0, 0)
    assert idle.verdict(within) == "<= 16: met"
    assert idle.verdict(beyond) == "<= 16: MISSED"
    assert text.count("10 after EHLO") == 3
    assert "after EHLO: TLSv1.3 X" in text
    assert idle.values(within)["anonymous_per_session"] == 16384


def test_hostile_sessions_are_strangers_with_an_address_each(no_compiler: Path) -> None:
    siege = Siege(sessions=1000, pace_ms=500)
    command = hostile_command(no_compiler, 2525, siege, "drip")
    assert command[command.index("--addresses") + 1] == "1000"
    assert command[command.index("--pace-ms") + 1] == "500"
    assert command[command.index("--kind") + 1] == "drip"
    assert "--kind" not in hostile_command(no_compiler, 2525, siege, "mixed")


def test_kept_throughput_is_taken_pair_by_pair() -> None:
    tally = dict.fromkeys(("sessions", "steps", "connections", "failed", "closed"), 1)
    tally |= dict.fromkeys(("sent", "positive", "negative"), 2)
    told = {"seconds": 10.0, "cpu_s": 0.3, "kinds": {"drip": tally}}
    found = SiegeFigures(
        "drip",
        alone=[run(1000, report()), run(2000, report()), run(500, report())],
        beside=[run(950, report()), run(1780, report()), run(400, report(p99_ms=7.0))],
        told=[told, told, told],
    )
    ratio = hostile.kept(found)
    assert ratio is not None
    assert (ratio.least, ratio.median, ratio.most) == pytest.approx((0.8, 0.89, 0.95))
    text = hostile.render([found], Siege())
    assert "20 good sessions (4 KB, persistent) beside 1000 hostile ones" in text
    assert "0.89 (0.80..0.95)" in text
    assert "MISSED" in text
    assert "drip: the hostile clients took 3.0 % of a processor" in text
    with pytest.raises(LabError, match="no descriptors"):
        parse_tally(b"", b"no descriptors")


def test_handler_rates_are_held_against_those_of_aiosmtpd() -> None:
    def runs(*rates: float) -> list[HandlerRun]:
        return [HandlerRun(1000, 1000 / rate, 0.5, report()) for rate in rates]

    by_server = {AIOSMTPD: runs(1000, 500), SINK: runs(3500, 2000), FILTER: runs(2500, 1000)}
    ratio = handler.ratio(by_server[SINK], by_server[AIOSMTPD])
    assert ratio is not None
    assert (ratio.least, ratio.most) == (3.5, 4.0)
    lines = handler.render({"4k-source": by_server}).split("\n")
    verdicts = {line.split()[0]: line.split()[-1] for line in lines[4:]}
    assert verdicts == {AIOSMTPD: "-", SINK: "met", FILTER: "MISSED"}
    alone = handler.render({"4k-source": {SINK: runs(3500)}})
    assert "met" not in alone
