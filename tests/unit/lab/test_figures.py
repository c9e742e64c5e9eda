"""What the benchmark calculates, and what it reads from logs."""

from pathlib import Path

import pytest

from fastmta.lab.bench.case import BY_NAME, CASES, DEFAULT_NAMES
from fastmta.lab.bench.measure import LogTail, Run
from fastmta.lab.bench.source import Source
from fastmta.lab.bench.statistic import pair_ratios, percentile, spread
from fastmta.lab.loopback import LabError, parse_bind
from fastmta.lab.server import Server, ServerOptions


def run(messages: int, relayed_s: float, cpu_s: float) -> Run:
    return Run(messages, relayed_s, relayed_s, cpu_s, cpu_s, 0)


def test_percentile_takes_a_value_that_occurred() -> None:
    values = [float(number) for number in range(1, 201)]
    assert percentile(values, 0.5) == 100
    assert percentile(values, 0.99) == 198
    assert percentile(values, 1.0) == 200
    assert percentile([7.0], 0.99) == 7


def test_spread_of_nothing_is_nothing() -> None:
    assert spread([]) is None
    found = spread([3.0, 1.0, 2.0])
    assert found is not None
    assert found.render() == "2 (1..3)"
    single = spread([2.5])
    assert single is not None
    assert single.render("{:.1f}") == "2.5"


def test_ratio_is_taken_pair_by_pair() -> None:
    ours = [run(1000, 1.0, 0.1), run(1000, 2.0, 0.1)]
    theirs = [run(100, 1.0, 0.2), run(100, 4.0, 0.2)]
    found = pair_ratios(ours, theirs, lambda one: one.relayed_rate)
    assert found is not None
    assert (found.least, found.most) == (10.0, 20.0)


def test_cpu_is_per_message() -> None:
    assert run(1000, 1.0, 0.15).cpu_us == pytest.approx(150)


def test_names_of_cases_are_unique_and_default_ones_exist() -> None:
    assert len(BY_NAME) == len(CASES)
    assert set(DEFAULT_NAMES) <= set(BY_NAME)


def test_source_is_asked_for_what_the_case_says(tmp_path: Path) -> None:
    command = Source(BY_NAME["4k-new"], tmp_path).command(2525, 7)
    assert "-d" not in command
    assert command[command.index("-s") + 1] == "7"  # never more sessions than messages
    assert "-d" in Source(BY_NAME["4k"], tmp_path).command(2525, 1000)


def test_log_is_counted_from_where_it_was_even_across_torn_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"postfix/qmgr[1]: A: removed\n")
    tail = LogTail(log)
    tail.read()
    assert (tail.sent, tail.removed) == (0, 0)
    with log.open("ab") as file:
        file.write(
            b"postfix/smtp[1]: B: to=<a@b>, dsn=2.0.0, status=sent (250 Ok)\npostfix/qmgr[1]"
        )
        file.flush()
        tail.read()
        file.write(b": B: removed\n")
    tail.read()
    assert (tail.sent, tail.removed, tail.deferred) == (1, 1, 0)


def test_bind_stays_on_loopback() -> None:
    assert parse_bind("127.0.0.1:25") == ("127.0.0.1", 25)
    assert parse_bind("[::1]:25") == ("::1", 25)
    for text in ("0.0.0.0:25", "192.0.2.1:25", "localhost:25", "127.0.0.1", "127.0.0.1:x"):
        with pytest.raises(LabError):
            parse_bind(text)


def test_configuration_is_toml_with_settings_last(tmp_path: Path) -> None:
    import tomllib

    options = ServerOptions(
        directory=tmp_path,
        port=2525,
        relay_host="[127.0.0.1]:2526",
        settings={"retry.first_s": 2.0, "journal.file": 'a"b\\c', "workers.count": 3},
    )
    values = tomllib.loads(Server(options).configuration())
    assert values["retry"]["first_s"] == 2.0
    assert values["journal"]["file"] == 'a"b\\c'
    assert values["workers"]["count"] == 3
    assert values["relay"]["host"] == "[127.0.0.1]:2526"
