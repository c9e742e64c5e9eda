"""Dialogs of the vector files through the whole server, in clear and within TLS."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.client import until
from tests.support.vector import Ground, Vector, load_vectors, vector_ground
from tests.support.wire import VECTORS

STARTTLS = load_vectors("starttls", "clear", "encrypt")
AUTH = load_vectors("auth", "clear", "starttls", "implicit")
AT_ONCE = 12  # a refused login takes 0.3 s, of which nearly all is waiting


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with vector_ground(tmp_path_factory.mktemp("vectors")) as ground:
        yield ground
    log = ground.server.log_text()
    assert "from=<evil@" not in log, "what was sent in clear is no command within TLS"


@pytest.fixture(scope="module")
def played(ground: Ground) -> Iterator[dict[int, Future[None]]]:
    """All cases of AUTH, several at once; each test looks at its own."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        vectors: list[Any] = [case.values[0] for case in AUTH]
        yield {id(vector): pool.submit(ground.play, vector) for vector in vectors}


@pytest.mark.parametrize("vector", STARTTLS)
def test_starttls(ground: Ground, vector: Vector) -> None:
    ground.play(vector)
    if vector.ends == "alert":
        line = "SSL_accept error from unknown[127.0.0.1]: "
        until(lambda: line in ground.server.log_text())


@pytest.mark.parametrize("vector", AUTH)
def test_auth(played: dict[int, Future[None]], vector: Vector) -> None:
    played[id(vector)].result()


@pytest.mark.parametrize("name", ["starttls", "auth"])
def test_names_are_used_once(name: str) -> None:
    cases = tomllib.loads((VECTORS / f"{name}.toml").read_text(encoding="utf-8"))["case"]
    assert len({case["name"] for case in cases}) == len(cases) > 15
