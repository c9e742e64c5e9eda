"""What a server counts, over HTTP, read by the parser of Prometheus' own client."""

from __future__ import annotations

import http.client
import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def get(
    port: int, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, str]:
    """Status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def ready(port: int) -> tuple[int, Any]:
    """Status and JSON of `/readyz`."""
    status, body = get(port, "/readyz")
    return status, json.loads(body)


def scrape(port: int) -> Samples:
    """Every sample, by name and labels."""
    status, text = get(port, "/metrics")
    assert status == 200, text
    return parse(text)


def parse(text: str) -> Samples:
    """Every sample of a page."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of the samples of that name which have these labels."""
    wanted = labels.items()
    return sum(
        value for (one, have), value in samples.items() if one == name and wanted <= set(have)
    )
