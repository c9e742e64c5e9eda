"""The busiest clients of ten minutes, and how little is kept of all the others."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from fastmta.event import ClientConnected, ClientDisconnected, Event
from fastmta.journal import LineRenderer, Origin, anvil
from fastmta.journal.anvil import INTERVAL_S, Anvil

BEGIN = 1762153200  # Nov  3 07:00:00
ONE, OTHER = "one.example[192.0.2.1]", "unknown[2001:db8::2]"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def came(client: str, service: str = "") -> Event:
    return ClientConnected(client, service)


def left(client: str, service: str = "") -> Event:
    return ClientDisconnected(client, {}, service=service)


def told(renderer: LineRenderer, second: int, *events: Event) -> list[str]:
    octets, count = renderer.render(list(events), BEGIN + second)
    lines = octets.decode().split("\n")[:-1]
    assert len(lines) == count
    return [line.partition("/anvil[42]: ")[2] for line in lines if "/anvil[" in line]


def test_the_busiest_of_ten_minutes() -> None:
    renderer = LineRenderer(Origin("mx.example", "postfix", 42))
    assert told(renderer, 0, came(ONE), came(ONE), left(ONE)) == []
    assert told(renderer, 59, came(ONE), left(ONE), came(OTHER, "submission")) == []
    assert told(renderer, 61, came(ONE), came(ONE), left(ONE)) == []
    assert told(renderer, INTERVAL_S - 1, left(ONE)) == []
    assert told(renderer, INTERVAL_S, left(ONE)) == [
        "statistics: max connection rate 3/60s for (smtp:192.0.2.1) at Nov  3 07:00:59",
        "statistics: max connection count 3 for (smtp:192.0.2.1) at Nov  3 07:01:01",
        "statistics: max cache size 2 at Nov  3 07:00:59",
    ]
    # What is open goes on; nothing is said of ten minutes in which nobody came.
    assert told(renderer, 5 * INTERVAL_S, left(OTHER, "submission")) == []
    assert told(renderer, 6 * INTERVAL_S, came(OTHER, "submission")) == []
    assert told(renderer, 7 * INTERVAL_S, left(OTHER, "submission")) == [
        "statistics: max connection rate 1/60s for (submission:2001:db8::2) at Nov  3 08:00:00",
        "statistics: max connection count 1 for (submission:2001:db8::2) at Nov  3 08:00:00",
        "statistics: max cache size 1 at Nov  3 08:00:00",
    ]


def test_clients_are_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anvil, "CLIENTS_MAX", 10)
    counted = Anvil()
    for number in range(100):
        counted.connected("", f"x[192.0.2.{number}]", BEGIN)
        counted.disconnected("", f"x[192.0.2.{number}]")
    lines = dict(counted.take(BEGIN + INTERVAL_S))
    assert lines["max cache size 10"] == BEGIN
    counted.disconnected("", "x[192.0.2.99]")  # who was not counted when he came
    for number in range(5):  # there is room again
        counted.connected("", f"y[192.0.2.{number}]", BEGIN + INTERVAL_S)
    assert "max cache size 5" in dict(counted.take(BEGIN + 2 * INTERVAL_S))
