"""A tiny run of every bench that has options of its own, and of the cases with our own source."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastmta.lab.bench.backlog.field import free_mx_host
from fastmta.lab.bench.traffic.place import free_first_address
from fastmta.lab.loopback import LabError
from fastmta.lab.postfix import missing
from tests.support.native import built


@pytest.fixture(autouse=True)
def compilable() -> None:
    built("source")


def bench(tmp_path: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """The figures of a run that went well, and its table."""
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "fastmta", "bench", *arguments, "--json", str(figures)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    values: dict[str, Any] = json.loads(figures.read_text())
    return values, done.stdout


def cases(tmp_path: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    small = ("--pairs", "1", "--seconds", "0.2", "--latency", "0", "--no-flush-counts")
    values, table = bench(tmp_path, *arguments, *small)
    return {case["name"]: case for case in values["cases"]}, table


@pytest.mark.long
def test_our_source_measures_as_smtp_source_does(tmp_path: Path) -> None:
    found, table = cases(tmp_path, "4k-source", "4k-source-new", "--only", "fastmta")
    for name, case in found.items():
        (run,) = case["runs"]["fastmta"]
        assert run["relayed_per_s"] > 0
        assert run["source"]["messages"] == run["messages"]
        assert run["source"]["handshakes"] == 0
        assert (run["source"]["connections"] == run["messages"]) is (name == "4k-source-new")
        assert case["ceilings_per_s"][0] > run["relayed_per_s"]
    assert "ceiling: bench/source.c into bench/responder.c" in table


@pytest.mark.long
def test_postfix_is_measured_with_tls(tmp_path: Path) -> None:
    problem = missing()
    if problem:
        pytest.skip(problem)
    found, table = cases(tmp_path, "4k-tls", "4k-tls-new", "--only", "postfix")
    for name, case in found.items():
        (run,) = case["runs"]["postfix"]
        handshakes = run["messages"] if name == "4k-tls-new" else case["sessions"]
        assert run["source"]["handshakes"] == handshakes
        assert run["source"]["protocol"] == "TLSv1.3"
        assert run["source"]["resumed"] == 0
        assert run["source"]["tickets"] == handshakes
    assert "1.0 session tickets each" in table


@pytest.mark.long
def test_both_are_measured_with_tls(tmp_path: Path) -> None:
    problem = missing()
    if problem:
        pytest.skip(problem)
    found, table = cases(tmp_path, "4k-tls-both")
    for case in found.values():
        (ours,), (theirs,) = case["runs"]["fastmta"], case["runs"]["postfix"]
        assert ours["source"]["cipher"] == theirs["source"]["cipher"]
        assert ours["source"]["protocol"] == theirs["source"]["protocol"] == "TLSv1.3"
    (ours,) = found["4k-tls-both"]["runs"]["fastmta"]
    (theirs,) = found["4k-tls-both"]["runs"]["postfix"]
    assert ours["handshakes_out"] <= ours["messages"] / 10  # a connection serves many
    assert theirs["handshakes_out"] >= theirs["messages"]  # by default Postfix's serves one
    assert "target: 4 x Postfix" in table


@pytest.mark.long
def test_postfix_reuses_tls_connections_where_told(tmp_path: Path) -> None:
    problem = missing()
    if problem:
        pytest.skip(problem)
    found, _ = cases(tmp_path, "4k-tls-out-reuse", "--only", "postfix")
    (run,) = found["4k-tls-out-reuse"]["runs"]["postfix"]
    assert run["handshakes_out"] < run["messages"] / 2


@pytest.mark.long
def test_idle_sessions_are_weighed(tmp_path: Path) -> None:
    values, table = bench(tmp_path, "idle", "--sessions", "200", "--after", "4k")
    (crowd,) = values["crowds"]
    assert crowd["sessions"] == 200
    assert 0 < crowd["anonymous_per_session"] < 200 << 10
    assert "slab_per_session" in crowd  # the whole machine's: other tests move it, too
    assert "200 after a message of 4 KB" in table


def test_calls_of_sendmail_are_counted(tmp_path: Path) -> None:
    values, table = bench(tmp_path, "sendmail", "--only", "fastmta", "--calls", "4")
    found = values["servers"]["fastmta"]
    assert found["calls"] == 4
    assert 0 < found["relayed_per_s"] <= found["calls_per_s"]
    assert "Python itself starts in" in table


@pytest.mark.long
def test_idle_tls_sessions_are_weighed(tmp_path: Path) -> None:
    values, _ = bench(tmp_path, "idle", "--sessions", "200", "--after", "none", "--tls")
    (crowd,) = values["crowds"]
    assert crowd["anonymous_per_session"] > 1 << 10
    assert crowd["tls"].startswith("TLSv1.3 ")


def siege(tmp_path: Path, *options: str) -> dict[str, Any]:
    small = ("--sessions", "40", "--pace-ms", "200", "--pairs", "1", "--seconds", "0.5")
    values, table = bench(tmp_path, "hostile", *small, *options)
    (found,) = values["sieges"]
    (alone,), (beside,) = found["alone"], found["beside"]
    assert found["accepted_ratio"] == pytest.approx(
        (beside["messages"] / beside["accepted_s"]) / (alone["messages"] / alone["accepted_s"])
    )
    assert "20 good sessions (4 KB, persistent) beside 40 hostile ones" in table
    told: dict[str, Any] = found["told"][0]["kinds"]
    assert sum(one["sessions"] for one in told.values()) == 40
    assert all(one["connections"] >= one["sessions"] for one in told.values())
    return told


@pytest.mark.long
def test_good_sessions_go_on_beside_hostile_ones(tmp_path: Path) -> None:
    told = siege(tmp_path)
    assert told["drip"]["sent"] > 0
    assert told["mute"]["positive"] >= 5  # the greetings
    assert told["auth"]["negative"] > 0


@pytest.mark.long
def test_hostile_handshakes_begin(tmp_path: Path) -> None:
    told = siege(tmp_path, "handshake", "--tls")
    assert told["handshake"]["negative"] == 0
    assert told["handshake"]["received"] > 16_000  # certificates came, not only greetings


@pytest.mark.long
def test_aiosmtpd_runs_the_handler(tmp_path: Path) -> None:
    small = ("--pairs", "1", "--seconds", "0.2", "--only", "aiosmtpd")
    for methods in ("data", "all"):
        values, table = bench(tmp_path, "handler", "--handler", methods, *small)
        for case in values["cases"].values():
            (run,) = case["aiosmtpd"]
            assert run["messages"] == run["source"]["messages"] > 0
            assert run["cpu_s"] > 0
        assert "accepted/s" in table


@pytest.mark.long
def test_all_servers_run_the_handler(tmp_path: Path) -> None:
    small = ("--pairs", "1", "--seconds", "0.2", "--handler", "all")
    values, table = bench(tmp_path, "handler", *small)
    for case in values["cases"].values():
        assert set(case) == {"aiosmtpd", "fastmta-sink", "fastmta-filter"}
        assert all(run["messages"] > 0 for runs in case.values() for run in runs)
    assert "fastmta-filter" in table


def traffic(tmp_path: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """A run of one of the scheduler's benches; skips where port 25 cannot be had."""
    built("receivers")
    try:
        free_first_address()
    except LabError as problem:
        pytest.skip(str(problem))
    return bench(tmp_path, *arguments, "--workers", "1")


@pytest.mark.long
def test_many_sites_are_drained_and_dead_ones_beside_them(tmp_path: Path) -> None:
    small = ("--domains", "20", "--sites", "6", "--each", "5", "--delays", "5,20")
    few = ("--optimum", "200", "--pairs", "1", "--set", "delivery.timeouts.connect_s=1")
    values, table = traffic(tmp_path, "sites", *small, *few)
    runs = {name: one for name, (one,) in values["runs"].items()}
    assert runs["all"]["flow"]["messages"] == 100
    assert runs["alone"]["flow"]["messages"] == runs["beside"]["flow"]["messages"] == 70
    assert runs["all"]["deferrals"] == runs["alone"]["deferrals"] == 0
    assert runs["beside"]["deferrals"] > 0
    assert all(0 < one["flow"]["share"] <= 1 for one in runs.values())
    assert "the rest beside dead sites / alone" in table


@pytest.mark.long
def test_both_servers_drain_the_same_queue(tmp_path: Path) -> None:
    problem = missing()
    if problem:
        pytest.skip(problem)
    small = ("--messages", "40", "--sites", "10", "--each", "4", "--delay", "20", "--pairs", "1")
    values, table = traffic(tmp_path, "drain", *small, "--connections", "10")
    for name, messages in (("one", 40), ("many", 40)):
        for (run,) in values["cases"][name].values():
            assert run["flow"]["messages"] == run["counts"]["messages"] == messages
            assert run["counts"]["site_most"] <= 20
    assert "one: fastmta / Postfix, to the last message" in table


@pytest.mark.long
def test_fresh_mail_is_timed_beside_a_queue_and_beside_a_flood(tmp_path: Path) -> None:
    small = ("--backlog", "500", "--healthy", "2", "--count", "10", "--tenant-count", "10")
    values, table = traffic(tmp_path, "shares", *small, "--pairs", "1", "--settle", "0.5")
    for kinds in values["parts"].values():
        for (one,) in kinds.values():
            assert one["messages"] == 10
            assert 0 <= one["start_p50_ms"] <= one["start_p99_ms"] <= one["start_max_ms"]
    assert "tenants: p99 to the receiver's 250, beside / quiet" in table


@pytest.mark.long
def test_a_rate_is_kept(tmp_path: Path) -> None:
    values, table = traffic(tmp_path, "rates", "50/s, burst 5", "--seconds", "4")
    (kept,) = values["rates"]["50/s, burst 5"]
    assert 150 < kept["messages"] < 250
    assert abs(kept["error"]) < 0.2  # other tests take the machine
    assert "50/s, burst 5: error of the rate" in table


@pytest.mark.long
def test_a_queue_is_looked_at_beside_its_mail(tmp_path: Path) -> None:
    small = ("--messages", "500", "--domains", "50", "--runs", "1", "--pairs", "1")
    try:
        free_mx_host()
    except LabError as error:
        pytest.skip(str(error))
    values, table = bench(
        tmp_path, "queue", *small, "--seconds", "1", "--directory", str(tmp_path / "disk")
    )
    assert set(values["times_s"]) == {
        "mailq, first line",
        "queue summary",
        "queue search",
        "queue count --filter",
    }
    assert all(one > 0 for runs in values["flows_per_s"].values() for one in runs)
    assert "flow beside the loop / alone" in table


@pytest.mark.long
def test_mail_goes_on_beside_scrapes_lists_and_reloads(tmp_path: Path) -> None:
    try:
        free_mx_host()
    except LabError as error:
        pytest.skip(str(error))
    disk = ("--directory", str(tmp_path / "disk"))
    values, table = bench(
        tmp_path, "watched", "--messages", "100", "--pairs", "1", "--seconds", "2", *disk
    )
    assert set(values["times_s"]) == {"scrape", "mailq", "reload"}
    assert values["rounds"][0] >= 1
    assert "acknowledged, and arrived once" in table
