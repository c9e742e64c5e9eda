"""The whole server, scraped: counts are those of the receiver, and health is what it is."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fastmta.journal.family import DESK, FAMILIES, Kind
from fastmta.lab import Server, Sink, SinkOptions, free_port, process
from tests.support import shim
from tests.support.client import Client, until
from tests.support.daemon import running
from tests.support.scrape import Samples, get, ready, scrape, total

CONF = Path(__file__).parents[2] / "conf"
ROUNDS = 5
CONTENT = b"Subject: x\r\n\r\nbody\r\n"
STARTS = "fastmta_worker_starts_total"


class Site(NamedTuple):
    """A server of two workers and what it delivers to."""

    server: Server
    sink: Sink
    port: int  # of the metrics
    is_failing: Path  # while this is there, a flush fails, once
    counts: Path  # of what did


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("metrics")
    port, switch, counts = free_port(), directory / "failing", directory / "counts"
    environment = shim.controls(counts, error=errno.EIO, times=1, match="hot", only_while=switch)
    with (
        Sink(SinkOptions()) as sink,
        running(
            directory / "server",
            relay_host=f"[127.0.0.1]:{sink.port}",
            workers=2,
            environment=environment,
            metrics__bind=f"127.0.0.1:{port}",
            metrics__postfix_names=True,
            relay__trusted_networks=["127.0.0.1/32"],
            retry__first_s=1.0,
            spool__clean_s=3.0,
            shape__wide__site="*",
            shape__wide__rate="90,000/min, burst 1000",
        ) as server,
    ):
        yield Site(server, sink, port, switch, counts)


def settled(site: Site, name: str, count: float, **labels: str) -> None:
    """Wait until a count is reached, and see that it is not passed."""
    until(lambda: total(scrape(site.port), name, **labels) >= count)
    assert total(scrape(site.port), name, **labels) == count


def send_all(site: Site) -> None:
    """Rounds of mail that is delivered, deferred once, bounced and refused, to both workers."""
    clients = [Client(site.server.port) for _ in range(12)]
    for number in range(ROUNDS):
        for client in clients:
            people = [f"a{number}@ok.test", f"b{number}@ok.test"]
            assert client.send(*people).startswith("250")
    for number, client in enumerate(clients):
        assert client.send(f"f{number}@flaky.test").startswith("250")
        assert client.send(f"g{number}@gone.test").startswith("250")
    for client in clients:
        assert client.say("QUIT").startswith("221")
        client.close()
    with Client(site.server.port, source="127.0.0.2") as client:  # whom nobody trusts
        assert client.say("MAIL FROM:<x@elsewhere.example>").startswith("250")
        for _ in range(3):
            assert client.say("RCPT TO:<x@elsewhere.example>").startswith("554 5.7.1")


def test_counts_are_those_of_the_receiver(site: Site) -> None:
    send_all(site)
    messages, people, bounced, deferred = 12 * (ROUNDS + 2), 12 * (2 * ROUNDS + 1), 12, 12
    settled(site, "fastmta_deliveries_total", deferred, result="deferred")
    # Notifications go the same way: to the sender of what was bounced.
    delivered = people + bounced
    settled(site, "fastmta_deliveries_total", delivered, result="delivered")
    settled(site, "fastmta_messages_removed_total", messages + bounced)
    found, sink = scrape(site.port), site.sink.counts
    assert total(found, "fastmta_messages_received_total", listener="smtp") == messages
    assert total(found, "fastmta_recipients_received_total") == people + bounced
    assert total(found, "fastmta_deliveries_total", result="delivered") == sink.recipients
    assert total(found, "fastmta_deliveries_total", result="bounced") == bounced
    refused = total(found, "fastmta_deliveries_total") - delivered
    assert refused == sink.refused == bounced + deferred
    assert total(found, "fastmta_replies_total", code="250") == delivered
    assert total(found, "fastmta_replies_total", code="550", enhanced="5.1.1") == bounced
    assert total(found, "fastmta_replies_total", code="450") == deferred
    assert total(found, "fastmta_notifications_total", kind="failure") == bounced
    assert total(found, "fastmta_delivery_delay_seconds_count") == delivered + bounced
    assert total(found, "fastmta_attempt_seconds_count", stage="transmit") == delivered + refused
    assert total(found, "fastmta_accept_seconds_count") == messages
    refusal = {"stage": "RCPT", "code": "554", "reason": "relay_denied"}
    assert total(found, "fastmta_receive_rejected_total", **refusal) == 3
    assert total(found, "fastmta_receive_rejected_total") == 3
    assert total(found, "fastmta_connections_total") == 13
    assert total(found, "fastmta_disconnects_total", reason="quit") == 12
    assert total(found, "fastmta_metrics_uncounted_total") == 0
    until(lambda: has_rates(scrape(site.port)))
    for worker in "01":
        assert total(found, "fastmta_accept_seconds_count", worker=worker) > 0, "both had some"
        assert total(found, "fastmta_spool_commit_seconds_count", worker=worker) > 0
    until(lambda: site.server.log_text().count("status=sent") == delivered)  # the log is later
    until(lambda: total(scrape(site.port), "fastmta_queue_messages") == 0)


def has_rates(found: Samples) -> bool:
    """Whether each destination that has a path shows the rate, which is one for both workers."""
    name = "fastmta_destination_rate_limit"
    rates = {value for (family, _), value in found.items() if family == name}
    return rates == {1500.0}


def test_a_worker_that_is_killed_takes_no_count_with_it(site: Site) -> None:
    before = scrape(site.port)
    victim = site.server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: ready(site.port)[0] == 503 or total(scrape(site.port), STARTS) == 3)
    until(lambda: ready(site.port)[0] == 200)
    after = scrape(site.port)
    assert total(after, STARTS) == 3
    for (name, labels), value in before.items():
        if name.endswith("_total") and "fastmta_process" not in name:
            assert after[name, labels] >= value, name
    same = "fastmta_deliveries_total", "fastmta_messages_received_total"
    for name in same:
        assert total(after, name) == total(before, name)
    with Client(site.server.port) as client:
        client.send("again@ok.test")
    delivered = total(before, "fastmta_deliveries_total", result="delivered")
    settled(site, "fastmta_deliveries_total", delivered + 1, result="delivered")


def test_no_worker_that_stands_still_is_ready(site: Site) -> None:
    until(lambda: ready(site.port) == (200, {"status": "ready", "reasons": []}))
    victim = site.server.workers()[0]
    os.kill(victim, signal.SIGSTOP)
    try:
        until(lambda: ready(site.port)[0] == 503)
        (reason,) = ready(site.port)[1]["reasons"]
        assert re.fullmatch(r"worker [01]: no sign of life for [34] s", reason)
        assert get(site.port, "/healthz")[0] == 200
    finally:
        os.kill(victim, signal.SIGCONT)
    until(lambda: ready(site.port)[0] == 200)


def test_a_server_whose_spool_is_unhealthy_is_not_ready(site: Site) -> None:
    with Client(site.server.port) as client:
        for _ in range(5):  # the flush that fails may be that of a segment that is being made
            with site.counts.open("r+b") as counts:
                counts.write(bytes(site.counts.stat().st_size))
            site.is_failing.touch()
            client.send("x@ok.test")
            end_s = time.monotonic() + 1.5
            while (said := ready(site.port))[0] == 200 and time.monotonic() < end_s:
                time.sleep(0.02)
            site.is_failing.unlink()
            if said[0] == 503:
                break
        assert "its spool is unhealthy" in said[1]["reasons"][0]
        assert total(scrape(site.port), "fastmta_spool_healthy") == 1
    until(lambda: ready(site.port)[0] == 200)


def test_the_front_desk_is_started_again_and_disturbs_nobody(site: Site) -> None:
    front = site.server.front
    workers = site.server.workers()
    before = scrape(site.port)
    os.kill(front, signal.SIGKILL)
    with Client(site.server.port) as client:
        assert client.send("front@ok.test").startswith("250")
    until(lambda: is_serving(site.port))
    assert site.server.workers() == workers
    received = "fastmta_messages_received_total"
    assert total(scrape(site.port), received) == total(before, received) + 1


def is_serving(port: int) -> bool:
    try:
        return get(port, "/healthz")[0] == 200
    except (ConnectionError, OSError):
        return False


def test_a_page_is_what_promtool_takes_and_costs_little(site: Site) -> None:
    text = get(site.port, "/metrics")[1]
    promtool("check", "metrics", given=text)
    front = site.server.front
    begin_s = process.tree_cpu_s(front)
    for _ in range(20):
        get(site.port, "/metrics")
    assert (process.tree_cpu_s(front) - begin_s) / 20 < 0.01, "one a second: a hundredth of a core"


def test_board_and_alerts_name_only_what_is_scraped(site: Site) -> None:
    text = get(site.port, "/metrics")[1]
    shown = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    catalogue = {family.full_name for family in (*FAMILIES, *DESK)}
    assert {name for name in shown if name.startswith("fastmta_")} <= catalogue
    for path in (CONF / "grafana/fastmta.json", CONF / "prometheus/alerts.yml"):
        named = set(re.findall(r"\bfastmta_[a-z_]+", path.read_text()))
        assert len(named) > 8
        for name in named:
            bare = re.sub(r"_(bucket|sum|count)$", "", name)
            assert name in shown or bare in shown, f"{path.name}: {name}"


def test_unused_families_are_few(site: Site) -> None:
    """Whoever adds a metric shows it here, or says why not."""
    text = get(site.port, "/metrics")[1]
    shown = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    absent = {family.name for family in FAMILIES if family.full_name not in shown}
    rare = {"tls_sessions_total", "login_failures_total", "messages_expired_total",
            "recipients_held_total"}  # fmt: skip
    assert absent <= rare
    assert all(family.kind is not Kind.GAUGE for family in FAMILIES if family.name in absent)


def test_alert_rules_pass_their_own_tests() -> None:
    promtool("check", "rules", str(CONF / "prometheus/alerts.yml"))
    promtool("test", "rules", str(CONF / "prometheus/alerts_test.yml"))


def promtool(*arguments: str, given: str = "") -> None:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool (Debian: apt-get install prometheus)")
    done = subprocess.run(
        ["promtool", *arguments], input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr, done.stderr


def test_a_server_that_stops_is_not_ready(site: Site) -> None:
    """The last one: it ends the server."""
    client = Client(site.server.port)
    client.envelope("x@ok.test")  # in the middle of a transaction: the stop waits for it
    os.kill(site.server.pid, signal.SIGTERM)
    until(lambda: sum("stopping" in one for one in ready(site.port)[1]["reasons"]) == 1)
    assert get(site.port, "/healthz")[0] == 200
    client.close()
    until(lambda: not site.server.is_running)
    assert not is_serving(site.port)
